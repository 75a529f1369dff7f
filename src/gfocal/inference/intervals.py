"""Which intervals of edges a run writes: of a calibrated model, at a coverage that it can promise."""

from __future__ import annotations

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
