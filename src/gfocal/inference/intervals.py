"""Which intervals of edges a run writes, of a calibrated model at a coverage that it can promise; their widths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from gfocal.errors import DataError
from gfocal.models.detector import Detector
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import current_calibration
from gfocal.structures.calibration import Calibration, least_count
from gfocal.structures.detected import COVERAGE


def usable_calibration(model: AnyDetector) -> Calibration | None:
    """The calibration that the detections of a model will have; None without one, or with one of other weights."""
    return current_calibration(model, warn=False) if isinstance(model, Detector) else model.calibration


def choose_coverage(model: AnyDetector, coverage: float | None, is_drawn: bool = False) -> float | None:
    """The coverage of the intervals that are written; None: no intervals.

    Args:
        model: any detector.
        coverage: that the user asks for, 0..1; None: 0.9 where the model can promise it.
        is_drawn: whether intervals are to be drawn, so that there must be some.

    Raises:
        DataError: the model is not calibrated, or on too few boxes for this coverage.
    """
    calibration = usable_calibration(model)
    if calibration is None:
        if coverage is None and not is_drawn:
            return None
        option = "--edges interval" if coverage is None else f"--coverage {coverage:g}"
        raise DataError(f"{option}: this model is not calibrated; 'gfocal calibrate MODEL DATA' does it")
    wanted = COVERAGE if coverage is None else coverage
    if calibration.can_promise(wanted):
        return wanted
    if coverage is None and not is_drawn:
        return None
    raise DataError(
        f"a coverage of {wanted:g} needs at least {least_count(wanted):,} boxes, and the calibration of this model "
        f"had {calibration.num_boxes:,}; ask for less (--coverage), or calibrate on more images"
    )


def describe_intervals(records: Iterable[Mapping[str, Any]], header: Mapping[str, Any]) -> str | None:
    """What the intervals of a run promise and how wide they are, in a line; None of a model that is not calibrated.

    Args:
        records: of the images, see ``gfocal.inference.results``.
        header: of the run, see ``gfocal.inference.resume.run_header``.
    """
    if "calibration" not in header:
        return None
    widths = IntervalWidths()
    for record in records:
        widths.add(record)
    return widths.describe(header["coverage"])


class IntervalWidths:
    """How wide the intervals of a calibrated model are, one record after another.

    What is kept are counts by tenths of a pixel, which do not grow with the number of images.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count the intervals of an image or frame; see ``gfocal.inference.results`` and ``video_lines``."""
        boxes = record.get("edge_intervals", ())
        self._counts.update(round(10 * (high - low)) for box in boxes for low, high in box)

    def describe(self, coverage: float | None) -> str | None:
        """What intervals of this coverage promise and how wide they are, in a line; None where there are none."""
        if coverage is None:
            return (
                f"no intervals of edges: the model was calibrated on fewer than the {least_count(COVERAGE)} boxes "
                f"that {COVERAGE:.0%} need; --coverage asks for less"
            )
        if not self._counts:
            return None
        left, median = (self._counts.total() + 1) // 2, 0
        for width in sorted(self._counts):
            left, median = left - self._counts[width], width
            if left <= 0:
                break
        return (
            f"intervals of edges: {median / 10:.1f} pixels wide (median); they promise all four edges of "
            f"{coverage:.0%} of the objects found, in images like those of the calibration ('gfocal eval' on "
            "annotated ones measures it)"
        )
