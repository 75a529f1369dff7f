"""Images through a model: the loop of evaluation, files and submissions, and ``detect`` for images of any kind."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gfocal.data.images import is_deep_gray, read_image, to_rgb_tensor
from gfocal.data.preprocess import InputSettings, normalize_batch, resize_to_input
from gfocal.data.survey import measure_values, survey_images
from gfocal.data.value_range import MeasuredValues, Range, choose_range, merge_measured
from gfocal.models.inference_copy import inference_network
from gfocal.models.precision import Precision, current_calibration, resolve_precision
from gfocal.models.streams import run_each
from gfocal.ops.decoding import DecodeSettings, decode
from gfocal.structures import Color, Detections, HeadOutputs, ImageSource
from gfocal.structures.calibration import Calibration

if TYPE_CHECKING:
    from gfocal.models.detector import Detector
    from gfocal.models.exported import AnyDetector

DEFAULT_THRESHOLD = 0.3  # where neither the user nor the model has another


class NetworkInput(Protocol):
    """What ``predict`` reads of a batch; ``structures.Batch`` has it, and so has ``ImageBatch``."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) float32, normalized and padded."""

    @property
    def sizes(self) -> Tensor:
        """(B, 2) int64, height and width of each image before padding."""

    @property
    def original_sizes(self) -> Tensor:
        """(B, 2) int64, height and width of each image file."""


K = TypeVar("K")
B = TypeVar("B", bound=NetworkInput)


@dataclass(frozen=True)
class ImageBatch(Generic[K]):
    """Images without ground truth that go through the network together."""

    keys: tuple[K, ...]  # B values by which the caller identifies the images
    images: Tensor  # (B, 3, H, W)
    sizes: Tensor  # (B, 2)
    original_sizes: Tensor  # (B, 2)


