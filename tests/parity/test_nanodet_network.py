"""NanoDet-Plus's network, imported from every published layout, against the numbers of the reference.

The weights are made up, but for those whose outputs on photographs are compared with ncnn's.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from nanodet_numbers import Numbers, ground_truth, read_numbers, recorded_outputs, relative
from torch import Tensor, nn

from gfocal.build import build_criterion
from gfocal.config.config import MethodSettings
from gfocal.data.images import read_image
from gfocal.interop.any_checkpoint import import_any
from gfocal.interop.mmdet import Imported
from gfocal.interop.nanodet_checkpoint import place
from gfocal.models.detector import Detector
from gfocal.models.nanodet import set_auxiliary_detached
from gfocal.ops.decoding import decode
from gfocal.structures import HeadOutputs

KEYS = {"m": "keys_nanodet_plus_m.json", "m15": "keys_nanodet_plus_m_1.5x.json"}
LAYOUTS = ("ckpt", "pth", "weight")


def script(shared: Path, name: str) -> ModuleType:
    """A script that lies beside the reference's numbers, as a module."""
    spec = importlib.util.spec_from_file_location(name, shared / "parity" / "nanodet" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def numbers(shared: Path) -> Numbers:
    return read_numbers(shared)


@pytest.fixture(scope="module")
def checkpoints(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, make = tmp_path_factory.mktemp("nanodet"), script(shared, "make_checkpoint").make
    found = {}
    for name, layout in [("m", layout) for layout in LAYOUTS] + [("m15", "ckpt")]:
        keys = json.loads((shared / "parity" / "nanodet" / KEYS[name]).read_text())
        found[f"{name}_{layout}"] = folder / f"{name}_{layout}.pth"
        torch.save(make(keys, layout), found[f"{name}_{layout}"])
    return found


@pytest.fixture(scope="module")
def imported(checkpoints: dict[str, Path]) -> dict[str, Imported]:
    return {name: import_any(path) for name, path in checkpoints.items()}


def rgb(images: object) -> Tensor:
    """The reference's input, in BGR, as ours."""
    return torch.as_tensor(images)[:, [2, 1, 0]]


def in_training(model: Detector) -> Detector:
    """In training mode, but with the statistics of BatchNorm that it has, as the recorded numbers are."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def by_level(outputs: HeadOutputs) -> list[tuple[Tensor, Tensor]]:
    """Logits of classes and of edges of each level, (B, channels, points)."""
    cls = outputs.cls_logits.transpose(1, 2).split(outputs.points.counts, 2)
    box = outputs.box_logits.flatten(2).transpose(1, 2).split(outputs.points.counts, 2)
    return list(zip(cls, box, strict=True))


@pytest.mark.parametrize("name", [f"m_{layout}" for layout in LAYOUTS])
def test_outputs_boxes_and_detections(numbers: Numbers, imported: dict[str, Imported], name: str) -> None:
    model = imported[name].model.eval()
    with torch.no_grad():
        wide, square = model(rgb(numbers["images"])), model(rgb(numbers["sq_images"]))
    recorded = recorded_outputs(numbers, is_guided=False)
    assert wide.auxiliary is None
    assert relative(wide.cls_logits, recorded.cls_logits) < 1e-5
    assert relative(wide.box_logits, recorded.box_logits) < 1e-5
    for level, (cls, box) in list(enumerate(by_level(square)))[1:]:
        assert relative(cls, torch.from_numpy(numbers[f"sq_cls_logits_{level}"]).flatten(2)) < 1e-5
        assert relative(box, torch.from_numpy(numbers[f"sq_reg_logits_{level}"]).flatten(2)) < 1e-5
    for prefix, outputs, size in (("", wide, (224, 288)), ("sq_", square, (416, 416))):
        points = torch.from_numpy(numbers[f"{prefix}points"])
        assert torch.equal(torch.cat((outputs.points.xy, outputs.points.strides[:, None]), 1), points)
        boxes = model.box_coder.boxes(outputs.box_logits, outputs.points)
        torch.testing.assert_close(boxes, torch.from_numpy(numbers[f"{prefix}boxes_all"]), rtol=0, atol=5e-3)
        original = torch.from_numpy(numbers[f"{prefix}original_sizes"]).flip(1)
        sizes = torch.tensor([size] * len(original))
        for i, found in enumerate(
            decode(outputs, model.box_coder, sizes, original, model.names, model.decode_settings)
        ):
            assert found.labels.tolist() == numbers[f"{prefix}labels_{i}"].tolist()
            scores, boxes = (torch.from_numpy(numbers[f"{prefix}{key}_{i}"]) for key in ("scores", "boxes"))
            torch.testing.assert_close(found.scores, scores, rtol=0, atol=1e-5)
            torch.testing.assert_close(found.boxes, boxes, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", ["m_ckpt", "m_pth"])
def test_outputs_of_the_auxiliary_head(numbers: Numbers, imported: dict[str, Imported], name: str) -> None:
    with torch.no_grad():
        outputs = in_training(imported[name].model)(rgb(numbers["images"]))
    recorded = recorded_outputs(numbers, is_guided=True)
    assert outputs.auxiliary is not None
    assert recorded.auxiliary is not None
    assert relative(outputs.cls_logits, recorded.cls_logits) < 1e-5
    assert relative(outputs.auxiliary.cls_logits, recorded.auxiliary.cls_logits) < 1e-5
    assert relative(outputs.auxiliary.box_logits, recorded.auxiliary.box_logits) < 1e-5


def test_outputs_of_the_wider_one(numbers: Numbers, imported: dict[str, Imported]) -> None:
    with torch.no_grad():
        outputs = imported["m15_ckpt"].model.eval()(rgb(numbers["images"]))
    logits = torch.cat((outputs.cls_logits, outputs.box_logits.flatten(2)), 2)
    assert (
        relative(logits[:, torch.from_numpy(numbers["m15_points"])], torch.from_numpy(numbers["m15_logits"])) < 1e-5
    )
    for level, (cls, box) in enumerate(by_level(outputs)):
        assert cls.norm().item() == pytest.approx(float(numbers[f"m15_cls_norm_{level}"]), rel=1e-4)
        assert box.norm().item() == pytest.approx(float(numbers[f"m15_reg_norm_{level}"]), rel=1e-4)


def test_every_tensor_is_used_or_left_out_by_a_rule(shared: Path, imported: dict[str, Imported]) -> None:
    for name, found in imported.items():
        keys = json.loads((shared / "parity" / "nanodet" / KEYS[name.partition("_")[0]]).read_text())
        own = {key.removeprefix("avg_model.") for key in keys if key.startswith("avg_model.")}
        if name.endswith("weight"):
            own = {key for key in own if not key.startswith("aux_")}
        assert found.preset == ("nanodet_plus_m" if name.startswith("m_") else "nanodet_plus_m_1_5x")
        assert found.num_tensors == len(own) - 1
        expected = ["head.distribution_project.project: the numbers 0 to 7, which the preset defines"]
        if name.endswith("ckpt"):
            expected.insert(
                0, "model.*, 887 tensors: the weights of the last step, of which avg_model.* is the average"
            )
        assert list(found.left_out) == expected
        ours = {where for key in own for where, _ in place(key, torch.zeros(112, 3, 1, 1), 80)}
        assert ours - {"head.distribution_project.project"} == set(found.model.state_dict())


def test_gradients_before_and_after_the_auxiliary_part_is_detached(
    numbers: Numbers, imported: dict[str, Imported]
) -> None:
    """Norms pass through the whole network in float32: the reference's own differ by 0.0016 from those in float64."""
    model = in_training(imported["m_pth"].model)
    criterion = build_criterion(model, MethodSettings())
    targets, sizes = ground_truth(numbers, "a"), torch.tensor([[224, 288]] * 2)
    names = [[ours for ours, _ in place(str(name), torch.zeros(112, 1), 80)] for name in numbers["param_names"]]
    parameters = dict(model.named_parameters())
    assert {name for of_one in names for name in of_one} == set(parameters)
    for epoch, is_detached in ((9, False), (10, True)):
        set_auxiliary_detached(model, is_detached)
        model.zero_grad()
        losses = criterion(model(rgb(numbers["images"])), targets, sizes)
        assert losses.total.item() == pytest.approx(float(numbers["a_agm_loss"]), rel=1e-5)
        losses.total.backward()
        squares = {name: float(parameter.grad.square().sum()) for name, parameter in parameters.items()}  # type: ignore[union-attr]
        norms = [math.sqrt(sum(squares[name] for name in of_one)) for of_one in names]
        assert norms == pytest.approx(numbers[f"a_param_grad_norm_epoch{epoch}"].tolist(), rel=4e-3, abs=1e-5)
    set_auxiliary_detached(model, False)
    assert norms != pytest.approx(numbers["a_param_grad_norm_epoch9"].tolist(), rel=8e-3, abs=1e-5)


@pytest.fixture(scope="module")
def folded(shared: Path) -> Imported:
    return import_any(shared / "parity" / "nanodet" / "nanodet_plus_m_416.safetensors")


@pytest.mark.parametrize("image_id", [5001, 58636, 166918, 168974, 208901, 331352])
def test_real_weights_find_what_they_find_in_ncnn(shared: Path, folded: Imported, image_id: int) -> None:
    with np.load(shared / "parity" / "nanodet" / "ncnn_outputs_416.npz") as file:
        numbers = {key: file[key] for key in file if key.endswith(f"_{image_id}")}
    path = next((shared / "data" / "coco_ccby").rglob(f"{image_id:012d}.jpg"))
    prepare = script(shared, "make_input")
    photograph = read_image(path)
    input_image = prepare.normalise(prepare.warp(photograph.permute(1, 2, 0).numpy()[:, :, ::-1], 416))
    model = folded.model
    with torch.no_grad():
        outputs = model(rgb(input_image[None]))
    for stride, (cls, box) in zip((8, 16, 32, 64), by_level(outputs), strict=True):
        scores, edges = (torch.from_numpy(numbers[f"{key}_{stride}_{image_id}"]).flatten(1) for key in ("cls", "dis"))
        torch.testing.assert_close(cls[0].sigmoid(), scores, rtol=0, atol=1e-4)
        torch.testing.assert_close(box[0], edges, rtol=0, atol=2e-3)
    original = torch.tensor([photograph.shape[1:]])
    settings = model.decode_settings
    found = decode(outputs, model.box_coder, torch.tensor([[416, 416]]), original, model.names, settings)[0]
    assert found.labels.tolist() == numbers[f"labels_{image_id}"].tolist()
    torch.testing.assert_close(found.scores, torch.from_numpy(numbers[f"scores_{image_id}"]), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.boxes, torch.from_numpy(numbers[f"boxes_{image_id}"]), rtol=0, atol=1e-2)
    # From the file on: the image is stretched as the reference does it.
    detected = model.detect(path, score_threshold=settings.score_threshold)
    assert detected.labels.tolist() == found.labels.tolist()  # type: ignore[union-attr]
    torch.testing.assert_close(detected.boxes, found.boxes, rtol=0, atol=1e-2)  # type: ignore[union-attr]
