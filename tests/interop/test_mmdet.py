"""Published checkpoints: every tensor finds its place, or the file is refused in one clear line."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import Run
from gfocal.cli import DONE, USER_ERROR
from gfocal.interop.mmdet import CheckpointImportError, import_checkpoint
from gfocal.interop.mmdet_checkpoint import plain_names
from gfocal.interop.mmdet_names import GFL, layout_of, recognize, translate_name
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create, gfl_r18_fpn

PUBLISHED = {
    "gfl_r50": ("gfl_r50_fpn", 32_440_537, {}),
    "gfl_r101": ("gfl_r101_fpn", 51_432_665, {}),
    "gfl_x101": ("gfl_x101_32x4d_fpn", 51_061_209, {}),
    "gfl_r101_dcn": ("gfl_r101_dcn_fpn", 52_718_837, {"modulated": False, "deformable_stages": [2, 3, 4]}),
    "gfl_x101_dcn": ("gfl_x101_32x4d_dcn_fpn", 53_467_053, {"modulated": False, "deformable_stages": [3, 4]}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_key_has_its_place_and_shape(shared: Path, name: str):
    keys = json.loads((shared / "parity" / f"keys_{name}.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}
    del state["bbox_head.integral.project"]  # its values are looked at
    preset, num_parameters, options = PUBLISHED[name]
    assert layout_of(state, "", Path(name)) is GFL
    found, found_options = recognize(state, GFL, Path(name))
    assert (found, found_options) == (preset, {"n": 16} | options)
    with torch.device("meta"):
        model = create(preset, 80, pretrained=False, **options)
    assert sum(p.numel() for p in model.parameters()) == num_parameters
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {translate_name(key): tuple(value.shape) for key, value in state.items()}
    assert ours == theirs


def their_name(key: str) -> str:
    """MMDetection's name of one of our tensors: the inverse of ``translate_name``, for making checkpoints."""
    parts = key.split(".")
    if key.startswith("backbone.body."):
        return key.replace("backbone.body.", "backbone.", 1)
    if parts[1] == "laterals":
        return f"neck.lateral_convs.{parts[2]}.conv.{parts[3]}"
    if parts[1] in ("outputs", "extra"):
        return f"neck.fpn_convs.{int(parts[2]) + 3 * (parts[1] == 'extra')}.conv.{parts[3]}"
    if parts[1].endswith("_tower"):
        kind = "cls" if parts[1] == "cls_tower" else "reg"
        i = int(parts[2])
        return f"bbox_head.{kind}_convs.{i // 3}.{'gn' if i % 3 else 'conv'}.{parts[3]}"
    if parts[1] == "scales":
        return f"bbox_head.{'.'.join(parts[1:])}"
    if parts[1] == "edge_quality":
        return f"bbox_head.reg_conf.{0 if parts[2] == 'hidden' else 2}.{parts[3]}"
    return f"bbox_head.gfl_{'cls' if parts[1] == 'cls_out' else 'reg'}.{parts[2]}"


@pytest.fixture(scope="module")
def small():
    """A small detector of ours and its state in MMDetection's names."""
    torch.manual_seed(0)
    model = gfl_r18_fpn(3, pretrained=False, channels=32, num_convs=1).eval()
    state = OrderedDict((their_name(key), value.clone()) for key, value in model.state_dict().items())
    state["bbox_head.integral.project"] = torch.linspace(0, 16, 17)
    return model, state


def write(path: Path, state: dict[str, Tensor], **meta: object) -> Path:
    torch.save({"meta": {"CLASSES": ("cat", "dog", "owl"), "epoch": 12} | meta, "state_dict": state}, path)
    return path


def same_outputs(a, b) -> bool:
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        one, two = a(images), b(images)
    return torch.equal(one.cls_logits, two.cls_logits) and torch.equal(one.box_logits, two.box_logits)


