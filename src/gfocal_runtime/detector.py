"""An exported file as a detector, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gfocal_runtime.decoding import decode_image
from gfocal_runtime.detections import Detections
from gfocal_runtime.engines import Engine, open_file
from gfocal_runtime.images import Color, as_rgb, network_input
from gfocal_runtime.metadata import Metadata

DEFAULT_THRESHOLD = 0.3  # where neither the user nor the file has another


def load(path: str | Path, num_threads: int | None = None) -> Detector:
    """The detector of a file that ``gfocal export`` wrote: .onnx, or .xml where the package openvino is installed.

    Args:
        path: the file.
        num_threads: threads of the engine; None: all cores.

    Raises:
        ExportedFileError: there is no such file, or it is none that gfocal export wrote, or it is damaged.
    """
    return Detector(open_file(path, num_threads))


@dataclass(frozen=True)
class Detector:
    """A network with all that is needed to use it."""

    engine: Engine

    @property
    def metadata(self) -> Metadata:
        """Classes, input, thresholds and what else the file says."""
        return self.engine.metadata

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, indexed by label."""
        return self.metadata.names

    def detect(
        self,
        images: Any,
        score_threshold: float | Sequence[float] | None = None,
        batch_size: int = 1,
        color: Color = "rgb",
    ) -> list[Detections] | Detections:
        """Find objects in one image or several.

        Args:
            images: a path, a PIL image, a uint8 array (H, W, 3) or (H, W); or a sequence of such, or an array of four
                dimensions.
            score_threshold: detections must score more; one number, or one for each class, by label; None: those of
                the file, else 0.3.
            batch_size: images per pass through the network.
            color: the order of the channels of arrays.

        Returns:
            ``Detections`` in pixels of the original image, best first: one for one image, a list for several.

        Raises:
            ExportedFileError: a file cannot be read as an image.
            ValueError: something that is no image.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        is_several = images.ndim == 4 if isinstance(images, np.ndarray) else isinstance(images, list | tuple)
        several = images if is_several else [images]
        thresholds = self._thresholds(score_threshold)
        found: list[Detections] = []
        for start in range(0, len(several), batch_size):
            found += self._detect_batch(several[start : start + batch_size], thresholds, color)
        return found if is_several else found[0]

    def _thresholds(self, given: float | Sequence[float] | None) -> np.ndarray[Any, Any]:
        """The score that detections of each class must exceed. (C,)"""
        chosen = self.metadata.thresholds or DEFAULT_THRESHOLD if given is None else given
        thresholds = np.asarray(chosen, np.float32)
        if thresholds.ndim and len(thresholds) != len(self.names):
            raise ValueError(f"{len(thresholds)} thresholds for {len(self.names)} classes")
        return np.broadcast_to(thresholds, (len(self.names),))

    def _detect_batch(self, images: Sequence[Any], thresholds: Any, color: Color) -> list[Detections]:
        pixels = [as_rgb(image, color) for image in images]
        batch, sizes = network_input(pixels, self.metadata.input)
        outputs = self.engine(batch)
        rule = replace(self.metadata.decode, score_threshold=float(thresholds.min()))
        found = []
        for i, (image, size) in enumerate(zip(pixels, sizes, strict=True)):
            original = (image.shape[0], image.shape[1])
            one = decode_image(outputs, i, size, original, self.metadata, rule)
            above = one.scores > thresholds[one.labels]
            boxes, scores, labels, edges, points, bin_sizes = (values[above] for values in one)
            found.append(Detections(boxes, scores, labels, edges, points, bin_sizes, names=self.names, size=original))
        return found
