"""Detections of a gfocal model in a CVAT task, by CVAT's own auto-annotation.

    pip install gfocal cvat-sdk cvat-cli
    cvat-cli --server-host https://cvat.example.com --auth USER task auto-annotate TASK_ID \
        --function-file cvat_function.py -p model=str:runs/mine --allow-unmatched-labels

The labels of the task are matched by name. Attributes for the score and the spread of each edge are filled where the
task has them: make it with the labels.json of ``gfocal detect --format cvat``, or with the labels that
``python cvat_function.py MODEL`` prints.
"""

from __future__ import annotations

import json
import math
import sys

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.attributes import attribute_vals_from_dict, number_attribute_values
from cvat_sdk.models import LabeledShapeRequest
from PIL import Image

import gfocal

SIDES = ("left", "top", "right", "bottom")


class Function:
    """What CVAT calls: ``spec`` once, ``detect`` for each image."""

    def __init__(self, model: str) -> None:
        self._detector = gfocal.load(model)
        attributes = [
            cvataa.number_attribute_spec("score_percent", 0, number_attribute_values(0, 100), default_value="0"),
            *(cvataa.text_attribute_spec(f"std_{side}", i, default_value="") for i, side in enumerate(SIDES, 1)),
            cvataa.number_attribute_spec("largest_std", 5, number_attribute_values(0, 100_000), default_value="0"),
        ]
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[
                cvataa.label_spec(name, label, type="rectangle", attributes=attributes)
                for label, name in enumerate(self._detector.names)
            ]
        )

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[LabeledShapeRequest]:
        """Rectangles with attributes; the threshold is the one that CVAT states, else the model's own."""
        shapes = []
        for one in self._detector.detect(image, score_threshold=context.conf_threshold):
            values: dict[int, str | int | bool] = {0: round(100 * one.score)}
            if one.edge_std is not None:  # not every detector predicts it
                values |= {i: f"{std:.2f}" for i, std in enumerate(one.edge_std, 1)}
                values[5] = math.ceil(max(one.edge_std))
            attributes = attribute_vals_from_dict(values)
            shapes.append(cvataa.rectangle(one.label, list(one.box), score=one.score, attributes=attributes))
        return shapes


def create(model: str) -> Function:
    """Called by cvat-cli with the parameters of ``-p``."""
    return Function(model)


if __name__ == "__main__":
    labels = [label.to_dict() for label in create(sys.argv[1]).spec.labels]
    for part in [*labels, *(attribute for label in labels for attribute in label["attributes"])]:
        del part["id"]  # CVAT's own, in a task
    print(json.dumps(labels, indent=1))
