"""The page of ``gfocal check --html``: every kind of finding, with images of the first of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from gfocal.checks.check import CheckResult
from gfocal.checks.findings import KINDS, Box, Finding, group_by_kind
from gfocal.checks.regression_range import BY_PREDICTIONS, RegressionRangeResult, format_fraction
from gfocal.data.images import read_image
from gfocal.data.value_range import Range
from gfocal.errors import ImageError
from gfocal.reports import html
from gfocal.reports.html import cell, number
from gfocal.reports.tables import describe_finding
from gfocal.text import pluralize
from gfocal.visualize.charts import bars_svg
from gfocal.visualize.drawing import Color, Rect, as_pil_image, draw_box, enlarge

PAGE_FILE = "check.html"
MAX_IMAGES = {"error": 6, "warning": 6, "note": 3}  # of each kind of finding
MAX_RECORDS = 200  # of each kind
# Kinds that cannot be seen in an image.
WITHOUT_IMAGES = (
    "wrong-extension",
    "unusual-pixel-format",
    "high-bit-depth",
    "multi-frame-image",
    "exif-rotated-image",
    "huge-image",
)
FOUND, OTHER = (230, 57, 70), (29, 120, 224)
SMALL = 0.2  # of the image's longer side: smaller boxes are shown enlarged, with their surroundings of
SURROUNDINGS = 4.0  # times their size, and at least
MIN_SURROUNDINGS = 160.0  # pixels
MAX_SIDE = 480  # pixels of an image on the page


def write_check_page(check: CheckResult, path: Path) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist."""
    title = f"Check of {', '.join(Path(p).name or p for p in check.paths)}"
    num_boxes = {name: sum(len(sample.boxes) for sample in data.samples) for name, data in check.splits.items()}
    lead = "; ".join(
        f"{name}: {pluralize(len(data), 'image')}, {pluralize(num_boxes[name], 'box', 'boxes')}"
        for name, data in check.splits.items()
    )
    counts = {f"{severity}s": f"{count:,}" for severity, count in check.counts.items()}
    parts = [html.header(title, lead, html.tiles(counts))]
    groups = group_by_kind(check.findings)
    if groups:
        parts.append(html.section("Findings", _overview(groups)))
    if check.regression_range is not None:
        parts.append(html.section("Regression range", _regression_range(check, check.regression_range)))
    parts += [_kind_section(code, group, check.value_range) for code, group in groups.items()]
    html.write_page(path, title, parts, STYLE)


def _severity(severity: str) -> str:
    return f'<span class="severity-{severity}">{severity}</span>'


def _overview(groups: dict[str, list[Finding]]) -> str:
    rows = [
        [
            f'<a href="#{code}">{code}</a>',
            cell(_severity(KINDS[code].severity)),
            cell(f"{len(group):,}", "number"),
            cell(html.text(KINDS[code].title)),
            cell(html.text(KINDS[code].fix)),
        ]
        for code, group in groups.items()
    ]
    return html.table(("Code", "Severity", "Count", "Finding", "Fix"), rows, "words overview")


def _kind_section(code: str, group: Sequence[Finding], value_range: Range | None) -> str:
    kind = KINDS[code]
    figures: list[str] = []
    for finding in group if code not in WITHOUT_IMAGES else ():
        if figure := _figure(finding, value_range):
            figures.append(figure)
        if len(figures) == MAX_IMAGES[kind.severity]:
            break
    items = "".join(f"<li>{html.text(describe_finding(finding))}</li>" for finding in group[:MAX_RECORDS])
    more = f" (the first {MAX_RECORDS})" if len(group) > MAX_RECORDS else ""
    heading = f'<span id="{code}">{code}</span><small>{_severity(kind.severity)} · {len(group):,}</small>'
    body = html.gallery(figures) if figures else ""
    body += html.details(f"All records{more}", f"<ul>{items}</ul>")
    return html.section(heading, body, f"{html.text(kind.title)}: {html.text(kind.fix)}.")


def _figure(finding: Finding, value_range: Range | None) -> str:
    if finding.image is None:
        return ""
    try:
        color = FOUND if finding.other is None else OTHER  # the finding of a duplicate is the image, not a box
        image = draw_finding(finding.image, finding.boxes, color, value_range)
        first = html.figure(image, describe_finding(finding), longest=MAX_SIDE)
        if finding.other is None:
            return first
        image = draw_finding(finding.other, (), value_range=value_range)
        second = html.figure(image, finding.other.name, longest=MAX_SIDE)
    except ImageError:  # its finding is that it cannot be read
        return ""
    return f'<div class="pair">{first}{second}</div>'


def draw_finding(
    path: Path, boxes: Sequence[Box], first: Color = FOUND, value_range: Range | None = None
) -> Image.Image:
    """An image with boxes on it, all but the first in blue; small boxes enlarged, with their surroundings."""
    image = as_pil_image(read_image(path, value_range=value_range))
    window = _window(boxes, image.size)
    image = image.crop((round(window[0]), round(window[1]), round(window[2]), round(window[3])))
    scale = MAX_SIDE / max(image.size)
    if scale < 1:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    else:
        image = enlarge(image, scale)
    draw = ImageDraw.Draw(image)
    for i, (x1, y1, x2, y2) in reversed(list(enumerate(boxes))):
        left, top = (x1 - window[0]) * scale, (y1 - window[1]) * scale
        right, bottom = (x2 - window[0]) * scale, (y2 - window[1]) * scale
        # An inverted box, or one without area, is drawn 3 pixels wide where it lies.
        place = (min(left, right), min(top, bottom), max(left, right, left + 3), max(top, bottom, top + 3))
        draw_box(draw, place, OTHER if i else first, 2)
    return image


def _window(boxes: Sequence[Box], size: tuple[int, int]) -> Rect:
    """The part of an image to show."""
    whole = (0.0, 0.0, float(size[0]), float(size[1]))
    if not boxes or not torch.tensor(boxes).isfinite().all():
        return whole
    corners = torch.tensor(boxes)
    xs, ys = corners[:, ::2], corners[:, 1::2]
    center = (float(xs.min() + xs.max()) / 2, float(ys.min() + ys.max()) / 2)
    extent = max(float(xs.max() - xs.min()), float(ys.max() - ys.min()))
    if extent > SMALL * max(size):
        return whole
    half = max(SURROUNDINGS * extent, MIN_SURROUNDINGS) / 2
    left, top = (max(min(c - half, s - 2 * half), 0.0) for c, s in zip(center, size, strict=True))
    return left, top, min(left + 2 * half, whole[2]), min(top + 2 * half, whole[3])


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
            cell(format_fraction(level.clamped_fraction) if level.num_points else "–"),
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
.pair{display:grid;grid-template-columns:1fr 1fr;gap:2px}.pair figure{border-radius:0}
"""
