"""One self-contained page about a run: numbers, curves, what was found, and how sure every edge is.

No scripts and nothing from the network: styles, charts (SVG) and images (data URIs) are all in the file.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from gfocal.atomic import atomic_write
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.text import counted
from gfocal.visualize.charts import curve_svg

Cell = float | int | str | None
LOSS_COLUMNS = ("loss", "total", "cls", "box", "dfl")
AP_COLUMNS = ("ap", "ap50", "ap75")


@dataclass(frozen=True)
class CaptionedImage:
    """An image of the report and the sentence under it."""

    image: Image.Image
    caption: str = ""


@dataclass(frozen=True)
class EdgeStudy:
    """One object: its image with the distributions in place, and its four charts."""

    drawing: CaptionedImage
    panel: str = ""  # of gfocal.visualize.edge_panel_svg


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str = "",
    result: CocoResult | None = None,
    rows: Sequence[Mapping[str, Cell]] = (),
    images: Sequence[CaptionedImage] = (),
    studies: Sequence[EdgeStudy] = (),
    facts: Mapping[str, Cell] | None = None,
) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist.

    Args:
        path: the html file.
        title: heading of the page.
        lead: a sentence that says what one sees.
        result: average precision of the run.
        rows: lines of metrics.csv, values as numbers or as text; empty ones are skipped. The horizontal axis
            is ``epoch`` in the AP chart and ``step`` (else ``epoch``) in the others. Columns named after a
            loss term, alone or after ``loss_`` or ``train/``, make the loss chart, ``ap``, ``ap50`` and
            ``ap75`` (0..1) the AP chart, ``lr`` the chart of the learning rate.
        images: scenes with boxes drawn on them.
        studies: single objects with the distributions of their edges.
        facts: name and value of what else should be known: device, seed, hours ...

    All text is escaped, so class names and titles may hold any character.
    """
    parts = [f"<header><h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>' if lead else ""]
    if result is not None:
        parts.append(headline(result))
    parts.append("</header>")
    parts += [_section("Unseen images", _gallery(images), SCORE_LEGEND)] if images else []
    parts += [_section("How sure is each edge?", _studies(studies), EDGE_LEGEND)] if studies else []
    charts = curve_charts(rows)
    parts += [_section("How it learned", f'<div class="charts">{charts}</div>')] if charts else []
    if result is not None and result.per_class:
        parts.append(_section("Class by class", class_table(result), CLASS_NOTE))
    if facts:
        parts.append(_section("Facts", fact_list(facts)))
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def image_tag(image: Image.Image, caption: str = "", *, longest: int = 1400) -> str:
    """A figure with the image inside it as WebP, at most ``longest`` pixels wide or high."""
    if max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=90, method=4)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def headline(result: CocoResult) -> str:
    """The numbers one looks for first, large."""
    numbers = {
        "AP": result.ap,
        "AP at IoU 0.50": result.ap50,
        "AP at IoU 0.75": result.ap75,
        "AP small": result.ap_small,
        "AP medium": result.ap_medium,
        "AP large": result.ap_large,
    }
    shown = [(name, value) for k, (name, value) in enumerate(numbers.items()) if k == 0 or value is not None]
    cells = "".join(f"<div><b>{_figure(value)}</b><span>{escape(name)}</span></div>" for name, value in shown)
    count = f"{counted(result.num_ground_truth, 'object')} in {counted(result.num_images, 'image')}"
    return f'<div class="numbers">{cells}</div><p class="note">COCO average precision, 0 to 1, on {count}.</p>'


