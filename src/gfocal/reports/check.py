"""The page of ``gfocal check --html``: classes, then every kind of finding with images of the first of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from gfocal.checks.check import CheckResult
from gfocal.checks.class_summary import ClassSummary
from gfocal.checks.findings import KINDS, Finding, count_by_severity, group_by_kind
from gfocal.checks.regression_range import (
    BY_PREDICTIONS,
    RegressionRangeResult,
    describe_clamped,
    format_fraction,
)
from gfocal.checks.terms import TERMS
from gfocal.data.value_range import Range
from gfocal.errors import ImageError
from gfocal.reports import html
from gfocal.reports.check_images import MAX_SIDE, draw_finding, draw_group, draw_legend
from gfocal.reports.check_images import STYLE as STYLE_OF_IMAGES
from gfocal.reports.check_tables import CLASS_KINDS, MAX_CLASSES, SUSPECT, describe_finding
from gfocal.reports.html import cell, number
from gfocal.text import pluralize
from gfocal.visualize.charts import bars_svg

PAGE_FILE = "check.html"
MISSING = "suspect-missing-box"  # has no annotation to draw
MAX_IMAGES = {"error": 6, "warning": 6, "note": 3}  # of each kind of finding
MAX_RECORDS, MAX_OPEN = 200, 10  # of each kind, in a list; shown without a click where there are no images
# Kinds that cannot be seen in an image.
WITHOUT_IMAGES = (
    "wrong-extension",
    "unusual-pixel-format",
    "high-bit-depth",
    "multi-frame-image",
    "exif-rotated-image",
    "huge-image",
)


def write_check_page(check: CheckResult, path: Path) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist."""
    title = f"Check of {', '.join(Path(p).name or p for p in check.paths)}"
    num_boxes = {name: sum(len(sample.boxes) for sample in data.samples) for name, data in check.splits.items()}
    lead = "; ".join(
        f"{name}: {pluralize(len(data), 'image')}, {pluralize(num_boxes[name], 'box', 'boxes')}"
        for name, data in check.splits.items()
    )
    groups = group_by_kind(check.findings)
    suspects = {code: groups.pop(code) for code in list(groups) if code.startswith(SUSPECT)}
    number = count_by_severity(finding for group in groups.values() for finding in group)
    counts = {f"{severity}s": f"{count:,}" for severity, count in number.items()}
    if check.reviewed:
        counts = {"suspects": f"{sum(map(len, suspects.values())):,}"} | counts
        lead += f". Annotations: {check.reviewed}"
    parts = [html.header(title, lead, html.tiles(counts))]
    parts += [_kind_section(code, group, check) for code, group in suspects.items()]
    parts.append(html.section("Classes", _classes(check, groups)))
    if groups:
        parts.append(html.section("Findings", _overview(groups, check)))
    parts += [_kind_section(code, group, check) for code, group in groups.items() if code not in CLASS_KINDS]
    if check.regression_range is not None:
        parts.append(html.section("Regression range", _regression_range(check, check.regression_range)))
    words = "".join(f"<dt>{html.text(term)}</dt><dd>{html.text(meaning)}</dd>" for term, meaning in TERMS.items())
    parts.append(html.section("Words", html.details("What the words mean", f'<dl class="terms">{words}</dl>')))
    html.write_page(path, title, parts, STYLE + STYLE_OF_IMAGES)


def explain(content: str, terms: Sequence[str] = tuple(TERMS)) -> str:
    """Html with a tooltip at the first occurrence of each of these words, between tags."""
    for term in terms:
        pattern = rf"(?<![\w-])({re.escape(term)}s?)(?![\w-])(?![^<]*>)(?![^<]*</abbr>)"
        abbreviation = rf'<abbr title="{html.text(TERMS[term])}">\1</abbr>'
        content = re.sub(pattern, abbreviation, content, count=1)
    return content


def _severity(severity: str) -> str:
    return f'<span class="severity-{severity}">{severity}</span>'


def _command(finding: Finding, check: CheckResult) -> str:
    command = check.fill_command(finding)
    return f"<br><code>{html.text(command)}</code>" if command else ""


