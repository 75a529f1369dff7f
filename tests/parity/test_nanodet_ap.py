"""NanoDet-Plus with its published weights has the AP of the reference on 45 photographs, from files on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gfocal.data.discovery import read_data
from gfocal.data.loading import evaluation_loader
from gfocal.evaluation.detections import average_precision, detect_all
from gfocal.interop.any_checkpoint import import_any

KEYS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "APs", "ap_medium": "APm", "ap_large": "APl"}


@pytest.mark.parametrize("side", [320, 416])
def test_ap_on_photographs(shared: Path, side: int) -> None:
    folder = shared / "parity" / "nanodet"
    measured = json.loads((folder / "published.json").read_text())["measured_on_coco_ccby_val45"]
    (expected,) = (
        numbers for name, numbers in measured[f"nanodet-plus-m_{side}"].items() if name.startswith("reference warp")
    )
    (number,) = (n for name, n in measured["detections"][str(side)].items() if name.startswith("reference warp"))
    model = import_any(folder / f"nanodet_plus_m_{side}.safetensors").model
    assert (model.input_settings.short_side, model.input_settings.stretch) == (side, True)
    data = read_data(shared / "data" / "coco_ccby", "val")
    assert len(data) == 45
    assert tuple(data.names) == model.names
    found = detect_all(model, evaluation_loader(data, model.input_settings, batch_size=4))
    assert sum(len(one.scores) for one in found.values()) == pytest.approx(number, abs=5)
    result = average_precision(data, found)
    for key, name in KEYS.items():
        assert getattr(result, key) == pytest.approx(expected[name], abs=0.001), name
