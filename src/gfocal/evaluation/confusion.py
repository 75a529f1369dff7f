"""Which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gfocal.evaluation.matching import NONE, Bools, Boxes, Ints, Pairs, match


def above(boxes: Boxes, thresholds: Sequence[float]) -> Bools:
    """The detections that score more than the threshold of their class, both as float32 as in use. (D,)"""
    return boxes.score > np.asarray(thresholds, dtype=np.float32)[boxes.label]


def confusion_matrix(boxes: Boxes, pairs: Pairs, kept: Bools, iou_threshold: float = 0.5) -> Ints:
    """How often an object of each class (row) is found as each class (column).

    The last row counts detections where no object is, the last column objects that nothing found; their corner is 0.
    Here a detection takes the free truth box that it overlaps most, of whatever class. (C + 1, C + 1)
    """
    matching = match(boxes, pairs, iou_threshold, kept=kept, any_class=True)
    num_classes = len(boxes.names)
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    hit = matching.hit
    np.add.at(matrix, (boxes.truth_label[matching.taken[hit]], boxes.label[hit]), 1)
    np.add.at(matrix[-1], boxes.label[kept & ~hit & ~matching.ignored], 1)
    np.add.at(matrix[:, -1], boxes.truth_label[~boxes.crowd & (matching.taker == NONE)], 1)
    return matrix


def most_confused(matrix: Ints, names: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
    """The pairs of classes taken for one another most often: true name, found name, how often."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:most]
    cells = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, between.shape), strict=True)]
    return [(names[i], names[j], int(between[i, j])) for i, j in cells if between[i, j]]
