"""The page of ``gfocal calibrate --report``: where edges and scores hold what they promise, and where they do not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.calibration.calibrate import CalibrationResult, cross_fit_scores, divide_images
from gfocal.calibration.held_out import SPLITS, HeldOutIntervals, hold_out, pit_of_calibration, pit_of_distributions
from gfocal.calibration.matched import TruePositives
from gfocal.calibration.measure import edge_std
from gfocal.data.dataset import ImageData
from gfocal.errors import ImageError
from gfocal.reports import html
from gfocal.reports.html import CaptionedImage, bar, cell, legend_key, number
from gfocal.structures.calibration import least_count
from gfocal.text import pluralize
from gfocal.visualize.drawing import as_pil_image
from gfocal.visualize.outliers import draw_intervals
from gfocal.visualize.reliability import coverage_chart, pit_chart, reliability_curves, width_chart

CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # coverages of the chart
SIDES = ("left", "top", "right", "bottom")
SIZES = ("small, to 32 x 32 pixels", "medium", "large, from 96 x 96 pixels")
FEW_BOXES = 30  # coverage of fewer is mostly chance
MAX_CLASSES = 12
MAX_IMAGES = 6  # of the widest, and of the most wrong edges


@dataclass(frozen=True)
class HeldOut:
    """What the page is made from: true positives that the spread rule was not fitted to, and their intervals."""

    found: TruePositives
    result: CalibrationResult
    names: tuple[str, ...]
    at: HeldOutIntervals | None  # the coverage that was asked, of boxes; None: half of the boxes are too few for it
    std: Tensor  # (N, 4) calibrated edge_std, pixels
    seed: int


def write_calibration_page(
    path: str | os.PathLike[str], result: CalibrationResult, data: ImageData, coverage: float, title: str, seed: int
) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist.

    Args:
        path: the html file.
        result: of ``calibrate``, on this data with this coverage and seed.
        data: the annotated images.
        coverage: promised of all four edges of a box.
        title: heading of the page.
        seed: of the divisions of the images.
    """
    made = result.calibration
    _, found = divide_images(result.found, least_count(coverage), seed)
    levels = sorted({*CURVE, coverage})
    boxes = hold_out(found, made, levels, "box", seed)
    edges = hold_out(found, made, levels, "edge", seed)
    page = HeldOut(found, result, data.names, result.held_out, edge_std(found, made), seed)
    parts = [
        html.header(title, _lead(page, coverage), _tiles(page)) + html.note(_describe_few(page)),
        html.section("Coverage", _edge_charts(page, boxes, edges), EDGES),
        html.section("Where it holds", _group_tables(page), _describe_groups(coverage)),
        html.section("Scores", html.charts(_score_charts(page)), SCORES),
    ]
    for heading, words, order in (
        ("The widest intervals", WIDEST, _widest(page)),
        ("The most wrong edges", WRONG, _most_wrong(page)),
    ):
        if figures := [html.figure(one.image, one.caption) for one in draw_edges(page, data, order)]:
            parts.append(html.section(heading, html.gallery(figures), words + LEGEND))
    parts.append(html.section("Details", html.facts(_facts(page))))
    html.write_page(path, title, parts, STYLE)


def _lead(page: HeldOut, coverage: float) -> str:
    made = page.result.calibration
    return (
        f"Of {coverage:.0%} of the detected objects all four edges are to lie in the intervals. This holds for "
        f"detections above the score threshold that match an object of their class at IoU {made.iou_threshold:g}, in "
        "images like those of the calibration; not for objects that were missed, for false positives, or for images "
        f"of another kind. All figures here are of images whose own errors were not used: {len(page.found):,} "
        f"{'box' if len(page.found) == 1 else 'boxes'} of {page.result.num_counted_images:,} images."
    )


def _describe_few(page: HeldOut) -> str:
    few = page.result.describe_few_images()
    return f"{few[0].upper()}{few[1:]}." if few else ""


def _tiles(page: HeldOut) -> str:
    result = page.result
    tiles = {}
    if result.held_out is not None:
        found = result.held_out.summary()
        tiles[f"boxes covered, {found.nominal:.0%} promised"] = f"{found.boxes:.1%}"
        tiles["pixels, mean width of an interval"] = html.decimal(found.width, 1)
    tiles["pixels, mean edge_std"] = html.decimal(float(page.std.mean()), 1)
    tiles["pixels, error of an edge (median)"] = html.decimal(float(page.found.errors.median()), 1)
    tiles["LaECE of scores, before"] = html.decimal(result.scores_before.la_ece)
    tiles["LaECE, calibrated"] = html.decimal(result.scores_after.la_ece)
    return html.tiles(tiles)


