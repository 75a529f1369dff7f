"""Weights of NanoDet-Plus: each layout, and files that are not what they should be. Numbers: tests/parity."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import Run
from gfocal.cli import DONE, USER_ERROR
from gfocal.data.coco_names import COCO_NAMES
from gfocal.errors import CheckpointImportError
from gfocal.interop.any_checkpoint import import_any
from gfocal.interop.nanodet_checkpoint import is_nanodet, place, translate_name
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create

State = dict[str, Tensor]
PARTS = (0, "depthwise"), (1, "dwnorm"), (3, "pointwise"), (4, "pwnorm")


def their_name(key: str) -> str:
    """NanoDet's name of one of our tensors, other than those of ``head.*_outs``."""
    separable = {f".{i}": f".{name}" for i, name in PARTS}
    for ours, theirs in (("neck.main.", "fpn."), ("neck.auxiliary.", "aux_fpn.")):
        if key.startswith(ours):
            first, *rest = key.removeprefix(ours).split(".")
            if first == "laterals":
                return f"{theirs}reduce_layers.{rest[0]}.{'conv' if rest[1] == '0' else 'bn'}.{rest[2]}"
            if first in ("top_down", "bottom_up"):
                inner = ".".join(rest[1:]).replace("primary", "primary_conv").replace("cheap", "cheap_operation")
                return f"{theirs}{first}_blocks.{rest[0]}.blocks.0.{inner}"
            if first == "downsamples":
                return f"{theirs}downsamples.{rest[0]}{separable['.' + rest[1]]}.{rest[2]}"
            return f"{theirs}{first.replace('extra_', 'extra_lvl_')}_conv.0{separable['.' + rest[0]]}.{rest[1]}"
    if key.startswith("head.towers."):
        level, block, part, leaf = key.removeprefix("head.towers.").split(".")
        return f"head.cls_convs.{level}.{block}{separable['.' + part]}.{leaf}"
    if key.startswith("head.auxiliary."):
        first, *rest = key.removeprefix("head.auxiliary.").split(".")
        if first in ("cls_tower", "box_tower"):
            kind, i = "cls" if first == "cls_tower" else "reg", int(rest[0])
            return f"aux_head.{kind}_convs.{i // 3}.{'gn' if i % 3 else 'conv'}.{rest[1]}"
        return f"aux_head.{ {'cls_out': 'gfl_cls', 'box_out': 'gfl_reg'}.get(first, first) }.{'.'.join(rest)}"
    return key


def their_state(model: Detector) -> State:
    """The tensors of a detector as NanoDet saves them."""
    own = model.state_dict()
    state = {their_name(key): value.clone() for key, value in own.items() if "_outs." not in key}
    state["backbone.conv1.0.weight"] = state["backbone.conv1.0.weight"].flip(1)
    for level in range(4):
        for leaf in ("weight", "bias"):
            parts = [own[f"head.{kind}_outs.{level}.{leaf}"] for kind in ("cls", "box")]
            state[f"head.gfl_cls.{level}.{leaf}"] = torch.cat(parts)
    state["head.distribution_project.project"] = torch.linspace(0, 7, 8)
    return state


def fold(model: Detector) -> State:
    """As ``their_state``, but with each BatchNorm folded into the convolution before it."""
    state: State = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            layers = list(module.named_children())
            for (number, conv), (_, norm) in pairwise(layers):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    assert norm.running_var is not None
                    assert norm.running_mean is not None
                    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                    key = their_name(f"{name}.{number}.weight")
                    state[key] = (conv.weight * factor[:, None, None, None]).detach().clone()
                    bias = (norm.bias - norm.running_mean * factor).detach().clone()
                    state[key.removesuffix("weight") + "bias"] = bias
    state["backbone.conv1.0.weight"] = state["backbone.conv1.0.weight"].flip(1).contiguous()
    heads = {key: value for key, value in their_state(model).items() if "gfl_cls" in key}
    return state | {key: value.clone() for key, value in heads.items() if key.startswith("head.")}


