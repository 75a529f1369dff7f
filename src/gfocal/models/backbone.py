"""The backbone: any timm network that gives feature maps at strides 8, 16 and 32, and at 4 if asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from gfocal.errors import WeightsError
from gfocal.models.activation_checkpointing import recompute_activations
from gfocal.models.convolutions import keep_depthwise_float32, make_deformable
from gfocal.models.freezing import (
    BackbonePart,
    Freezing,
    exclude_from_training,
    freezing_up_to,
    keep_statistics,
)
from gfocal.models.options import quote
from gfocal.models.reachable import require_hub_weights, require_torchvision_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

RGB = tuple[float, float, float]
# Names that timm gives to the stages of its networks: layer1, stages_0, s1; blocks contains all of them.
STAGE = re.compile(r"(layers?|stages?)_?\d+|s\d")
IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(Protocol):
    """What every backbone offers: its feature maps, and its parts to freeze or to recompute."""

    recompute: bool  # whether training keeps only the inputs of its stages in memory and computes them twice

    def __call__(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> feature maps, finest first."""
        ...

    def parts(self) -> list[list[nn.Module]]:
        """The modules of the stem, then those of each stage, in forward order; one part where there are no stages."""
        ...

    def freeze(self, frozen_stages: int, norm_eval: bool, stem: bool = False, norms: bool = False) -> None:
        """Set what is excluded from training, as ``Freezing`` documents it."""
        ...

    def freeze_up_to(self, part: BackbonePart | int) -> None:
        """Freeze the parts up to and including one: the stem, a number of stages, or all; ValueError if missing."""
        ...

    def freeze_settings(self) -> dict[str, Any]:
        """The arguments of ``freeze`` that it is frozen by."""
        ...

    def synchronize_norms(self) -> None:
        """Make all BatchNorm take its statistics over all processes; training then needs GPUs. Weights stay."""
        ...


