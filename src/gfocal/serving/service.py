"""A model with its batcher, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version

import torch

from gfocal import __version__
from gfocal.data.images import max_pixels
from gfocal.data.value_range import Range
from gfocal.inference.intervals import choose_coverage, usable_calibration
from gfocal.models.exported import AnyDetector, ExportedDetector
from gfocal.models.precision import Precision, digest_weights
from gfocal.models.predict import computed_precision, predict, resolve_threshold, stack_inputs
from gfocal.serving.answer import ModelAnswer, ModelDescription
from gfocal.serving.batcher import Batcher
from gfocal.serving.bounds import Bounds
from gfocal.serving.meters import Meters
from gfocal.serving.upload import Receiving
from gfocal.structures.calibration import Calibration

ENGINES = {".onnx": "onnxruntime", ".xml": "openvino"}  # by the suffix of an exported file


@dataclass
class Service:
    """What the addresses of a service share.

    Attributes:
        batcher: detects.
        description: of the model, as it is answered.
        thresholds: score threshold of each class where a request states none.
        calibration: of the model, that intervals come from.
        meters: what Prometheus reads.
        token: that requests must have; empty: none.
        receiving: the bytes that are being received.
    """

    batcher: Batcher
    description: ModelDescription
    thresholds: tuple[float, ...]
    calibration: Calibration | None
    meters: Meters
    token: str = ""
    receiving: Receiving = field(default_factory=Receiving)


def make_service(
    model: AnyDetector,
    name: str,
    bounds: Bounds | None = None,
    *,
    precision: Precision = "auto",
    compiled: bool = False,
    score_threshold: float | None = None,
    coverage: float | None = None,
    value_range: Range | None = None,
    token: str = "",
) -> Service:
    """A service of a model; ``create_app`` gives it addresses.

    Args:
        model: any detector.
        name: of the model, as it is answered.
        bounds: how much it takes.
        precision: number format of the network, see ``gfocal.models.precision``.
        compiled: compile the network first (torch.compile).
        score_threshold: where a request states none; None: the model's own of each class, else 0.3.
        coverage: of intervals where a request states none; None: 0.9 where the model can promise it.
        value_range: of images of more than 8 bits; None: as ``model.detect`` chooses it for each image.
        token: that requests must have; empty: none.

    Raises:
        DataError: the model is not calibrated for the coverage.
    """
    bounds, meters = bounds or Bounds(), Meters()
    batcher = Batcher(model, bounds, precision, compiled, value_range, meters)
    meters.count_inside(lambda: batcher.num_inside)
    threshold = resolve_threshold(model, score_threshold)
    thresholds = threshold if isinstance(threshold, tuple) else (threshold,) * model.num_classes
    pixels = max_pixels()
    about = ModelAnswer(
        name=name,
        digest=digest_of(model),
        preset=str(model.built_from.get("preset", "")),
        precision=computed_precision(model, precision),
        engine=engine_of(model),
        gfocal=__version__,
    )
    description = ModelDescription(
        model=about,
        names=list(model.names),
        has_distributions=model.box_coder.has_distribution,
        coverage=choose_coverage(model, coverage),
        score_thresholds=list(thresholds),
        max_images=bounds.max_images,
        max_body=bounds.max_body,
        max_megapixels=None if pixels is None else pixels / 1e6,
    )
    return Service(batcher, description, thresholds, usable_calibration(model), meters, token)


def digest_of(model: AnyDetector) -> str:
    """16 characters of the sha256 of a model's weights, or of an exported file."""
    return model.digest()[:16] if isinstance(model, ExportedDetector) else digest_weights(model)


def engine_of(model: AnyDetector) -> str:
    """``torch 2.9.0``, or what runs an exported file."""
    if not isinstance(model, ExportedDetector):
        return f"torch {torch.__version__}"
    name = ENGINES[model.path.suffix.lower()]
    return f"{name} {version(name)}"


def warm_up(batcher: Batcher) -> None:
    """Run the network once, so that the first request does not wait for what is made at the first pass."""
    model = batcher.model
    settings = model.input_settings
    image = torch.zeros(3, settings.short_side, min(settings.long_side, 4 * settings.short_side), dtype=torch.uint8)
    list(predict(model, [stack_inputs([0], [image], settings)], None, batcher.precision, batcher.compiled))