def predict(
    model: AnyDetector,
    batches: Iterable[B],
    score_threshold: float | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Iterator[tuple[B, list[Detections]]]:
    """Each batch with the detections of its images, in pixels of the image files.

    The model's inference copy computes them (``gfocal.models.inference_copy``), so that its mode does not matter; its
    weights are those at the beginning. Where there can be no copy, the model itself is in evaluation mode while the
    batches are iterated.

    Args:
        model: a detector, or an exported file, for which the last two do not matter.
        batches: of images.
        score_threshold: replaces that of ``model.decode_settings``, which is low, as AP needs it.
        precision: number format of the network, see ``gfocal.models.precision``.
        compiled: compile the network first (torch.compile).
    """
    settings = model.decode_settings
    if score_threshold is not None:
        settings = replace(settings, score_threshold=score_threshold)
    if not isinstance(model, nn.Module):  # an exported file, which has no mode
        yield from ((batch, model.predict_batch(batch, settings)) for batch in batches)
        return
    network = inference_network(model, precision, compiled)
    if network is not None:
        run = partial(_predict, model, network, settings, network.calibration)
        yield from run_each(run, batches, network if not compiled else None)
        return
    calibration = current_calibration(model)
    plain = model if resolve_precision(model, precision) == "float32" else partial(_in_bf16, model)
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            yield batch, predict_batch(model, plain, batch, settings, calibration)
    finally:
        model.train(was_training)


def _in_bf16(model: Detector, images: Tensor) -> HeadOutputs:
    with torch.autocast(images.device.type, torch.bfloat16):
        return model(images)


def _predict(
    model: Detector,
    network: Callable[[Tensor], HeadOutputs],
    settings: DecodeSettings,
    calibration: Calibration | None,
    batch: NetworkInput,
) -> list[Detections]:
    return predict_batch(model, network, batch, settings, calibration)


@torch.inference_mode()
def predict_batch(
    model: Detector,
    network: Callable[[Tensor], HeadOutputs],
    batch: NetworkInput,
    settings: DecodeSettings,
    calibration: Calibration | None = None,
) -> list[Detections]:
    """One pass through the network of a model, or its copy, which is in evaluation mode."""
    device = next(model.parameters()).device
    outputs = network(batch.images.to(device, non_blocking=True))
    found = decode(outputs, model.box_coder, batch.sizes, batch.original_sizes, model.names, settings)
    return found if calibration is None else [replace(one, calibration=calibration) for one in found]


def computed_precision(model: AnyDetector, precision: Precision = "auto") -> str:
    """The number format in which a detector, or an exported file, will compute; see ``resolve_precision``."""
    return resolve_precision(model, precision) if isinstance(model, nn.Module) else model.metadata.precision


def resolve_threshold(
    model: AnyDetector, score_threshold: float | Sequence[float] | None
) -> float | tuple[float, ...]:
    """The score that detections must exceed: the given one, else the model's own of each class, else 0.3.

    The rule of ``model.detect`` and of ``gfocal detect`` alike.
    """
    if score_threshold is None:
        return DEFAULT_THRESHOLD if model.class_thresholds is None else tuple(model.class_thresholds)
    return tuple(score_threshold) if isinstance(score_threshold, Sequence) else float(score_threshold)


def detect(
    model: AnyDetector,
    images: Any,
    score_threshold: float | Sequence[float] | None = None,
    batch_size: int = 1,
    value_range: Range | None = None,
    color: Color = "rgb",
    precision: Precision = "auto",
) -> list[Detections] | Detections:
    """Find objects in one image or several.

    Args:
        model: a detector in either mode; it predicts in evaluation mode, and its mode is restored afterwards.
        images: a path, a PIL image, a uint8 array (H, W, 3) or (H, W), a tensor (3, H, W) that is uint8 or
            float in 0..1; or a sequence of such, or a tensor or array of four dimensions.
        score_threshold: detections must score more; one number, or one for each class, by label; None: the model's
            own of each class, else 0.3.
        batch_size: images per pass through the network.
        value_range: of paths and PIL images of more than 8 bits, the values that become 0 and 255; None: the model's
            if it fits these images, else by their values, with a warning.
        color: the order of the channels of arrays and tensors: ``"rgb"``, or ``"bgr"`` as OpenCV reads them.
        precision: number format of the network, see ``gfocal.models.precision``.

    Returns:
        ``Detections`` in pixels of the original image: one for one image, a list for several.

    Raises:
        ImageError: a file cannot be read as an image.
        ValueError: something that is no image; or as many thresholds as there are no classes.
    """
    single = not is_several(images)
    several = [images] if single else images
    found = list(detect_each(model, several, score_threshold, batch_size, value_range, color, precision))
    return found[0] if single else found


def is_several(images: Any) -> bool:
    """Whether this is a collection of images, not one image."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim == 4
    return isinstance(images, Sequence) and not isinstance(images, str)


def detect_each(
    model: AnyDetector,
    images: Sequence[Any] | Tensor,
    score_threshold: float | Sequence[float] | None = None,
    batch_size: int = 1,
    value_range: Range | None = None,
    color: Color = "rgb",
    precision: Precision = "auto",
) -> Iterator[Detections]:
    """As ``detect`` for several images, yielding the result of each after its batch."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    threshold = resolve_threshold(model, score_threshold)
    if isinstance(threshold, tuple) and len(threshold) != model.num_classes:
        raise ValueError(f"{len(threshold)} thresholds for {model.num_classes} classes")
    values = range_of_images(images, model.input_settings, value_range)
    batches = (
        _read_batch(images[start : start + batch_size], model.input_settings, values, color)
        for start in range(0, len(images), batch_size)
    )
    lowest = min(threshold) if isinstance(threshold, tuple) else threshold
    for batch, found in predict(model, batches, lowest, precision):
        for source, one in zip(batch.keys, found, strict=True):
            yield replace(one.above(threshold), source=source)


def _read_batch(
    images: Iterable[Any], settings: InputSettings, value_range: Range | None, color: Color
) -> ImageBatch[ImageSource]:
    """Images of any kind -> a batch, whose keys say where the images are found again."""
    several = list(images)
    pixels = [as_rgb(image, value_range, color) for image in several]
    sources = [source_of(image, color, value_range) for image in several]
    return stack_inputs(sources, pixels, settings)


def source_of(image: Any, color: Color, value_range: Range | None) -> ImageSource:
    """Where an image that was given to ``detect`` is found again."""
    if isinstance(image, str | Path):
        return ImageSource(path=str(image), value_range=value_range)
    return ImageSource(reference=weakref.ref(image), color=color, value_range=value_range)


def range_of_images(
    images: Sequence[Any] | Tensor, settings: InputSettings | None = None, stated: Range | None = None
) -> Range | None:
    """The value range for the paths and PIL images among some images; warns where it is not that of the settings."""
    if isinstance(images, Tensor | np.ndarray):
        return None
    survey = survey_images([image for image in images if isinstance(image, str | Path)])
    found = [measured] if (measured := measure_values(survey)) is not None else []
    found += [_measure(image) for image in images if isinstance(image, Image.Image) and is_deep_gray(image)]
    own = (None, False) if settings is None else (settings.value_range, settings.is_value_range_stated)
    choice = choose_range(merge_measured(found), stated, *own)
    if choice.is_note:
        warnings.warn(choice.text, stacklevel=4)
    return choice.value_range


def _measure(image: Image.Image) -> MeasuredValues:
    values = np.asarray(image)
    return MeasuredValues(int(values.min()), int(values.max()), num_read=1, num_deep=1)


def detect_batch(
    model: Detector, images: Sequence[Tensor], score_threshold: float | Sequence[float] | None = None
) -> list[Detections]:
    """Detections in uint8 RGB images (3, H, W) that go through the network together; thresholds as ``detect``."""
    return list(detect_each(model, images, score_threshold, batch_size=len(images)))


def stack_inputs(keys: Iterable[K], images: Sequence[Tensor], settings: InputSettings) -> ImageBatch[K]:
    """uint8 RGB images (3, H, W) -> a batch: resized, normalized and padded."""
    resized = [resize_to_input(image, settings) for image in images]
    return ImageBatch(
        keys=tuple(keys),
        images=normalize_batch(resized, settings),
        sizes=torch.tensor([one.shape[-2:] for one in resized]),
        original_sizes=torch.tensor([image.shape[-2:] for image in images]),
    )


def as_rgb(image: Any, value_range: Range | None = None, color: Color = "rgb") -> Tensor:
    """Any kind of image that ``detect`` takes -> uint8 RGB (3, H, W).

    ``value_range`` is of deep paths and PIL images, ``color`` the order of the channels of arrays and tensors.
    """
    if color not in ("rgb", "bgr"):
        raise ValueError(f"color is 'rgb' or 'bgr', not {color!r}")
    if isinstance(image, str | Path):
        return read_image(Path(image), value_range=value_range)
    if isinstance(image, Image.Image):
        return to_rgb_tensor(image, value_range)
    if isinstance(image, np.ndarray):
        right_shape = image.ndim == 2 or image.shape[2:] in ((3,), (4,))
        if image.dtype != np.uint8 or not right_shape or not image.size:
            raise ValueError(f"an array must be uint8 of shape (H, W, 3) or (H, W), not {image.dtype} {image.shape}")
        if color == "bgr" and image.ndim == 3:
            image = image[..., [2, 1, 0, 3][: image.shape[2]]]
        return to_rgb_tensor(Image.fromarray(image))
    if isinstance(image, Tensor):
        return _tensor_as_rgb(image, color)
    raise ValueError(f"not an image: {type(image).__name__}; give a path, PIL image, uint8 array or tensor")


def _tensor_as_rgb(image: Tensor, color: Color) -> Tensor:
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise ValueError(f"a tensor must have shape (3, H, W) or (1, H, W), not {tuple(image.shape)}")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError("a float tensor must hold values in 0..1; uint8 tensors hold 0..255")
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ValueError(f"a tensor must be uint8 or float, not {image.dtype}")
    image = image.expand(3, -1, -1)
    return image.flip(0) if color == "bgr" else image
