"""Published RetinaNet, FCOS, FoveaBox and ATSS: every tensor has its place, and what only looks alike is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfocal.data.preprocess import InputSettings
from gfocal.interop.mmdet import CheckpointImportError, import_checkpoint
from gfocal.interop.mmdet_names import LAYOUTS, translate_name
from gfocal.models import caffe
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create
from gfocal.structures import Detections

# Preset of each list of keys, and what the published detector's decoder suppresses at.
PUBLISHED = {
    "retinanet_r50": ("retinanet_r50_fpn", 0.5),
    "fcos_r50": ("fcos_r50_fpn", 0.5),
    "fovea_r50": ("foveabox_r50_fpn", 0.5),
    "atss_r50": ("atss_r50_fpn", 0.6),
}


def is_parameter(key: str) -> bool:
    return key.rpartition(".")[2] not in ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_whole_checkpoint_loads_and_detects(shared: Path, tmp_path: Path, name: str) -> None:
    keys = json.loads((shared / "parity" / f"keys_{name}.json").read_text())
    path = tmp_path / f"{name}.pth"
    script = shared / "parity" / "make_checkpoint.py"
    subprocess.run(
        [sys.executable, script, script.parent / f"keys_{name}.json", path], check=True, capture_output=True
    )
    found = import_checkpoint(path)
    assert found.preset == PUBLISHED[name][0]
    assert (found.num_tensors, found.left_out) == (len(keys), ())
    theirs = {key: torch.Size(shape).numel() for key, (shape, _) in keys.items() if is_parameter(key)}
    assert sum(p.numel() for p in found.model.parameters()) == sum(theirs.values())
    assert len(found.model.state_dict()) == len(keys)
    assert found.model.decode_settings.nms_threshold == PUBLISHED[name][1]

    model = found.model
    model.input_settings = InputSettings(model.input_settings.mean, model.input_settings.std, 64, 96)
    detections = model.detect(torch.randint(256, (3, 64, 80), dtype=torch.uint8), score_threshold=0.05)
    assert isinstance(detections, Detections)
    assert len(detections) > 0
    assert torch.isfinite(detections.boxes).all()
    assert detections.edges.shape[1:] == (4, 0)


def their_name(key: str, detector: str) -> str:
    """MMDetection's name of one of our tensors, for making checkpoints: the inverse of ``translate_name``."""
    layout = next(layout for layout in LAYOUTS if layout.detector == detector)
    parts = key.split(".")
    if key.startswith("backbone.body."):
        return key.replace("backbone.body.", "backbone.", 1)
    if parts[1] == "laterals":
        return f"neck.lateral_convs.{parts[2]}.conv.{parts[3]}"
    if parts[1] in ("outputs", "extra"):
        return f"neck.fpn_convs.{int(parts[2]) + 3 * (parts[1] == 'extra')}.conv.{parts[3]}"
    if parts[1].endswith("_tower"):
        kind, length = ("cls" if parts[1] == "cls_tower" else "reg"), (3 if layout.normed else 2)
        i = int(parts[2])
        return f"bbox_head.{kind}_convs.{i // length}.{'gn' if i % length else 'conv'}.{parts[3]}"
    if parts[1] == "scales":
        return f"bbox_head.{'.'.join(parts[1:])}"
    layer = {"cls_out": layout.cls, "box_out": layout.box, "quality_out": layout.quality}[parts[1]]
    return f"bbox_head.{layer}.{parts[2]}"


Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
Small = Callable[..., tuple[Detector, dict[str, Tensor]]]
DETECTORS = {
    "RetinaNet": "retinanet_r50_fpn",
    "FCOS": "fcos_r50_fpn",
    "FoveaBox": "foveabox_r50_fpn",
    "ATSS": "atss_r50_fpn",
}


@pytest.fixture(scope="module")
def small() -> Small:
    """A small detector of a kind, with random weights throughout, and its state in MMDetection's names."""

    def make(detector: str) -> tuple[Detector, dict[str, Tensor]]:
        torch.manual_seed(0)
        options = {"body": "resnet18.tv_in1k", "channels": 32, "num_convs": 2}
        model = create(DETECTORS[detector], 3, pretrained=False, **options).eval()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        return model, {their_name(key, detector): value.clone() for key, value in model.state_dict().items()}

    return make


