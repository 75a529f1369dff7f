"""Detection in batches of a table, for engines that map a function over them: Ray Data, Spark, Daft.

An engine calls a ``DetectBatch`` of its own in each of its processes, with columns of images; columns of detections
come back. None of these engines is imported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.data.classes import ClassMap
from gfocal.data.images import EncodedImage, Source, read_pixels
from gfocal.data.preprocess import input_shape, padded_shape
from gfocal.data.value_range import Range
from gfocal.errors import DataError, ImageError, MissingExtraError
from gfocal.inference.stages import report_classes
from gfocal.interop.any_model import load
from gfocal.models.exported import AnyDetector, is_exported, load_exported
from gfocal.models.precision import Precision
from gfocal.models.predict import ImageBatch, predict, resolve_threshold, stack_inputs
from gfocal.ops.decoding import DecodeSettings
from gfocal.structures import Detections

BYTES, PATH = "bytes", "path"  # columns of which one has the image
_READ_AHEAD = 4  # passes of the network whose images are read, so that those of one size meet


class DetectBatch:
    """Detect in a batch of a table: columns of images in, columns of detections out.

    ``dataset.map_batches(DetectBatch, fn_constructor_args=["runs/mine"], concurrency=4, num_cpus=1)`` of Ray Data
    takes it as it is; so does anything else that calls a function with a dict of columns.

    Args:
        model: a detector, or what ``gfocal.load`` takes, which is then loaded by the process that detects.
        score_threshold: detections must score more; None: the model's own of each class, else 0.3.
        batch_size: images per pass through the network. With 1 the result of an image does not depend on how the
            engine cuts its batches; with more, the last digits may, as they do in ``model.detect``.
        value_range: of images of more than 8 bits, what becomes 0 and 255; None: the model's, else 0 and 65535.
        precision: number format of the network, see ``gfocal.models.precision``.
        device: for a model that is loaded here; None: the GPU that the engine gave to this process, else the CPU.
        num_threads: of this process; None: as they are. Engines that start a process for each core need 1.
        classes: which classes are reported, under which names; None: all.
        coverage: of a calibrated model, that of ``edge_interval``; None: no intervals.
        decode_settings: replace those of the model.

    Raises:
        ModelFileError, DeviceError, MissingExtraError: the model cannot be loaded.
    """

    def __init__(
        self,
        model: AnyDetector | str | Path,
        score_threshold: float | Sequence[float] | None = None,
        batch_size: int = 1,
        value_range: Range | None = None,
        precision: Precision = "auto",
        device: str | None = None,
        num_threads: int | None = None,
        classes: ClassMap | None = None,
        coverage: float | None = None,
        decode_settings: DecodeSettings | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.model = _open(model, device, num_threads)
        if decode_settings is not None:
            self.model.decode_settings = decode_settings
        self.threshold = resolve_threshold(self.model, score_threshold)
        self.batch_size, self.precision = batch_size, precision
        self.value_range = value_range or self.model.input_settings.value_range
        self.classes, self.coverage = classes, coverage

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Detect in the images of a batch.

        Args:
            batch: columns of equal length: ``bytes`` (content of image files), ``path`` (files, or addresses that
                pyarrow's file systems know, such as s3://...), or both: then a path is read where bytes are null.

        Returns:
            All other columns and ``path``, as they came, and with a row for each image: ``width``, ``height``
            (pixels, upright; null for an image that cannot be read), ``boxes`` (N x 4, xyxy in pixels), ``scores``,
            ``labels``, ``edge_std`` (N x 4, pixels, of left, top, right, bottom; null for a model without
            distributions), of a calibrated model ``calibrated_scores`` and ``edge_interval`` (N x 4 x 2), and
            ``error``: why an image cannot be read, else null.

        Raises:
            ValueError: there is neither of the two columns.
        """
        given = {name: _as_list(values) for name, values in batch.items()}
        if not {BYTES, PATH} & set(given):
            raise ValueError(f"a batch has a column 'bytes' or 'path', not only {', '.join(map(repr, given))}")
        count = len(next(iter(given.values())))
        contents, paths = (given.get(name, [None] * count) for name in (BYTES, PATH))
        errors: dict[int, str] = {}
        found: dict[int, Detections] = {}
        lowest = min(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        batches = self._read(list(zip(contents, paths, strict=True)), errors)
        for inputs, several in predict(self.model, batches, lowest, self.precision):
            for row, one in zip(inputs.keys, several, strict=True):
                kept = one.above(self.threshold).to("cpu")
                found[row] = report_classes(kept, self.classes, self.model.decode_settings)
        rows = [self._row(found.get(i), errors.get(i)) for i in range(count)]
        kept_columns = {name: values for name, values in given.items() if name != BYTES}
        return kept_columns | {name: [row[name] for row in rows] for name in self._row(None, None)}

    def _read(self, images: Sequence[tuple[Any, Any]], errors: dict[int, str]) -> Iterator[ImageBatch[int]]:
        """Batches for the network, keyed by row; images of another padded size are no part of a batch."""
        settings = self.model.input_settings
        rows = iter(enumerate(images))
        at_once = self.batch_size * _READ_AHEAD if self.batch_size > 1 else 1
        while window := list(islice(rows, at_once)):
            by_size: dict[tuple[int, int], list[tuple[int, Tensor]]] = defaultdict(list)
            for row, (content, path) in window:
                try:
                    image = read_pixels(_source(content, path), value_range=self.value_range)
                except DataError as error:
                    errors[row] = str(error)
                    continue
                shape = input_shape((int(image.shape[1]), int(image.shape[2])), settings)
                by_size[padded_shape([shape], settings.multiple)].append((row, image))
            for members in by_size.values():
                for start in range(0, len(members), self.batch_size):
                    part = members[start : start + self.batch_size]
                    yield stack_inputs([row for row, _ in part], [image for _, image in part], settings)

    def _row(self, found: Detections | None, error: str | None) -> dict[str, Any]:
        """The columns of one image; of one that cannot be read only the reason."""
        is_calibrated = self.model.calibration is not None
        row: dict[str, Any] = dict.fromkeys(("width", "height"))
        row |= {"boxes": [], "scores": [], "labels": []}
        row["edge_std"] = [] if self.model.box_coder.has_distribution else None
        row |= {"calibrated_scores": []} if is_calibrated else {}
        row |= {"edge_interval": []} if is_calibrated and self.coverage is not None else {}
        row["error"] = error
        if found is None:
            return row
        row["height"], row["width"] = found.size
        row |= {"boxes": found.boxes.tolist(), "scores": found.scores.tolist(), "labels": found.labels.tolist()}
        if self.model.box_coder.has_distribution:
            row["edge_std"] = found.edge_std.tolist()
        if is_calibrated and found.calibration is not None:
            row["calibrated_scores"] = found.calibrated_scores().tolist()
            if self.coverage is not None:
                row["edge_interval"] = found.edge_interval(self.coverage).tolist()
        return row


def _open(model: AnyDetector | str | Path, device: str | None, num_threads: int | None) -> AnyDetector:
    if not isinstance(model, str | Path):
        return model
    if is_exported(model):
        return load_exported(model, num_threads)
    return load(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _as_list(values: Any) -> list[Any]:
    """A column of numpy, Arrow, pandas or Python as values of Python."""
    for name in ("to_pylist", "tolist"):
        if hasattr(values, name):
            return list(getattr(values, name)())
    return list(values)


def _source(content: Any, path: Any) -> Source:
    """Where an image is: in its bytes, in a file, or behind an address."""
    has_path = isinstance(path, str | Path) and str(path)
    if isinstance(content, bytes | bytearray | memoryview):
        return EncodedImage(bytes(content), str(path) if has_path else "image")
    if not has_path:
        raise ImageError("no image: neither bytes nor a path")
    return EncodedImage(_fetch(str(path)), str(path)) if "://" in str(path) else str(path)


def _fetch(address: str) -> bytes:
    try:
        from pyarrow import ArrowException, fs
    except ImportError as error:
        raise MissingExtraError("addresses of images need pyarrow: pip install 'gfocal[ray]'") from error
    try:
        system, place = fs.FileSystem.from_uri(address)
        with system.open_input_stream(place) as stream:
            return stream.read()
    except (OSError, ValueError, ArrowException) as error:
        raise ImageError(f"{address}: cannot be read: {' '.join(str(error).split())}") from error
