"""What labeling tools' own libraries read from the files that gfocal detect writes for them: the same boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import tiny_detector
from gfocal.cli import DONE, USER_ERROR
from gfocal.data.discovery import read_data
from gfocal.errors import DataError
from gfocal.inference.journal import Journal
from gfocal.inference.labeling import TOOLS, write_tool
from gfocal.inference.results import record_columns
from gfocal.inference.uncertainty import record_uncertainty
from gfocal.models.model_file import save_model
from gfocal.selection.pool import scan_files

NAMES = ("cat", "black & white dog", "köpek <3")
HEADER = {"names": list(NAMES), "model": "0123456789abcdef", "score_threshold": 0.3}
SIZES = {"a b": (80, 100), "sub/a.b": (63, 97), "c": (50, 60)}  # height and width; by file name
Run = Callable[..., tuple[int, str, str]]


def make_records(folder: Path, calibrated: bool = False, edges: bool = True) -> list[dict[str, Any]]:
    """Records of images as files: two with objects, one without; the second is the most uncertain."""
    rng = np.random.default_rng(0)
    records = []
    for index, (name, (height, width)) in enumerate(SIZES.items()):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (width, height)).save(path)
        count = (3, 5, 0)[index]
        corners = np.sort(rng.random((count, 2, 2)) * 0.999, axis=1) * [width, height]
        boxes = np.concatenate([corners[:, 0], corners[:, 1]], axis=1).astype(np.float32)
        if count:
            boxes[0] = [0, 0, width, height]
        std = rng.random((count, 4)) * 9
        record = {"index": index, "file": str(path), "name": Path(name).name, "size": [height, width], "image": None}
        record |= record_columns(
            labels=[i % len(NAMES) for i in range(count)],
            scores=(1 - rng.random(count) * 0.6).tolist(),
            boxes=boxes.astype(np.float64).tolist(),
            edge_std=std.tolist() if edges else None,
            calibrated_scores=rng.random(count).tolist() if calibrated else None,
            edge_intervals=rng.random((count, 4, 2)).tolist() if calibrated else None,
        )
        records.append(record | {"uncertainty": (1.5, 7.25, 0.5)[index]})
    return records


def write(kind: str, tmp_path: Path, records: list[dict[str, Any]], order: Any = "uncertainty") -> Path:
    with Journal(tmp_path / "journal.jsonl", HEADER) as journal:
        for record in records:
            journal.add(record)
        journal.finish(0)
    folder = tmp_path / kind
    assert not write_tool(kind, journal.path, folder, HEADER, order).notes
    return folder


def by_stem(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record["name"]: record for record in records}


def assert_same_boxes(found: list[list[float]], expected: list[list[float]], tolerance: float = 1e-5) -> None:
    assert np.abs(np.reshape(found, (-1, 4)) - np.reshape(expected, (-1, 4))).max(initial=0) <= tolerance


@pytest.mark.parametrize("kind", TOOLS)
def test_gfocal_reads_the_boxes_too(kind: str, tmp_path: Path) -> None:
    records = make_records(tmp_path / "in")
    folder = write(kind, tmp_path, records)
    if kind == "label-studio":
        with pytest.raises(DataError, match="predictions of a model are not annotations"):
            read_data(folder, None)
        return
    data = read_data(folder, None)
    assert set(data.names) == set(NAMES)
    for sample in data.samples:
        record = by_stem(records)[sample.path.stem]
        assert_same_boxes(sample.boxes.tolist(), record["boxes"])
        assert [data.names[label] for label in sample.labels] == [NAMES[label] for label in record["labels"]]


@pytest.mark.parametrize("order", ["uncertainty", "files"])
def test_images_are_in_the_order_of_what_needs_a_look(order: str, tmp_path: Path) -> None:
    records = make_records(tmp_path / "in")
    expected = ["a.b.png", "a b.png", "c.png"] if order == "uncertainty" else ["a b.png", "a.b.png", "c.png"]
    folder = write("cvat", tmp_path, records, order)
    images = ElementTree.parse(folder / "annotations.xml").findall("image")
    assert [(one.get("id"), one.get("name")) for one in images] == [(str(i), n) for i, n in enumerate(expected)]
    assert (folder / "images.txt").read_text().splitlines() == [f"images/{name}" for name in expected]
    assert all((folder / "images" / name).is_file() for name in expected)
    tasks = json.loads((write("label-studio", tmp_path, records, order) / "tasks.json").read_text())
    assert [task["data"]["rank"] for task in tasks] == [1, 2, 3]
    places = [task["data"]["image"].rpartition("=")[2].replace("%20", " ") for task in tasks]
    assert places == [f"images/{name}" for name in expected]
    by_place = {f"images/{record['name']}.png": record["uncertainty"] for record in records}
    assert [task["data"]["uncertainty"] for task in tasks] == [by_place[place] for place in places]


def test_datumaro_reads_cvat_files(tmp_path: Path) -> None:
    pytest.importorskip("datumaro")
    from datumaro.components.dataset import Dataset

    records = make_records(tmp_path / "in")
    dataset = Dataset.import_from(str(write("cvat", tmp_path, records)), "cvat")
    classes = [label.name for label in dataset.categories()[next(iter(dataset.categories()))]]
    assert tuple(classes) == NAMES
    items = {item.id: item for item in dataset}
    assert items.keys() == by_stem(records).keys()
    for stem, record in by_stem(records).items():
        boxes = items[stem].annotations
        assert_same_boxes([one.points for one in boxes], record["boxes"], 0.005)  # datumaro rounds to 0.01
        assert [classes[one.label] for one in boxes] == [NAMES[label] for label in record["labels"]]
        for one, score, std in zip(boxes, record["scores"], record["edge_std"], strict=True):
            assert int(one.attributes["score_percent"]) == round(100 * score)
            sides = [float(one.attributes[f"std_{side}"]) for side in ("left", "top", "right", "bottom")]
            assert sides == [round(v, 2) for v in std]
            assert 0 <= int(one.attributes["largest_std"]) - max(std) < 1


def test_cvat_takes_the_labels_and_the_values_of_their_attributes(tmp_path: Path) -> None:
    pytest.importorskip("cvat_sdk")
    from cvat_sdk import models
    from cvat_sdk.attributes import attribute_value_validator

    folder = write("cvat", tmp_path, make_records(tmp_path / "in"))
    labels = json.loads((folder / "labels.json").read_text())
    validators = {}
    for label in labels:
        attributes = [models.AttributeRequest(**one) for one in label["attributes"]]
        models.PatchedLabelRequest(name=label["name"], type=label["type"], attributes=attributes)
        validators[label["name"]] = {one.name: attribute_value_validator(one) for one in attributes}
    boxes = ElementTree.parse(folder / "annotations.xml").findall("image/box")
    assert len(boxes) == 8
    for box in boxes:
        known = validators[box.get("label")]
        values = {one.get("name"): one.text for one in box.findall("attribute")}
        assert values.keys() == known.keys()
        assert all(known[name](value) for name, value in values.items())


def test_label_studio_accepts_the_predictions_and_exports_their_boxes(tmp_path: Path) -> None:
    pytest.importorskip("label_studio_sdk")
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    records = make_records(tmp_path / "in", calibrated=True)
    folder = write("label-studio", tmp_path, records)
    config = (folder / "label_config.xml").read_text()
    interface = LabelInterface(config)
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks):
        (prediction,) = task["predictions"]
        assert interface.validate_prediction(prediction, return_errors=True) == []
        assert prediction["model_version"] == "gfocal 0123456789abcdef"
        for region in prediction["result"]:
            assert len(region["meta"]["edge_std"]) == len(region["meta"]["edge_interval"]) == 4
            assert 0 <= region["score"] <= 1
            assert 0 <= region["meta"]["calibrated_score"] <= 1
        # Whoever opens a task gets its prediction as an annotation.
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"]}]}
        task["data"]["image"] = str(folder / task["data"]["image"].rpartition("=")[2].replace("%20", " "))
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    converter = Converter(config, str(tmp_path), download_resources=False)
    converter.convert_to_coco(str(tmp_path / "export.json"), str(tmp_path / "coco"), is_dir=False)
    coco = json.loads((tmp_path / "coco" / "result.json").read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    for image in coco["images"]:
        own = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
        record = by_stem(records)[Path(image["file_name"]).stem]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in own)]
        assert_same_boxes(corners, record["boxes"])
        assert [names[one["category_id"]] for one in own] == [NAMES[label] for label in record["labels"]]
    assert len(coco["images"]) == len(records)


def test_fiftyone_imports_the_spread_as_a_field(tmp_path: Path) -> None:
    pytest.importorskip("fiftyone")
    from fiftyone.utils.data import FiftyOneImageDetectionDatasetImporter

    records = make_records(tmp_path / "in", calibrated=True)
    importer = FiftyOneImageDetectionDatasetImporter(str(write("fiftyone", tmp_path, records)), compute_metadata=True)
    with importer:
        samples = list(importer)
        assert importer.get_dataset_info()["classes"] == list(NAMES)
    assert {Path(path).stem for path, *_ in samples} == by_stem(records).keys()
    for path, metadata, label in samples:
        record = by_stem(records)[Path(path).stem]
        size = np.array([metadata.width, metadata.height] * 2)
        xywh = np.reshape([one.bounding_box for one in label.detections], (-1, 4))
        assert_same_boxes(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1) * size, record["boxes"])
        assert [one.label for one in label.detections] == [NAMES[i] for i in record["labels"]]
        for i, one in enumerate(label.detections):
            assert one.confidence == record["scores"][i]
            assert one.edge_std == record["edge_std"][i]
            assert one.largest_std == max(record["edge_std"][i])
            assert one.edge_interval == record["edge_intervals"][i]
            assert one.calibrated_score == record["calibrated_scores"][i]
            assert one.image_uncertainty == record["uncertainty"]


@pytest.mark.parametrize("kind", TOOLS)
def test_detectors_without_edge_distributions_have_scores_alone(kind: str, tmp_path: Path) -> None:
    folder = write(kind, tmp_path, make_records(tmp_path / "in", edges=False))
    for file in folder.glob("*.*"):
        assert "std" not in file.read_text()


def test_images_elsewhere_are_named_and_counted(tmp_path: Path) -> None:
    records = make_records(tmp_path / "in")
    records[0]["file"], records[1]["file"] = "https://example.com/a b.png", str(tmp_path / "gone.png")
    with Journal(tmp_path / "journal.jsonl", HEADER) as journal:
        for record in records:
            journal.add(record)
        journal.finish(0)
    written = write_tool("label-studio", journal.path, tmp_path / "tool", HEADER, "files")
    assert "2 images not on this machine" in written.notes[0]
    images = [task["data"]["image"] for task in json.loads(written.path.read_text())]
    assert images[0] == "https://example.com/a b.png"  # which Label Studio opens itself
    assert images[1].startswith("/data/local-files/")


def test_a_command_writes_all_tools_by_the_uncertainty_of_select(run: Run, tmp_path: Path) -> None:
    model, images = tmp_path / "model.safetensors", tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(1)
    for number in range(5):
        Image.fromarray(rng.integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)).save(images / f"{number}.png")
    detector = tiny_detector()
    with torch.no_grad():  # scores around 0.2: there is something to be uncertain of
        next(p for p in detector.parameters() if p.shape == (len(detector.names),)).add_(3.2)
    save_model(detector, model)
    out = tmp_path / "found"
    words = ("detect", model, images, "--out", out, "--no-images", "--score-threshold", "0.15")
    code, _, err = run(*words, "--format", "cvat,label-studio,fiftyone,coco")
    assert code == DONE, err
    tasks = json.loads((out / "label-studio" / "tasks.json").read_text())
    values = [task["data"]["uncertainty"] for task in tasks]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] > 1
    assert all(task["predictions"][0]["result"] for task in tasks)
    pool = scan_files(detector, sorted(map(str, images.iterdir())), score_threshold=0.3)
    expected = {Path(one.path).name: one.uncertainty for one in pool.images}
    for task in tasks:
        name = task["data"]["image"].rpartition("/")[2]
        assert task["data"]["uncertainty"] == pytest.approx(expected[name], abs=2e-3)
    listed = (out / "cvat" / "images.txt").read_text().split()
    assert [Path(name).name for name in listed] == [task["data"]["image"].rpartition("/")[2] for task in tasks]
    code, _, err = run(*words, "--format", "cvat", "--order", "files")  # replaces what is there
    assert code == DONE, err
    assert (out / "cvat" / "images.txt").read_text().split() == [f"images/{number}.png" for number in range(5)]


def test_names_that_a_tool_cannot_store_are_refused_before_detecting(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_model(tiny_detector(), model)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    name = tiny_detector().names[0]
    words = ("detect", model, tmp_path / "a.png", "--out", tmp_path / "found", "--rename", f"{name}= spaced ")
    code, _, err = run(*words, "--format", "cvat")
    assert code == USER_ERROR
    assert "CVAT cannot store it" in err
    assert not (tmp_path / "found" / "cvat").exists()


def test_the_uncertainty_of_a_record_is_by_what_was_written_where_it_states_none() -> None:
    record = {
        "scores": [0.5, 0.5],
        "boxes": [[0, 0, 10, 10], [0, 0, 20, 20]],
        "edge_std": [[1, 1, 1, 1], [1, 1, 1, 1]],
    }
    assert record_uncertainty(record | {"uncertainty": 0.25}) == 0.25
    loss = 0.5 * 4 * (2 / np.pi) ** 0.5 * (1 / 10 + 1 / 20)
    assert record_uncertainty(record) == pytest.approx(2 + loss)
    assert record_uncertainty({"scores": [], "boxes": [], "edge_std": []}) == 0
    assert record_uncertainty({"scores": [0.5], "boxes": [[0, 0, 10, 10]]}) == pytest.approx(1)