def _classes(check: CheckResult, groups: dict[str, list[Finding]]) -> str:
    """The table of classes, and below it names that may be mistakes."""
    splits = list(check.splits) if len(check.splits) > 1 else []
    at_input = any(one.median_side_at_input is not None for one in check.classes)
    most = max((one.num_objects for one in check.classes), default=0)
    head = ["Class", "Objects", *map(html.text, splits), "", "Images", "Median side", "at the input", "Small"]
    rows = [_class_row(one, splits, most, at_input) for one in check.classes]
    if not at_input:
        head.remove("at the input")
    lead = (
        "Most frequent first. Median side: square root of the box area, in pixels of the image"
        + (f" and of the network's input with the config {html.text(check.config_name)}" if at_input else "")
        + f". Small: share of the objects with {html.text(TERMS['small'])}."
    )
    table = html.table(head, rows)
    if len(rows) > MAX_CLASSES:
        table = html.table(head, rows[:MAX_CLASSES]) + html.details(
            f"{len(rows) - MAX_CLASSES} more classes", html.table(head, rows[MAX_CLASSES:])
        )
    suspected = "".join(_kind_section(code, groups[code], check) for code in CLASS_KINDS if code in groups)
    return explain(html.note(lead), ("input",)) + table + suspected


def _class_row(one: ClassSummary, splits: Sequence[str], most: int, at_input: bool) -> list[str]:
    def pixels(side: float | None) -> str:
        return cell("–" if side is None else f"{side:,.0f}")

    return [
        html.text(one.name),
        number(one.num_objects),
        *(number(one.objects.get(split, 0)) for split in splits),
        html.bar(one.num_objects / most if one.num_objects else None),
        number(one.images),
        pixels(one.median_side),
        *([pixels(one.median_side_at_input)] if at_input else []),
        cell("–" if one.small_fraction is None else f"{one.small_fraction:.0%}"),
    ]


def _overview(groups: dict[str, list[Finding]], check: CheckResult) -> str:
    rows = [
        [
            f'<a href="#{code}">{code}</a>',
            cell(_severity(KINDS[code].severity)),
            cell(f"{len(group):,}", "number"),
            cell(_explain_kind(code)),
            cell(html.text(group[0].fix) + _command(group[0], check)),
        ]
        for code, group in groups.items()
    ]
    return html.table(("Code", "Severity", "Count", "Finding", "What to do"), rows, "words overview")


def _explain_kind(code: str) -> str:
    """The title of a kind with its word explained: as a tooltip, or beside it where the title lacks the word."""
    kind = KINDS[code]
    title = html.text(kind.title)
    explained = explain(title, (kind.term,)) if kind.term else title
    if kind.term and explained == title:
        explained += f'<br><small class="soft">{html.text(f"{kind.term}: {TERMS[kind.term]}")}</small>'
    return explained


def _kind_section(code: str, group: Sequence[Finding], check: CheckResult) -> str:
    kind = KINDS[code]
    figures: list[str] = []
    for finding in group if code not in WITHOUT_IMAGES else ():
        if figure := _figure(finding, check.value_range):
            figures.append(figure)
        if len(figures) == MAX_IMAGES[kind.severity]:
            break
    items = "".join(
        f"<li>{html.text(describe_finding(finding))}{_members(finding)}</li>" for finding in group[:MAX_RECORDS]
    )
    more = f" (the first {MAX_RECORDS})" if len(group) > MAX_RECORDS else ""
    heading = f'<span id="{code}">{code}</span><small>{_severity(kind.severity)} · {len(group):,}</small>'
    in_groups = any(len(finding.group) > 1 for finding in group)
    body = html.gallery(figures, "cards" if in_groups else "") if figures else ""
    if any(one.mark not in ("same", "found") for finding in group for image in finding.group for one in image.boxes):
        body = draw_legend() + body
    listed = f"<ul>{items}</ul>"
    body += html.details(f"All records{more}", listed) if figures or len(group) > MAX_OPEN else listed
    colors = ""
    if code.startswith(SUSPECT):
        detected = "what the model finds"
        colors = f"<br>Red: {detected}." if code == MISSING else f"<br>Red: annotated; blue: {detected}."
    meaning = f"<br>{html.text(f'{kind.term}: {TERMS[kind.term]}')}." if kind.term else ""
    fix = html.text(group[0].fix) + ("" if kind.fix.endswith("?") else ".")
    lead = f"{html.text(kind.title)}: {fix}{meaning}{colors}{_command(group[0], check)}"
    return html.section(heading, body, lead)