def write(path: Path, state: dict[str, Tensor], **meta: object) -> Path:
    torch.save({"meta": {"CLASSES": ("cat", "dog", "owl"), **meta}, "state_dict": state}, path)
    return path


def assert_same_outputs(a: Detector, b: Detector) -> None:
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        one, two = a(images), b(images)
    for name in ("cls_logits", "box_logits", "quality_logits"):
        assert (getattr(one, name) is None) == (getattr(two, name) is None)
        if getattr(one, name) is not None:
            assert torch.equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_imported_model_computes_what_it_computed(small: Small, tmp_path: Path, detector: str) -> None:
    model, state = small(detector)
    found = import_checkpoint(write(tmp_path / "a.pth", state), caffe=False if detector == "FCOS" else None)
    assert found.preset == DETECTORS[detector]
    assert found.model.names == ("cat", "dog", "owl")
    assert_same_outputs(model, found.model)


def test_fcos_is_of_the_caffe_kind_unless_its_config_or_the_caller_sets_otherwise(tmp_path: Path) -> None:
    torch.manual_seed(0)
    # A bottleneck network whose strides can move.
    options = {"channels": 32, "num_convs": 1}
    model = create("fcos_r50_fpn", 3, pretrained=False, **options).eval()
    state = {their_name(key, "FCOS"): value for key, value in model.state_dict().items()}
    plain = write(tmp_path / "a.pth", state)
    for path, asked, expected in (
        (plain, None, True),
        (plain, False, False),
        (write(tmp_path / "b.pth", state, config="backbone=dict(type='ResNet', style='pytorch')"), None, False),
        (tmp_path / "b.pth", True, True),
        (
            write(tmp_path / "c.pth", state, cfg="backbone=dict(style='caffe'), head=dict(type='FCOSHead')"),
            None,
            True,
        ),
    ):
        found = import_checkpoint(path, caffe=asked)
        assert found.model.built_from["options"]["caffe"] is expected
        # Of the Caffe kind all norms were published fixed, of the other those of the first stage; a file keeps it.
        save_model(found.model, tmp_path / "kept.safetensors")
        for again in (found.model, load_model(tmp_path / "kept.safetensors")):
            norm = again.get_submodule("backbone.body.layer2.0.bn1")
            assert all(value.requires_grad is not expected for value in norm.parameters())
            assert again.get_parameter("backbone.body.layer2.0.conv1.weight").requires_grad
        kind = "Caffe" if expected else "PyTorch"
        assert any(note.startswith(f"backbone: of the {kind} kind") for note in found.notes)
        conv = found.model.backbone.get_parameter("body.conv1.weight")
        original = state["backbone.conv1.weight"]
        assert torch.equal(conv, original.flip(1) if expected else original)
        settings = found.model.input_settings
        assert settings.mean == (caffe.MEAN if expected else (123.675, 116.28, 103.53))
        assert settings.std == ((1, 1, 1) if expected else (58.395, 57.12, 57.375))


@pytest.mark.parametrize(("option", "kind"), [("--caffe", "Caffe"), ("--no-caffe", "PyTorch"), (None, "PyTorch")])
def test_the_command_asks_for_the_kind_of_backbone(run: Run, tmp_path: Path, option: str | None, kind: str) -> None:
    torch.manual_seed(0)
    model = create("fcos_r50_fpn", 3, pretrained=False, channels=32, num_convs=1)
    state = {their_name(key, "FCOS"): value for key, value in model.state_dict().items()}
    path = write(tmp_path / "a.pth", state, config="backbone=dict(type='ResNet', style='pytorch')")
    options = [option] if option else []
    code, _, err = run("import", path, "--out", tmp_path / "model.safetensors", *options)
    assert code == 0, err
    assert f"backbone: of the {kind} kind ({'asked for' if option else 'by the file'}" in err
    assert load_model(tmp_path / "model.safetensors").built_from["options"]["caffe"] is (option == "--caffe")


