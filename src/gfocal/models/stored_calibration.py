"""A calibration as json in a model's description, which may come from anybody: every number is checked on reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch

from gfocal.structures.calibration import FEATURES, MAX_DIGESTS, Calibration, OrderStatistics, ScoreCurve, SpreadRule

MAX_POINTS = 100_000  # of a curve, or ranks that are kept
MAX_CURVES = 100_000  # classes that have their own, and that of all
MAX_TEXT = 1000
MAX_DIGEST = 64  # characters
LARGEST = 1e12  # of a count, and of an error in spreads


def calibration_to_json(calibration: Calibration) -> dict[str, Any]:
    """All of a calibration as tables, lists, numbers and text."""
    about = asdict(calibration)
    for name in ("boxes_of_class", "iou_curves", "precision_curves"):
        about[name] = {str(label): value for label, value in about[name].items()}
    if not calibration.images:
        del about["images"]
    return about


def calibration_from_json(table: Any, num_classes: int) -> Calibration:
    """The reverse of ``calibration_to_json``.

    Raises:
        ValueError: something is missing, of the wrong type or out of bounds.
    """
    about = _table(table, "calibration", 64)
    threshold = about.get("score_threshold")
    if isinstance(threshold, list | tuple):
        threshold = _numbers(threshold, "score_threshold", 0, 1, num_classes)
        if len(threshold) != num_classes:
            raise ValueError(f"calibration.score_threshold has {len(threshold)} numbers for {num_classes} classes")
    else:
        threshold = _number(threshold, "score_threshold", 0, 1)
    edges = about.get("edges")
    if not isinstance(edges, list | tuple) or len(edges) != 4:
        raise ValueError("calibration.edges is no list of four sides")
    if not isinstance(about.get("is_fitted"), bool):
        raise ValueError("calibration.is_fitted is true or false")
    return Calibration(
        spread=SpreadRule(
            _exactly(_table(about.get("spread"), "spread", 8).get("weights"), "spread", 10, len(FEATURES))
        ),
        std_factor=_number(about.get("std_factor"), "std_factor", 0, LARGEST),
        correlation=_correlation(about.get("correlation")),
        boxes=_statistics(about.get("boxes"), "boxes"),
        edges=tuple(_statistics(side, "edges") for side in edges),
        boxes_of_class={
            label: _statistics(one, "boxes_of_class")
            for label, one in _by_label(about, "boxes_of_class", num_classes, needs_all=False)
        },
        iou_curves={label: _curve(one) for label, one in _by_label(about, "iou_curves", num_classes)},
        precision_curves={label: _curve(one) for label, one in _by_label(about, "precision_curves", num_classes)},
        num_images=int(_number(about.get("num_images"), "num_images", 1, LARGEST)),
        num_boxes=int(_number(about.get("num_boxes"), "num_boxes", 1, LARGEST)),
        iou_threshold=_number(about.get("iou_threshold"), "iou_threshold", 0, 1),
        score_threshold=threshold,
        is_fitted=about["is_fitted"],
        data=_text(about.get("data"), "data"),
        weights=_text(about.get("weights"), "weights"),
        images=_digests(about.get("images", [])),
    )


def _by_label(about: Mapping[str, Any], key: str, num_classes: int, needs_all: bool = True) -> list[tuple[int, Any]]:
    """The entries of a table by label; -1, which must be there if ``needs_all``, stands for the others."""
    table = _table(about.get(key), key, MAX_CURVES)
    labels = {str(label): label for label in range(-1, num_classes)}
    if unknown := [label for label in table if label not in labels]:
        raise ValueError(
            f"calibration.{key} has the label {str(unknown[0])[:40]!r}, and there are {num_classes} classes"
        )
    if needs_all and "-1" not in table:
        raise ValueError(f"calibration.{key} has no entry -1, of all classes")
    return [(labels[label], value) for label, value in table.items()]


def _statistics(table: Any, key: str) -> OrderStatistics:
    about = _table(table, key, 8)
    count = int(_number(about.get("count"), f"{key}.count", 1, LARGEST))
    ranks = [int(r) for r in _numbers(about.get("ranks"), f"{key}.ranks", 1, count, MAX_POINTS)]
    values = _numbers(about.get("values"), f"{key}.values", 0, LARGEST, MAX_POINTS)
    rising = all(a < b for a, b in pairwise(ranks))
    if len(ranks) != len(values) or not ranks or ranks[-1] != count or not rising or list(values) != sorted(values):
        raise ValueError(f"calibration.{key} has ranks and values that are no sorted errors")
    return OrderStatistics(count, tuple(ranks), values)


def _correlation(rows: Any) -> tuple[tuple[float, ...], ...]:
    if not isinstance(rows, list | tuple) or len(rows) != 4:
        raise ValueError("calibration.correlation is no list of four rows")
    numbers = tuple(_exactly(row, "correlation", 1, 4) for row in rows)
    matrix = torch.tensor(numbers, dtype=torch.float64, device="cpu")  # also while a model is built without memory
    is_one = torch.equal(matrix, matrix.T) and bool((matrix.diagonal() == 1).all())
    if not is_one or float(torch.linalg.eigvalsh(matrix)[0]) < -1e-6:
        raise ValueError("calibration.correlation is no symmetric, positive matrix with 1 on its diagonal")
    return numbers


def _curve(table: Any) -> ScoreCurve:
    about = _table(table, "curves", 8)
    scores = _numbers(about.get("scores"), "curves.scores", 0, 1, MAX_POINTS)
    values = _numbers(about.get("values"), "curves.values", 0, 1, MAX_POINTS)
    if len(scores) != len(values) or not scores or list(scores) != sorted(scores) or list(values) != sorted(values):
        raise ValueError("calibration has a score curve that falls, or has no points")
    return ScoreCurve(scores, values)


def _exactly(values: Any, key: str, limit: float, count: int) -> tuple[float, ...]:
    numbers = _numbers(values, key, -limit, limit, count)
    if len(numbers) != count:
        raise ValueError(f"calibration.{key} has {len(numbers)} numbers, not {count}")
    return numbers


def _numbers(values: Any, key: str, low: float, high: float, most: int) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) > most:
        raise ValueError(f"calibration.{key} is no list of at most {most:,} numbers")
    return tuple(_number(value, key, low, high) for value in values)


def _number(value: Any, key: str, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # NaN is in no range
        raise ValueError(f"calibration.{key} is a number in {low:g}..{high:g}, not {str(value)[:40]!r}")
    return float(value)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"calibration.{key} is no text of at most {MAX_TEXT:,} characters")
    return value


def _digests(values: Any) -> tuple[str, ...]:
    is_list = isinstance(values, list | tuple) and len(values) <= MAX_DIGESTS
    if not is_list or any(not isinstance(one, str) or len(one) > MAX_DIGEST for one in values):
        raise ValueError(f"calibration.images is no list of at most {MAX_DIGESTS:,} digests")
    return tuple(values)


def _table(value: Any, key: str, most: int) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError(f"calibration.{key} is no table of at most {most:,} entries")
    return value