def test_an_imported_model_computes_what_it_computed(small, tmp_path: Path):
    model, state = small
    found = import_checkpoint(write(tmp_path / "a.pth", state))
    assert found.preset == "gfl_r18_fpn"
    assert found.model.names == ("cat", "dog", "owl")
    assert same_outputs(model, found.model)
    # Further training goes on as published: the first stage and all statistics stay, in a saved model file as well.
    save_model(found.model, tmp_path / "a.safetensors")
    for again in (found.model, load_model(tmp_path / "a.safetensors")):
        frozen = {key.split(".")[2] for key, value in again.named_parameters() if not value.requires_grad}
        assert frozen == {"conv1", "bn1", "layer1"}
        assert again.backbone.freezing.norm_eval


def test_a_checkpoint_of_gflv2_has_its_two_layers_more(tmp_path: Path):
    torch.manual_seed(0)
    model = gfl_r18_fpn(3, pretrained=False, channels=32, num_convs=1, dgqp=True).eval()
    state = OrderedDict((their_name(key), value.clone()) for key, value in model.state_dict().items())
    for layer in (0, 2):  # convolutions of 1x1 there
        state[f"bbox_head.reg_conf.{layer}.weight"] = state[f"bbox_head.reg_conf.{layer}.weight"][..., None, None]
    state["bbox_head.integral.project"] = torch.linspace(0, 16, 17)
    config = "bbox_head=dict(type='GFocalHead', reg_topk=4, reg_channels=64, add_mean=True)"
    found = import_checkpoint(write(tmp_path / "a.pth", state, config=config))
    assert found.model.built_from["options"]["dgqp"]
    assert same_outputs(model, found.model)
    state["bbox_head.reg_conf.0.weight"] = torch.zeros(64, 4, 1, 1)  # the largest of each edge alone
    with pytest.raises(CheckpointImportError, match=r"reg_conf\.0\.weight reads 4 numbers, not those of GFLv2"):
        import_checkpoint(write(tmp_path / "b.pth", state))


@pytest.mark.parametrize("version", ["1.1.0+abc", "2.28.0", "3.3.0"])
def test_the_points_follow_the_version(small, tmp_path: Path, version: str):
    found = import_checkpoint(write(tmp_path / "a.pth", small[1], mmdet_version=version))
    assert found.model.head.origin == ("legacy" if version.startswith("1.") else "corner")
    assert import_checkpoint(tmp_path / "a.pth", origin="center").model.head.origin == "center"


def test_bare_wrapped_and_averaged_states(small, tmp_path: Path):
    model, state = small
    torch.save(state, tmp_path / "bare.pth")
    assert same_outputs(model, import_checkpoint(tmp_path / "bare.pth").model)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    assert same_outputs(model, import_checkpoint(write(tmp_path / "w.pth", wrapped)).model)
    raw = {f"ema_{key.replace('.', '_')}": value + 1 for key, value in state.items()}
    found = import_checkpoint(write(tmp_path / "e.pth", {**state, **raw}))
    assert same_outputs(model, found.model)
    assert len(found.left_out) == len(raw)


def test_the_class_names_of_version_3_and_of_none(small, tmp_path: Path):
    torch.save({"meta": {"dataset_meta": {"classes": ["a", "b", "c"]}}, "state_dict": small[1]}, tmp_path / "a.pth")
    assert import_checkpoint(tmp_path / "a.pth").model.names == ("a", "b", "c")
    torch.save({"state_dict": small[1]}, tmp_path / "b.pth")
    assert import_checkpoint(tmp_path / "b.pth").model.names == ("class0", "class1", "class2")