def detector(auxiliary: bool = True, preset: str = "nanodet_plus_m") -> Detector:
    """With statistics and weights that differ in every channel."""
    torch.manual_seed(0)
    model = create(preset, 3, pretrained=False, channels=16, auxiliary=auxiliary)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape) * (0.5 if "running_var" in key else 0.05))
    return model.eval()


IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def outputs(model: Detector) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        found = model.eval()(IMAGES)
    return found.cls_logits, found.box_logits


def write(path: Path, state: State) -> Path:
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_names_there_and_back() -> None:
    model = detector()
    for key in model.state_dict():
        if "_outs." not in key:
            assert translate_name(their_name(key)) == key
    assert translate_name("fpn.lateral_convs.0.conv.weight") == "fpn.lateral_convs.0.conv.weight"
    rows = place("head.gfl_cls.2.bias", torch.arange(35), 3)
    assert [(name, len(value)) for name, value in rows] == [("head.cls_outs.2.bias", 3), ("head.box_outs.2.bias", 32)]


@pytest.mark.parametrize("preset", ["nanodet_plus_m", "nanodet_plus_m_1_5x"])
def test_a_checkpoint_of_training_gives_its_average(tmp_path: Path, preset: str) -> None:
    model = detector(preset=preset)
    state = their_state(model)
    both = {f"model.{key}": value + 1 for key, value in state.items()} | {
        f"avg_model.{k}": v for k, v in state.items()
    }
    imported = import_any(write(tmp_path / "model_best.ckpt", both), names=("a", "b", "c"))
    assert imported.preset == preset
    assert imported.model.state_dict().keys() == model.state_dict().keys()
    own = model.state_dict()
    for key, value in imported.model.state_dict().items():
        assert torch.equal(value, own[key]), key
    assert imported.num_tensors == len(state) - 1
    assert imported.left_out[0].startswith(f"model.*, {len(state)} tensors: the weights of the last step")
    assert imported.model.names == ("a", "b", "c")
    assert not imported.model.has_folded_statistics
    # Without an average there are the weights of the last step.
    last = import_any(write(tmp_path / "last.ckpt", {f"model.{key}": value for key, value in state.items()}))
    assert torch.equal(outputs(last.model)[0], outputs(model)[0])
    assert "no moving average" in " ".join(last.notes)


def test_weights_for_inference_have_no_auxiliary_part(tmp_path: Path) -> None:
    model = detector()
    state = {key: value for key, value in their_state(model).items() if not key.startswith("aux_")}
    imported = import_any(write(tmp_path / "nanodet-plus-m_320.pth", state))
    assert imported.model.built_from["options"] == {"n": 7, "channels": 16, "auxiliary": False}
    assert torch.equal(outputs(imported.model)[0], outputs(model)[0])
    assert "input: 320 x 320 (by the file's name)" in imported.notes
    settings = imported.model.input_settings
    assert (settings.short_side, settings.long_side, settings.stretch) == (320, 320, True)


