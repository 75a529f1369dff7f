"""The rule for the spread of an edge: the standard one, or one fitted to the errors of annotated boxes.

A guarantee holds with any rule that was fixed before the boxes that it counts were seen; a better rule makes it
narrower. So a rule is fitted to other images than the guarantee counts, and only where there are enough of both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gfocal.calibration.coverage import interval_score
from gfocal.calibration.matched import TruePositives
from gfocal.structures.calibration import FEATURES, SpreadRule, edge_features

MIN_BOXES_TO_FIT = 400  # of the true positives in all; 40 % of the images go to the fit
FIT_SHARE = 0.4
RIDGE = 0.01  # of the squared distance from the standard weights, beside a mean log likelihood
DEGREES_OF_FREEDOM = 3.0  # of Student's t: errors of boxes have a heavy tail
FOLDS = 5


def choose_spread_rule(found: TruePositives, coverage: float = 0.9) -> SpreadRule:
    """The fitted rule where its intervals score better than the standard one's on images it was not fitted to."""
    standard = SpreadRule()
    fold = fold_of_images(found.image, FOLDS)
    total = {"standard": 0.0, "fitted": 0.0}
    for i in range(FOLDS):
        rest, held = found.select(fold != i), found.select(fold == i)
        if not len(held) or not len(rest):
            return standard
        for name, rule in (("standard", standard), ("fitted", fit_spread_rule(rest))):
            ratios = (rest.errors / relative_spread(rule, rest)).amax(1).sort().values
            half = relative_spread(rule, held) * ratios[max(math.ceil(coverage * len(ratios)) - 1, 0)]
            total[name] += float(interval_score(held.errors, half, coverage).sum())
    return fit_spread_rule(found) if total["fitted"] < total["standard"] else standard


def fit_spread_rule(found: TruePositives) -> SpreadRule:
    """The weights of highest likelihood, where an error over its spread has Student's t distribution.

    They are drawn to the standard ones, the more the fewer boxes there are. The weights of the lengths add up to 1,
    as those of ``SpreadRule`` must.
    """
    features = edge_features(found.edges, found.bin_sizes, found.boxes, found.scores).flatten(0, 1)
    errors = found.errors.flatten()
    standard = torch.tensor(SpreadRule().weights, dtype=torch.float64)
    bin_size = FEATURES.index("bin_size")
    lengths = torch.tensor([name != "doubt" for name in FEATURES])
    changes = torch.zeros(len(FEATURES), dtype=torch.float64, requires_grad=True)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([changes, offset], max_iter=100, line_search_fn="strong_wolfe")
    others = torch.arange(len(FEATURES)) != bin_size

    def change() -> Tensor:
        free = torch.where(others, changes, 0.0)
        return torch.where(others, free, -free[lengths].sum())

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_spread = features @ (standard + change()) + offset
        ratio = (errors * (-log_spread).exp()) ** 2
        likelihood = log_spread + (DEGREES_OF_FREEDOM + 1) / 2 * torch.log1p(ratio / DEGREES_OF_FREEDOM)
        value = likelihood.mean() + RIDGE * (change() ** 2).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return SpreadRule(tuple((standard + change()).tolist()))


def relative_spread(rule: SpreadRule, found: TruePositives) -> Tensor:
    """The relative spread of each edge of true positives. (N, 4) float64"""
    return rule(found.edges, found.bin_sizes, found.boxes, found.scores)


def fold_of_images(image: Tensor, folds: int, seed: int = 0) -> Tensor:
    """A fold 0 ... folds - 1 for each row, the same for all rows of an image, drawn by the seed. (N,) -> (N,)"""
    images, place = image.unique(return_inverse=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    fold = torch.empty(len(images), dtype=torch.int64)
    fold[order] = torch.arange(len(images)) % folds
    return fold[place]
