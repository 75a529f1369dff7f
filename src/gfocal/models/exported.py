"""An exported file (.onnx, or OpenVINO's .xml) as a detector: the same ``detect`` and ``Detections`` as a model's.

The network runs in onnxruntime or OpenVINO on the processor; reading, resizing and what comes after are as for a
model. ``gfocal_runtime`` opens and decodes the file; it needs no torch, and is installed with gfocal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch

from gfocal.data.preprocess import InputSettings
from gfocal.errors import MissingExtraError, ModelFileError
from gfocal.models.detector import Detector
from gfocal.models.stored_calibration import calibration_from_json
from gfocal.ops.decoding import DecodeSettings
from gfocal.ops.tiles import Tiling
from gfocal.structures import Color, Detections
from gfocal.structures.calibration import Calibration
from gfocal_runtime.decoding import decode_image
from gfocal_runtime.engines import SUFFIXES, Engine, MissingEngineError, open_file
from gfocal_runtime.metadata import DecodeRule, ExportedFileError


@dataclass(frozen=True)
class ExportedBoxCoder:
    """What is left of a box coder in a file, which decodes the boxes itself."""

    num_bins: int  # values of an edge's distribution
    delta: float  # strides between two of them

    @property
    def has_distribution(self) -> bool:
        """Whether edges have distributions."""
        return self.num_bins > 0


class ExportedDetector:
    """A detector in a file of ``gfocal export``; it cannot be trained.

    Attributes:
        names: of the classes, indexed by label.
        box_coder: whether edges have distributions, and of how many values.
        input_settings: size and normalization of the input.
        decode_settings: limits and the NMS of ``detect``; those inside a file that was exported with --nms are fixed.
        class_thresholds: score threshold of each class, by label, or None.
        thresholds_how: how they were chosen, in a line.
        provenance: where the weights come from.
        calibration: of the float32 model, see ``Detector.calibration``.
        renames: old name -> new name of classes that were renamed in the training data.
        built_from: name of the preset and its options.
        metadata: all that the file says about itself, the verification included.
        path: of the file.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        about, self.engine, self.path = engine.metadata.about, engine, path
        self.metadata = engine.metadata
        self.names = engine.metadata.names
        self.box_coder = ExportedBoxCoder(engine.metadata.num_bins, engine.metadata.delta)
        known = {field.name for field in fields(InputSettings)}
        given = {key: _as_tuple(value) for key, value in about["input"].items() if key in known}
        try:
            self.input_settings = InputSettings(**given)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{path}: its metadata are damaged: input: {error}") from error
        rule = engine.metadata.decode
        self.decode_settings = DecodeSettings(**{field.name: getattr(rule, field.name) for field in fields(rule)})
        self.class_thresholds = engine.metadata.thresholds
        self.thresholds_how = _text((about.get("thresholds") or {}).get("how", ""))
        self.provenance = _texts(about.get("provenance"))
        self.renames = _texts(about.get("renames"))
        self.calibration = _calibration(about, len(self.names), path)
        options = about.get("options")
        self.built_from = {
            "preset": _text(about.get("preset")),
            "options": options if isinstance(options, dict) else {},
        }

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def __repr__(self) -> str:
        return f"ExportedDetector({str(self.path)!r}, {self.metadata.precision}, {self.num_classes} classes)"

    def detect(
        self,
        images: Any,
        score_threshold: float | Sequence[float] | None = None,
        batch_size: int = 1,
        value_range: tuple[int, int] | None = None,
        color: Color = "rgb",
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> list[Detections] | Detections:
        """Find objects in one image or several; arguments, result and errors are those of ``Detector.detect``."""
        if tile is not None:
            from gfocal.models.tiled import detect_tiled

            return detect_tiled(self, images, Tiling(tile, overlap), score_threshold, batch_size, value_range, color)
        from gfocal.models.predict import detect

        return detect(self, images, score_threshold, batch_size, value_range, color)

    def predict_batch(self, batch: Any, settings: DecodeSettings) -> list[Detections]:
        """The detections of each image of a batch, as ``gfocal.models.predict`` has it."""
        outputs = self.engine(batch.images.numpy(force=True))
        rule = DecodeRule(**{field.name: getattr(settings, field.name) for field in fields(DecodeRule)})
        sizes = zip(batch.sizes.tolist(), batch.original_sizes.tolist(), strict=True)
        found = []
        for i, (size, original) in enumerate(sizes):
            one = decode_image(outputs, i, tuple(size), tuple(original), self.metadata, rule)
            boxes, scores, labels, edges, points, bin_sizes = (torch.from_numpy(values) for values in one)
            found.append(
                Detections(
                    boxes,
                    scores,
                    labels,
                    edges,
                    points,
                    bin_sizes,
                    names=self.names,
                    size=tuple(original),
                    calibration=self.calibration,
                )
            )
        return found

    def digest(self) -> str:
        """The sha256 of the file, and of the weights of OpenVINO beside it."""
        sha = hashlib.sha256()
        for file in files_of(self.path):
            sha.update(file.read_bytes())
        return sha.hexdigest()


AnyDetector: TypeAlias = Detector | ExportedDetector  # what detects in images


def files_of(path: Path) -> list[Path]:
    """The files that an exported file consists of."""
    return [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]


def is_exported(path: str | Path) -> bool:
    """Whether this is named as a file of ``gfocal export`` that can be a detector again."""
    return Path(path).suffix.lower() in SUFFIXES


def load_exported(path: str | Path, num_threads: int | None = None) -> ExportedDetector:
    """The detector in an exported file.

    Args:
        path: a .onnx file, or the .xml of OpenVINO with its .bin beside it.
        num_threads: threads of the engine; None: all cores.

    Raises:
        ModelFileError: there is no such file, or it is none that gfocal export wrote, or it is damaged.
        MissingExtraError: onnxruntime or openvino is not installed.
    """
    try:
        return ExportedDetector(open_file(path, num_threads), Path(path))
    except MissingEngineError as error:
        raise MissingExtraError(str(error)) from error
    except ExportedFileError as error:
        raise ModelFileError(str(error)) from error


def _calibration(about: Mapping[str, Any], num_classes: int, path: Path) -> Calibration | None:
    if about.get("calibration") is None:
        return None
    try:
        return calibration_from_json(about["calibration"], num_classes)
    except ValueError as error:
        raise ModelFileError(f"{path}: its metadata are damaged: {error}") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    return value[:1000] if isinstance(value, str) else ""


def _texts(table: Any) -> dict[str, str]:
    """A table of short texts of an untrusted file; what is none is left out."""
    if not isinstance(table, dict):
        return {}
    return {_text(key): _text(value) for key, value in list(table.items())[:10_000] if isinstance(value, str)}
