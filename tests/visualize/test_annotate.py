"""Drawings of tracks: an id before each label, and its color in place of that of the class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibrations import detections
from gfocal.visualize import annotate
from gfocal.visualize.annotate import draw_detections
from gfocal.visualize.drawing import class_color
from gfocal.visualize.labels import Label


def test_ids_of_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = torch.tensor([[5.0, 5.0, 60.0, 60.0], [70.0, 5.0, 120.0, 60.0], [5.0, 70.0, 60.0, 120.0]])
    found = detections(boxes, torch.tensor([0.9, 0.2, 0.8]), torch.tensor([0, 0, 1]), size=(160, 160))
    written: list[Label] = []
    monkeypatch.setattr(annotate, "draw_labels", lambda draw, labels, *_, **__: written.extend(labels))
    draw_detections(np.zeros((160, 160, 3), np.uint8), found, 0.3, track_ids=[7, 8, None])
    assert [label.texts for label in written] == [("#7 a 0.90", "#7 a", "#7"), ("b 0.80", "b")]
    assert [label.color for label in written] == [class_color(7), class_color(1)]
    with pytest.raises(ValueError):
        draw_detections(np.zeros((160, 160, 3), np.uint8), found, 0.3, track_ids=[7])