def class_table(result: CocoResult) -> str:
    """AP of every class, as a number and as a bar."""
    lines = [
        f"<tr><th scope=row>{escape(name)}</th><td>{figures.num_ground_truth:,}</td>"
        f"<td>{_figure(figures.ap50)}</td><td>{_figure(figures.ap)}</td>"
        f"<td class=bar>{_meter(figures.ap)}</td></tr>"
        for name, figures in result.per_class.items()
    ]
    head = "".join(f"<th scope=col>{name}</th>" for name in ("Class", "Objects", "AP50", "AP", ""))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def fact_list(facts: Mapping[str, Cell]) -> str:
    """Names and values."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def curve_charts(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Charts of the loss terms, of AP and of the learning rate, as far as the rows have them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    losses = [c for c in columns if _plain(c) in LOSS_COLUMNS]
    aps = [c for c in columns if _plain(c) in AP_COLUMNS]
    rates = [c for c in columns if _plain(c) in ("lr", "learning_rate")]
    step = "step" if "step" in columns else "epoch"
    epoch = "epoch" if "epoch" in columns else "step"
    charts = []
    for names, x, heading in (
        (losses, step, "Loss"),
        (aps, epoch, "Average precision"),
        (rates, step, "Learning rate"),
    ):
        series = {_plain(name): series_of(rows, x, name) for name in names}
        if any(series.values()):
            charts.append(f"<div>{curve_svg(series, title=heading, x_label=x)}</div>")
    return "".join(charts)


def series_of(rows: Iterable[Mapping[str, Cell]], x: str, y: str) -> list[tuple[float, float]]:
    """The points (x, y) of the rows that have both as finite numbers."""
    pairs = ((_as_number(row.get(x)), _as_number(row.get(y))) for row in rows)
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _plain(column: str) -> str:
    name = column.lower().rpartition("/")[2]
    return name.removeprefix("loss_").removesuffix("_loss")


def _as_number(cell: Cell) -> float | None:
    try:
        value = float(cell) if cell is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _figure(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _meter(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    share = min(max(value, 0.0), 1.0)
    return f'<i style="width:{100 * share:.1f}%"></i>'


def _section(heading: str, body: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{body}</section>"


def _gallery(images: Sequence[CaptionedImage]) -> str:
    figures = "".join(image_tag(image.image, image.caption) for image in images)
    return f'<div class="gallery">{figures}</div>'


def _studies(studies: Sequence[EdgeStudy]) -> str:
    figures = [(image_tag(s.drawing.image, s.drawing.caption), s.panel) for s in studies]
    return "".join(f'<article>{figure}<div class="panel">{p}</div></article>' for figure, p in figures)


SCORE_LEGEND = (
    "Scenes the network never saw in training. A score is the overlap (IoU) the network expects its box to "
    'have with an object of that class: <span class="ramp"></span> 0 to 1.'
)
EDGE_LEGEND = (
    "The network does not answer with one number per edge but with a distribution. A sharp edge gives one or "
    "two tall bars, a blurred edge a broad hill, an edge that could be in two places two peaks. "
    '<span class="key"><i class="learned"></i>learned</span> '
    '<span class="key"><i class="ground truth"></i>the true law</span> the labels were drawn from, where it is '
    "known, laid on the same bins. ± is one standard deviation; a sharp edge between two bins "
    "has up to half a bin."
)
CLASS_NOTE = "AP is the mean over IoU 0.50 to 0.95; AP50 asks for half the overlap only."

STYLE = """
:root{--bg:#fbfbf9;--card:#fff;--ink:#1f2328;--soft:#5b636d;--line:#e3e4e0;--grid:#e6e7e3;--axis:#9aa1aa;
--c0:#2f6fde;--c1:#e0662a;--c2:#1c9a6c;--c3:#9a4fd0;--c4:#b08c00;--c5:#d1437f;--ground truth:#8a929c}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--ink:#e8eaed;--soft:#a3abb5;
--line:#30363e;--grid:#2d333b;--axis:#6b7480;--c0:#6ea4ff;--c1:#ff9a63;--c2:#4fd1a0;--c3:#c693f5;--c4:#e6c542;
--c5:#ff86b5;--ground truth:#a9b2bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1180px;margin:0 auto;padding:clamp(16px,4vw,48px)}
h1{font-size:clamp(1.7rem,5vw,2.6rem);line-height:1.15;letter-spacing:-.02em;margin:0 0 .4em;
overflow-wrap:anywhere}
h2{font-size:1.35rem;letter-spacing:-.01em;margin:0 0 .3em}
section{margin-top:clamp(32px,5vw,56px)}
.lead{font-size:1.1rem;max-width:68ch;color:var(--soft);margin:0 0 1.4em}
.note{color:var(--soft);font-size:.92rem;max-width:80ch;margin:.3em 0 1em}
.numbers+.note{margin-top:.8em}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px;align-items:stretch}
.numbers div{display:flex;flex-direction:column;justify-content:flex-end;
background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.numbers b{display:block;font-size:2rem;line-height:1.1;font-variant-numeric:tabular-nums}
.numbers div:first-child b{font-size:2.9rem;color:var(--c0);line-height:.95}
.numbers span{color:var(--soft);font-size:.85rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:16px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:16px}
.charts>div,article,figure{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:0}
.charts>div{padding:14px}
figure{overflow:hidden}
figure img{display:block;width:100%;height:auto}
figcaption{padding:10px 14px;font-size:.88rem;color:var(--soft);overflow-wrap:anywhere}
figcaption:empty{display:none}
article{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px;
padding:14px;margin-bottom:16px;align-items:center}
article figure{border:0;border-radius:8px}
article figcaption{padding:10px 0 0}
.panel{overflow-x:auto}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child{text-align:left;font-weight:500;white-space:normal;overflow-wrap:anywhere;min-width:7em}
thead th{color:var(--soft);font-size:.85rem;font-weight:500}
.bar{width:40%;min-width:90px}
.bar i{display:block;height:10px;border-radius:5px;background:var(--c0);min-width:1px}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:2px 24px;margin:0}
dl div{display:flex;justify-content:space-between;gap:12px;border-bottom:1px solid var(--line);padding:7px 0}
dt{color:var(--soft)}dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:0}
.ramp{display:inline-block;width:90px;height:10px;border-radius:5px;vertical-align:baseline;
background:linear-gradient(90deg,#d64028,#f5b41e,#12a06e)}
.key{white-space:nowrap;font-weight:600}
.key i{display:inline-block;width:12px;height:12px;border-radius:3px;vertical-align:-1px;margin:0 5px 0 2px}
.key .learned{background:var(--c0)}.key .truth{background:var(--ground truth);opacity:.6}
@media print{section,figure,article{break-inside:avoid}}
"""
