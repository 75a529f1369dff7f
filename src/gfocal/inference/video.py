"""Detection in videos: a json line for each frame, an annotated video, and tracks; resumable when killed."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from gfocal.console import Bar, fail, note, progress_bar, say
from gfocal.data.classes import ClassMap
from gfocal.data.threads import start_workers, submit_ahead
from gfocal.errors import DataError
from gfocal.inference.frames import Frame, Video, open_video, take_newest
from gfocal.inference.intervals import IntervalWidths, choose_coverage, usable_calibration
from gfocal.inference.journal import Journal, Record, read_records
from gfocal.inference.results import describe_threshold
from gfocal.inference.resume import run_header, unique_names
from gfocal.inference.sources import video_kind, without_password
from gfocal.inference.stages import report_classes
from gfocal.inference.track_counts import TrackCounts
from gfocal.inference.tracking import LOWEST_SCORE, Tracker
from gfocal.inference.video_lines import drawable, make_line, open_lines, sure_boxes
from gfocal.inference.video_writer import VideoWriter
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import ImageBatch, computed_precision, predict, resolve_threshold, stack_inputs
from gfocal.structures import Detections
from gfocal.text import pluralize
from gfocal.visualize.annotate import DrawStyle

SECONDS_BETWEEN_LINES = 60.0  # where the console is no terminal, and so has no progress bar

Key = tuple[Frame, Tensor | None]  # a frame, and its pixels where they are drawn on


@dataclass
class VideoRun:
    """What is done with every video of a run."""

    model: AnyDetector
    folder: Path
    threshold: float | tuple[float, ...]  # for all classes, or of each
    batch_size: int = 1
    num_workers: int = 2
    draw: bool = True
    style: DrawStyle = field(default_factory=DrawStyle)
    console: Console = field(default_factory=lambda: Console(stderr=True))
    classes: ClassMap | None = None  # that are reported; None: all
    precision: Precision = "auto"
    compiled: bool = False
    coverage: float | None = None  # of the intervals of edges; None: no intervals
    every: int = 1  # frames from one that is used to the next
    track: bool = False
    resume: bool = False


def detect_videos(
    model: AnyDetector,
    sources: Sequence[str],
    folder: Path,
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    draw: bool = True,
    style: DrawStyle | None = None,
    classes: ClassMap | None = None,
    every: int = 1,
    track: bool = False,
    resume: bool = False,
    console: Console | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
    coverage: float | None = None,
) -> int:
    """Detect objects in videos, one after another. Returns how many could not be read to their end.

    ``folder`` gets NAME.jsonl, a line for each frame (see ``gfocal.inference.video_lines``), and NAME.mp4, the frames
    with what was found. Memory does not grow with the length of a video. The arguments that ``detect_files`` has too
    mean the same.

    Args:
        model: a detector.
        sources: files, streams and cameras, see ``gfocal.inference.sources.video_kind``.
        folder: for everything that is written.
        score_threshold: minimum score; None takes the model's own threshold of each class, or else 0.3.
        batch_size: frames per pass through the network.
        num_workers: threads that prepare frames ahead of the network and draw behind it; 0: none.
        draw: whether to write the annotated video.
        style: what is drawn and how.
        classes: which of the model's classes are reported, under which names.
        every: use the first of so many frames; the annotated video has these alone.
        track: give each object an id; a calibrated model says how far each edge of each box is to be trusted.
        resume: continue behind the last whole line of an interrupted run.
        console: for messages.
        precision: number format of the network.
        compiled: compile the network first.
        coverage: of the intervals of edges.

    Raises:
        MissingExtraError: a package for video or tracks is not installed.
        DataError: a video cannot be opened, or has no frames; a run was stopped here, and ``resume`` is not given; a
            run here had other settings, or is of a live source; or a live source is to be resumed.
    """
    style = style or DrawStyle()
    coverage = choose_coverage(model, coverage, is_drawn=draw and style.edges == "interval")
    if draw and style.edges != "none" and not model.box_coder.has_distribution:
        raise DataError(f"edges={style.edges}: this detector predicts no distribution of an edge; --edges none")
    run = VideoRun(model, folder, resolve_threshold(model, score_threshold), batch_size, num_workers, draw, style)
    run.console = console or run.console
    run.classes, run.precision, run.compiled, run.coverage = classes, precision, compiled, coverage
    run.style = style if coverage is None else replace(style, coverage=coverage)
    run.every, run.track, run.resume = every, track, resume
    folder.mkdir(parents=True, exist_ok=True)
    names = unique_names([_stem(source) for source in sources], {})
    return sum(_detect_one(run, source, name) for source, name in zip(sources, names, strict=True))


def _stem(source: str) -> str:
    """What the results of a source are named by."""
    if video_kind(source) == "file":
        return source.replace("\\", "/").rsplit("/", 1)[-1].split("?")[0]
    return "".join(c if c.isalnum() else "_" for c in source.split("@")[-1].split("://")[-1]).strip("_") or "stream"


def _detect_one(run: VideoRun, source: str, name: str) -> bool:
    """Whether a video could not be read to its end."""
    kind = video_kind(source) or "file"
    if run.resume and kind != "file":
        raise DataError(f"{without_password(source)}: a live source cannot be resumed, as its past frames are gone")
    with open_video(source, kind) as video:
        header = _header(run, video)
        lines = open_lines(run.folder / f"{name}.jsonl", header, run.resume, kind != "file")
        if lines is None:
            say(run.console, f"{run.folder / name}.jsonl: all of {video.name} is done already")
            return False
        journal, done = lines
        target = run.folder / f"{name}.mp4"
        if target.exists() and kind == "file" and os.path.samefile(target, source):
            raise DataError(f"{target}: is the video itself; name another folder (--out)")
        with journal:
            _OneVideo(run, video, journal, target).process(done)
            if not journal.count and not done:
                journal.path.unlink()
                raise DataError(f"{video.name}: has no frame that can be read ({video.failure or 'it is empty'})")
            if not video.failure:
                journal.finish(video.num_broken)
    return bool(video.failure or video.num_broken)


def _header(run: VideoRun, video: Video) -> dict[str, Any]:
    """What the results depend on."""
    computed = computed_precision(run.model, run.precision)
    about = run_header(run.model, run.threshold, run.draw, run.style, None, run.classes, computed, run.coverage)
    size = os.path.getsize(video.name) if os.path.isfile(video.name) else None
    source = {"file": video.name, "bytes": size, "time_base": str(video.time_base), "rate": str(video.rate)}
    return about | {"every": run.every, "track": run.track, "video": source}


class _OneVideo:
    """The way of the frames of one video: decoded, detected in, tracked, drawn, written."""

    def __init__(self, run: VideoRun, video: Video, journal: Journal, target: Path) -> None:
        self.run, self.video, self.journal, self.target = run, video, journal, target
        calibration = usable_calibration(run.model)
        correlation = None if calibration is None else calibration.correlation
        self.tracker = Tracker(float(video.rate / run.every), correlation) if run.track else None
        self.names = tuple(run.model.names if run.classes is None else run.classes.names)
        self.num_boxes = 0
        self.tracks = TrackCounts()
        self.widths = None if calibration is None else IntervalWidths()
        self.writer: VideoWriter | None = None
        self._waiting: deque[tuple[int, Record | None, Future[Image.Image | None]]] = deque()
        self._said = time.monotonic()

    def process(self, num_done: int) -> None:
        """All frames; those that have a line already are not detected in again, but are drawn and tracked."""
        run, video = self.run, self.video
        if num_done:
            drawn = ", which are drawn again" * run.draw
            note(run.console, f"{pluralize(num_done, 'frame')} done before, in {self.journal.path}{drawn}")
        used = (frame for frame in video.frames() if frame.index % run.every == 0)
        frames = used if video.kind == "file" else take_newest(used, video.stop)
        total = None if video.num_frames is None else -(-video.num_frames // run.every)
        temporary = self.target.with_name(f".{self.target.name}.tmp")
        try:
            with start_workers(run.num_workers) as pool, progress_bar(run.console, video.name, total) as bar:
                try:
                    if run.draw:
                        self.writer = VideoWriter(temporary, video.time_base, video.rate / run.every)
                    self._repeat(frames, num_done, pool, bar)
                    self._detect(frames, pool, bar)
                finally:
                    self._write(0, bar)
                    if self.writer is not None:
                        self.writer.close()
                    if hasattr(frames, "close"):
                        frames.close()
        except KeyboardInterrupt:
            self._keep(temporary)
            if video.kind == "file":
                raise KeyboardInterrupt(self._describe_stop(num_done)) from None
        else:
            self._keep(temporary)
        finally:
            temporary.unlink(missing_ok=True)
        self._report(num_done)

    def _repeat(self, frames: Iterator[Frame], num_done: int, pool: Executor, bar: Bar) -> None:
        """Frames of an earlier run, by their lines."""
        for record, frame in zip(
            islice((r for r, _ in read_records(self.journal.path)), num_done), frames, strict=False
        ):
            if (record["frame"], record["pts"]) != (frame.index, frame.pts):
                raise DataError(
                    f"{self.journal.path}: frame {record['frame']} had time {record['pts']}, and now frame "
                    f"{frame.index} has {frame.pts}: another video? remove this file to start again"
                )
            if self.tracker is not None:
                self.tracker.update(record["boxes"], record["is_sure"], record.get("edge_std"), record["time"])
            image = frame.read_pixels() if self.writer is not None else None
            drawn = pool.submit(self._draw, image, drawable(record, self.names), record)
            self._waiting.append((frame.pts, None, drawn))
            self._count(record)
            self._write(2 * self.run.num_workers, bar)

    def _detect(self, frames: Iterator[Frame], pool: Executor, bar: Bar) -> None:
        run = self.run
        sure = run.threshold if isinstance(run.threshold, float) else min(run.threshold)
        lowest = min(sure, LOWEST_SCORE) if run.track else sure
        ahead = run.num_workers + 1 if self.video.kind == "file" else 1
        read = submit_ahead(pool, self._prepare, _groups(frames, run.batch_size), ahead)
        batches = (future.result() for _, future in read)
        for batch, found in predict(run.model, batches, lowest, run.precision, run.compiled):
            for (frame, image), one in zip(batch.keys, found, strict=True):
                candidates = report_classes(one.to("cpu"), run.classes, run.model.decode_settings)
                detections, record = self._follow(frame, candidates)
                # As a resumed run would draw them, whose numbers are rounded; lines have no distributions, though.
                shown = drawable(record, self.names) if run.style.edges == "none" else detections
                drawn = pool.submit(self._draw, image, shown, record)
                self._waiting.append((frame.pts, record, drawn))
                self._count(record)
            self._write(2 * run.num_workers, bar)

    def _prepare(self, frames: Sequence[Frame]) -> ImageBatch[Key]:
        images = [frame.read_pixels() for frame in frames]
        keys = [(frame, image if self.run.draw else None) for frame, image in zip(frames, images, strict=True)]
        return stack_inputs(keys, images, self.run.model.input_settings)

    def _follow(self, frame: Frame, candidates: Detections) -> tuple[Detections, Record]:
        """The detections of a frame that are reported, and its line."""
        is_sure = sure_boxes(candidates, self.run.threshold)
        if self.tracker is None:
            found = candidates.select(is_sure)
            return found, make_line(frame, found, self.run.coverage)
        whole = make_line(frame, candidates, None)
        ids = self.tracker.update(whole["boxes"], is_sure.tolist(), whole.get("edge_std"), whole["time"])
        keep = is_sure | torch.tensor([one is not None for one in ids], dtype=torch.bool)
        found = candidates.select(keep)
        record = make_line(frame, found, self.run.coverage)
        record["track_ids"] = [one for one, kept in zip(ids, keep.tolist(), strict=True) if kept]
        record["is_sure"] = is_sure[keep].tolist()
        return found, record

    def _count(self, record: Record) -> None:
        self.num_boxes += sum(record.get("is_sure", [True] * len(record["labels"])))
        if self.run.track:
            self.tracks.add(record)
        if self.widths is not None:
            self.widths.add(record)

    def _draw(self, image: Tensor | None, found: Detections, record: Record) -> Image.Image | None:
        """The boxes of a frame above the threshold: those that only continue a track are in its line alone."""
        if image is None or self.writer is None:
            return None
        if "track_ids" not in record:
            return self.run.style.draw(image, found)
        ids = [one for one, is_sure in zip(record["track_ids"], record["is_sure"], strict=True) if is_sure]
        return self.run.style.draw(image, found.select(torch.tensor(record["is_sure"], dtype=torch.bool)), ids)

    def _write(self, max_waiting: int, bar: Bar) -> None:
        """Frames that are drawn, in their order, to the video and the journal."""
        while len(self._waiting) > max_waiting:
            pts, record, drawn = self._waiting.popleft()
            image = drawn.result()
            if self.writer is not None and image is not None:
                self.writer.add(image, pts)
            if record is not None:
                self.journal.add(record)
            bar.advance(1)
            self._say_progress(bar, pts)

    def _say_progress(self, bar: Bar, pts: int) -> None:
        now = time.monotonic()
        if self.run.console.is_terminal or now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said = now
        task = bar.progress.tasks[0]
        left = "" if task.time_remaining is None else f", {task.time_remaining:.0f} s left"
        of = "" if task.total is None else f" of {task.total:,.0f}"
        at = float(pts * self.video.time_base)
        say(self.run.console, f"{self.video.name}: {task.completed:,.0f}{of} frames, at {at:.1f} s{left}")

    def _keep(self, temporary: Path) -> None:
        if self.writer is not None and not self.writer.is_empty:
            os.replace(temporary, self.target)

    def _describe_stop(self, num_before: int) -> str:
        count = num_before + self.journal.count
        return f"stopped after {pluralize(count, 'frame')}; they are in {self.journal.path}; --resume continues"

    def _report(self, num_before: int) -> None:
        run, video = self.run, self.video
        if video.failure:
            fail(run.console, f"{video.name}: reading ended before the end: {video.failure}")
        if video.num_broken:
            fail(run.console, f"{video.name}: {pluralize(video.num_broken, 'packet')} could not be decoded, left out")
        if video.num_untimed:
            note(run.console, f"{video.name}: {pluralize(video.num_untimed, 'frame')} without a time of its own")
        if self.writer is not None and self.writer.offset:
            shift = float(self.writer.offset * video.time_base)
            note(run.console, f"{self.target}: begins at 0, {shift:g} s later than {video.name} and its lines")
        paths = ", ".join(map(str, [self.journal.path, *([self.target] if run.draw else [])]))
        count = pluralize(num_before + self.journal.count, "frame")
        found = pluralize(self.num_boxes, "box", "boxes") + (f", {self.tracks}," if run.track else "")
        say(run.console, f"{found} in {count} of {video.name}: {paths}; {describe_threshold(run.threshold)}")
        if self.widths is not None and (intervals := self.widths.describe(run.coverage)) is not None:
            note(run.console, intervals)


def _groups(frames: Iterator[Frame], batch_size: int) -> Iterator[list[Frame]]:
    """Successive frames that go through the network together: those of one size."""
    group: list[Frame] = []
    for frame in frames:
        if group and (len(group) == batch_size or group[0].size != frame.size):
            yield group
            group = []
        group.append(frame)
        if len(group) == batch_size:
            yield group
            group = []
    if group:
        yield group
