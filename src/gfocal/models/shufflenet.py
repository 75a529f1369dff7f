"""ShuffleNetV2 (Ma et al. 2018) as a backbone: torchvision's network up to its last stage, with leaky ReLUs.

NanoDet-Plus starts from torchvision's ImageNet weights although these were trained with plain ReLUs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models import ShuffleNet_V2_X1_0_Weights, ShuffleNet_V2_X1_5_Weights, ShuffleNetV2

from gfocal.models.activation_checkpointing import recompute_activations
from gfocal.models.backbone import fetch_torchvision_weights, load_imagenet_weights
from gfocal.models.convolutions import keep_depthwise_float32
from gfocal.models.freezing import (
    BackbonePart,
    Freezing,
    exclude_from_training,
    freezing_up_to,
    keep_statistics,
)

Width = Literal["1.0x", "1.5x"]
CHANNELS: dict[Width, tuple[int, int, int]] = {"1.0x": (116, 232, 464), "1.5x": (176, 352, 704)}
BLOCKS = (4, 8, 4)  # of stages 2 to 4
PUBLISHED = {
    "1.0x": ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1,
    "1.5x": ShuffleNet_V2_X1_5_Weights.IMAGENET1K_V1,
}


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
        network = ShuffleNetV2(list(BLOCKS), [24, *self.channels, 1024], num_classes=1)
        self.conv1, self.maxpool = network.conv1, network.maxpool
        self.stage2, self.stage3, self.stage4 = network.stage2, network.stage3, network.stage4
        _make_leaky(self, slope)
        if weights is not None:
            load_imagenet_weights(self, f"ShuffleNetV2 {width}", Path(weights))
        elif pretrained:
            state = fetch_torchvision_weights(PUBLISHED[width], f"ShuffleNetV2 {width}")
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


def _make_leaky(network: nn.Module, slope: float) -> None:
    """Replace every ReLU by a leaky one, in place."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.LeakyReLU(slope, inplace=True))


def _initialize(network: nn.Module) -> None:
    """Random weights as NanoDet-Plus begins with them where there are none of ImageNet."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1 / module.weight.shape[1])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 1e-4)
