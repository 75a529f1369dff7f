"""The detector: backbone -> neck -> head, in the open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gfocal.data.preprocess import InputSettings
from gfocal.models.backbone import Backbone
from gfocal.models.freezing import keep_statistics
from gfocal.models.precision import Bf16Check, Precision
from gfocal.models.published_settings import PublishedSettings
from gfocal.ops.box_coders import BoxCoder
from gfocal.ops.tiles import Tiling
from gfocal.structures import Color, Detections, HeadOutputs
from gfocal.structures.calibration import Calibration

# Of all data with boxes the most classes are some 20,000; more are a mistake, or a file meant to fill the memory.
MAX_CLASSES, MAX_NAME_LENGTH, MAX_NAMES_LENGTH = 100_000, 1000, 1_000_000


class Detector(nn.Module):
    """A dense detector with all that is needed to use it: classes, box coder, input and decoding.

    ``forward`` returns raw tensors, never losses, in training and evaluation mode alike.

    Attributes:
        names: of the classes, indexed by label.
        box_coder: what the box logits of the head mean.
        built_from: name of the preset and its options, so that a saved file can build the network again.
        published: how the preset was trained in its paper; ``gfocal.build`` makes the criterion of it.
        decode_settings: limits and the NMS of ``detect``, and the low score threshold of evaluation, as AP needs it;
            at first the published ones.
        class_thresholds: score threshold of each class, by label, which ``detect`` applies; chosen on annotated
            images by ``gfocal eval --store-thresholds``; None where none were chosen.
        thresholds_how: how they were chosen, in a line.
        provenance: where the weights come from (``name``, ``address``, ``sha256``, ``license`` ...), for published
            ones that were not trained further; empty for any other.
        renames: old name -> new name of classes that were renamed in the training data; ``gfocal eval`` renames them
            in its data too.
        calibration: spread of edges, guarantees and calibrated scores, of one set of weights; None where
            'gfocal calibrate' was not run.
        bf16_check: what computing in bf16 was found to cost in AP, of one set of weights; None where that was not
            measured. ``detect`` computes in bf16 only where it was, see ``gfocal.models.precision``.
        is_neck_frozen: whether the neck is excluded from training, see ``freeze_neck``.
        has_folded_statistics: whether the weights come from a file whose BatchNorm was folded into the convolutions:
            its layers then have mean 0 and variance 1, which are not the statistics of any images.
    """

    backbone: Backbone

    def __init__(
        self,
        backbone: Backbone,
        neck: nn.Module,
        head: nn.Module,
        names: Sequence[str],
        box_coder: BoxCoder,
        input_settings: InputSettings,
        built_from: dict[str, Any],
        published: PublishedSettings,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.names = tuple(names)
        self.box_coder = box_coder
        self.input_settings = input_settings
        self.published, self.decode_settings = published, published.decode
        self.built_from = built_from
        self.class_thresholds: tuple[float, ...] | None = None
        self.thresholds_how = ""
        self.provenance: dict[str, str] = {}
        self.renames: dict[str, str] = {}
        self.bf16_check: Bf16Check | None = None
        self.calibration: Calibration | None = None
        self.is_neck_frozen = False
        self.has_folded_statistics = False

    def freeze_neck(self, is_frozen: bool) -> None:
        """Set whether the neck is excluded from training; a model file stores it, for further training."""
        self.is_neck_frozen = is_frozen
        self.neck.requires_grad_(not is_frozen)

    def train(self, mode: bool = True) -> Detector:
        """Training mode, but what is frozen keeps the statistics of its BatchNorm."""
        super().train(mode)
        if mode:  # its weights are about to change
            from gfocal.models.inference_copy import forget_copy

            forget_copy(self)
        if mode and self.is_neck_frozen:
            keep_statistics(self.neck, (), all_norms=True)
        return self

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def forward(self, images: Tensor) -> HeadOutputs:
        """Normalized images (B, 3, H, W), H and W multiples of 32 -> logits of every point."""
        return self.head(self.neck(self.backbone(images)))

    def detect(
        self,
        images: Any,
        score_threshold: float | Sequence[float] | None = None,
        batch_size: int = 1,
        value_range: tuple[int, int] | None = None,
        color: Color = "rgb",
        precision: Precision = "auto",
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> list[Detections] | Detections:
        """Find objects in one image or several. The model may be in training or evaluation mode.

        Args:
            images: a path, a PIL image, a uint8 RGB array (H, W, 3) or (H, W), an RGB tensor (3, H, W) that is uint8
                or float in 0..1; or a sequence of such, or a tensor or array of four dimensions.
            score_threshold: detections must score more, 0..1; one number, or one for each class, by label. None: as
                in ``gfocal detect``, the model's own ``class_thresholds``, else 0.3. AP needs those with low scores
                too: ``score_threshold=model.decode_settings.score_threshold``, which is 0.05 unless it was changed.
            batch_size: images per pass through the network.
            value_range: of paths and PIL images of more than 8 bits, the values that become 0 and 255; None: the
                model's if it fits these images, else by their values, with a warning.
            color: the order of the channels of arrays and tensors: ``"rgb"``, or ``"bgr"`` as OpenCV reads them.
            precision: number format of the network: ``"float32"``, ``"bf16"``, or ``"auto"``, which is bf16 where the
                processor or GPU computes it natively and ``bf16_check`` says that AP is the same.
            tile: for large images: cut them into squares of so many pixels, of which each goes through the network as
                an image of that size does, and merge what is found; ``batch_size`` then counts tiles.
            overlap: of neighboring tiles, as a share of their size; objects should be no larger.

        Returns:
            ``Detections`` in pixels of the original image, best first: one for one image, a list for several. They
            know the path of their image; of an image given as an object they have a reference that does not keep it
            in memory.

        Raises:
            ImageError: a file cannot be read as an image.
            ValueError: something that is no image.
        """
        if tile is not None:
            from gfocal.models.tiled import detect_tiled

            tiling = Tiling(tile, overlap)
            return detect_tiled(self, images, tiling, score_threshold, batch_size, value_range, color, precision)
        from gfocal.models.predict import detect

        return detect(self, images, score_threshold, batch_size, value_range, color, precision)


def class_names(num_classes: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """The given names, or ``class0``, ``class1`` ...

    Raises:
        ValueError: their number is another, or there are too many or too long ones.
    """
    if num_classes > MAX_CLASSES:
        raise ValueError(f"{num_classes:,} classes are more than {MAX_CLASSES:,}")
    if names is None:
        return tuple(f"class{i}" for i in range(num_classes))
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} names were given for {num_classes} classes")
    if (longest := max(map(len, names), default=0)) > MAX_NAME_LENGTH:
        raise ValueError(f"the name of a class has {longest:,} characters, more than {MAX_NAME_LENGTH:,}")
    if (total := sum(map(len, names))) > MAX_NAMES_LENGTH:
        raise ValueError(f"the names of the classes have {total:,} characters, more than {MAX_NAMES_LENGTH:,}")
    return tuple(names)
