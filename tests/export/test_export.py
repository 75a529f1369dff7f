"""The command and what it writes: verified, whole or not at all, and a detector again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import scenes, small
from test_onnx import assert_same

import gfocal
import gfocal_runtime
from calibrations import calibration
from gfocal.data.preprocess import InputSettings
from gfocal.errors import ExportError, ModelFileError
from gfocal.export import export as export_module
from gfocal.export import int8, nms_graph, onnx_file, openvino_file
from gfocal.export.export import ExportOptions, export_model, read_inputs
from gfocal.export.recalibrate import store_exported_calibration
from gfocal.export.verify import BOUNDS, Differences, require_within
from gfocal.models.detector import Detector
from gfocal.models.predict import detect
from gfocal.ops.boxes import iou
from gfocal.structures import Detections

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
Get = Callable[[str], tuple[Detector, Path]]
KIND = "gfl_light_fpn"


def about(path: Path) -> dict[str, Any]:
    """The metadata of a file."""
    return json.loads(next(entry.value for entry in onnx.load(str(path)).metadata_props if entry.key == "gfocal"))


def with_metadata(path: Path, target: Path, **changes: Any) -> Path:
    """A copy of a file whose metadata are changed."""
    graph = onnx.load(str(path))
    onnx_file.write_onnx(graph, json.dumps(about(path) | changes), target)
    return target


def test_the_metadata_have_what_a_reader_needs(exported: Get) -> None:
    model, path = exported(KIND)
    found = about(path)
    assert found["names"] == ["a", "b", "c"]
    assert found["opset"] == 20
    assert found["box_coder"] == {
        "kind": "GeneralDistribution",
        "num_bins": 17,
        "n": 16,
        "delta": 1.0,
        "strides": [4, 8, 16, 32, 64, 128],
    }
    assert found["precision"] == "float32"
    assert found["verification"]["box_max"] <= 1e-2
    assert found["verification"]["num_images"] == len(scenes())
    assert found["decode"]["nms_threshold"] == model.decode_settings.nms_threshold


def test_thresholds_are_in_the_file(exported: Get, tmp_path: Path) -> None:
    _, path = exported(KIND)
    model = gfocal.load(with_metadata(path, tmp_path / "a.onnx", thresholds={"scores": [0.2, 1.0, 1.0], "how": "f1"}))
    found = model.detect(scenes())
    assert model.thresholds_how == "f1"
    assert {label for one in found for label in one.labels.tolist()} == {0}


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_gets_a_calibration_of_its_own(suffix: str, exported: Get, tmp_path: Path) -> None:
    _, path = exported(KIND)
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="needs the extra openvino")
        openvino_file.write_openvino(openvino_file.to_openvino(path), json.dumps(about(path)), tmp_path / "first.xml")
        path = tmp_path / "first.xml"
    before = gfocal.load(path)
    made = calibration(f"{suffix[1:]} 0123456789abcdef", num_classes=3)
    target = tmp_path / f"other{suffix}"
    store_exported_calibration(before, made, target)
    store_exported_calibration(gfocal.load(target), replace(made, num_images=7), target)  # in its own place
    after = gfocal.load(target)
    assert after.calibration == replace(made, num_images=7)
    for one, other in zip(before.detect(scenes()), after.detect(scenes()), strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)
        assert other.calibration == after.calibration


def test_without_torch_the_numbers_are_the_same(exported: Get, tmp_path: Path) -> None:
    _, path = exported(KIND)
    files = []
    for i, image in enumerate(scenes()):  # of the size of the input: Pillow rounds a few pixels otherwise than torch
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image[:, :96, : 96 + 20 * i].permute(1, 2, 0).numpy()).save(files[-1])
    wanted = gfocal.load(path).detect(files, score_threshold=0.2, batch_size=2)
    found = gfocal_runtime.load(path, num_threads=1).detect(files, score_threshold=0.2, batch_size=2)
    for one, other in zip(found, wanted, strict=True):
        arrays = (one.boxes, one.scores, one.labels, one.edges, one.points, one.bin_sizes)
        assert_same(Detections(*map(torch.from_numpy, arrays), names=one.names, size=one.size), other)
        assert one.edge_std.shape == (len(other), 4)
        assert set(one.to_dicts()[0]) == {"name", "label", "score", "box", "edge_std"}


@pytest.mark.parametrize("agnostic", [False, True])
def test_nms_inside_gives_the_same_detections(exported: Get, tmp_path: Path, agnostic: bool) -> None:
    model, path = exported(KIND)
    settings = replace(model.decode_settings, class_agnostic_nms=agnostic, max_detections=7)
    graph = nms_graph.append_nms(onnx.load(str(path)), settings)
    file = tmp_path / "nms.onnx"
    onnx_file.write_onnx(graph, json.dumps(about(path) | {"nms": True}), file)
    # The images fill the padded input, to which the boxes are clipped inside the file.
    images = [image[:, :96, :160].contiguous() for image in scenes(2)]
    normal = model.decode_settings
    model.decode_settings = settings
    try:
        wanted = detect(model, images, score_threshold=0.1, batch_size=2, precision="float32")
    finally:
        model.decode_settings = normal
    found = gfocal.load(file).detect(images, score_threshold=0.1, batch_size=2)
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_nms_at_zero_keeps_boxes_that_do_not_touch(suffix: str, exported: Get, tmp_path: Path) -> None:
    model, path = exported(KIND)
    settings = replace(model.decode_settings, nms_threshold=0.0, max_detections=50)
    graph = nms_graph.append_nms(onnx.load(str(path)), settings)
    nms = next(node for node in graph.graph.node if node.op_type == "NonMaxSuppression")
    written = next(one for one in graph.graph.initializer if one.name == nms.input[3])
    assert 0 < onnx.numpy_helper.to_array(written).item() < 1e-5  # at 0 OpenVINO removes boxes that do not touch
    file = tmp_path / "nms.onnx"
    onnx_file.write_onnx(graph, json.dumps(about(path) | {"nms": True}), file)
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="needs the extra openvino")
        file = tmp_path / "nms.xml"
        whole = json.dumps(about(path) | {"nms": True})
        openvino_file.write_openvino(openvino_file.to_openvino(tmp_path / "nms.onnx"), whole, file)
    (found,) = gfocal.load(file).detect([scenes(1)[0][:, :96, :160].contiguous()], score_threshold=0.05)
    of_class = [found.boxes[found.labels == label] for label in found.labels.unique()]
    assert any(len(boxes) > 1 for boxes in of_class), "more than the best box of each class"
    for boxes in of_class:
        assert (iou(boxes.unsqueeze(1), boxes.unsqueeze(0)).fill_diagonal_(0) < 1e-3).all()


def test_int8_changes_numbers_a_little(exported: Get, tmp_path: Path) -> None:
    model, path = exported(KIND)
    inputs = read_inputs(model, scenes(), 3)
    graph = int8.quantize_onnx(path, inputs, tmp_path / "q.onnx")
    kinds = {node.op_type for node in graph.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    file = tmp_path / "int8.onnx"
    onnx_file.write_onnx(graph, json.dumps(about(path) | {"precision": "int8"}), file)
    original, quantized = (gfocal.load(one).engine(inputs[0][None].numpy()) for one in (path, file))
    difference = np.abs(original["scores"] - quantized["scores"])
    assert 1e-6 < difference.mean() < 0.05
    producers = {output: node for node in graph.graph.node for output in node.output}
    for name in onnx_file.last_convolutions(graph):
        last = next(node for node in graph.graph.node if node.name == name)
        assert last.input[1] not in producers, "the convolutions that predict have float weights"


@pytest.mark.parametrize("precision", list(BOUNDS))
def test_a_file_that_differs_too_much_is_refused(precision: str) -> None:
    fine = Differences(1, 1, *(0.0,) * 7, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5)
    require_within(fine, precision)
    for name, bound in BOUNDS[precision].items():
        changes = {"ap_file": 0.5 - 2 * bound} if name == "ap_loss" else {name: 2 * bound}
        with pytest.raises(ExportError, match=name):
            require_within(replace(fine, **changes), precision)
        if name != "ap_loss":
            with pytest.raises(ExportError, match=name):
                require_within(replace(fine, **{name: float("nan")}), precision)


def test_nothing_is_left_of_a_refused_file(exported: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = exported(KIND)
    graph = onnx.load(str(path))
    for one in graph.graph.initializer:
        if one.name == "head.cls_out.bias":
            values = onnx.numpy_helper.to_array(one) + np.float32(0.1)
            one.CopyFrom(onnx.numpy_helper.from_array(values, one.name))
            break
    else:
        pytest.fail("no such weight")
    monkeypatch.setattr(export_module.onnx_file, "to_onnx", lambda network, multiple: graph)
    out = tmp_path / "m.onnx"
    out.write_bytes(b"before")
    with pytest.raises(ExportError, match="score_max"):
        export_model(model, out, ExportOptions("onnx", images=scenes()))
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert out.read_bytes() == b"before"


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"float32, int8, not bf16; --to openvino"):
        ExportOptions("onnx", "bf16").check()
    with pytest.raises(ExportError, match="--calibrate"):
        ExportOptions("onnx", "int8").check()
    with pytest.raises(ExportError, match="--nms"):
        ExportOptions("torch", nms=True).check()
    with pytest.raises(ExportError, match=r"ends in \.onnx"):
        export_model(small(KIND), tmp_path / "model.xml", ExportOptions("onnx"))


def test_damaged_files_are_one_error(exported: Get, tmp_path: Path) -> None:
    _, path = exported(KIND)
    content = path.read_bytes()
    for name, damaged in (("half", content[: len(content) // 2]), ("text", b"no onnx"), ("empty", b"")):
        file = tmp_path / f"{name}.onnx"
        file.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=f"{name}.onnx"):
            gfocal.load(file)
    with pytest.raises(ModelFileError, match="no such file"):
        gfocal.load(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="metadata"):
        gfocal.load(with_metadata(path, tmp_path / "m.onnx", precision="float8"))
    with pytest.raises(ModelFileError, match="num_bins"):
        gfocal.load(with_metadata(path, tmp_path / "c.onnx", box_coder={"num_bins": -1, "delta": 1}))


def test_commands_take_the_file(exported: Get, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    _, path = exported(KIND)
    images = tmp_path / "images"
    images.mkdir()
    for i, image in enumerate(scenes()):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(images / f"{i}.png")
    code, _, err = run("detect", path, images, "--out", tmp_path / "found", "--no-images", "--score-threshold", "0.2")
    assert code == 0, err
    written = json.loads((tmp_path / "found" / "detections.json").read_text())
    wanted = gfocal.load(path).detect(sorted(map(str, images.iterdir())), score_threshold=0.2)
    assert len(written["annotations"]) == sum(map(len, wanted))
    code, _, err = run("detect", path, images, "--out", tmp_path / "x", "--device", "meta")
    assert code == 2
    code, _, err = run("export", tmp_path / "none.safetensors", "--to", "onnx")
    assert code == 2
    assert "no such file" in err


def test_openvino_reads_the_same(exported: Get, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    model, path = exported(KIND)
    file = tmp_path / "model.xml"
    converted = openvino_file.to_openvino(path)
    assert openvino_file.last_convolutions(converted)
    openvino_file.write_openvino(converted, json.dumps(about(path)), file)
    found = gfocal.load(file).detect(scenes(), score_threshold=0.2)
    wanted = detect(model, scenes(), score_threshold=0.2, precision="float32")
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


def test_torch_is_exported(tmp_path: Path) -> None:
    # Sides above the largest stride: a program refuses maps of one cell.
    model = small(KIND, input_settings=InputSettings(short_side=160, long_side=256))
    out = tmp_path / "model.pt2"
    differences = export_model(model, out, ExportOptions("torch", images=scenes(1)))
    assert differences.box_max < 1e-3
    program = torch.export.load(str(out)).module()
    assert program(torch.zeros(3, 3, 160, 224))[1].shape[0] == 3