@pytest.mark.parametrize("kind", ["fcos", "fovea"])
def test_names_of_version_1(small: Small, tmp_path: Path, kind: str) -> None:
    detector = {"fcos": "FCOS", "fovea": "FoveaBox"}[kind]
    model, state = small(detector)
    old = {key.replace("bbox_head.conv_", f"bbox_head.{kind}_"): value for key, value in state.items()}
    assert old.keys() != state.keys()
    path = write(tmp_path / "a.pth", old, mmdet_version="1.2.0")
    assert_same_outputs(model, import_checkpoint(path, caffe=False if kind == "fcos" else None).model)


@pytest.mark.parametrize(
    ("detector", "meta", "arguments", "message"),
    [
        ("ATSS", {"mmdet_version": "1.1.0"}, {}, "ATSS of MMDetection 1.1.0, whose anchors"),
        ("RetinaNet", {"mmdet_version": "1.1.0"}, {}, "RetinaNet of MMDetection 1.1.0, whose anchors"),
        ("RetinaNet", {}, {"origin": "corner"}, "where points lie can be chosen for GFL only"),
        (
            "RetinaNet",
            {"config": "backbone=dict(style='caffe')"},
            {},
            "the Caffe kind, which gfocal supports for",
        ),
        ("ATSS", {}, {"caffe": True}, "the Caffe kind, which gfocal supports for"),
        ("FCOS", {}, {"caffe": True}, "only ResNets with bottlenecks"),
        ("ATSS", {"config": "bbox_head=dict(type='PAAHead')"}, {}, "named as those of ATSS.*PAAHead"),
        (
            "RetinaNet",
            {"cfg": "type='FreeAnchorRetinaHead'"},
            {},
            "named as those of RetinaNet.*FreeAnchorRetinaHead",
        ),
        ("FCOS", {"cfg": "dict(type='FCOSHead', norm_on_bbox=True)"}, {}, "variant of FCOS.*norm_on_bbox"),
    ],
)
def test_checkpoints_of_another_meaning_are_refused(
    small: Small, tmp_path: Path, detector: str, meta: dict[str, str], arguments: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "a.pth", small(detector)[1], **meta)
    with pytest.raises(CheckpointImportError, match=message):
        import_checkpoint(path, **arguments)


def test_tensors_that_do_not_fit_are_named(small: Small, tmp_path: Path) -> None:
    _, state = small("RetinaNet")

    def refused(message: str, **changes: Tensor | None) -> None:
        other = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
        path = write(tmp_path / "a.pth", {key: value for key, value in other.items() if value is not None})
        with pytest.raises(CheckpointImportError, match=message):
            import_checkpoint(path)

    refused(
        r"retina_reg has 4 channels; as published it is 36", bbox_head__retina_reg__weight=torch.zeros(4, 32, 3, 3)
    )
    refused(r"retina_cls has 28 rows for 9 boxes", bbox_head__retina_cls__weight=torch.zeros(28, 32, 3, 3))
    refused(r"bbox_head\.retina_reg\.weight is missing", bbox_head__retina_reg__weight=None)
    refused(r"scales\.0\.scale has no place in retinanet_r50_fpn", bbox_head__scales__0__scale=torch.ones(()))
    refused(r"cls_convs\.0\.gn\.bias has no place", bbox_head__cls_convs__0__gn__bias=torch.ones(32))
    refused(r"1 tensors are missing, the first is head\.box_tower\.2\.bias", bbox_head__reg_convs__1__conv__bias=None)
    refused(
        r"no preset of RetinaNet has deformable convolutions",
        backbone__layer2__0__conv2__conv_offset__weight=torch.ones(18, 1, 3, 3),
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.detector)
def test_only_gfl_computes_a_tensor_instead_of_storing_it(layout) -> None:
    assert (translate_name("bbox_head.integral.project", layout) is None) == (layout.detector == "GFL")
