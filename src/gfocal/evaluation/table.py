"""The COCO numbers as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gfocal.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from gfocal.evaluation.coco_ap import CocoResult

MOST_EMPTY = 3  # more classes without truth than that are told in one line


def coco_table(result: CocoResult) -> Table:
    """One row for all sizes and for each size, then one for each class."""
    from rich import box
    from rich.table import Table

    empty = sum(one.num_truth == 0 for one in result.per_class.values())
    folded = empty > MOST_EMPTY
    # Narrow enough for 80 columns: a long class name is folded, a figure never cut.
    table = Table(
        title=f"{counted(result.num_images, 'image')}, {counted(result.num_truth, 'truth box', 'truth boxes')}, "
        f"{counted(result.num_detections, 'detection')}",
        title_justify="left",
        caption=f"{empty} classes without truth are left out" if folded else None,
        caption_justify="left",
        box=box.SIMPLE,
        padding=0,
        show_edge=False,
    )
    table.add_column("", overflow="fold")
    for header in ("truth", "AP", "AP50", "AP75", "AR@1", "AR@10", "AR@100"):
        table.add_column(header, justify="right", no_wrap=True)
    rows: list[tuple[str, int, list[float | None]]] = [
        ("all", result.num_truth, [result.ap, result.ap50, result.ap75, result.ar1, result.ar10, result.ar100])
    ]
    for size in ("small", "medium", "large"):
        ap, ar = getattr(result, f"ap_{size}"), getattr(result, f"ar_{size}")
        rows.append((size, getattr(result, f"num_{size}"), [ap, None, None, None, None, ar]))
    classes = [(name, one) for name, one in result.per_class.items() if one.num_truth or not folded]
    rows += [(name, one.num_truth, [one.ap, one.ap50, one.ap75]) for name, one in classes]
    for i, (name, num_truth, figures) in enumerate(rows):
        cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        if num_truth == 0:
            cells[0] = "n/a"
        # A name may hold square brackets, which rich would read as markup.
        table.add_row(name.replace("[", r"\["), str(num_truth), *cells, end_section=i == 3)
    return table
