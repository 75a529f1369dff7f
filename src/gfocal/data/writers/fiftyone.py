"""Writer of detections as FiftyOne reads them: the labels.json of a FiftyOneImageDetectionDataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gfocal.data.writers.decimals import to_share

IMAGES = "data"
LABELS = "labels.json"


def fiftyone_detections(
    record: Mapping[str, Any], names: Sequence[str], uncertainty: float | None = None
) -> list[dict[str, Any]]:
    """The detections of an image; FiftyOne makes a field of each of their attributes.

    ``record`` has ``size`` (height and width), ``labels``, ``boxes`` (xyxy in pixels), ``scores`` and optionally
    ``edge_std``, ``edge_intervals`` and ``calibrated_scores``. ``uncertainty`` is that of the image, for which this
    layout has no field: each detection has it as ``image_uncertainty``.
    """
    height, width = record["size"]
    found = []
    for i, (label, score, box) in enumerate(zip(record["labels"], record["scores"], record["boxes"], strict=True)):
        (x, w), (y, h) = to_share(box[0], box[2], width, 1.0), to_share(box[1], box[3], height, 1.0)
        attributes: dict[str, Any] = {}
        if "edge_std" in record:
            attributes = {"edge_std": record["edge_std"][i], "largest_std": max(record["edge_std"][i])}
        if "edge_intervals" in record:
            attributes["edge_interval"] = record["edge_intervals"][i]
        if "calibrated_scores" in record:
            attributes["calibrated_score"] = record["calibrated_scores"][i]
        if uncertainty is not None:
            attributes["image_uncertainty"] = round(uncertainty, 4)
        one = {"label": names[label], "bounding_box": [x, y, w, h], "confidence": score}
        found.append(one | {"attributes": attributes})
    return found
