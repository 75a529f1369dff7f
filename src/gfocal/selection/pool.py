"""Image files through a model: the objects in each, how uncertain they are, and what each image looks like.

Files are read ahead of the network; pixels are not kept. Memory: 1 KB of features for each image, and 24 bytes for
each object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from gfocal.data.threads import start_workers, submit_ahead
from gfocal.data.value_range import Range
from gfocal.errors import DataError
from gfocal.inference.uncertainty import LEAST_SCORE, image_uncertainty
from gfocal.inference.windows import ImageFile, ReadImage, Window, read_window
from gfocal.models.detector import Detector
from gfocal.models.image_features import predict_with_features
from gfocal.models.precision import Precision
from gfocal.models.predict import ImageBatch
from gfocal.structures import Detections

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SeenImage:
    """What a model sees in an image."""

    path: str
    size: tuple[int, int]  # height and width
    objects: Floats  # (N, 6): x1, y1, x2, y2 in pixels, score, label; those above the score threshold, best first
    score_uncertainty: float
    edge_uncertainty: float

    @property
    def uncertainty(self) -> float:
        """Of scores and edges."""
        return self.score_uncertainty + self.edge_uncertainty


@dataclass(frozen=True)
class Pool:
    """The images of a pool that can be read, in the order of their files."""

    images: list[SeenImage]
    features: Floats  # (N, D)


def scan_files(
    model: Detector,
    files: Sequence[str],
    *,
    score_threshold: float | tuple[float, ...],
    batch_size: int = 8,
    num_workers: int = 2,
    value_range: Range | None = None,
    precision: Precision = "auto",
    on_images: Callable[[int], None] = lambda number: None,
    on_error: Callable[[DataError], None] = lambda error: None,
) -> Pool:
    """Run image files through a model.

    Args:
        model: a detector.
        files: paths of images.
        score_threshold: of the objects that are kept, for all classes or for each; uncertainty has its own.
        batch_size: images per pass through the network.
        num_workers: threads that read images ahead; 0: none.
        value_range: of images of more than 8 bits, what becomes 0 and 255.
        precision: number format of the network.
        on_images: called with the number of images that are done.
        on_error: called for each file that cannot be read, which is left out.
    """
    lowest = min(score_threshold) if isinstance(score_threshold, tuple) else score_threshold
    seen: dict[int, SeenImage] = {}
    rows: dict[int, Floats] = {}
    named = [ImageFile(i, path, "") for i, path in enumerate(files)]
    windows = (named[start : start + batch_size] for start in range(0, len(named), batch_size))
    read = partial(read_window, settings=model.input_settings, value_range=value_range, keep_images=False)
    with start_workers(num_workers) as pool:
        batches = _batches(submit_ahead(pool, read, windows, depth=num_workers + 1), on_error)
        for batch, found, features in predict_with_features(model, batches, min(lowest, LEAST_SCORE), precision):
            for key, one, row in zip(batch.keys, found, features.numpy(), strict=True):
                seen[key.file.index] = _summarize(key.file.path, one, score_threshold)
                rows[key.file.index] = row.copy()
            on_images(len(batch.keys))
    order = sorted(seen)
    table = np.stack([rows.pop(i) for i in order]) if order else np.zeros((0, 0), dtype=np.float32)
    return Pool([seen[i] for i in order], table)


def _batches(
    read: Iterator[tuple[Sequence[ImageFile], Future[Window]]], on_error: Callable[[DataError], None]
) -> Iterator[ImageBatch[ReadImage]]:
    """Batches of the files that can be read."""
    for _, future in read:
        window = future.result()
        for error in window.errors:
            on_error(error)
        yield from window.batches


def _summarize(path: str, found: Detections, score_threshold: float | tuple[float, ...]) -> SeenImage:
    kept = found.above(score_threshold)
    columns = [kept.boxes, kept.scores.unsqueeze(1), kept.labels.unsqueeze(1)]
    objects = torch.cat([column.float().cpu() for column in columns], 1).numpy().copy()
    return SeenImage(path, found.size, objects, *image_uncertainty(found))
