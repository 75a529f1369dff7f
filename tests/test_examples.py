"""The examples of docs/labeling-tools.md against the SDKs that run them."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gfocal
from conftest import tiny_detector
from gfocal.models.model_file import save_model

THRESHOLD = 0.01  # below the scores of a network from random weights
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    detector = tiny_detector()
    detector.class_thresholds = (THRESHOLD, THRESHOLD)
    save_model(detector, path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(path)
    return path


def test_cvat_calls_the_function(model: Path, image: Path) -> None:
    pytest.importorskip("cvat_sdk")
    from cvat_sdk import models
    from cvat_sdk.auto_annotation import driver

    function = load_example("cvat_function").create(str(model))
    labels = [  # of a task: the function's own, with ids of the server
        models.Label(
            name=label.name,
            id=100 + i,
            type="rectangle",
            sublabels=[],
            attributes=[
                models.Attribute(
                    id=1000 + 10 * i + one.id,
                    name=one.name,
                    mutable=False,
                    input_type=one.input_type.value,
                    values=one.values,
                )
                for one in label.attributes
            ],
            _check_type=False,
        )
        for i, label in enumerate(function.spec.labels)
    ]
    mapper = driver._AnnotationMapper(
        logging.getLogger(), function.spec.labels, labels, allow_unmatched_labels=False, conv_mask_to_poly=False
    )
    context = driver._DetectionFunctionContextImpl(frame_name="a.png", conf_threshold=THRESHOLD)
    with Image.open(image) as opened:
        tags, shapes = mapper.validate_and_remap(function.detect(context, opened.convert("RGB")), 7)
    expected = gfocal.load(model).detect(image, score_threshold=THRESHOLD)
    assert not tags
    assert len(shapes) == len(expected) > 0
    for shape, one in zip(shapes, expected, strict=True):
        assert np.allclose(shape.points, one.box, atol=1e-4)
        assert (shape.label_id, shape.frame) == (100 + one.label, 7)
        assert shape.score == pytest.approx(one.score)
        assert one.edge_std is not None
        values = {a.spec_id % 10: a.value for a in shape.attributes}
        assert values[0] == str(round(100 * one.score))
        assert [float(values[i]) for i in (1, 2, 3, 4)] == [round(v, 2) for v in one.edge_std]


def test_cvat_labels_are_printed_as_those_of_detect(model: Path, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("cvat_sdk")
    command = [sys.executable, str(EXAMPLES / "cvat_function.py"), str(model)]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    from gfocal.data.writers.cvat import describe_cvat_labels

    def facts(labels: list[dict[str, Any]]) -> list[Any]:
        return [
            (one["name"], one["type"], [(a["name"], a["input_type"], [v for v in a["values"] if v]) for a in parts])
            for one in labels
            for parts in [one["attributes"]]
        ]

    assert facts(printed) == facts(describe_cvat_labels(tiny_detector().names, has_edges=True))


def test_label_studio_gets_predictions(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("label_studio_ml")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("LOCAL_FILES_SERVING_ENABLED", "true")
    monkeypatch.setenv("LOCAL_FILES_DOCUMENT_ROOT", str(tmp_path))
    example = load_example("label_studio_backend")
    example.DETECTOR = gfocal.load(model)
    names = example.DETECTOR.names
    config = "<View><Image name='img' value='$photo'/><RectangleLabels name='objects' toName='img'>"
    config += "".join(f"<Label value='{name}'/>" for name in names) + "</RectangleLabels></View>"
    client = example.init_app(model_class=example.Backend).test_client()
    assert client.get("/health").get_json()["status"] == "UP"
    project = {
        "project": "1.1700000000",
        "schema": config,
        "label_config": config,
        "hostname": "",
        "access_token": "",
    }
    answer = client.post("/setup", json=project)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    tasks = [{"id": 1, "data": {"photo": f"/data/local-files/?d={image.name}"}}]
    answer = client.post("/predict", json={"tasks": tasks, "params": {"context": None}, **project})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    (prediction,) = answer.get_json()["results"]
    expected = example.DETECTOR.detect(image)
    assert len(prediction["result"]) == len(expected) > 0
    for region, one in zip(prediction["result"], expected, strict=True):
        value = region["value"]
        x, y = value["x"] * 0.64, value["y"] * 0.48
        box = [x, y, x + value["width"] * 0.64, y + value["height"] * 0.48]
        assert np.allclose(box, one.box, atol=1e-4)
        assert (region["from_name"], region["to_name"]) == ("objects", "img")
        assert value["rectanglelabels"] == [one.name]
        assert region["score"] == pytest.approx(one.score)
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    assert sdk.LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
