"""The COCO numbers as a table for a terminal."""

# FOLDED doctor.table: A check in the terminal: what was found, worst first; reach by level; what to change.
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gfocal.checks.before_training import percent
from gfocal.checks.check import Check
from gfocal.checks.findings import KINDS, SEVERITIES, Finding, by_kind
from gfocal.checks.reach import ReachResult
from gfocal.console import say
from gfocal.text import counted, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from gfocal.evaluation.coco_ap import CocoResult


MOST_EMPTY = 3  # more classes without ground truth than that are told in one line


def coco_table(result: CocoResult) -> Table:
    """One row for all sizes and for each size, then one for each class."""
    from rich import box
    from rich.table import Table

    empty = sum(one.num_ground_truth == 0 for one in result.per_class.values())
    folded = empty > MOST_EMPTY
    # Narrow enough for 80 columns: a long class name is folded, a figure never cut.
    table = Table(
        title=f"{counted(result.num_images, 'image')}, {counted(result.num_ground_truth, 'ground-truth box', 'ground-truth boxes')}, "
        f"{counted(result.num_detections, 'detection')}",
        title_justify="left",
        caption=f"{empty} classes without ground truth are left out" if folded else None,
        caption_justify="left",
        box=box.SIMPLE,
        padding=0,
        show_edge=False,
    )
    table.add_column("", overflow="fold")
    for header in ("ground_truth", "AP", "AP50", "AP75", "AR@1", "AR@10", "AR@100"):
        table.add_column(header, justify="right", no_wrap=True)
    rows: list[tuple[str, int, list[float | None]]] = [
        ("all", result.num_ground_truth, [result.ap, result.ap50, result.ap75, result.ar1, result.ar10, result.ar100])
    ]
    for size in ("small", "medium", "large"):
        ap, ar = getattr(result, f"ap_{size}"), getattr(result, f"ar_{size}")
        rows.append((size, getattr(result, f"num_{size}"), [ap, None, None, None, None, ar]))
    classes = [(name, one) for name, one in result.per_class.items() if one.num_ground_truth or not folded]
    rows += [(name, one.num_ground_truth, [one.ap, one.ap50, one.ap75]) for name, one in classes]
    for i, (name, num_ground_truth, figures) in enumerate(rows):
        cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        if num_ground_truth == 0:
            cells[0] = "n/a"
        # A name may hold square brackets, which rich would read as markup.
        table.add_row(name.replace("[", r"\["), str(num_ground_truth), *cells, end_section=i == 3)
    return table


STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def print_check(check: Check, out: Console) -> None:
    """Print a check, for 80 columns and more."""
    for name, data in check.splits.items():
        objects = sum(int((~sample.crowd).sum()) for sample in data.samples)
        learned = " (to train on)" if name in check.training and len(check.splits) > 1 else ""
        say(
            out,
            f"{name}: {counted(len(data), 'image')}, {counted(objects, 'object')}, "
            f"{counted(len(data.names), 'class', 'classes')}{learned}",
            fold=True,
        )
    if check.findings:
        out.print(findings_table(check))
    if check.reach is not None:
        print_reach(check, check.reach, out)
    for advice in check.advice:
        say(out, f"advice: {advice.why}: {advice.as_options()}", fold=True)
    if check.advice:
        say(out, "gfocal train --auto takes this advice.", fold=True)
    number = check.counts
    told = ", ".join(counted(number[severity], severity) for severity in SEVERITIES)
    out.print(Text(told if check.findings else "nothing found", style="bold"))


def findings_table(check: Check) -> Table:
    """One row for each kind: how many, what, the first of them, and the fix."""
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for code, group in by_kind(check.findings).items():
        kind = KINDS[code]
        told = Text()
        told.append(code, style="bold").append(f"  {kind.title}\n")
        told.append(f"{example(group[0])}\n", style="dim")
        told.append(f"→ {kind.fix}")
        table.add_row(Text(kind.severity, style=STYLES[kind.severity]), f"{len(group):,}", told)
    return table


def example(finding: Finding) -> str:
    """A finding in a line or two, its file by name alone, safe to print."""
    name = os.path.basename(finding.file.rstrip("/")) or finding.file
    # A record of a box names its image already.
    if finding.image is not None and finding.record.startswith(finding.image.name):
        place = finding.record
    elif finding.other is not None or not finding.record:
        place = name
    else:
        place = f"{name}, {finding.record}"
    split = f"{finding.split}: " if finding.split and finding.record != finding.split else ""
    return one_line(f"{split}{place}: {finding.text}")


def print_reach(check: Check, result: ReachResult, out: Console) -> None:
    """One row for each pyramid level, between what was laid out and what came of it."""
    looked = counted(result.images, "image")
    if result.images < result.of_images:
        looked += f" out of {result.of_images:,}"
    title = (
        f"reach with {check.config_name}: n {result.n}, delta {result.delta:g}, input {result.short_side} to "
        f"{result.long_side}; {counted(result.boxes, 'box', 'boxes')} of {looked}"
    )
    out.print(Text(title, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stride", "reach in pixels", "boxes", "points", "edges beyond"):
        table.add_column(heading, justify="right")
    for level in result.levels:
        row = (f"{level.stride}", f"{level.reach:g}", f"{level.boxes:,}", f"{level.points:,}")
        table.add_row(*row, percent(level.share) if level.points else "–")
    out.print(table)
    sides = ", ".join(f"{value:.0f}" for value in result.side_quantiles().values())
    per_box = result.points / max(result.boxes, 1)
    told = (
        f"{percent(result.share)} of all edges beyond reach; {counted(len(result.unplaced), 'box', 'boxes')} learned "
        f"by no point; {per_box:.1f} points to a box. Sides of boxes at the input (least, 5 %, 25 %, half, 75 %, "
        f"95 %, largest): {sides or 'none'}"
    )
    say(out, told, fold=True)
