"""Guarantees by split conformal prediction: the errors, in spreads, of the boxes that are counted, by class."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.structures.calibration import OrderStatistics, keep_order_statistics

MIN_BOXES_OF_CLASS = 100  # for a guarantee of its own
MOST_VALUES = 50_000  # that a file keeps of all classes together; of one class at least MIN_VALUES
MIN_VALUES = 200


def guarantees(
    ratios: Tensor, labels: Tensor, least: int
) -> tuple[OrderStatistics, tuple[OrderStatistics, ...], dict[int, OrderStatistics]]:
    """Order statistics of all boxes, of each side, and of each class with enough boxes; -1: of all other classes.

    A class whose boxes are too few has none of its own. If all of these have too few together, the smallest of the
    other classes join them: were theirs the statistics of all boxes, the easy classes would stand for the difficult.

    Args:
        ratios: (N, 4) errors in spreads.
        labels: (N,)
        least: number of boxes that a coverage needs.
    """
    worst, enough = ratios.amax(1), max(MIN_BOXES_OF_CLASS, least)
    counts = dict(enumerate(labels.bincount().tolist()))
    own = sorted((label for label, count in counts.items() if count >= enough), key=lambda label: -counts[label])
    num_others = len(labels) - sum(counts[label] for label in own)
    while own and 0 < num_others < enough:
        num_others += counts[own.pop()]
    groups = {label: labels == label for label in own}
    if num_others:
        groups[-1] = ~torch.isin(labels, torch.tensor(own, dtype=labels.dtype))
    if len(groups) < 2:
        groups = {}
    most = max(MIN_VALUES, min(2000, MOST_VALUES // max(len(groups), 1)))
    return (
        keep_order_statistics(worst),
        tuple(keep_order_statistics(ratios[:, side]) for side in range(4)),
        {label: keep_order_statistics(worst[rows], most) for label, rows in groups.items()},
    )
