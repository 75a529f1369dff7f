"""Tables for a terminal: the COCO numbers of an evaluation, and the findings of ``gfocal check``."""

from __future__ import annotations

import os

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gfocal.checks.check import CheckResult
from gfocal.checks.findings import KINDS, SEVERITIES, Finding, group_by_kind
from gfocal.checks.regression_range import BY_PREDICTIONS, RegressionRangeResult, format_fraction
from gfocal.console import say
from gfocal.evaluation.coco_ap import CocoResult, LimitedAP
from gfocal.text import one_line, pluralize

MAX_EMPTY_CLASSES = 3  # of more classes without ground truth only the number is shown
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


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
        caption=f"{empty} classes without ground truth omitted" if omit_empty else None,
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
        table.add_row(escape(name), str(num_ground_truth), *cells, end_section=i == 3)
    return table


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


def print_check(check: CheckResult, out: Console) -> None:
    """Print a check, for 80 columns and more."""
    for name, data in check.splits.items():
        objects = sum(int((~sample.crowd).sum()) for sample in data.samples)
        training = " (training)" if name in check.training_splits and len(check.splits) > 1 else ""
        classes = pluralize(len(data.names), "class", "classes")
        say(
            out,
            f"{name}: {pluralize(len(data), 'image')}, {pluralize(objects, 'object')}, {classes}{training}",
            fold=True,
        )
    if check.findings:
        out.print(findings_table(check))
    if check.regression_range is not None:
        print_regression_range(check, check.regression_range, out)
    for advice in check.advice:
        say(out, f"advice: {advice.why}: {advice.as_options()}", fold=True)
    if check.advice:
        say(out, "gfocal train --auto takes this advice.", fold=True)
    counts = ", ".join(pluralize(check.counts[severity], severity) for severity in SEVERITIES)
    out.print(Text(counts if check.findings else "nothing found", style="bold"))


def findings_table(check: CheckResult) -> Table:
    """One row for each kind: how many, what, the first of them, and the fix."""
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for code, group in group_by_kind(check.findings).items():
        kind = KINDS[code]
        text = Text()
        text.append(code, style="bold").append(f"  {kind.title}\n")
        text.append(f"{describe_finding(group[0])}\n", style="dim")
        text.append(f"→ {kind.fix}")
        table.add_row(Text(kind.severity, style=STYLES[kind.severity]), f"{len(group):,}", text)
    return table


def describe_finding(finding: Finding) -> str:
    """A finding in a line or two, its file by name alone, safe to print."""
    name = os.path.basename(finding.file.rstrip("/")) or finding.file
    # The record of a box names its image already.
    if finding.image is not None and finding.record.startswith(finding.image.name):
        place = finding.record
    elif finding.other is not None or not finding.record:
        place = name
    else:
        place = f"{name}, {finding.record}"
    split = f"{finding.split}: " if finding.split and finding.record != finding.split else ""
    return one_line(f"{split}{place}: {finding.text}")


def print_regression_range(check: CheckResult, result: RegressionRangeResult, out: Console) -> None:
    """One row for each pyramid level, between the settings and the totals."""
    images = pluralize(result.num_images, "image")
    if result.num_images < result.num_images_total:
        images += f" out of {result.num_images_total:,}"
    title = (
        f"regression range with {check.config_name}: n = reg_max = {result.n}, delta = {result.delta:g}, input "
        f"{result.short_side} {'x' if result.stretch else 'to'} {result.long_side}; "
        f"{pluralize(result.num_boxes, 'box', 'boxes')} of {images}"
    )
    out.print(Text(title, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stride", "range in pixels", "boxes", "points", "clamped edges"):
        table.add_column(heading, justify="right")
    for level in result.levels:
        row = (f"{level.stride}", f"{level.range_pixels:g}", f"{level.num_boxes:,}", f"{level.num_points:,}")
        table.add_row(*row, format_fraction(level.clamped_fraction) if level.num_points else "–")
    out.print(table)
    if result.by_predictions:
        say(out, BY_PREDICTIONS, fold=True)
    sides = ", ".join(f"{value:.0f}" for value in result.side_quantiles().values())
    points_per_box = result.num_points / max(result.num_boxes, 1)
    say(
        out,
        f"{format_fraction(result.clamped_fraction)} of all edges outside the regression range; "
        f"{pluralize(len(result.unassigned), 'unassigned box', 'unassigned boxes')}; {points_per_box:.1f} points per "
        f"box. Box sizes at the input (min, 5 %, 25 %, median, 75 %, 95 %, max): {sides or 'none'}",
        fold=True,
    )
