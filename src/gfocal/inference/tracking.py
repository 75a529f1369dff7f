"""Tracks: which boxes of successive frames are one object, by ByteTrack of the package trackers.

Boxes of one object in several classes would be several tracks. And the package has one threshold of IoU for all
boxes, low so that fast objects are followed, at which boxes of low scores continue tracks at random. ``Tracker``
bounds both.

The Kalman filter of each track weighs a detected box by the covariance of its errors, R. The package has one R for
all boxes; a calibrated detector predicts one for each, and ``Tracker`` sets it, which the package has no argument
for. The noise of the motion must then be in pixels too: as in DeepSORT (Wojke et al. 2017, section 2.1, and its
published code) it is a share of the size of the object.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gfocal.errors import MissingExtraError

if TYPE_CHECKING:
    from trackers.utils.iou import IoU
    from trackers.utils.state_representations import XYXYStateEstimator

Floats = NDArray[np.float64]

LOST_SECONDS = 1.0  # that a track waits for its object
LOWEST_SCORE = 0.1  # of boxes below the threshold that may continue a track, as in ByteTrack (Zhang et al. 2022)
MIN_UNSURE_IOU = 0.5  # of such a box with the place where its track is expected, as there
MAX_IOU = 0.5  # of two boxes that are two objects; a detector suppresses boxes of one class alone
POSITION, VELOCITY = 1 / 20, 1 / 160  # noise of the motion a frame, standard deviations as shares of the size
FIRST_VELOCITY = 1 / 16  # of an object that is new: standard deviation of its speed a frame, as a share of its size
_PACKAGE_FRAMES = 30  # a second, in which the package counts how long a track waits
_SURE, _UNSURE = 1.0, 0.0  # scores by which the package tells boxes above the threshold from those below


class Tracker:
    """Gives every object the same id in all frames, from 1; classes do not matter to it.

    Args:
        rate: frames a second that it will get, usually.
        correlation: (4, 4) of the errors of the edges, of a calibrated model; None: the package's own noise.
        min_unsure_iou: of a box that is not sure with the place where its track is expected.
        max_iou: of two boxes that are two objects; 1: all boxes are tracked.

    Raises:
        MissingExtraError: the package trackers is not installed.
    """

    def __init__(
        self,
        rate: float,
        correlation: Sequence[Sequence[float]] | None = None,
        min_unsure_iou: float = MIN_UNSURE_IOU,
        max_iou: float = MAX_IOU,
    ) -> None:
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise MissingExtraError(
                f"--track needs the package trackers ({error}): pip install 'gfocal[track]'"
            ) from error
        self.rate, self.max_iou = rate, max_iou
        self.correlation = None if correlation is None else np.asarray(correlation, dtype=np.float64)
        self._noise: dict[bytes, Floats] = {}  # of the boxes of this frame
        self._unsure: set[bytes] = set()  # of the boxes of this frame, those that are not sure
        options: dict[str, Any] = {"iou": _gated_iou(self._unsure, min_unsure_iou)}
        if correlation is not None:
            options["state_estimator_class"] = _estimator_with_noise(self._noise)
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(LOST_SECONDS * _PACKAGE_FRAMES),
            frame_rate=rate,
            track_activation_threshold=(_SURE + _UNSURE) / 2,
            high_conf_det_threshold=(_SURE + _UNSURE) / 2,
            **options,
        )
        self._last_time: float | None = None

    def update(
        self,
        boxes: Sequence[Sequence[float]],
        is_sure: Sequence[bool],
        stds: Sequence[Sequence[float]] | None,
        time: float,
    ) -> list[int | None]:
        """The track of each box of the next frame; None for one that belongs to no track, or not yet.

        An object is a track from its second frame on. A box that is not sure continues a track if it lies where that
        is expected, and begins none. Of boxes that nearly coincide, as those of one object in two classes, one is
        tracked: the best of those that are sure, else the best.

        Args:
            boxes: (N, 4) xyxy, pixels, best first.
            is_sure: (N,) whether its score is above the threshold.
            stds: (N, 4) standard deviations of the edges, pixels; needed with ``correlation``.
            time: of the frame, seconds.
        """
        import supervision

        self._last_time = time if self._last_time is None else max(time, self._last_time + 1e-3 / self.rate)
        xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        above = np.asarray(is_sure, dtype=bool)
        kept = _distinct(xyxy, above, self.max_iou)
        xyxy, above = xyxy[kept], above[kept]
        if self.correlation is not None:
            std = np.asarray(stds or (), dtype=np.float64).reshape(-1, 4)
            covariances = covariance_of_edges(std[kept], self.correlation)
            self._noise.clear()
            self._noise.update({box.tobytes(): noise for box, noise in zip(xyxy, covariances, strict=True)})
        self._unsure.clear()
        self._unsure |= {box.tobytes() for box in xyxy[~above]} - {box.tobytes() for box in xyxy[above]}
        found = supervision.Detections(
            xyxy=xyxy,
            confidence=np.where(above, _SURE, _UNSURE).astype(np.float32),
            data={"row": kept},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            tracked = self._tracker.update(found, timestamp=self._last_time)
        ids: list[int | None] = [None] * len(boxes)
        if len(tracked) and tracked.tracker_id is not None:
            rows = np.asarray(tracked.data["row"]).tolist()
            for row, number in zip(rows, tracked.tracker_id.tolist(), strict=True):
                ids[row] = number + 1 if number >= 0 else None
        return ids


def covariance_of_edges(stds: Floats | Sequence[Sequence[float]], correlation: Floats) -> Floats:
    """Covariance of the errors of x1, y1, x2, y2 of each box. (N, 4, 4), squared pixels.

    As ``Detections.edge_covariance``, of the numbers that are written to files.
    """
    std = np.asarray(stds, dtype=np.float64).reshape(-1, 4)
    return std[:, :, None] * std[:, None, :] * correlation


def _distinct(boxes: Floats, is_sure: NDArray[np.bool_], max_iou: float) -> NDArray[np.intp]:
    """Which boxes, best first, overlap no better one by more than ``max_iou``; those that are sure are the better.

    So boxes that are neither sure nor of a track decide nothing: the tracker of a resumed run does without them.
    """
    from trackers.utils.iou import IoU

    order = np.argsort(~is_sure, kind="stable")
    overlaps = IoU().compute(boxes, boxes) > max_iou
    kept: list[int] = []
    for row in order.tolist():
        if not overlaps[row, kept].any():
            kept.append(row)
    return np.array(sorted(kept), dtype=np.intp)


def _gated_iou(unsure: set[bytes], least: float) -> IoU:
    """The package's IoU of tracks and boxes; for boxes of a set 0 where it is below ``least``."""
    from trackers.utils.iou import IoU

    class GatedIoU(IoU):
        def _compute(self, boxes_1: NDArray[Any], boxes_2: NDArray[Any]) -> NDArray[Any]:
            overlap = super()._compute(boxes_1, boxes_2)
            is_unsure = np.array([box.tobytes() in unsure for box in boxes_2])
            return np.where(is_unsure & (overlap < least), 0.0, overlap)

    return GatedIoU()


