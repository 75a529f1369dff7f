"""A detector that gives four numbers to a box: what shows edge distributions says so, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from gfocal.cli.main import main
from gfocal.data.preprocess import InputSettings
from gfocal.errors import DataError
from gfocal.inference.files import detect_files
from gfocal.interop.coco_results import read_coco_results
from gfocal.models.detector import Detector
from gfocal.models.model_file import save_model
from gfocal.models.zoo import create
from gfocal.structures import Detections
from gfocal.visualize import draw_detections, draw_edge_distributions
from gfocal.visualize.annotate import DrawStyle


def detector(preset: str, **options: object) -> Detector:
    torch.manual_seed(0)
    settings = InputSettings(short_side=32, long_side=64)
    names = ("cat", "dog")
    small = {"body": "resnet18.tv_in1k", "channels": 32, "num_convs": 1}
    model = create(preset, 2, names=names, pretrained=False, input_settings=settings, **small, **options).eval()
    model.head.cls_out.bias.data.fill_(0.0)  # scores of a half: everything is found
    return model


@pytest.fixture(scope="module")
def dirac() -> Detector:
    return detector("foveabox_r50_fpn")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 32), (90, 120, 30)).save(tmp_path / "in" / "a.png")
    return tmp_path / "in" / "a.png"


def test_drawing_distributions_is_refused(dirac: Detector) -> None:
    image = torch.zeros(3, 32, 40, dtype=torch.uint8)
    found = dirac.detect(image, score_threshold=0.1)
    assert isinstance(found, Detections)
    assert len(found)
    assert draw_detections(image, found).size == (40, 32)
    for kind in ("std", "distribution"):
        with pytest.raises(ValueError, match="no edge distributions"):
            draw_detections(image, found, edges=kind)
    for some in (found, found.above(1.0)):
        with pytest.raises(ValueError, match="no edge distributions"):
            draw_edge_distributions(image, some)


def test_which_detectors_have_distributions(dirac: Detector) -> None:
    assert not dirac.box_coder.has_distribution
    assert not detector("retinanet_r50_fpn").box_coder.has_distribution
    assert detector("atss_r50_fpn", box="gaussian").box_coder.has_distribution
    assert detector("atss_r50_fpn", box="general").box_coder.has_distribution


def test_files_are_written_without_deviations(dirac: Detector, image: Path, tmp_path: Path) -> None:
    assert detect_files(dirac, [image], tmp_path / "out", score_threshold=0.1) == 0
    text = (tmp_path / "out" / "detections.json").read_text()
    annotations = json.loads(text)["annotations"]
    assert annotations
    assert "NaN" not in text
    assert not any("edge_std" in annotation for annotation in annotations)
    with pytest.raises(DataError, match=r"edges=std: foveabox_r50_fpn predicts no distribution of an edge"):
        detect_files(dirac, [image], tmp_path / "other", style=DrawStyle(edges="std"))
    assert not (tmp_path / "other").exists()


def test_on_the_command_line(
    dirac: Detector, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    save_model(dirac, model)
    detect = ["detect", str(model), str(image), "--out", str(tmp_path / "out")]
    assert main([*detect, "--edges", "distribution"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("gfocal: edges=distribution: foveabox_r50_fpn predicts no distribution of an edge")
    assert main(detect) == 0

    ground_truth = {
        "images": [{"id": 7, "file_name": "a.png", "height": 32, "width": 40}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
        ],
    }
    data = image.parent / "ground_truth.json"
    data.write_text(json.dumps(ground_truth))
    results = tmp_path / "results.json"
    assert main(["eval", str(model), str(data), "--num-workers", "0", "--results", str(results)]) == 0
    found = read_coco_results(results, [1, 2])[7]
    assert len(found.boxes)
    assert found.edge_std is None
