"""The speeds of figure 8: every run is measured, and stands beside its own AP."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import gfocal.lab.figures.figure_8 as speeds
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.models.detector import Detector
from gfocal.models.model_file import save_model
from gfocal.models.zoo import create


def run(folder: Path, box: str, ap: float | None) -> Path:
    folder.mkdir()
    settings = InputSettings(short_side=64, long_side=64)
    options = {"body": "resnet18.tv_in1k", "channels": 32, "num_convs": 1, "box": box}
    model = create(
        "atss_r50_fpn", 5, names=SyntheticScenes.names, pretrained=False, input_settings=settings, **options
    )
    save_model(model, folder / "last.safetensors")
    (folder / "result.json").write_text(json.dumps({"ap": ap}))
    return folder / "last.safetensors"


def test_a_slower_detector_gives_fewer_images_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"dirac": run(tmp_path / "a", "dirac", 0.25), "gaussian": run(tmp_path / "b", "gaussian", None)}
    clock = {"now": 0.0}
    real = speeds.detect_batch

    def timed(model: Detector, images: list[Tensor], *rest: Any) -> Any:
        clock["now"] += 0.5 if model.built_from["options"]["box"] == "dirac" else 2.0
        return real(model, images, *rest)

    monkeypatch.setattr(speeds, "detect_batch", timed)
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    found = speeds.measure_speeds(models, SyntheticScenes(3, 96), images=2)
    assert [(one.ap, one.images_per_second) for one in found] == [(0.25, 2.0), (0.0, 0.5)]
    assert [one.name for one in found] == ["Dirac, centerness branch", "Gaussian, centerness branch"]
    assert "threads" in speeds.describe_machine()