def _estimator_with_noise(noise: dict[bytes, Floats]) -> type[XYXYStateEstimator]:
    """The package's filter of the corners of a box, with the noise of each box, by its bytes."""
    from trackers.utils.state_representations import XYXYStateEstimator

    class EdgeNoiseEstimator(XYXYStateEstimator):
        def __init__(self, bbox: NDArray[Any]) -> None:
            super().__init__(bbox)
            measured, size = noise[bbox.tobytes()], _size(bbox)
            certainty = np.zeros((8, 8))
            certainty[:4, :4] = measured
            certainty[4:, 4:] = np.eye(4) * (FIRST_VELOCITY * size) ** 2
            super().set_kf_covariances(measured, _motion_noise(size), certainty)

        def set_kf_covariances(self, *_: Any, **__: Any) -> None:
            """Leave out the numbers that the package sets for all boxes."""

        def update(self, bbox: NDArray[Any] | None) -> None:
            """Weigh a box by its own noise."""
            if bbox is not None:
                super().set_kf_covariances(noise[bbox.tobytes()], _motion_noise(_size(bbox)))
            super().update(bbox)

    return EdgeNoiseEstimator


def _size(box: NDArray[Any]) -> float:
    """The geometric mean of width and height, pixels."""
    return float(np.sqrt(max(1.0, (box[2] - box[0])) * max(1.0, (box[3] - box[1]))))


def _motion_noise(size: float) -> Floats:
    return np.diag([(POSITION * size) ** 2] * 4 + [(VELOCITY * size) ** 2] * 4)