def _edge_charts(page: HeldOut, boxes: Sequence[HeldOutIntervals], edges: Sequence[HeldOutIntervals]) -> str:
    of_boxes = [(one.nominal, float(one.boxes.nanmean())) for one in boxes]
    of_edges = [(one.nominal, float(one.edges.nanmean())) for one in edges]
    upper = [coverage_chart(of_boxes, of_edges)]
    if page.at is not None:
        one_width = 2 * float(page.found.errors.amax(1).quantile(page.at.nominal))
        upper.append(width_chart(page.at.width[~page.at.boxes.isnan()], one_width))
    lower = [
        pit_chart(pit_of_distributions(page.found), "PIT of the distributions as predicted"),
        pit_chart(pit_of_calibration(page.found, page.result.calibration, page.seed), "PIT of calibrated edges"),
    ]
    return html.charts(upper) + html.charts(lower)


def _score_charts(page: HeldOut) -> list[str]:
    scored = page.result.scored
    iou, precision = cross_fit_scores(scored, page.seed)
    return [
        reliability_curves(scored.scores, iou, scored.iou, "Expected IoU", "mean IoU, 0 of a false positive"),
        reliability_curves(scored.scores, precision, scored.is_right, "Precision", "share that is right"),
    ]


def _group_tables(page: HeldOut) -> str:
    """Tables by level, size, class and side."""
    found = page.found
    area = (found.gt_boxes[:, 2:] - found.gt_boxes[:, :2]).prod(1)
    size = (area > 32**2).long() + (area > 96**2).long()
    counts = found.labels.bincount(minlength=len(page.names))
    frequent = counts.argsort(descending=True, stable=True)[:MAX_CLASSES].tolist()
    level, level_names = levels_of(found)
    tables = [
        _table(page, "Level, by size of a bin", level, level_names, range(len(level_names))),
        _table(page, "Size of the object", size, SIZES, range(3)),
        _table(page, "Class", found.labels, page.names, frequent),
        _side_table(page),
    ]
    left_out = int((counts > 0).sum()) - sum(int(counts[k]) > 0 for k in frequent)
    words = f"{pluralize(left_out, 'class', 'classes')} with fewer boxes left out." if left_out else ""
    return "".join(tables[:3]) + html.note(words) + tables[3]


def levels_of(found: TruePositives) -> tuple[Tensor, list[str]]:
    """A level for each box by the size of its bins, in powers of two of the image's longer side, and their names."""
    share = (found.bin_sizes.mean(1).double() / found.sizes.amax(1)).log2().round().long()
    present = share.unique()
    names = []
    for one in present.tolist():
        names.append(f"bins of {html.decimal(float(found.bin_sizes[share == one].median()), 1)} pixels")
    return torch.searchsorted(present, share), names


HEAD = ("Boxes", "Boxes covered", "", "Edges covered", "Width", "edge_std", "Error, root mean square")


def _table(page: HeldOut, heading: str, group: Tensor, names: Sequence[str], order: Sequence[int]) -> str:
    """A row for each group of boxes that has any."""
    rows, kinds = [], []
    for k in order:
        mask = group == k
        if bool(mask.any()):
            rows.append([html.text(names[k]), *_cells(page, mask)])
            kinds.append("few" * (int(mask.sum()) < FEW_BOXES))
    return html.table((heading, *HEAD), rows, "groups", kinds)


def _cells(page: HeldOut, mask: Tensor, side: int | None = None) -> list[str]:
    """Numbers of some boxes, of one side or of all four."""

    def pick(values: Tensor) -> Tensor:
        return values[mask] if side is None else values[mask, side]

    cells = [number(int(mask.sum()))]
    if page.at is None:
        cells += [cell("–"), bar(None), cell("–"), cell("–")]
    else:
        covered = float(page.at.boxes[mask].nanmean())
        edges, width = (float(pick(values).nanmean()) for values in (page.at.edges, page.at.width))
        cells += [cell(_percent(covered)), bar(covered), cell(_percent(edges)), number(width, 1)]
    error = float(pick(page.found.errors).square().mean().sqrt())
    return [*cells, number(float(pick(page.std).mean()), 1), number(error, 1)]


def _side_table(page: HeldOut) -> str:
    every = torch.ones(len(page.found), dtype=torch.bool)
    rows = []
    for k, name in enumerate(SIDES):
        cells = _cells(page, every, k)
        cells[1:3] = [cell(""), bar(None)]
        rows.append([name, *cells])
    return html.table(("Side", *HEAD), rows, "groups")


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.1%}"


def _widest(page: HeldOut) -> list[tuple[int, int]]:
    """Box and side of the widest intervals for the size of their boxes, at most one of a box."""
    if page.at is None:
        return []
    side = (page.found.boxes[:, 2:] - page.found.boxes[:, :2]).prod(1).clamp(min=1).sqrt()
    return _best_of(page.at.width.double().nan_to_num(0.0) / side.unsqueeze(1))


