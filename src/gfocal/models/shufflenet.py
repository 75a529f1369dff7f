"""ShuffleNetV2 (Ma et al. 2018) as a backbone: up to its last stage, with leaky ReLUs.

Tensors are named as in torchvision's network. NanoDet-Plus starts from its ImageNet weights although these were
trained with plain ReLUs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from gfocal.models.activation_checkpointing import recompute_activations
from gfocal.models.backbone import fetch_torchvision_weights, load_imagenet_weights
from gfocal.models.convolutions import interleave, keep_depthwise_float32
from gfocal.models.freezing import (
    BackbonePart,
    Freezing,
    exclude_from_training,
    freezing_up_to,
    keep_statistics,
)

Width = Literal["1.0x", "1.5x"]
CHANNELS: dict[Width, tuple[int, int, int]] = {"1.0x": (116, 232, 464), "1.5x": (176, 352, 704)}
STEM, BLOCKS = 24, (4, 8, 4)  # channels of the stem; blocks of stages 2 to 4


class ShuffleNet(nn.Module):
    """ShuffleNetV2 up to stage 4: maps at strides 8, 16, 32. Tensors are named as in torchvision.

    Args:
        width: factor of the widths, 1.0x or 1.5x.
        pretrained: fetch torchvision's ImageNet weights.
        weights: a local file with ImageNet weights instead.
        slope: of the leaky ReLUs below zero.

    Raises:
        WeightsError: the weights cannot be fetched, or do not fit.
    """

    def __init__(
        self, width: Width = "1.0x", pretrained: bool = True, weights: str | Path | None = None, slope: float = 0.1
    ) -> None:
        super().__init__()
        self.recompute = False
        self.channels = list(CHANNELS[width])
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM), nn.LeakyReLU(slope, inplace=True)
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [STEM, *self.channels]
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(ShuffleBlock(widths[i + (k > 0)], widths[i + 1], 1 if k else 2, slope) for k in range(n)))
            for i, n in enumerate(BLOCKS)
        )
        if weights is not None:
            load_imagenet_weights(self, f"ShuffleNetV2 {width}", Path(weights))
        elif pretrained:
            from torchvision import models  # here: what has weights already does without its import

            published = {"1.0x": models.ShuffleNet_V2_X1_0_Weights, "1.5x": models.ShuffleNet_V2_X1_5_Weights}
            state = fetch_torchvision_weights(published[width].IMAGENET1K_V1, f"ShuffleNetV2 {width}")
            self.load_state_dict({key: state[key] for key in self.state_dict()})
        else:
            _initialize(self)
        keep_depthwise_float32(self)
        self.freeze(0, False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps of stages 2, 3, 4 at strides 8, 16, 32."""
        if self.recompute and self.training:
            with recompute_activations([self.stage2, self.stage3, self.stage4]):
                return self._maps(images)
        return self._maps(images)

    def _maps(self, images: Tensor) -> list[Tensor]:
        second = self.stage2(self.maxpool(self.conv1(images)))
        third = self.stage3(second)
        return [second, third, self.stage4(third)]

    def parts(self) -> list[list[nn.Module]]:
        """The stem, then stages 2, 3 and 4."""
        return [[self.conv1, self.maxpool], [self.stage2], [self.stage3], [self.stage4]]

    def freeze(self, frozen_stages: int, norm_eval: bool, stem: bool = False, norms: bool = False) -> None:
        """Set what is excluded from training; as in ``Freezing``; as published nothing is."""
        self.freezing = Freezing(frozen_stages, norm_eval, stem, norms)
        exclude_from_training(self, self.freezing.modules(self.parts()), norms)

    def freeze_up_to(self, part: BackbonePart | int) -> None:
        """Freeze the stem, the stem and a number of stages, all of it, or nothing; BatchNorm settings stay.

        Raises:
            ValueError: there are not as many stages.
        """
        self.freeze(**freezing_up_to(part, self.freezing, "ShuffleNetV2", len(self.parts()) - 1).settings())

    def freeze_settings(self) -> dict[str, Any]:
        """The arguments of ``freeze`` that it is frozen by."""
        return self.freezing.settings()

    def train(self, mode: bool = True) -> ShuffleNet:
        """Training mode, but frozen parts (and with ``norm_eval`` all BatchNorm) keep their statistics."""
        super().train(mode)
        if mode:
            keep_statistics(self, self.freezing.modules(self.parts()), self.freezing.norm_eval)
        return self

    def synchronize_norms(self) -> None:
        """Make all BatchNorm take its statistics over all processes; training then needs GPUs. Weights stay."""
        for name, child in list(self.named_children()):
            setattr(self, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))


class ShuffleBlock(nn.Module):
    """A unit of ShuffleNetV2: half of the output skips it, or with a stride has a branch of its own (figure 3 c, d).

    Args:
        in_channels: of the input.
        channels: of the output, an even number; those of the input where the stride is 1.
        stride: 1 or 2.
        slope: of the leaky ReLUs below zero.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, slope: float) -> None:
        super().__init__()
        half = channels // 2
        self.stride = stride
        skipping = [*_depthwise(in_channels, stride), *_pointwise(in_channels, half, slope)] if stride > 1 else []
        self.branch1 = nn.Sequential(*skipping)
        self.branch2 = nn.Sequential(
            *_pointwise(in_channels if stride > 1 else half, half, slope),
            *_depthwise(half, stride),
            *_pointwise(half, half, slope),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)"""
        kept, taken = (self.branch1(maps), maps) if self.stride > 1 else maps.chunk(2, 1)
        return interleave(kept, self.branch2(taken))


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


def _pointwise(in_channels: int, channels: int, slope: float) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(slope, inplace=True),
    ]


def _initialize(network: nn.Module) -> None:
    """Random weights as NanoDet-Plus begins with them where there are none of ImageNet."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1 / module.weight.shape[1])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 1e-4)
