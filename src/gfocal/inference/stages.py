"""Image files through a model: threads read ahead of the network and draw behind it, a journal keeps the results."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from gfocal.console import fail, say
from gfocal.data.classes import ClassMap
from gfocal.data.images import read_image
from gfocal.data.value_range import Range
from gfocal.errors import DataError
from gfocal.inference.journal import Journal
from gfocal.inference.prefetch import make_executor, submit_ahead
from gfocal.inference.results import make_record
from gfocal.models.detector import Detector
from gfocal.models.predict import ImageBatch, predict, preprocess, stack_inputs
from gfocal.ops.decoding import suppress
from gfocal.structures import Detections
from gfocal.visualize.annotate import DrawStyle, draw_detections


@dataclass(frozen=True)
class ImageFile:
    """An image file of a run."""

    index: int  # in the list of all files
    path: str
    name: str  # without suffix, of the files that are written for it; unique


@dataclass
class Pipeline:
    """Detects in files and counts those that cannot be read."""

    model: Detector
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

    def process(self, files: Sequence[ImageFile], journal: Journal) -> None:
        """Run every file through the network; each is added to the journal once its image is drawn.

        When this is interrupted, what the network has finished is still drawn and added.
        """
        lowest = self.threshold if isinstance(self.threshold, float) else min(self.threshold)
        lowest = min(lowest, self.model.decode_settings.score_threshold)  # to say what the best score was
        drawing: deque[tuple[ImageFile, Detections, float, Future[str | None]]] = deque()

        def record(max_waiting: int) -> None:
            while len(drawing) > max_waiting:
                file, detections, best_score, drawn = drawing[0]
                journal.add(make_record(file.index, file.path, file.name, drawn.result(), detections, best_score))
                drawing.popleft()
                counts = Counter(detections.class_names)
                found = ", ".join(f"{count} {name}" for name, count in counts.items())
                say(self.console, f"{file.path}: {found or 'nothing'}")

        pool = make_executor(self.num_workers)
        try:
            read = submit_ahead(pool, self._read, files, depth=self.batch_size + 2 * self.num_workers)
            for batch, detected in predict(self.model, self._batches(read), lowest):
                for (file, image), one in zip(batch.keys, detected, strict=True):
                    candidates = one.to("cpu")
                    detections = self._report(candidates.above(self.threshold))
                    drawn = pool.submit(self._draw, file.name, image, detections)
                    drawing.append((file, detections, self._best_score(candidates), drawn))
                record(max_waiting=2 * self.num_workers)
        finally:
            try:
                record(max_waiting=0)
            finally:
                pool.shutdown(cancel_futures=True)

    def _report(self, detections: Detections) -> Detections:
        """The detections of the classes that are reported; of merged classes those that overlap become one."""
        if self.classes is None or (self.classes.is_identity and self.classes.names == detections.names):
            return detections
        found = detections.relabel(self.classes.new_labels, self.classes.names)
        if not self.classes.merges:
            return found
        return found.select(suppress(found.boxes, found.scores, found.labels, self.model.decode_settings))

    def _best_score(self, candidates: Detections) -> float:
        """The best score of a class that is reported, also below the threshold; 0 where there is none."""
        scores = candidates.scores
        if self.classes is not None:
            scores = scores[torch.tensor(self.classes.new_labels)[candidates.labels] >= 0]
        return float(scores.max()) if len(scores) else 0.0

    def _batches(
        self, read: Iterator[tuple[ImageFile, Future[tuple[Tensor, Tensor]]]]
    ) -> Iterator[ImageBatch[tuple[ImageFile, Tensor]]]:
        """Batches of the files that can be read, with the original image of each."""
        waiting: list[tuple[ImageFile, Tensor, Tensor]] = []
        for file, future in read:
            try:
                waiting.append((file, *future.result()))
            except DataError as error:
                self.num_failed += 1
                fail(self.console, error)
            if len(waiting) == self.batch_size:
                yield self._stack(waiting)
                waiting = []
        if waiting:
            yield self._stack(waiting)

    def _stack(self, items: Sequence[tuple[ImageFile, Tensor, Tensor]]) -> ImageBatch[tuple[ImageFile, Tensor]]:
        keys = [(file, image) for file, image, _ in items]
        images, inputs = [image for _, image, _ in items], [one for *_, one in items]
        return stack_inputs(keys, images, inputs, self.model.input_settings.multiple)

    def _read(self, file: ImageFile) -> tuple[Tensor, Tensor]:
        """The image, and what the network reads of it."""
        image = read_image(file.path, value_range=self.value_range)
        return image, preprocess(image, self.model.input_settings)

    def _draw(self, name: str, image: Tensor, detections: Detections) -> str | None:
        """Name of the drawn image; None where images are not drawn."""
        if not self.draw:
            return None
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
        style = self.style
        return draw_detections(
            image,
            detections,
            0.0,
            edges=style.edges,
            labels=style.labels,
            line_width=style.line_width,
            font_size=style.font_size,
            font_path=style.font_path,
        )