def test_offsets_of_the_oldest_deformable_layers_are_renamed():
    names, _ = plain_names({"backbone.layer2.0.conv2_offset.weight": torch.zeros(1)})
    assert list(names) == ["backbone.layer2.0.conv2.conv_offset.weight"]


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(small, tmp_path: Path):
    sign = tmp_path / "it-ran"
    write(tmp_path / "bomb.pth", small[1], hook=Bomb(sign))
    with pytest.raises(CheckpointImportError, match="could run code"):
        import_checkpoint(tmp_path / "bomb.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"state_dict": Bomb(sign)}))
    with pytest.raises(CheckpointImportError):
        import_checkpoint(tmp_path / "plain.pth")
    assert not sign.exists()


def test_names_of_the_classes_are_given_where_those_of_the_file_do_not_fit(small, run: Run, tmp_path: Path):
    """A checkpoint that was fine-tuned with the dataset class of COCO keeps its 80 names."""
    _, state = small
    path = write(tmp_path / "a.pth", state, CLASSES=tuple(f"coco{i}" for i in range(80)))
    out = tmp_path / "a.safetensors"
    code, _, err = run("import", path, "--out", out)
    assert code == USER_ERROR
    assert "its head has 3 classes, but its metadata names 80 (coco0, coco1, coco2, ...)" in err
    assert "--names A,B,..." in err
    (tmp_path / "names.txt").write_text("red\nlight green\nblue\n")
    for names, expected in (("red, green,blue", "green"), (tmp_path / "names.txt", "light green")):
        code, _, err = run("import", path, "--out", out, "--names", names)
        assert code == DONE, err
        assert load_model(out).names == ("red", expected, "blue")
    for names in ("red,green", "red,red,blue"):
        code, _, err = run("import", path, "--out", out, "--names", names)
        assert code == USER_ERROR
        assert "give one for each class, in the order of training" in err


def test_what_does_not_fit_is_named(small, tmp_path: Path):
    _, state = small
    whole = write(tmp_path / "a.pth", state).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointImportError, match=r"cut\.pth.*truncated"):
        import_checkpoint(tmp_path / "cut.pth")
    with pytest.raises(CheckpointImportError, match="no such file"):
        import_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CheckpointImportError, match="3 classes, but its metadata names 2"):
        import_checkpoint(write(tmp_path / "b.pth", state, CLASSES=("cat", "dog")))
    with pytest.raises(CheckpointImportError, match="names a class twice"):
        import_checkpoint(write(tmp_path / "b.pth", state, CLASSES=("cat", "dog", "cat")))

    def changed(**new: Tensor | None) -> Path:
        other = {**state, **{k.replace("__", "."): v for k, v in new.items()}}
        return write(tmp_path / "c.pth", {k: v for k, v in other.items() if v is not None})

    with pytest.raises(CheckpointImportError, match=r"bbox_head\.extra\.weight has no place"):
        import_checkpoint(changed(bbox_head__extra__weight=torch.zeros(1)))
    with pytest.raises(CheckpointImportError, match=r"1 tensors are missing, the first is neck\.laterals\.0\.bias"):
        import_checkpoint(changed(**{"neck__lateral_convs__0__conv__bias": None}))
    with pytest.raises(CheckpointImportError, match=r"gfl_cls\.bias has shape \(4,\)"):
        import_checkpoint(changed(bbox_head__gfl_cls__bias=torch.zeros(4)))
    with pytest.raises(CheckpointImportError, match="integral"):
        import_checkpoint(changed(bbox_head__integral__project=torch.zeros(17)))


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ("bbox_head.vfnet_cls", "VarifocalNet"),
        ("bbox_head.tood_cls", "TOOD"),
        ("rpn_head.rpn_cls", "an RPN or a detector of two stages"),
        ("bbox_head.surprise", "unknown kind"),
    ],
)
def test_another_detector_is_named(small, tmp_path: Path, layer: str, kind: str):
    state = {key.replace("bbox_head.gfl_cls", layer): value for key, value in small[1].items()}
    with pytest.raises(
        CheckpointImportError, match=f"not a checkpoint of GFL, ATSS, FCOS, FoveaBox, RetinaNet.*{kind}"
    ):
        import_checkpoint(write(tmp_path / "a.pth", state))
