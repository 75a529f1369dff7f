"""What ``gfocal check`` prints: classes first, then findings with what to do, then the regression range."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gfocal.checks.check import CheckResult
from gfocal.checks.findings import KINDS, SEVERITIES, Finding, count_by_severity, group_by_kind
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
SUSPECT = "suspect-"  # with which the codes of a review of annotations begin
CLASS_KINDS = ("mislabeled-class", "similar-class-names")  # shown with the classes
MAX_CLASSES, MAX_NAMES = 24, 8  # rows of the table of classes; findings on names
MAX_SPLITS = 3  # that have a column
MAX_SUSPECTS = 3  # of each kind that are printed; the page of --review has them all
MAX_CLASSES_BRIEF = 8  # rows of the table of classes below a review
MAX_PLACES = 4  # names of classes or files of further findings of a kind


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
    suspects = {code: groups.pop(code) for code in list(groups) if code.startswith(SUSPECT)}
    out.print()
    if check.reviewed:
        _print_suspects(suspects, check, out)
        _print_briefly(groups, check, out)
    else:
        _print_at_length(groups, check, out)
    counts = describe_counts(groups) if groups else "nothing found" + " in the dataset" * bool(check.reviewed)
    number = sum(map(len, suspects.values()))
    found = f"{pluralize(number, 'suspect')}; " if check.reviewed else ""
    out.print(Text(f"{found}{counts}", style="bold"))


def describe_counts(groups: dict[str, list[Finding]]) -> str:
    """How many findings of each severity, and of how many kinds where one kind has several."""
    findings = [finding for group in groups.values() for finding in group]
    number = count_by_severity(findings)
    counts = ", ".join(pluralize(number[severity], severity) for severity in SEVERITIES)
    return counts + (f", of {pluralize(len(groups), 'kind')}" if len(groups) < len(findings) else "")


def _print_suspects(suspects: dict[str, list[Finding]], check: CheckResult, out: Console) -> None:
    """What a model contradicts: kind by kind, the most suspicious first."""
    out.print(Text(f"annotations: {one_line(check.reviewed)}", style="bold"))
    if suspects:
        out.print(findings_table(suspects, check, set(), MAX_SUSPECTS, with_severity=False))
    else:
        say(out, "none of them is contradicted")
    out.print()


def _print_briefly(groups: dict[str, list[Finding]], check: CheckResult, out: Console) -> None:
    """The dataset in short: the most frequent classes, a line for each kind of finding, the regression range."""
    out.print(Text("dataset, in short (--no-review: at length, with what to do)", style="bold"))
    print_classes(check, out, MAX_CLASSES_BRIEF)
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for code, group in groups.items():
        kind = KINDS[code]
        what = group[0].text if len(group) == 1 and group[0].image is None else list_places(group)
        text = Text(code, style="bold").append(f"  {kind.title}: {one_line(what)}", style="not bold")
        table.add_row(Text(kind.severity, style=STYLES[kind.severity]), f"{len(group):,}", text)
    if groups:
        out.print(table)
    if check.regression_range is not None:
        say(out, f"with {check.config_name}: {describe_range(check.regression_range)}", fold=True)
    out.print()


def _print_at_length(groups: dict[str, list[Finding]], check: CheckResult, out: Console) -> None:
    """Classes and what is odd about them, then every kind of finding with what to do, then the regression range."""
    of_classes = {code: groups[code] for code in CLASS_KINDS if code in groups}
    others = {code: group for code, group in groups.items() if code not in of_classes}
    explained: set[str] = set()
    print_classes(check, out)
    if of_classes:
        out.print(findings_table(of_classes, check, explained, MAX_NAMES))
    out.print()
    if others:
        out.print(findings_table(others, check, explained))
        out.print()
    if check.regression_range is not None:
        print_regression_range(check, check.regression_range, explained, out)
    for advice in check.advice:
        say(out, f"advice: {advice.why}: {advice.as_options()}", fold=True)
    if check.advice:
        command = f"gfocal train {check.data_argument} --auto{check.train_options}"
        say(out, f"{one_line(command)} takes this advice.", fold=True)


def print_classes(check: CheckResult, out: Console, max_shown: int = MAX_CLASSES) -> None:
    """One row for each class, those with most objects first: objects of each split, images, sizes."""
    splits = list(check.splits) if 1 < len(check.splits) <= MAX_SPLITS else []
    at_input = any(one.median_side_at_input is not None for one in check.classes)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("class", overflow="fold")
    for heading in ("objects", *splits, "images", "side", *(["at input"] if at_input else []), "small"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    # Of many classes those with some objects are worth a row.
    shown = [one for one in check.classes if one.num_objects or len(check.classes) <= max_shown]
    for one in shown[:max_shown]:
        sides = [one.median_side] + ([one.median_side_at_input] if at_input else [])
        table.add_row(
            escape(one_line(one.name)),
            *(f"{count:,}" for count in (one.num_objects, *(one.objects.get(split, 0) for split in splits))),
            f"{one.images:,}",
            *("–" if side is None else f"{side:,.0f}" for side in sides),
            "–" if one.small_fraction is None else f"{one.small_fraction:.0%}",
        )
    out.print(table)
    if left := len(check.classes) - len(shown[:max_shown]):
        without = sum(one.num_objects == 0 for one in check.classes) if shown != list(check.classes) else 0
        which = f", {without:,} of them without an object" if without else ""
        say(out, f"... and {pluralize(left, 'class', 'classes')} more{which}: --html and --json have all", fold=True)
    size = "side: median of the square root of the box area, in pixels of the image"
    size += " and of the network's input" if at_input else ""
    out.print(Text(f"{size}; small: share with {TERMS['small']}", style="dim"))


def findings_table(
    groups: dict[str, list[Finding]],
    check: CheckResult,
    explained: set[str],
    max_shown: int = 1,
    with_severity: bool = True,
) -> Table:
    """One row for each kind: how many, what, the first ``max_shown`` of them, and what to do.

    Words that are not in ``explained`` are explained, and added to it.
    """
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    if with_severity:
        table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for code, group in groups.items():
        kind = KINDS[code]
        text = Text()
        text.append(code, style="bold").append(f"  {kind.title}\n")
        for finding in group[:max_shown]:
            text.append(f"{describe_finding(finding)}\n", style="dim")
        if len(group) > max_shown and group[0].image is None and not group[0].group:  # of names, not of boxes
            text.append(f"also {list_places(group[max_shown:])}\n", style="dim")
        if kind.term and kind.term not in explained:
            explained.add(kind.term)
            text.append(f"({kind.term}: {TERMS[kind.term]})\n", style="italic dim")
        text.append(f"→ {group[0].fix}")
        commands = dict.fromkeys(check.fill_command(finding) for finding in group[:max_shown])
        for command in filter(None, commands):
            text.append("\n$ ").append(command, style="bold")
        severity = [Text(kind.severity, style=STYLES[kind.severity])] if with_severity else []
        table.add_row(*severity, f"{len(group):,}", text)
    return table


def list_places(group: Sequence[Finding]) -> str:
    """The first few images, classes or splits of findings of one kind, and how many more there are."""
    named = (one.image.name if one.image is not None else one.record or one.file for one in group)
    places = list(dict.fromkeys(os.path.basename(name.rstrip("/")) or name for name in named))
    more = f" and {len(places) - MAX_PLACES:,} more" if len(places) > MAX_PLACES else ""
    return one_line(", ".join(places[:MAX_PLACES])) + more


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


def describe_range(result: RegressionRangeResult) -> str:
    """How many edges and boxes it leaves out."""
    return (
        f"{format_fraction(result.clamped_fraction)} of all edges outside the regression range; "
        f"{pluralize(len(result.unassigned), 'unassigned box', 'unassigned boxes')}"
    )


def print_regression_range(
    check: CheckResult, result: RegressionRangeResult, explained: set[str], out: Console
) -> None:
    """One row for each pyramid level, between the settings and the totals, and words not yet explained."""
    images = pluralize(result.num_images, "image")
    if not check.training_splits:
        images += f" of {', '.join(check.measured_splits)}"
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
        f"{describe_range(result)}; {points_per_box:.1f} points per box. Box sizes at the input (min, 5 %, 25 %, "
        f"median, 75 %, 95 %, max): {sides or 'none'}",
        fold=True,
    )
    seen = ["clamped"] * (result.clamped_fraction > 0) + ["unassigned"] * bool(result.unassigned)
    for term in (term for term in ("point", "stride", "regression range", *seen) if term not in explained):
        out.print(Text(f"{term}: {TERMS[term]}", style="italic dim"))