def _most_wrong(page: HeldOut) -> list[tuple[int, int]]:
    """Box and side of the largest errors for what was expected, at most one of a box."""
    return _best_of(page.found.errors / page.std)


def _best_of(values: Tensor) -> list[tuple[int, int]]:
    best, side = values.max(1)
    rows = best.argsort(descending=True)[:MAX_IMAGES].tolist()
    return [(row, int(side[row])) for row in rows]


def draw_edges(page: HeldOut, data: ImageData, order: Sequence[tuple[int, int]]) -> list[CaptionedImage]:
    """Some edges on their images; an image that cannot be read is left out, and all without intervals."""
    if page.at is None:
        return []
    ids = [data.sample(i).image_id for i in range(len(data))]
    index_of = sorted(range(len(ids)), key=ids.__getitem__)  # images of true positives are counted by ascending id
    limit = page.found.sizes.flip(1).repeat(1, 2).double()
    spread = page.result.calibration.spread
    figures = []
    for row, side in order:
        one = page.found.select(torch.tensor([row]))
        half = spread(one.edges, one.bin_sizes, one.boxes, one.scores) * page.result.calibration.factors(
            one.labels, page.at.nominal, "box"
        )
        low, high = (one.boxes - half).clamp(min=0)[0], torch.minimum(one.boxes + half, limit[row])[0]
        try:
            image, sample = data.read(index_of[int(one.image[0])])
        except ImageError:
            continue
        drawn = draw_intervals(
            as_pil_image(image), one.boxes[0].tolist(), one.gt_boxes[0].tolist(),
            torch.stack([low, high], 1).tolist(), side,
        )  # fmt: skip
        name = sample.path.name if sample.path else f"image {sample.image_id}"
        caption = (
            f"{name}: {SIDES[side]} of {page.names[int(one.labels[0])]} {float(one.scores[0]):.2f}, off by "
            f"{float(one.errors[0, side]):.1f} pixels, edge_std {float(page.std[row, side]):.1f}, interval "
            f"{float(high[side] - low[side]):.1f} wide"
        )
        figures.append(CaptionedImage(drawn, caption))
    return figures


def _facts(page: HeldOut) -> dict[str, object]:
    made = page.result.calibration
    threshold = made.score_threshold
    return {
        "made from": made.data,
        "images": made.num_images,
        "true positives": len(page.result.found),
        "boxes that the guarantees count": made.num_boxes,
        "highest coverage that can be promised of a box": f"{made.num_boxes / (made.num_boxes + 1):.2%}",
        "IoU of a match": made.iou_threshold,
        "score threshold": "one for each class" if isinstance(threshold, tuple) else f"{threshold:g}",
        "rule of the spread": page.result.describe_rule(),
        "D-ECE before": html.decimal(page.result.scores_before.d_ece),
        "D-ECE, calibrated": html.decimal(page.result.scores_after.d_ece),
        "seed": page.seed,
        "weights": made.weights,
    }


def _describe_groups(coverage: float) -> str:
    return (
        f"The {coverage:.0%} are promised over all boxes together, and for each class that has 100 boxes or more; a "
        "group with much less is one where intervals should not be trusted alone, one with much more has intervals "
        f"that are wider than it needs. Gray: fewer than {FEW_BOXES} boxes, mostly chance. Widths and errors are in "
        "pixels of the images."
    )


EDGES = (
    f"Halves of the images, each with the guarantees of the other half, {SPLITS} times. Boxes: all four edges; "
    "edges: each alone. <i>One for all</i> is the width that every edge would need if all had the same. PIT: which "
    "share of its distribution lies inside the true edge; flat like the pale bars if spread means what it says, a "
    "hill where it is too wide, a bowl where it is too narrow."
)
SCORES = (
    "Mean of what a score should have been, in bins with at least 10 detections, down to the low scores that AP "
    "counts. Calibrated scores are cross-validated by image."
)
WIDEST = "Where the model is least sure of an edge, for the size of its box. "
WRONG = "Where an edge is off by most of its edge_std: look at the label first, it may be the one that is wrong. "
LEGEND = (
    legend_key("box", "detection") + legend_key("gt", "ground truth") + legend_key("band", "intervals of its edges")
)
STYLE = """
.key .box{background:none;border:2px solid #f06e1e}
.key .gt{background:none;border:2px dashed #4696ff}
.key .band{background:#f06e1e;opacity:.4}
.groups{margin-bottom:1.4em}.charts+.charts{margin-top:16px}
.groups .bar{width:18%}
"""
