"""Image files through a model: threads read ahead of the network and draw behind it, a journal keeps the results."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from gfocal.console import fail, note, progress_bar, say
from gfocal.data.classes import ClassMap
from gfocal.data.image_rows import open_rows
from gfocal.data.threads import start_workers, submit_ahead
from gfocal.data.tile_pixels import read_overview
from gfocal.data.value_range import Range
from gfocal.errors import DataError
from gfocal.inference.journal import Journal
from gfocal.inference.results import make_record
from gfocal.inference.uncertainty import image_uncertainty
from gfocal.inference.windows import ImageFile, ReadImage, Window, read_window
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import ImageBatch, predict
from gfocal.models.tiled import align, detect_in_tiles
from gfocal.ops.decoding import DecodeSettings, suppress
from gfocal.ops.tiles import Tiling, count_tiles, resize_detections
from gfocal.structures import Detections
from gfocal.text import pluralize
from gfocal.visualize.annotate import DrawStyle
from gfocal.visualize.viewer.pack import PackedImage, pack_image, pack_pixels

OVERVIEW_SIDE = 4096  # pixels of what is drawn of an image that is detected in by tiles

Finished = tuple[str | None, PackedImage | None]  # name of the drawn image, and what the viewer shows, if wanted


@dataclass
class Pipeline:
    """Detects in files and counts those that cannot be read."""

    model: AnyDetector
    folder: Path  # for the drawn images
    threshold: float | tuple[float, ...]  # for all classes, or of each
    batch_size: int
    num_workers: int
    draw: bool
    style: DrawStyle
    console: Console
    num_failed: int = 0
    value_range: Range | None = None  # of images of more than 8 bits
    classes: ClassMap | None = None  # that are reported; None: all
    precision: Precision = "auto"
    compiled: bool = False
    coverage: float | None = None  # of the intervals of edges; None: no intervals
    viewer_side: int | None = None  # longer side of the images of a viewer, pixels; None: no viewer
    tiling: Tiling | None = None  # how images are cut; None: each goes through the network as a whole

    def process(self, files: Sequence[ImageFile], journal: Journal) -> None:
        """Run every file through the network; each is added to the journal once its image is drawn.

        When this is interrupted, what the network has finished is still drawn and added.
        """
        lowest = self.threshold if isinstance(self.threshold, float) else min(self.threshold)
        lowest = min(lowest, self.model.decode_settings.score_threshold)  # to say what the best score was
        detected: list[tuple[ReadImage, Detections]] = []  # of a window
        drawing: deque[tuple[ImageFile, Detections, float, float, Future[Finished]]] = deque()

        def draw_window() -> None:
            detected.sort(key=lambda pair: -pair[0].file.index)
            while detected:
                key, found = detected.pop()
                candidates = found.to("cpu")
                detections = self._report(candidates.above(self.threshold))
                drawn = pool.submit(self._finish, key, detections)
                uncertainty = sum(image_uncertainty(self._report(candidates)))
                drawing.append((key.file, detections, self._best_score(candidates), uncertainty, drawn))

        def record(max_waiting: int) -> None:
            while len(drawing) > max_waiting:
                file, detections, best_score, uncertainty, finished = drawing[0]
                drawn, packed = finished.result()
                about = (file.index, file.path, file.name, drawn)
                record = make_record(*about, detections, best_score, self.coverage, uncertainty)
                if packed is not None:
                    record["viewer"] = packed
                journal.add(record)
                drawing.popleft()
                counts = Counter(detections.class_names)
                found = ", ".join(f"{count} {name}" for name, count in counts.items())
                say(self.console, f"{file.path}: {found or 'nothing'}")

        with start_workers(self.num_workers) as pool:
            try:
                for pairs in self._detect(files, pool, lowest):
                    detected += pairs
                    if pairs[0][0].ends_window:
                        draw_window()
                    record(max_waiting=2 * self.num_workers)
            finally:
                draw_window()
                record(max_waiting=0)

    def _detect(
        self, files: Sequence[ImageFile], pool: Executor, lowest: float
    ) -> Iterator[list[tuple[ReadImage, Detections]]]:
        """Files with their detections, those of a batch together."""
        if self.tiling is not None:
            yield from ([pair] for pair in self._detect_in_tiles(files, self.tiling, lowest))
            return
        read = submit_ahead(pool, self._read, self._windows(files), depth=self.num_workers + 1)
        for batch, found in predict(self.model, self._batches(read), lowest, self.precision, self.compiled):
            yield list(zip(batch.keys, found, strict=True))

    def _detect_in_tiles(
        self, files: Sequence[ImageFile], tiling: Tiling, lowest: float
    ) -> Iterator[tuple[ReadImage, Detections]]:
        """Each file that can be read, with its detections; of a large one, what is drawn on is smaller."""
        most, tiling = self.model.decode_settings.max_detections, align(tiling, self.model.input_settings)
        for file in files:
            full = 0  # tiles with as many detections as there may be

            def count(found: Detections) -> None:
                nonlocal full
                full += len(found.above(self.threshold)) >= most
                bar.advance(1)

            try:
                with open_rows(file.path, self.value_range) as rows:
                    with progress_bar(self.console, Path(file.path).name, count_tiles(rows.size, tiling)) as bar:
                        found = detect_in_tiles(
                            self.model, rows, tiling, lowest, self.batch_size, self.precision, self.compiled, count
                        )
                    image = read_overview(rows, OVERVIEW_SIDE) if self._keeps_images else None
            except DataError as error:
                self.num_failed += 1
                fail(self.console, error)
                continue
            if full:
                note(
                    self.console,
                    f"{file.path}: {pluralize(full, 'tile')} with {most} detections, the maximum, may have more: "
                    "--max-detections, or smaller tiles",
                )
            yield ReadImage(file, image, True), found

    @property
    def _keeps_images(self) -> bool:
        return self.draw or self.viewer_side is not None

    def _report(self, detections: Detections) -> Detections:
        return report_classes(detections, self.classes, self.model.decode_settings)

    def _best_score(self, candidates: Detections) -> float:
        """The best score of a class that is reported, also below the threshold; 0 where there is none."""
        scores = candidates.scores
        if self.classes is not None:
            scores = scores[torch.tensor(self.classes.new_labels)[candidates.labels] >= 0]
        return float(scores.max()) if len(scores) else 0.0

    def _windows(self, files: Sequence[ImageFile]) -> Iterator[Sequence[ImageFile]]:
        """Successive files that are read together; the network takes those of one size at once."""
        return (files[start : start + self.batch_size] for start in range(0, len(files), self.batch_size))

    def _read(self, files: Sequence[ImageFile]) -> Window:
        return read_window(files, self.model.input_settings, self.value_range, keep_images=self._keeps_images)

    def _batches(self, read: Iterator[tuple[Sequence[ImageFile], Future[Window]]]) -> Iterator[ImageBatch[ReadImage]]:
        """Batches of the files that can be read; the others are reported."""
        for _, future in read:
            window = future.result()
            for error in window.errors:
                self.num_failed += 1
                fail(self.console, error)
            yield from window.batches

    def _finish(self, key: ReadImage, detections: Detections) -> Finished:
        """Draw an image, and pack it for the viewer."""
        if key.image is None:
            return None, None
        drawn = self._draw(key.file.name, key.image, detections) if self.draw else None
        if self.viewer_side is None:
            return drawn, None
        packed = pack_image(key.file.path, detections, detections.size)
        return drawn, packed | {"jpeg": pack_pixels(key.image, self.viewer_side)}

    def _draw(self, name: str, image: Tensor, detections: Detections) -> str:
        """Name of the drawn image."""
        path = self.folder / f"{name}.jpg"
        # Renamed when it is whole: a run that is killed leaves this one at most, and draws it again on --resume.
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            self._draw_boxes(image, detections).save(temporary, "JPEG", quality=92)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path.name

    def _draw_boxes(self, image: Tensor, detections: Detections) -> Image.Image:
        size = (int(image.shape[1]), int(image.shape[2]))
        if size != detections.size:
            detections = resize_detections(detections, size)
        return self.style.draw(image, detections)


def report_classes(detections: Detections, classes: ClassMap | None, settings: DecodeSettings) -> Detections:
    """The detections of the classes that are reported; of merged classes those that overlap become one."""
    if classes is None or (classes.is_identity and classes.names == detections.names):
        return detections
    found = detections.relabel(classes.new_labels, classes.names)
    if not classes.merges:
        return found
    return found.select(suppress(found.boxes, found.scores, found.labels, settings))