def test_folded_tensors_give_the_same_outputs_and_say_so(tmp_path: Path) -> None:
    model = detector(auxiliary=False)
    save_file(fold(model), tmp_path / "folded.safetensors")
    imported = import_any(tmp_path / "folded.safetensors", side=256)
    for one, other in zip(outputs(imported.model), outputs(model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert imported.model.has_folded_statistics
    assert any(note.startswith("BatchNorm: folded") for note in imported.notes)
    assert "input: 256 x 256 (as asked for)" in imported.notes
    for module in imported.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert not module.running_mean.any()


def change(state: State, what: str) -> State:
    """The state with one thing wrong."""
    first = "fpn.reduce_layers.0.conv.weight"
    changes: dict[str, State] = {
        "lacks a tensor": {key: value for key, value in state.items() if key != "fpn.downsamples.0.dwnorm.bias"},
        "lacks the neck": {key: value for key, value in state.items() if not key.startswith("fpn.")},
        "has one more": state | {"fpn.lateral_convs.0.conv.weight": torch.zeros(2)},
        "has another shape": state | {"head.cls_convs.0.0.depthwise.weight": torch.zeros(16, 1, 3, 3)},
        "has another width": state | {"backbone.stage2.0.branch2.0.weight": torch.zeros(24, 24, 1, 1)},
        "has too few rows": state | {"head.gfl_cls.3.weight": torch.zeros(32, 16, 1, 1)},
        "has a scalar": state | {first: torch.zeros(())},
        "has other bins": state | {"head.distribution_project.project": torch.linspace(0, 8, 8)},
    }
    return changes[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("lacks a tensor", "1 tensors are missing, the first is neck.main.downsamples.0.1.bias"),
        ("lacks the neck", "not NanoDet-Plus with ShuffleNetV2: fpn.reduce_layers.0.conv.weight is missing"),
        ("has one more", "fpn.lateral_convs.0.conv.weight has no place in nanodet_plus_m"),
        ("has another shape", r"shape \(16, 1, 3, 3\), but nanodet_plus_m needs \(16, 1, 5, 5\)"),
        ("has another width", "48 channels in stage 2; there are presets for 1.0x and 1.5x, 116 and 176"),
        ("has too few rows", "32 rows, not classes and 32 for the edges"),
        ("has a scalar", "fpn.reduce_layers.0.conv.weight is missing"),
        ("has other bins", "head.distribution_project.project is not 0, 1, 2"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, what: str, message: str) -> None:
    path = write(tmp_path / "wrong.pth", change(their_state(detector()), what))
    with pytest.raises(CheckpointImportError, match=message) as error:
        import_any(path)
    assert str(error.value).startswith(f"{path}: ")


def test_arguments_that_do_not_go_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "nano.pth", their_state(detector()))
    for side in (0, 32, 100):
        with pytest.raises(CheckpointImportError, match=f"a multiple of 32, at least 64, not {side}"):
            import_any(path, side=side)
    with pytest.raises(CheckpointImportError, match="neither points nor caffe"):
        import_any(path, origin="corner")
    with pytest.raises(CheckpointImportError, match="3 classes, but 2 names"):
        import_any(path, names=("a", "b"))
    other = write(tmp_path / "other.pth", {"bbox_head.gfl_cls.weight": torch.zeros(1)})
    with pytest.raises(CheckpointImportError, match="for NanoDet-Plus only"):
        import_any(other, side=416)
    with pytest.raises(CheckpointImportError, match=r"bbox_head.gfl_reg.weight is missing"):
        import_any(other)


def test_safetensors_that_are_damaged_or_a_model_file(tmp_path: Path) -> None:
    save_model(detector(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointImportError, match="is a model file of gfocal already"):
        import_any(tmp_path / "model.safetensors")
    save_file(fold(detector(auxiliary=False)), tmp_path / "half.safetensors")
    content = (tmp_path / "half.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointImportError, match="is it truncated"):
        import_any(tmp_path / "half.safetensors")
    with pytest.raises(CheckpointImportError, match="there is no such file"):
        import_any(tmp_path / "none.safetensors")


def test_which_files_are_nanodets() -> None:
    assert is_nanodet(["avg_model.head.gfl_cls.0.weight"])
    assert is_nanodet(["head.gfl_cls.0.weight"])
    assert not is_nanodet(["bbox_head.gfl_cls.weight", "head.gfl_cls.weight"])


def test_from_the_command_line(run: Run, shared: Path, tmp_path: Path) -> None:
    source = shared / "parity" / "nanodet" / "nanodet_plus_m_416.safetensors"
    out = tmp_path / "nano.safetensors"
    code, _, err = run("import", source, "--out", out)
    assert code == DONE
    assert "220 tensors, all assigned to nanodet_plus_m" in err
    assert "BatchNorm: folded" in err
    assert "input: 416 x 416 (by the file's name)" in err
    model = load_model(out)
    assert model.names == COCO_NAMES
    assert model.has_folded_statistics
    photograph = next((shared / "data" / "coco_ccby").rglob("000000166918.jpg"))
    code, _, err = run("detect", out, photograph, "--out", tmp_path / "found", "--score-threshold", "0.5")
    assert code == DONE, err
    assert list((tmp_path / "found").iterdir())
    code, _, err = run("import", source, "--out", out, "--size", "33")
    assert code == USER_ERROR
    assert "multiple of 32" in err
