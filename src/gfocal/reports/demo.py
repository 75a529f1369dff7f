"""The page of ``gfocal demo``: average precision, detections, edge distributions, training curves."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gfocal.evaluation.bootstrap import APIntervals
from gfocal.evaluation.coco_ap import FEW_OBJECTS, CocoResult
from gfocal.reports import html
from gfocal.reports.html import CaptionedImage
from gfocal.text import pluralize
from gfocal.visualize.charts import curve_svg

Value = float | int | str | None
LOSS_COLUMNS = ("loss", "total", "cls", "box", "dfl")
AP_COLUMNS = ("ap", "ap50", "ap75")


@dataclass(frozen=True)
class EdgeExample:
    """One object: its image with the distributions in place, and the charts of its four edges."""

    image: CaptionedImage
    panel: str = ""  # of gfocal.visualize.edge_panel_svg


def write_demo_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str = "",
    result: CocoResult | None = None,
    rows: Sequence[Mapping[str, Value]] = (),
    images: Sequence[CaptionedImage] = (),
    edges: Sequence[EdgeExample] = (),
    facts: Mapping[str, Value] | None = None,
) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist.

    Args:
        path: the html file.
        title: heading of the page.
        lead: the introduction.
        result: average precision of the run.
        rows: lines of metrics.csv, values as numbers or as text; empty ones are skipped. The horizontal axis
            is ``epoch`` in the AP chart and ``step`` (else ``epoch``) in the others. Columns named after a
            loss term, alone or after ``loss_`` or ``train/``, make the loss chart, ``ap``, ``ap50`` and
            ``ap75`` (0..1) the AP chart, ``lr`` the chart of the learning rate.
        images: images with detections drawn on them.
        edges: single objects with the distributions of their edges.
        facts: names and values of the run: device, seed, hours ...
    """
    charts = training_curves(rows)
    parts = [html.header(title, lead, "" if result is None else ap_tiles(result))]
    if images:
        parts.append(
            html.section("Test images", html.gallery(html.figure(i.image, i.caption) for i in images), SCORES)
        )
    if edges:
        parts.append(html.section("Edge distributions", "".join(map(_edge_example, edges)), EDGES))
    if charts:
        parts.append(html.section("Training curves", html.charts(charts)))
    if result is not None and result.per_class:
        parts.append(html.section("AP per class", class_table(result), CLASSES))
    if facts:
        parts.append(html.section("Details", html.facts(facts)))
    html.write_page(path, title, parts, STYLE)


def ap_tiles(result: CocoResult, intervals: APIntervals | None = None) -> str:
    """The AP of an evaluation in large numbers, with intervals where given, and what it was measured on.

    Numbers of few objects are gray, see ``FEW_OBJECTS``.
    """
    numbers = {
        "AP": result.ap,
        "AP at IoU 0.50": result.ap50,
        "AP at IoU 0.75": result.ap75,
        "AP small": result.ap_small,
        "AP medium": result.ap_medium,
        "AP large": result.ap_large,
    }
    shown = {name: html.decimal(value) for name, value in numbers.items() if name == "AP" or value is not None}
    counts = {"AP small": result.num_small, "AP medium": result.num_medium, "AP large": result.num_large}
    few = {name for name in shown if 0 < counts.get(name, result.num_ground_truth) < FEW_OBJECTS}
    count = f"{pluralize(result.num_ground_truth, 'object')} in {pluralize(result.num_images, 'image')}"
    words = f"COCO average precision, 0 to 1, on {count}."
    if intervals is not None and intervals.ap is not None and intervals.ap50 is not None:
        words += (
            f" 95 % confidence intervals, by a bootstrap over the images: AP {intervals.ap.describe()}, AP at IoU "
            f"0.50 {intervals.ap50.describe()}."
        )
    if few:
        words += f" Gray: fewer than {FEW_OBJECTS} objects, where AP is mostly chance."
    return html.tiles(shown, few) + html.note(words)


def class_table(result: CocoResult) -> str:
    """AP of every class, as a number and as a bar."""
    rows = [
        [html.text(name), *map(html.number, (one.num_ground_truth, one.ap50, one.ap)), html.bar(one.ap)]
        for name, one in result.per_class.items()
    ]
    kinds = [few_kind(one.num_ground_truth) for one in result.per_class.values()]
    return html.table(("Class", "Objects", "AP50", "AP", ""), rows, row_kinds=kinds)


def few_kind(num_objects: int) -> str:
    """The style of a row whose AP is of so many objects."""
    return "few" if 0 < num_objects < FEW_OBJECTS else ""


def training_curves(rows: Sequence[Mapping[str, Value]]) -> list[str]:
    """Charts of the loss terms, of AP and of the learning rate, as far as the rows have them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    losses = [c for c in columns if _metric_name(c) in LOSS_COLUMNS]
    aps = [c for c in columns if _metric_name(c) in AP_COLUMNS]
    rates = [c for c in columns if _metric_name(c) in ("lr", "learning_rate")]
    step = "step" if "step" in columns else "epoch"
    epoch = "epoch" if "epoch" in columns else "step"
    charts = []
    for names, x, title in (
        (losses, step, "Loss"),
        (aps, epoch, "Average precision"),
        (rates, step, "Learning rate"),
    ):
        series = {_metric_name(name): series_of(rows, x, name) for name in names}
        if any(series.values()):
            charts.append(curve_svg(series, title=title, x_label=x))
    return charts


def series_of(rows: Iterable[Mapping[str, Value]], x: str, y: str) -> list[tuple[float, float]]:
    """The points (x, y) of the rows that have both as finite numbers."""
    pairs = ((_as_number(row.get(x)), _as_number(row.get(y))) for row in rows)
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _metric_name(column: str) -> str:
    name = column.lower().rpartition("/")[2]
    return name.removeprefix("loss_").removesuffix("_loss")


def _as_number(value: Value) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _edge_example(example: EdgeExample) -> str:
    figure = html.figure(example.image.image, example.image.caption)
    return f'<article>{figure}<div class="panel">{example.panel}</div></article>'


SCORES = (
    "The score of a detection is the IoU that the detector expects its box to have with an object of that class: "
    '<span class="ramp"></span> 0 to 1. Bands at the edges are one predicted standard deviation wide to either side.'
)
EDGES = (
    "The detector predicts a distribution for each edge of a box. A sharp edge gives one or two high bars, a blurred "
    "edge many low ones, an edge with two plausible positions two peaks. "
    + html.legend_key("predicted", "predicted")
    + html.legend_key("ground-truth", "ground truth")
    + "is the distribution that the labels were sampled from, projected on the same bins. ± is one standard "
    "deviation; that of a sharp edge between two bins is up to half a bin."
)
CLASSES = "AP is the mean over IoU thresholds from 0.50 to 0.95; AP50 is AP at IoU 0.50."

STYLE = """
article{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px;
padding:14px;margin-bottom:16px;align-items:center}
article figure{border:0;border-radius:8px}
article figcaption{padding:10px 0 0}
.panel{overflow-x:auto}
.ramp{display:inline-block;width:90px;height:10px;border-radius:5px;vertical-align:baseline;
background:linear-gradient(90deg,#d64028,#f5b41e,#12a06e)}
.key .predicted{background:var(--c0)}.key .ground-truth{background:var(--ground-truth);opacity:.6}
"""
