"""A check as one self-contained page: what was found, and images of the worst of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from gfocal.atomic import atomic_write
from gfocal.checks.before_training import percent
from gfocal.checks.check import Check
from gfocal.checks.findings import KINDS, Box, Finding, by_kind
from gfocal.checks.reach import ReachResult
from gfocal.data.images import read_image
from gfocal.errors import ImageError
from gfocal.reports.demo import STYLE, image_tag
from gfocal.reports.tables import example
from gfocal.text import counted, printable
from gfocal.visualize.charts import bars_svg
from gfocal.visualize.drawing import Color, Rect, draw_box, enlarge, image_of

PAGE_FILE = "check.html"
IMAGES_OF_KIND = {"error": 6, "warning": 6, "note": 3}
RECORDS_OF_KIND = 200
# Kinds that an image says nothing more of.
WITHOUT_IMAGES = ("lying-extension", "unusual-pixels", "several-frames", "turned-image", "huge-image")
FOUND, OTHER = (230, 57, 70), (29, 120, 224)
SMALL = 0.2  # of the image's longer side: what is smaller is shown enlarged
AROUND = 4.0  # times its size, and
LEAST_AROUND = 160.0  # pixels
LONGEST = 480  # pixels of an image on the page

COLORS = """
.error{color:#d92d3a}.warning{color:#b07300}.note-kind{color:#2f6fde}
@media (prefers-color-scheme:dark){.error{color:#ff7a84}.warning{color:#f0b64a}.note-kind{color:#6ea4ff}}
h2 small{font-size:.85rem;font-weight:500;margin-left:.6em}
td,th{text-align:left;white-space:normal}td.number,th.number{text-align:right;white-space:nowrap}
details{margin:.6em 0}summary{cursor:pointer;color:var(--soft)}li{overflow-wrap:anywhere;font-size:.9rem}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:2px}.pair figure{border-radius:0}
"""


def write_page(check: Check, path: Path) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist."""
    title = f"Check of {', '.join(Path(p).name or p for p in check.paths)}"
    numbers = "".join(f"<div><b>{number:,}</b><span>{name}s</span></div>" for name, number in check.counts.items())
    facts = "; ".join(
        f"{name}: {counted(len(data), 'image')}, {counted(sum(len(s.boxes) for s in data.samples), 'box', 'boxes')}"
        for name, data in check.splits.items()
    )
    lead = f'<p class="lead">{_text(facts)}</p><div class="numbers">{numbers}</div>'
    parts = [f"<header><h1>{_text(title)}</h1>{lead}</header>"]
    groups = by_kind(check.findings)
    if groups:
        parts.append(_section("What was found", _overview(groups)))
    if check.reach is not None:
        parts.append(_section("Reach", _reach(check, check.reach)))
    parts += [_kind(code, group) for code, group in groups.items()]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_text(title)}</title><style>{STYLE}{COLORS}</style></head>\n<body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _text(text: str) -> str:
    return escape(printable(text))


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{heading}</h2>{body}</section>"


def _severity(severity: str) -> str:
    return f'<span class="{"note-kind" if severity == "note" else severity}">{severity}</span>'


def _overview(groups: dict[str, list[Finding]]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{code}">{code}</a></td><td>{_severity(KINDS[code].severity)}</td>'
        f'<td class="number">{len(group):,}</td><td>{_text(KINDS[code].title)}</td>'
        f"<td>{_text(KINDS[code].fix)}</td></tr>"
        for code, group in groups.items()
    )
    head = '<tr><th>Code</th><th></th><th class="number">Count</th><th>What</th><th>What to do</th></tr>'
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _kind(code: str, group: Sequence[Finding]) -> str:
    kind = KINDS[code]
    figures = []
    for finding in group if code not in WITHOUT_IMAGES else ():
        figure = _figure(finding)
        if figure:
            figures.append(figure)
        if len(figures) == IMAGES_OF_KIND[kind.severity]:
            break
    items = "".join(f"<li>{_text(example(finding))}</li>" for finding in group[:RECORDS_OF_KIND])
    more = f" (the first {RECORDS_OF_KIND})" if len(group) > RECORDS_OF_KIND else ""
    heading = f'<span id="{code}">{code}</span><small>{_severity(kind.severity)} · {len(group):,}</small>'
    gallery = f'<div class="gallery">{"".join(figures)}</div>' if figures else ""
    return _section(
        heading,
        f'<p class="note">{_text(kind.title)}: {_text(kind.fix)}.</p>{gallery}'
        f"<details><summary>All records{more}</summary><ul>{items}</ul></details>",
    )


def _figure(finding: Finding) -> str:
    if finding.image is None:
        return ""
    try:
        color = FOUND if finding.other is None else OTHER  # what is twice is the image, not its first box
        image = drawn(finding.image, finding.boxes, color)
        first = image_tag(image, printable(example(finding)), longest=LONGEST)
        if finding.other is None:
            return first
        second = image_tag(drawn(finding.other, ()), finding.other.name, longest=LONGEST)
    except ImageError:  # what is found of it is that it cannot be read
        return ""
    return f'<div class="pair">{first}{second}</div>'


def drawn(path: Path, boxes: Sequence[Box], first: Color = FOUND) -> Image.Image:
    """An image with boxes on it, the others in blue; small boxes enlarged, with what lies around them."""
    image = image_of(read_image(path))
    window = _window(boxes, image.size)
    image = image.crop((round(window[0]), round(window[1]), round(window[2]), round(window[3])))
    scale = LONGEST / max(image.size)
    if scale < 1:
        image.thumbnail((LONGEST, LONGEST))
    else:
        image = enlarge(image, scale)
    draw = ImageDraw.Draw(image)
    for i, (x1, y1, x2, y2) in reversed(list(enumerate(boxes))):
        left, top = (x1 - window[0]) * scale, (y1 - window[1]) * scale
        right, bottom = (x2 - window[0]) * scale, (y2 - window[1]) * scale
        # A box of no area, or inverted, is shown by where it is.
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
    middle = (float(xs.min() + xs.max()) / 2, float(ys.min() + ys.max()) / 2)
    extent = max(float(xs.max() - xs.min()), float(ys.max() - ys.min()))
    if extent > SMALL * max(size):
        return whole
    half = max(AROUND * extent, LEAST_AROUND) / 2
    left, top = (max(min(m - half, s - 2 * half), 0.0) for m, s in zip(middle, size, strict=True))
    return left, top, min(left + 2 * half, whole[2]), min(top + 2 * half, whole[3])


def _reach(check: Check, result: ReachResult) -> str:
    rows = "".join(
        f'<tr><td class="number">{level.stride}</td><td class="number">{level.reach:g}</td>'
        f'<td class="number">{level.boxes:,}</td><td class="number">{level.points:,}</td>'
        f'<td class="number">{percent(level.share) if level.points else "–"}</td></tr>'
        for level in result.levels
    )
    names = ("Stride", "Reach in pixels", "Boxes", "Points", "Edges beyond")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    lead = (
        f"Boxes as the config {check.config_name} lays them out: n = {result.n}, delta = {result.delta:g}, input "
        f"{result.short_side} to {result.long_side} pixels. {percent(result.share)} of all edges lie beyond reach; "
        f"{counted(len(result.unplaced), 'box is', 'boxes are')} learned by no point."
    )
    advice = "".join(
        f"<p><b>Advice:</b> {_text(one.why)}: <code>{_text(one.as_options())}</code></p>" for one in check.advice
    )
    return (
        f'<p class="note">{_text(lead)}</p>{advice}<div class="charts"><div>{_side_chart(result)}</div>'
        f'<div>{_edge_chart(result)}</div></div><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _side_chart(result: ReachResult) -> str:
    edges = [2**k for k in range(2, 11)]  # 4 ... 1024 pixels
    number = torch.bucketize(result.sides, torch.tensor(edges, dtype=torch.float32), right=True)
    bars = torch.bincount(number, minlength=len(edges) + 1).tolist()
    return bars_svg(
        bars,
        title="Sides of boxes",
        note="from each number of pixels to the next",
        x_label="square root of the area, at the input",
        labels=["0", *map(str, edges)],
        width=400,
        height=240,
    )


def _edge_chart(result: ReachResult) -> str:
    reach = result.n * result.delta
    width = max(1, round(reach / 16))
    count = max(int(result.distances[-1]) if len(result.distances) else 0, int(reach)) // width + 1
    bars = torch.bincount((result.distances / width).long(), minlength=count).tolist()[:64]
    return bars_svg(
        bars,
        title="Edges of the points that learn a box",
        note=f"reach is {reach:g} strides",
        x_label="distance in strides",
        labels=[str(width * k) for k in range(len(bars))],
        width=400,
        height=240,
    )
