"""Detection over image files: read ahead, in batches, by one process or several, and never twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import Tensor

from gfocal.console import fail, say
from gfocal.data.images import read_image
from gfocal.errors import DataError
from gfocal.inference.journal import Journal, read_header
from gfocal.inference.prefetch import ahead, executor
from gfocal.inference.results import FORMATS, Written, record_of, score_threshold_of, told_of_scores, write_results
from gfocal.inference.resume import header_of, is_finished, open_journal, stems
from gfocal.inference.shards import CLAIM, Shard, claimed, complete, journals_in, missing
from gfocal.inference.sources import images_named
from gfocal.models.detector import Detector
from gfocal.models.predict import detect_batch, prepared
from gfocal.structures import Detections
from gfocal.text import counted

Edges = Literal["none", "std", "distribution"]


def detect_files(
    model: Detector,
    paths: Sequence[str | Path],
    folder: Path,
    *,
    lists: Sequence[Path] = (),
    score_threshold: float | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    draw: bool = True,
    edges: Edges = "none",
    formats: Sequence[str] = ("coco",),
    resume: bool = False,
    shard: Shard | None = None,
    console: Console | None = None,
) -> int:
    """Find objects in files, folders, patterns and lists of files; returns how many failed.

    Writes what ``formats`` name, see ``gfocal.inference.results``, and one image per file, which the record of an
    image names as ``image``. ``detections.json`` is COCO's layout with a score and the standard deviations of the
    four edges (``edge_std``: left, top, right, bottom, in pixels; not of a detector without edge distributions) at
    each annotation. Category ids are numbers from 1 in the model's order, whatever those of its training data are.

    A file that cannot be read, or a folder without images, is told in one line and left out; the rest goes on.
    Every image that is done stands in a journal, ``detections.jsonl``. Stopped by Ctrl-C, what was found until then
    is written; killed, the journal is there; ``resume`` goes on with it in either case, tries again what failed, and
    leaves alone what is done. A run without failures takes its journal away at its end.

    Args:
        model: a detector.
        paths: what to look through, see ``gfocal.inference.sources``.
        folder: for all that is written.
        lists: text files with a path in each line.
        score_threshold: least score; None takes the model's own threshold of each class, or else 0.3.
        batch_size: images per pass through the network.
        workers: threads that read images ahead of the network and draw behind it; 0: none.
        images: draw images.
        edges: what is drawn of how sure each edge is.
        formats: of ``coco``, ``yolo``, ``voc``, ``csv``.
        resume: go on with what a run of the same model and settings has left.
        shard: the share of this process; the last one to end writes the results of all.
        console: where to tell; None: standard error.

    Raises:
        DataError: no image is named at all; ``folder`` is a file, holds the journal of another run, or images
            would be drawn into a folder that is looked through; or edges are to be drawn of a detector without edge
            distributions.
    """
    console = console or Console(stderr=True)
    shard = shard or Shard()
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if unknown := [kind for kind in formats if kind not in FORMATS]:
        raise ValueError(f"no format {unknown[0]!r}; there are: {', '.join(FORMATS)}")
    if edges != "none" and not model.box_coder.has_distribution:
        raise DataError(
            f"edges={edges}: {model.built_from['preset']} gives four numbers to a box and says nothing of how sure "
            "it is of an edge; draw boxes alone (--edges none)"
        )
    threshold = score_threshold_of(model, score_threshold)
    run = _Run(model, folder, threshold, batch_size, num_workers, draw, edges, console)
    named = images_named(paths, folder, lists)
    if shard.number == 1 or not named.files:
        for note in named.notes:
            run.tell(f"note: {note}")
        for failure in named.failures:
            run.fail(failure)
    if not named.files:
        raise DataError("there is no image to look through; nothing was written")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder for what is found")
    if draw and any(parent.resolve() == folder.resolve() for parent in {Path(f).parent for f in named.files}):
        raise DataError(
            f"{folder}: holds images to look through, and drawn ones would take their places; "
            "name another folder, or draw none (--no-images)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    header = header_of(model, threshold, draw, edges, shard, named.files)
    if resume and is_finished(folder, named.files, header):
        run.tell(f"{folder}: all {counted(len(named.files), 'image')} are done already")
        return run.failed
    journal, done = open_journal(folder, shard, header, resume)
    with journal:
        if done:
            run.tell(f"note: {counted(len(done), 'image')} done before, in {journal.path}")
        names = stems(named.files, done if shard.count == 1 else {})
        todo = [i for i in shard.of(len(named.files)) if named.files[i] not in done]
        try:
            run.look_through([(i, named.files[i], names[i]) for i in todo], journal)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                _stopped(journal, shard, model.names, folder, formats, header, (len(done), len(named.files)))
            ) from None
        except Exception:
            if done or journal.count:
                safe = counted(len(done) + journal.count, "image")
                run.tell(f"note: {safe} done until here, in {journal.path}; --resume goes on")
            raise
        journal.finish(run.failed)
    if shard.count == 1 and not done and not journal.count:
        journal.path.unlink()
        raise DataError(f"none of {counted(len(named.files), 'image')} could be read; nothing was written")
    ending = f", and drawn in {folder}" if draw else ""
    scores = f"; {told_of_scores(threshold)}"
    if shard.count == 1:
        written = write_results([journal.path], model.names, folder, formats, header)
        for note in written.notes:
            run.tell(f"note: {note}")
        run.tell(str(written) + ending * (written.images > 0) + scores)
        if not run.failed:
            journal.path.unlink()
    else:
        told = merge(folder, formats, whole=False)
        if told is None:
            run.tell(f"shard {shard} is done; the last one to end merges")
        else:
            for note in told.notes:
                run.tell(f"note: {note}")
            run.tell(str(told) + ending + scores)
    return run.failed


@dataclass
class _Run:
    """A run over files, and how many of them failed."""

    model: Detector
    folder: Path
    threshold: float | tuple[float, ...]
    batch_size: int
    num_workers: int
    draw: bool
    edges: Edges
    console: Console
    failed: int = 0

    def tell(self, line: str) -> None:
        say(self.console, line)

    def fail(self, reason: object) -> None:
        self.failed += 1
        fail(self.console, reason)

    def look_through(self, todo: Sequence[tuple[int, str, str]], journal: Journal) -> None:
        """Every file of (place, path, name) through the network, into the journal once all of it is written.

        Stopped, what the network has done is written still.
        """
        least = self.threshold if isinstance(self.threshold, float) else min(self.threshold)
        depth = self.batch_size + 2 * self.num_workers
        drawing: deque[tuple[tuple[int, str, str], Detections, Future[str | None]]] = deque()

        def put_down(keep: int) -> None:
            while len(drawing) > keep:
                (index, file, name), detections, future = drawing[0]
                record = record_of(index, file, name, future.result(), detections)
                journal.add(record)
                drawing.popleft()
                told = ", ".join(f"{count} {kind}" for kind, count in Counter(detections.class_names).items())
                self.tell(f"{file}: {told or 'nothing'}")

        pool = executor(self.num_workers)
        try:
            for batch in self._batches(ahead(pool, self._read, todo, depth)):
                found = detect_batch(self.model, [i for _, i, _ in batch], least, [ready for *_, ready in batch])
                for (item, image, _), one in zip(batch, found, strict=True):
                    detections = one.to("cpu").above(self.threshold)
                    drawing.append((item, detections, pool.submit(self._draw, item[2], image, detections)))
                put_down(2 * self.num_workers)
        finally:
            try:
                put_down(0)
            finally:
                pool.shutdown(cancel_futures=True)

    def _batches(
        self, read: Iterator[tuple[tuple[int, str, str], Future[tuple[Tensor, Tensor]]]]
    ) -> Iterator[list[tuple[tuple[int, str, str], Tensor, Tensor]]]:
        batch: list[tuple[tuple[int, str, str], Tensor, Tensor]] = []
        for item, future in read:
            try:
                batch.append((item, *future.result()))
            except DataError as error:
                self.fail(error)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _read(self, item: tuple[int, str, str]) -> tuple[Tensor, Tensor]:
        image = read_image(item[1])
        return image, prepared(image, self.model.input_settings)

    def _draw(self, name: str, image: Tensor, detections: Detections) -> str | None:
        if not self.draw:
            return None
        from gfocal.visualize import draw_detections

        file = f"{name}.jpg"
        draw_detections(image, detections, 0.0, edges=self.edges).save(self.folder / file, quality=92)
        return file


def merge(folder: Path, formats: Sequence[str] = ("coco",), whole: bool = True) -> Written | None:
    """Write the results of all shards in a folder and take their journals away.

    Raises DataError where shards are missing or not done; with ``whole`` False returns None then, as it does where
    another process merges at this moment.
    """
    if whole:
        (folder / CLAIM).unlink(missing_ok=True)  # of a process that was killed while it merged
    elif complete(folder) is None:  # looked at before the claim: a claim means that somebody does merge
        return None
    with claimed(folder) as mine:
        journals = complete(folder) if mine else None
        if journals is None:
            if whole:
                raise DataError(f"{folder}: {_what_lacks(folder)}")
            return None
        header = read_header(journals[0])
        written = write_results(journals, header["names"], folder, formats, header)
        for journal in journals:
            journal.unlink()
        return written


def _what_lacks(folder: Path) -> str:
    found = journals_in(folder)
    if not found:
        return "no journal of a shard is here; name the folder that --out named"
    lacking = missing(found)
    begun = f"shards {', '.join(lacking)} have not begun" if lacking else "not every shard has come to its end"
    return f"{begun}; run what lacks with --resume, the last one to end merges"


def _stopped(
    journal: Journal,
    shard: Shard,
    names: Sequence[str],
    folder: Path,
    formats: Sequence[str],
    header: dict[str, object],
    counts: tuple[int, int],
) -> str:
    """Write what was found until Ctrl-C, and say how to go on."""
    before, total = counts
    count = before + journal.count
    if not count:
        journal.path.unlink()
        return "stopped before an image was done; nothing was written"
    told = f"stopped after {count:,} of {counted(len(shard.of(total)), 'image')}"
    if shard.count > 1:
        return f"{told} of shard {shard}; the same command goes on with --resume"
    places = write_results([journal.path], names, folder, formats, header).places
    return f"{told}; what was found until then is in {', '.join(map(str, places))}; --resume goes on"
