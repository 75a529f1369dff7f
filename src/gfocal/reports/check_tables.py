"""What ``gfocal check`` prints: classes first, then findings with what to do, then the regression range."""

from __future__ import annotations

import os

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gfocal.checks.check import CheckResult
from gfocal.checks.findings import KINDS, SEVERITIES, Finding, group_by_kind
from gfocal.checks.regression_range import (
    BY_PREDICTIONS,
    RegressionRangeResult,
    describe_clamped,
    format_fraction,
)
from gfocal.checks.terms import TERMS
from gfocal.console import say
from gfocal.text import one_line, pluralize

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
CLASS_KINDS = ("mislabeled-class", "similar-class-names")  # shown with the classes
MAX_CLASSES, MAX_NAMES = 24, 8  # rows of the table of classes; findings on names
MAX_SPLITS = 3  # that have a column


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
    groups = group_by_kind(check.findings)
    of_classes = {code: groups.pop(code) for code in CLASS_KINDS if code in groups}
    explained: set[str] = set()
    out.print()
    print_classes(check, out)
    if of_classes:
        out.print(findings_table(of_classes, check, explained, MAX_NAMES))
    out.print()
    if groups:
        out.print(findings_table(groups, check, explained))
        out.print()
    if check.regression_range is not None:
        print_regression_range(check, check.regression_range, explained, out)
    for advice in check.advice:
        say(out, f"advice: {advice.why}: {advice.as_options()}", fold=True)
    if check.advice:
        say(out, f"gfocal train {check.data_argument} --auto takes this advice.", fold=True)
    counts = ", ".join(pluralize(check.counts[severity], severity) for severity in SEVERITIES)
    out.print(Text(counts if check.findings else "nothing found", style="bold"))


def print_classes(check: CheckResult, out: Console) -> None:
    """One row for each class, those with most objects first: objects of each split, images, sizes."""
    splits = list(check.splits) if 1 < len(check.splits) <= MAX_SPLITS else []
    at_input = any(one.median_side_at_input is not None for one in check.classes)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("class", overflow="fold")
    for heading in ("objects", *splits, "images", "side", *(["at input"] if at_input else []), "small"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    # Of many classes those with some objects are worth a row.
    shown = [one for one in check.classes if one.num_objects or len(check.classes) <= MAX_CLASSES]
    for one in shown[:MAX_CLASSES]:
        sides = [one.median_side] + ([one.median_side_at_input] if at_input else [])
        table.add_row(
            escape(one_line(one.name)),
            *(f"{count:,}" for count in (one.num_objects, *(one.objects.get(split, 0) for split in splits))),
            f"{one.images:,}",
            *("–" if side is None else f"{side:,.0f}" for side in sides),
            "–" if one.small_fraction is None else f"{one.small_fraction:.0%}",
        )
    out.print(table)
    if left := len(check.classes) - len(shown[:MAX_CLASSES]):
        without = sum(one.num_objects == 0 for one in check.classes) if shown != list(check.classes) else 0
        which = f", {without:,} of them without an object" if without else ""
        say(out, f"... and {pluralize(left, 'class', 'classes')} more{which}: --html and --json have all", fold=True)
    size = "side: median of the square root of the box area, in pixels of the image"
    size += " and of the network's input" if at_input else ""
    out.print(Text(f"{size}; small: share with {TERMS['small']}", style="dim"))


def findings_table(
    groups: dict[str, list[Finding]], check: CheckResult, explained: set[str], max_shown: int = 1
) -> Table:
    """One row for each kind: how many, what, the first ``max_shown`` of them, and what to do.

    Words that are not in ``explained`` are explained, and added to it.
    """
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for code, group in groups.items():
        kind = KINDS[code]
        text = Text()
        text.append(code, style="bold").append(f"  {kind.title}\n")
        if kind.term and kind.term not in explained:
            explained.add(kind.term)
            text.append(f"({kind.term}: {TERMS[kind.term]})\n", style="italic dim")
        for finding in group[:max_shown]:
            text.append(f"{describe_finding(finding)}\n", style="dim")
        text.append(f"→ {kind.fix}")
        commands = dict.fromkeys(check.fill_command(finding) for finding in group[:max_shown])
        for command in filter(None, commands):
            text.append("\n$ ").append(command, style="bold")
        table.add_row(Text(kind.severity, style=STYLES[kind.severity]), f"{len(group):,}", text)
    return table


def describe_finding(finding: Finding) -> str:
    """A finding in a line or two, its file by name alone, safe to print."""
    name = os.path.basename(finding.file.rstrip("/")) or finding.file
    # The record of a box names its image already.
    if finding.image is not None and finding.record.startswith(finding.image.name):
        place = finding.record
    elif (finding.group and finding.image is not None) or not finding.record:
        place = name
    else:
        place = f"{name}, {finding.record}"
    split = f"{finding.split}: " if finding.split and finding.record != finding.split else ""
    return one_line(f"{split}{place}: {finding.text}")


def print_regression_range(
    check: CheckResult, result: RegressionRangeResult, explained: set[str], out: Console
) -> None:
    """One row for each pyramid level, between the settings and the totals, and words not yet explained."""
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
        table.add_row(*row, describe_clamped(level) if level.num_points else "–")
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
    seen = ["clamped"] * (result.clamped_fraction > 0) + ["unassigned"] * bool(result.unassigned)
    for term in (term for term in ("point", "stride", "regression range", *seen) if term not in explained):
        out.print(Text(f"{term}: {TERMS[term]}", style="italic dim"))