def _members(finding: Finding) -> str:
    """The files of a group, for the list of records."""
    if len(finding.group) < 3:
        return ""
    names = ", ".join(f"{one.split}: {one.path.name}" if one.split else one.path.name for one in finding.group)
    return f'<br><span class="soft">{html.text(names)}</span>'


def _figure(finding: Finding, value_range: Range | None) -> str:
    if finding.group:
        card = draw_group(finding, value_range)
        return (
            f"{card[: -len('</article>')]}{html.note(html.text(describe_finding(finding)))}</article>" if card else ""
        )
    if finding.image is None:
        return ""
    try:
        image = draw_finding(finding.image, finding.boxes, value_range=value_range)
    except ImageError:  # its finding is that it cannot be read
        return ""
    return html.figure(image, describe_finding(finding), longest=MAX_SIDE)


def _regression_range(check: CheckResult, result: RegressionRangeResult) -> str:
    how = BY_PREDICTIONS if result.by_predictions else "Points are assigned to boxes as in training."
    lead = (
        f"{how} With the config {check.config_name}: n = {result.n}, delta = {result.delta:g}, "
        f"input {result.short_side} {'x' if result.stretch else 'to'} {result.long_side} pixels. "
        f"{format_fraction(result.clamped_fraction)} of the edges lie outside the regression range and are clamped; "
        f"{pluralize(len(result.unassigned), 'box is', 'boxes are')} unassigned."
    )
    advice = "".join(
        f"<p><b>Advice:</b> {html.text(one.why)}: <code>{html.text(one.as_options())}</code></p>"
        for one in check.advice
    )
    rows = [
        [
            str(level.stride),
            cell(f"{level.range_pixels:g}"),
            number(level.num_boxes),
            number(level.num_points),
            cell(describe_clamped(level) if level.num_points else "–"),
        ]
        for level in result.levels
    ]
    head = ("Stride", "Regression range, pixels", "Boxes", "Points", "Clamped edges")
    drawings = html.charts((_side_chart(result), _distance_chart(result)))
    return html.note(html.text(lead)) + advice + drawings + html.table(head, rows)


def _side_chart(result: RegressionRangeResult) -> str:
    limits = [2**k for k in range(2, 11)]  # 4 ... 1024 pixels
    index = torch.bucketize(result.sides, torch.tensor(limits, dtype=torch.float32), right=True)
    return bars_svg(
        torch.bincount(index, minlength=len(limits) + 1).tolist(),
        title="Box sizes",
        note="number of boxes from each size to the next",
        x_label="square root of the area, pixels of the input",
        labels=["0", *map(str, limits)],
        width=400,
        height=240,
    )


def _distance_chart(result: RegressionRangeResult) -> str:
    limit = result.n * result.delta
    width = max(1, round(limit / 16))
    count = max(int(result.distances[-1]) if len(result.distances) else 0, int(limit)) // width + 1
    bars = torch.bincount((result.distances / width).long(), minlength=count).tolist()[:64]
    return bars_svg(
        bars,
        title="Regression targets",
        note=f"the regression range ends at {limit:g} strides",
        x_label="distance from the point to the edge, strides",
        labels=[str(width * k) for k in range(len(bars))],
        width=400,
        height=240,
    )


STYLE = """
.severity-error{color:#d92d3a}.severity-warning{color:#b07300}.severity-note{color:#2f6fde}
@media (prefers-color-scheme:dark){.severity-error{color:#ff7a84}.severity-warning{color:#f0b64a}
.severity-note{color:#6ea4ff}}
h2 small{font-size:.85rem;font-weight:500;margin-left:.6em}
.overview th:nth-child(3),td.number{text-align:right;white-space:nowrap}
li{overflow-wrap:anywhere;font-size:.9rem}
code{font-size:.88em;overflow-wrap:anywhere}
section section{margin-top:28px}
abbr{text-decoration:underline dotted;cursor:help}
.overview td:nth-child(2),.overview th:nth-child(2){white-space:nowrap}
.key{font-weight:400;margin-right:.9em}
.gallery.cards{grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr))}
.card{overflow:hidden}.card>.note{margin:.6em 14px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:2px}
.group{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:2px}
.card figure{border-radius:0;border:0}
dl.terms{display:block}dl.terms dt{font-weight:600;color:var(--ink)}
dl.terms dd{text-align:left;margin:0 0 .6em}
"""