class TimmBackbone(nn.Module):
    """A timm network cut into the feature maps C3, C4 and C5, or C2 to C5.

    Args:
        name: of the timm model, e.g. ``resnet50.tv_in1k``.
        pretrained: fetch timm's ImageNet weights from the hub.
        weights: a local file with ImageNet weights instead (safetensors, or a state dict saved by torch).
        frozen_stages: how many leading stages are never trained, the stem with them: 1 for a ResNet, as
            published; 0 trains everything.
        norm_eval: keep BatchNorm in evaluation mode while training, as published for ImageNet weights.
        deformable_stages: stages of a ResNet whose 3x3 convolutions are deformable.
        modulated: version 2 of those, which weights each tap.
        finest: stride of the first map: 8, or 4 for C2 too.

    Raises:
        WeightsError: the weights cannot be fetched, or do not fit.
        ValueError: the network has no maps of these strides.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = True,
        weights: str | Path | None = None,
        frozen_stages: int = 0,
        norm_eval: bool = False,
        deformable_stages: tuple[int, ...] = (),
        modulated: bool = True,
        finest: int = 8,
    ) -> None:
        import timm

        super().__init__()
        if finest not in (4, 8):
            raise ValueError(f"finest is the stride of the first level, 4 or 8, not {finest}")
        if not timm.is_model(name):  # also: timm would fetch a name like hf-hub:owner/name from the hub
            raise WeightsError(f"timm has no network {quote(name)}; see timm.list_models()")
        config = timm.get_pretrained_cfg(name)
        if config and config.fixed_input_size:  # many transformers
            size = config.input_size[1]
            raise ValueError(f"{name} takes images of {size} pixels only, a detector those of any size")
        self.name = name
        self.recompute = False
        try:
            # Counted from the end: a ResNet has a map at stride 2 before them, a ConvNeXt has none.
            indices = (-4, -3, -2, -1) if finest == 4 else (-3, -2, -1)
            if pretrained and weights is None:
                require_hub_weights(config.hf_hub_id if config else None, name)
            self.body = timm.create_model(
                name, features_only=True, out_indices=indices, pretrained=pretrained and weights is None
            )
        except Exception as error:
            if pretrained and weights is None:
                raise WeightsError(
                    f"the ImageNet weights of {name} could not be fetched "
                    f"({_describe(error)}). Two ways out: start from random weights with "
                    "pretrained=False (--no-pretrained), or name a local file with weights=PATH "
                    f"(--backbone-weights PATH), such as model.safetensors of huggingface.co/timm/{name}, "
                    "fetched on a machine with network"
                ) from error
            raise ValueError(
                f"{name} gives no feature maps at strides of 8, 16 and 32 ({type(error).__name__})"
            ) from error
        if weights is not None:
            load_imagenet_weights(self.body, name, Path(weights))
        make_deformable(self.body, deformable_stages, modulated)
        keep_depthwise_float32(self.body)
        feature_info: Any = self.body.feature_info
        self.channels: list[int] = list(feature_info.channels())
        # What its ImageNet weights were trained with, for pixel values of 0 to 255.
        self.mean: RGB = _pixel_values(config.mean if config else IMAGENET_DEFAULT_MEAN)
        self.std: RGB = _pixel_values(config.std if config else IMAGENET_DEFAULT_STD)
        strides = list(feature_info.reduction())
        if strides != [4, 8, 16, 32][-len(indices) :]:
            wanted = "4, 8, 16 and 32" if finest == 4 else "8, 16 and 32"
            raise ValueError(f"{name} gives feature maps at strides {strides}, but {wanted} are needed")
        if "NHWC" in str(getattr(self.body, "output_fmt", "")):
            raise ValueError(f"{name} gives feature maps with the channels last, a detector needs them first")
        self.freeze(frozen_stages, norm_eval)

    def freeze(self, frozen_stages: int, norm_eval: bool, stem: bool = False, norms: bool = False) -> None:
        """Set what is excluded from training; the arguments are those of ``Freezing``."""
        self.freezing = Freezing(frozen_stages, norm_eval, stem, norms)
        exclude_from_training(self, self.freezing.modules(self.parts()), norms)

    def freeze_up_to(self, part: BackbonePart | int) -> None:
        """Freeze the stem, the stem and a number of stages, all of it, or nothing; BatchNorm settings stay.

        Raises:
            ValueError: there are not as many stages.
        """
        self.freeze(**freezing_up_to(part, self.freezing, self.name, len(self.parts()) - 1).settings())

    def freeze_settings(self) -> dict[str, Any]:
        """The arguments of ``freeze`` that it is frozen by."""
        return self.freezing.settings()

    def parts(self) -> list[list[nn.Module]]:
        """The modules of the stem, then those of each stage, in forward order."""
        parts: list[list[nn.Module]] = [[]]
        for name, child in self.body.named_children():
            if name == "blocks":
                parts += [[stage] for stage in child.children()]
            elif STAGE.fullmatch(name):
                parts.append([child])
            else:  # before the first stage the stem; after a stage what belongs to it
                parts[-1].append(child)
        return parts

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> C3, C4, C5 at strides 8, 16, 32; with ``finest`` 4, C2 before them."""
        if self.recompute and self.training:
            with recompute_activations([module for stage in self.parts()[1:] for module in stage]):
                return self.body(images)
        return self.body(images)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Training mode, but frozen parts (and with ``norm_eval`` all BatchNorm) keep their statistics."""
        super().train(mode)
        if mode:
            keep_statistics(self, self.freezing.modules(self.parts()), self.freezing.norm_eval)
        return self

    def synchronize_norms(self) -> None:
        """Make all BatchNorm take its statistics over all processes; training then needs GPUs. Weights stay."""
        from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]

        self.body = convert_sync_batchnorm(self.body)


def published_resnet(
    name: str,
    pretrained: bool,
    weights: str | Path | None,
    deformable_stages: tuple[int, ...] = (),
    modulated: bool = True,
    finest: int = 8,
) -> TimmBackbone:
    """A ResNet as in published detectors: with ImageNet weights, stem and first stage are frozen and BatchNorm stays
    in evaluation mode; with random weights everything is trained.
    """
    published = pretrained or weights is not None
    return TimmBackbone(name, pretrained, weights, int(published), published, deformable_stages, modulated, finest)


def _pixel_values(unit: tuple[float, ...]) -> RGB:
    red, green, blue = (round(255 * value, 3) for value in unit)
    return red, green, blue


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ConnectionError) else type(error).__name__


def fetch_torchvision_weights(weights: WeightsEnum, name: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of a network, from its cache or the net; WeightsError says what else to do."""
    try:
        require_torchvision_weights(weights, name)
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except Exception as error:
        raise WeightsError(
            f"the ImageNet weights of {name} could not be fetched ({_describe(error)}). Two ways out: start from "
            "random weights with pretrained=False (--no-pretrained), or name a local file with weights=PATH "
            "(--backbone-weights PATH)"
        ) from error


def load_imagenet_weights(body: nn.Module, name: str, path: Path) -> None:
    """Load a classifier's weights into its feature extractor, by name or, where names differ, in order.

    Tensors of the classifier that the extractor lacks (its final layers) are left out; a tensor of the extractor
    without a counterpart of its shape raises ``WeightsError``.
    """
    state = read_state(path)
    wanted = {key: value for key, value in body.state_dict().items() if "num_batches_tracked" not in key}
    in_extractor = {key.replace(".", "_", 1): value for key, value in state.items()}  # stages_0 is stages.0 in a file
    state |= {key: value for key, value in in_extractor.items() if key in wanted}
    if all(key in state for key in wanted):
        found = {key: state[key] for key in wanted}
    else:
        values = [value for key, value in state.items() if "num_batches_tracked" not in key]
        found = dict(zip(wanted, values, strict=False))
    for key, value in wanted.items():
        if key not in found or found[key].shape != value.shape:
            got = tuple(found[key].shape) if key in found else "nothing"
            raise WeightsError(
                f"{path}: these weights are not of {name}: {key} needs shape {tuple(value.shape)} and finds {got}"
            )
    body.load_state_dict(found, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file, by name; never executes code from a pickle."""
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: not readable as weights ({type(error).__name__})") from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors")
    return content
