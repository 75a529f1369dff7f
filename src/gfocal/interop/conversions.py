"""Detections as objects of other packages: pandas, supervision (annotators, zones, metrics), torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfocal.errors import MissingExtraError
from gfocal.structures import Detections

if TYPE_CHECKING:
    import pandas
    import supervision

SIDES = ("left", "top", "right", "bottom")


def to_pandas(detections: Detections | Sequence[Detections]) -> pandas.DataFrame:
    """A table with a row for each detection, of one image or of several.

    Columns: ``image`` (its path, or where that is not known its number), ``name``, ``label``, ``score``, ``x1``,
    ``y1``, ``x2``, ``y2``, ``std_left``, ``std_top``, ``std_right``, ``std_bottom``: in pixels, as in the csv of
    ``gfocal detect``; the last four are NaN for a detector without edge distributions.

    Raises MissingExtraError if the package is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError(
            f"to_pandas needs the package pandas ({error}): pip install 'gfocal[pandas]'"
        ) from error
    several = [detections] if isinstance(detections, Detections) else list(detections)
    images = [
        number if one.source is None or one.source.path is None else one.source.path
        for number, one in enumerate(several)
        for _ in range(len(one))
    ]
    found = [one.to("cpu") for one in several]
    numbers: list[Any] = [np.zeros((0, 10))]
    for one in found:
        columns = (one.labels[:, None], one.scores[:, None], one.boxes, one.edge_std)
        numbers.append(np.concatenate([column.detach().numpy().astype(np.float64) for column in columns], axis=1))
    table = pandas.DataFrame(
        np.concatenate(numbers),
        columns=["label", "score", "x1", "y1", "x2", "y2", *(f"std_{side}" for side in SIDES)],
    ).astype({"label": np.int64})
    table.insert(0, "name", [name for one in found for name in one.class_names])
    table.insert(0, "image", images)
    return table


def to_supervision(detections: Detections) -> supervision.Detections:
    """The detections of one image as ``supervision.Detections``, in the same order.

    ``xyxy`` (N, 4) float32 in pixels, ``confidence`` (N,) float32 and ``class_id`` (N,) int64 are boxes, scores and
    labels. ``data`` has ``class_name`` (N,) text and ``edge_std`` (N, 4) float32: the standard deviations of the
    edges left, top, right, bottom in pixels, NaN for a detector without edge distributions.

    Raises MissingExtraError, which names the extra, if the package is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise MissingExtraError(
            f"to_supervision needs the package supervision ({error}): pip install 'gfocal[supervision]'"
        ) from error
    found = detections.to("cpu")
    data: dict[str, Any] = {
        "class_name": np.array(found.class_names, dtype=np.str_),
        "edge_std": found.edge_std.detach().numpy().astype(np.float32),
    }
    return supervision.Detections(
        xyxy=found.boxes.detach().numpy().astype(np.float32),
        confidence=found.scores.detach().numpy().astype(np.float32),
        class_id=found.labels.numpy().astype(np.int64),
        data=data,
    )


def to_torchvision(detections: Detections) -> dict[str, Any]:
    """The detections of one image as ``boxes``, ``scores`` and ``labels``, on the same device.

    ``boxes`` is a ``torchvision.tv_tensors.BoundingBoxes`` (N, 4), xyxy in pixels, with the image's size, to which
    torchvision's transforms apply. Labels are 0..C-1, as everywhere in gfocal; torchvision's own detectors count from
    1, with 0 for the background.
    """
    from torchvision import tv_tensors

    boxes = tv_tensors.BoundingBoxes(
        detections.boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=detections.size
    )
    return {"boxes": boxes, "scores": detections.scores, "labels": detections.labels}
