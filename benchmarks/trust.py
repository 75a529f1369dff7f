"""Do intervals of edges hold what they promise, are they narrow, and do scores mean something? On named datasets.

    python benchmarks/trust.py --model nanodet_plus_m_416_coco --data DIR/coco_ccby --split val
    python benchmarks/trust.py --model runs/cards --data DIR/cards --split test --shift
    python benchmarks/trust.py --model gfocal-demo --data synthetic:2000

``--model``, ``--data`` and ``--split`` may be repeated together, one table each; ``val+test`` is both splits,
``synthetic:2000`` as many synthetic scenes that training never sees. Detections are computed once for each set.

Guarantee: the images are divided into halves at random, ``--splits`` times; the errors of one half promise
``--coverage`` for all four edges of a box, and the boxes of the other are counted. There is a row for each rule that
scales an error before it is ranked. ``sd`` is the spread of coverage over the divisions in points, ``theory`` the one
that boxes drawn one by one would have (beta-binomial, by the number of boxes in each half). ``by box`` divides boxes,
not images: there theory is exact, and boxes of one image that err together show in the difference. ``shuffled`` gives
every box the spread of another one: coverage stays, sharpness goes. ``--shift`` calibrates on clean images and counts
blurred and darkened ones, ``loose labels`` ones of other annotators: exchangeability is broken, and nothing promised.

All intervals end at the image border, as ``Detections.edge_interval`` has them. Widths and interval scores are means
over edges in pixels; lower is better. ``standard`` is the spread rule of gfocal without fitted numbers; ``calibrate``
is all that ``gfocal calibrate`` does with one half (fitted rule, classes of their own), in the first ``--fits``
divisions alone, and its ratios are to the same divisions.

Scores: LaECE and D-ECE before calibration, and after it, cross-fitted by image.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

import gfocal
from gfocal.calibration.calibrate import (
    ScoreErrors,
    cross_validate_scores,
    divide_images,
)
from gfocal.calibration.guarantees import guarantees
from gfocal.calibration.matched import Scored, TruePositives, match_detections
from gfocal.calibration.scores import d_ece, la_ece
from gfocal.calibration.spread import choose_spread_rule, relative_spread
from gfocal.cli.inputs import read_datasets
from gfocal.data.dataset import ImageData
from gfocal.data.loading import evaluation_loader
from gfocal.data.survey import with_value_range
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.views import ChangedImages
from gfocal.evaluation.detections import average_precision, detect_all
from gfocal.models.exported import AnyDetector
from gfocal.models.predict import resolve_threshold
from gfocal.structures.calibration import SpreadRule, least_count, variance_of_bins

Floats = NDArray[np.float64]
Rule = Callable[[TruePositives], Tensor]


def blur(image: Tensor) -> Tensor:
    """As of a lens out of focus: sigma of 1 % of the longer side."""
    sigma = 0.01 * max(image.shape[1:])
    return gaussian_blur(image, 2 * math.ceil(3 * sigma) + 1, sigma)


def darken(image: Tensor) -> Tensor:
    """A quarter of the light."""
    return (image.float() / 4).round().to(torch.uint8)


SHIFTS: Mapping[str, Callable[[Tensor], Tensor]] = {"blurred": blur, "darkened": darken}


@dataclass(frozen=True)
class TrustSet:
    """What one model found in one dataset."""

    title: str
    ap: float
    num_images: int
    found: TruePositives
    scored: Scored
    shifted: Mapping[str, TruePositives]


def read_set(model: AnyDetector, data: str, split: str, seed: int) -> ImageData:
    """``synthetic:N``, or annotated images of files."""
    if data.startswith("synthetic"):
        return SyntheticScenes(int(data.partition(":")[2] or 2000), 192, seed, "test")
    splits = [None] if not split else split.split("+")
    return read_datasets([(data, one) for one in splits], Console(stderr=True), None, model.names, share="any")


def find_set(name: str, data_name: str, split: str, seed: int, with_shift: bool) -> TrustSet:
    """Detect in all images of a set, and in the shifted ones."""
    model = gfocal.load(name)
    model.calibration = None
    data = with_value_range(read_set(model, data_name, split, seed), model.input_settings.value_range)
    threshold = resolve_threshold(model, None)

    def detect(images: ImageData) -> tuple[TruePositives, Scored, float]:
        detections = detect_all(model, evaluation_loader(images, model.input_settings, 8))
        ap = average_precision(data, detections).ap
        return *match_detections(data, detections, threshold), math.nan if ap is None else ap

    start = perf_counter()
    found, scored, ap = detect(data)
    shifted = {}
    for key, change in SHIFTS.items() if with_shift else ():
        shifted[key] = detect(ChangedImages(data, change))[0]
    title = f"{name}, {data_name} {split}".strip()
    print(f"{title}: {len(data)} images, {len(found)} true positives, {perf_counter() - start:.0f} s", flush=True)
    return TrustSet(title, ap, len(data), found, scored, shifted)


def sides(found: TruePositives) -> Tensor:
    """Width, height, width, height. (N, 4)"""
    return (found.boxes[:, 2:] - found.boxes[:, :2]).repeat(1, 2).clamp(min=1)


def raw_std(found: TruePositives) -> Tensor:
    """Standard deviation of the distributions as they are, one hundredth of a bin at least."""
    return (variance_of_bins(found.edges.double())[0].sqrt() * found.bin_sizes).clamp(min=0.01)


def standard(found: TruePositives) -> Tensor:
    """The spread of gfocal without fitted numbers."""
    return relative_spread(SpreadRule(), found)


def shuffled(found: TruePositives) -> Tensor:
    """The standard spread of another box."""
    return standard(found)[torch.randperm(len(found), generator=torch.Generator().manual_seed(1))]


def with_loose_labels(found: TruePositives) -> TruePositives:
    """As if other annotators had left 3 % of the side between object and box, at each edge, within the image."""
    growth = LOOSE * (found.gt_boxes[:, 2:] - found.gt_boxes[:, :2])
    limit = found.sizes.flip(1).double()
    low, high = found.gt_boxes[:, :2] - growth, found.gt_boxes[:, 2:] + growth
    return replace(found, gt_boxes=torch.cat([low.clamp(min=0), torch.minimum(high, limit)], 1))


RULES: Mapping[str, Rule] = {
    "constant": lambda found: torch.ones_like(found.errors),
    "side": sides,
    "root of side": lambda found: sides(found).sqrt(),
    "raw edge_std": raw_std,
    "standard": standard,
    "shuffled": shuffled,
}
LOOSE = 0.03
REFERENCES = ("constant", "root of side")  # that ratios of interval scores are to


@dataclass(frozen=True)
class Counted:
    """What intervals did in one division of the images."""

    coverage: float  # of boxes
    width: float
    interval_score: float
    variance: float  # of coverage, by theory
    expected: float  # coverage, by theory
    count: int  # boxes


def rank_of(count: int, coverage: float) -> int:
    """The rank of the error that the next box does not exceed, from 1."""
    return math.ceil((count + 1) * coverage - 1e-9)


def theory(calibrated: int, counted: int, coverage: float) -> tuple[float, float]:
    """Mean and variance of the share of ``counted`` boxes that are covered: beta-binomial."""
    a = rank_of(calibrated, coverage)
    b = calibrated + 1 - a
    return a / (a + b), a * b / (a + b) ** 2 / (a + b + 1) * (a + b + counted) / counted


def count_boxes(found: TruePositives, half: Tensor, coverage: float, calibrated: int) -> Counted:
    """Coverage, width and score of intervals of half widths (N, 4), cut at the image border."""
    limit = found.sizes.flip(1).repeat(1, 2).double()
    low, high = (found.boxes - half).clamp(min=0), torch.minimum(found.boxes + half, limit)
    beyond = (low - found.gt_boxes).clamp(min=0) + (found.gt_boxes - high).clamp(min=0)
    width = high - low
    expected, variance = theory(calibrated, len(found), coverage)
    return Counted(
        coverage=float((beyond <= 1e-9).all(1).double().mean()),
        width=float(width.mean()),
        interval_score=float((width + 2 / (1 - coverage) * beyond).mean()),
        variance=variance,
        expected=expected,
        count=len(found),
    )


def halves(num_images: int, splits: int, seed: int) -> list[Tensor]:
    """Random halves of the images, as masks (num_images,)."""
    generator = torch.Generator().manual_seed(seed)
    masks = []
    for _ in range(splits):
        mask = torch.zeros(num_images, dtype=torch.bool)
        mask[torch.randperm(num_images, generator=generator)[: num_images // 2]] = True
        masks.append(mask)
    return masks


def measure_rule(
    rule: Rule, found: TruePositives, counted: TruePositives, masks: Sequence[tuple[Tensor, Tensor]], coverage: float
) -> list[Counted]:
    """A rule in every division; masks are of the boxes of ``found`` that calibrate, and of ``counted`` that count."""
    spread, spread_of_counted = rule(found), rule(counted)
    ratios = (found.errors / spread).amax(1)
    measured = []
    for calibrating, rest in masks:
        ranked = ratios[calibrating].sort().values
        if len(ranked) >= least_count(coverage) and bool(rest.any()):
            half = spread_of_counted[rest] * ranked[rank_of(len(ranked), coverage) - 1]
            measured.append(count_boxes(counted.select(rest), half, coverage, len(ranked)))
    return measured


def measure_calibrate(found: TruePositives, masks: Sequence[Tensor], coverage: float) -> list[Counted]:
    """All that ``gfocal calibrate`` does: a fitted rule where there are enough boxes, classes of their own."""
    measured, least = [], least_count(coverage)
    for seed, mask in enumerate(masks):
        calibrating = mask[found.image]
        own, test = found.select(calibrating), found.select(~calibrating)
        fit, rest = divide_images(own, least, seed) if len(own) else (None, own)
        if len(rest) < least or not len(test):
            continue
        rule = SpreadRule() if fit is None else choose_spread_rule(fit, coverage)
        ratios = rest.errors / relative_spread(rule, rest)
        pooled, _, of_class = guarantees(ratios, rest.labels, least)
        others = of_class.get(-1, pooled)
        limits = [of_class.get(label, others).quantile(coverage) for label in test.labels.tolist()]
        half = relative_spread(rule, test) * torch.tensor(limits, dtype=torch.float64).unsqueeze(1)
        measured.append(count_boxes(test, half, coverage, len(rest)))
    return measured


def row(name: str, measured: Sequence[Counted], references: Sequence[Sequence[Counted]]) -> list[str]:
    """Means over the divisions; ratios are of the interval scores in the same ones."""
    if not measured:
        return [name, "too few boxes"]
    coverage = np.array([one.coverage for one in measured])
    score = np.mean([one.interval_score for one in measured])
    ratios = [np.mean([one.interval_score for one in each[: len(measured)]]) for each in references]
    return [
        name,
        str(len(measured)),
        f"{np.mean([one.count for one in measured]):,.0f}",
        f"{coverage.mean():.1%}",
        f"{np.mean([one.expected for one in measured]):.1%}",
        f"{100 * coverage.std():.1f}",
        f"{100 * np.sqrt(np.mean([one.variance for one in measured])):.1f}",
        f"{np.mean([one.width for one in measured]):.1f}",
        f"{score:.1f}",
        *(f"{score / ratio - 1:+.0%}" for ratio in ratios),
    ]


def guarantee_table(one: TrustSet, coverage: float, splits: int, fits: int, seed: int) -> Table:
    """The rules and controls on one set."""
    found = one.found
    images = halves(one.num_images, splits, seed)
    by_image = [(mask[found.image], ~mask[found.image]) for mask in images]
    by_box = [(mask, ~mask) for mask in halves(len(found), splits, seed)]
    measured = {name: measure_rule(rule, found, found, by_image, coverage) for name, rule in RULES.items()}
    measured["calibrate"] = measure_calibrate(found, images[:fits], coverage)
    measured["standard, by box"] = measure_rule(standard, found, found, by_box, coverage)
    for name, others in {**one.shifted, "loose labels": with_loose_labels(found)}.items():
        masks = [(mask[found.image], ~mask[others.image]) for mask in images]
        measured[f"standard, {name}"] = measure_rule(standard, found, others, masks, coverage)
    heads = ("splits", "counted", "covered", "expected", "sd", "theory", "width", "score", "to constant", "to root")
    table = Table("", title=f"{one.title}: {one.num_images} images, {len(found)} boxes, AP {one.ap:.3f}")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, values in measured.items():
        table.add_row(*row(name, values, [measured[each] for each in REFERENCES]))
    return table


def score_table(sets: Sequence[TrustSet], seed: int) -> Table:
    """LaECE and D-ECE of all sets."""
    table = Table("", "detections", "LaECE", "calibrated", "D-ECE", "calibrated", title="scores")
    for one in sets:
        scored = one.scored
        before = ScoreErrors(la_ece(scored.scores, scored.labels, scored.iou), d_ece(scored.scores, scored.is_right))
        after = cross_validate_scores(scored, seed)
        values = (before.la_ece, after.la_ece, before.d_ece, after.d_ece)
        table.add_row(one.title, f"{len(scored):,}", *(f"{value:.3f}" for value in values))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="file, run, published name or exported file")
    parser.add_argument("--data", action="append", required=True, help="annotated images, or synthetic:N")
    parser.add_argument("--split", action="append", default=[], help="of each data, in order; + joins two")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=200, help="random divisions into halves")
    parser.add_argument(
        "--fits", type=int, default=20, help="of them in which a rule is fitted, which takes a second"
    )
    parser.add_argument("--shift", action="store_true", help="count blurred and darkened images too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if len(chosen.model) != len(chosen.data):
        parser.error("one --data for each --model")
    torch.set_num_threads(chosen.threads)
    named = chosen.split + [""] * (len(chosen.model) - len(chosen.split))
    sets = [
        find_set(model, data, split, chosen.seed, chosen.shift)
        for model, data, split in zip(chosen.model, chosen.data, named, strict=True)
    ]
    console = Console(width=130)
    for one in sets:
        console.print(guarantee_table(one, chosen.coverage, chosen.splits, chosen.fits, chosen.seed))
    console.print(score_table(sets, chosen.seed))


if __name__ == "__main__":
    main()
