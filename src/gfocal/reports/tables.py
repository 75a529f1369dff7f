"""Tables for a terminal: the COCO numbers of an evaluation."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table

from gfocal.evaluation.coco_ap import FEW_OBJECTS, CocoResult, LimitedAP
from gfocal.text import pluralize

MAX_EMPTY_CLASSES = 3  # of more classes without ground truth only the number is shown


def coco_table(result: CocoResult) -> Table:
    """One row for all sizes and for each size, then one for each class."""
    empty = sum(one.num_ground_truth == 0 for one in result.per_class.values())
    omit_empty = empty > MAX_EMPTY_CLASSES
    # Narrow enough for 80 columns: a long class name is folded, a number never cut.
    table = Table(
        title=f"{pluralize(result.num_images, 'image')}, "
        f"{pluralize(result.num_ground_truth, 'ground-truth box', 'ground-truth boxes')}, "
        f"{pluralize(result.num_detections, 'detection')}",
        title_justify="left",
        caption=_caption(result, empty if omit_empty else 0),
        caption_justify="left",
        box=box.SIMPLE,
        padding=0,
        show_edge=False,
    )
    table.add_column("", overflow="fold")
    for header in ("objects", "AP", "AP50", "AP75", "AR@1", "AR@10", "AR@100"):
        table.add_column(header, justify="right", no_wrap=True)
    rows: list[tuple[str, int, list[float | None]]] = [
        ("all", result.num_ground_truth, [result.ap, result.ap50, result.ap75, result.ar1, result.ar10, result.ar100])
    ]
    for size in ("small", "medium", "large"):
        ap, ar = getattr(result, f"ap_{size}"), getattr(result, f"ar_{size}")
        rows.append((size, getattr(result, f"num_{size}"), [ap, None, None, None, None, ar]))
    classes = [(name, one) for name, one in result.per_class.items() if one.num_ground_truth or not omit_empty]
    rows += [(name, one.num_ground_truth, [one.ap, one.ap50, one.ap75]) for name, one in classes]
    for i, (name, num_ground_truth, values) in enumerate(rows):
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        if num_ground_truth == 0:
            cells[0] = "n/a"
        few = is_few(num_ground_truth)
        count = f"few {num_ground_truth}" if few else str(num_ground_truth)
        table.add_row(escape(name), count, *cells, end_section=i == 3, style="dim" if few else None)
    return table


def is_few(num_objects: int) -> bool:
    """Whether AP of so many objects is mostly chance; not of none, which have no AP."""
    return 0 < num_objects < FEW_OBJECTS


def _caption(result: CocoResult, omitted: int) -> str | None:
    """What the rows of a table do not say themselves."""
    counts = [result.num_ground_truth, result.num_small, result.num_medium, result.num_large]
    counts += [one.num_ground_truth for one in result.per_class.values()]
    lines = [f"{omitted} classes without ground truth omitted"] if omitted else []
    if any(map(is_few, counts)):
        lines.append(f"few: fewer than {FEW_OBJECTS} objects; this AP is mostly chance")
    return "\n".join(lines) or None


def limits_table(result: CocoResult, limited: LimitedAP) -> Table:
    """AP and recall with COCO's 100 detections of each class and image beside those with another number."""
    number = limited.max_detections
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    table.add_column("", overflow="fold")
    for header in ("AP@100", f"AP@{number}", "AR@100", f"AR@{number}"):
        table.add_column(header, justify="right", no_wrap=True)
    rows: list[tuple[str, list[float | None]]] = [
        ("all", [result.ap, limited.ap, result.ar100, limited.ar]),
        ("small", [result.ap_small, limited.ap_small, result.ar_small, limited.ar_small]),
        ("medium", [result.ap_medium, limited.ap_medium, result.ar_medium, limited.ar_medium]),
        ("large", [result.ap_large, limited.ap_large, result.ar_large, limited.ar_large]),
    ]
    rows += [(n, [one.ap, limited.per_class[n]]) for n, one in result.per_class.items() if one.num_ground_truth]
    for i, (name, values) in enumerate(rows):
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        table.add_row(escape(name), *cells, end_section=i == 3)
    return table
