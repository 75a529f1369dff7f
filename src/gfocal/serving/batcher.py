"""Images that wait, are read by threads, and go through the network in batches.

An image is submitted as the bytes of a file. Threads decode it and resize it to the input of the network. One thread
runs the network: on the oldest image that is ready, together with others of the same size. It waits for more of them
only while images are being read, so that a client alone has its answer at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import torch

from gfocal.data.images import EncodedImage, image_header, read_pixels, value_bounds
from gfocal.data.preprocess import InputSettings
from gfocal.data.value_range import MeasuredValues, Range, choose_range
from gfocal.errors import GFocalError
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import ImageBatch, predict, stack_inputs
from gfocal.serving.bounds import Bounds
from gfocal.structures import Detections

AHEAD = 2  # batches that are decoded ahead of the network: more would only fill memory

log = logging.getLogger("gfocal.serving")


class QueueFullError(Exception):
    """There is no room for more images."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the queue is full")
        self.seconds = seconds  # until there is likely to be room


class ClosedError(Exception):
    """The service is stopping, or what computes has ended."""


@dataclass(frozen=True)
class Timings:
    """Where the time of an image went, in seconds."""

    queue: float  # it waited, for a thread that reads and for the network
    read: float  # it was decoded, resized and normalized
    network: float  # its batch passed the network, decoding and NMS included
    batch_size: int


@dataclass(frozen=True)
class Found:
    """The result of an image."""

    detections: Detections  # those above the lowest threshold of the batch, on the CPU
    timings: Timings


class Observer(Protocol):
    """What is told of each image and each batch, for instance a set of meters. It is called by several threads."""

    def image_read(self, seconds: float) -> None:
        """An image was decoded."""

    def batch_done(self, size: int, seconds: float) -> None:
        """A batch passed the network."""


@dataclass(eq=False)
class _Job:
    """An image on its way."""

    image: EncodedImage
    threshold: float
    future: Future[Found] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    read: tuple[float, float] = (0.0, 0.0)  # beginning and end
    batch: ImageBatch[int] | None = None  # of this image alone


class Batcher:
    """Detects in images that come from many threads.

    Args:
        model: any detector.
        bounds: how many images wait and go together, and how many threads read.
        precision: number format of the network, see ``gfocal.models.precision``.
        compiled: compile the network first (torch.compile).
        value_range: of images of more than 8 bits; None: as ``model.detect`` chooses it for each image.
        observer: is told what is done.
    """

    def __init__(
        self,
        model: AnyDetector,
        bounds: Bounds,
        precision: Precision = "auto",
        compiled: bool = False,
        value_range: Range | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.model, self.bounds, self.precision, self.compiled = model, bounds, precision, compiled
        self.value_range, self.observer = value_range, observer
        self.changed = threading.Condition()
        self.unread: deque[_Job] = deque()
        self.ready: deque[_Job] = deque()
        self.num_inside = 0  # images that were submitted and have no result
        self.num_reading = 0
        self.pass_began: float | None = None  # of the batch that is in the network
        self.seconds_per_image = 0.1  # a running mean
        self.is_closed = False
        self.num_threads = torch.get_num_threads()
        self.threads = [threading.Thread(target=self._read_all, daemon=True) for _ in range(bounds.readers)]
        self.threads.append(threading.Thread(target=self._detect_all, daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in self.threads:
            thread.start()

    def close(self, timeout: float | None = None) -> None:
        """Take no more images, finish those that are inside, and end the threads."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self.threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        torch.set_num_threads(self.num_threads)  # of threads that are started later

    def is_stuck(self, seconds: float) -> bool:
        """Whether a thread has ended before its time, or a batch is in the network for longer than this."""
        began = self.pass_began
        is_long = began is not None and time.perf_counter() - began > seconds
        return is_long or (not self.is_closed and not all(thread.is_alive() for thread in self.threads))

    def submit(self, images: Sequence[EncodedImage], threshold: float) -> list[Future[Found]]:
        """The results of some images, in their order, later; one that is cancelled is not computed.

        Each gives an ImageError for what cannot be read, or any error of the network.

        Raises:
            QueueFullError: there is no room for all of them; none is taken.
            ClosedError: the service is stopping.
        """
        jobs = [_Job(image, threshold) for image in images]
        with self.changed:
            if self.is_closed:
                raise ClosedError
            if self.num_inside + len(jobs) > self.bounds.max_queue:
                raise QueueFullError(self.num_inside * self.seconds_per_image)
            self.num_inside += len(jobs)
            self.unread.extend(jobs)
            self.changed.notify_all()
        for job in jobs:  # not under the lock: one that is done calls back at once
            job.future.add_done_callback(self._leave)
        return [job.future for job in jobs]

    def _leave(self, _: Future[Found]) -> None:
        with self.changed:
            self.num_inside -= 1

    def _read_all(self) -> None:
        """Of a thread: decode images."""
        torch.set_num_threads(1)
        while True:
            with self.changed:
                while not self.unread or len(self.ready) >= AHEAD * self.bounds.max_batch:
                    if self.is_closed and not self.unread:
                        return
                    self.changed.wait()
                job = self.unread.popleft()
                self.num_reading += 1
            is_read = not job.future.cancelled() and self._read(job)
            with self.changed:
                self.num_reading -= 1
                if is_read:
                    self.ready.append(job)
                self.changed.notify_all()

    def _read(self, job: _Job) -> bool:
        """Decode an image; whether it can be."""
        start = time.perf_counter()
        settings = self.model.input_settings
        try:
            value_range = self.value_range or range_of(job.image, settings)
            pixels = read_pixels(job.image, value_range=value_range)
            job.batch = stack_inputs([0], [pixels], settings)
        except Exception as error:
            if not isinstance(error, GFocalError):
                log.exception("an image cannot be read")
            _fail(job, error)
            return False
        job.read = start, time.perf_counter()
        if self.observer is not None:
            self.observer.image_read(job.read[1] - start)
        return True

    def _detect_all(self) -> None:
        """Of a thread: run the network."""
        torch.set_num_threads(self.num_threads)
        while jobs := self._next_batch():
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._detect(running)

    def _next_batch(self) -> list[_Job]:
        """The oldest image that is ready, and others of its size; empty at the end."""
        with self.changed:
            while not self.ready:
                if self.is_closed and not self.unread and not self.num_reading:
                    return []
                self.changed.wait()
            end = time.perf_counter() + self.bounds.max_wait
            size = _size(self.ready[0])
            while True:
                jobs = [job for job in self.ready if _size(job) == size][: self.bounds.max_batch]
                rest = end - time.perf_counter()
                if len(jobs) == self.bounds.max_batch or not (self.num_reading or self.unread) or rest <= 0:
                    break
                self.changed.wait(rest)
            chosen = set(jobs)
            self.ready = deque(job for job in self.ready if job not in chosen)
            self.changed.notify_all()  # there is room for more
            return jobs

    def _detect(self, jobs: Sequence[_Job]) -> None:
        """Detect in a batch. Where it fails, in each image alone: one fails nobody but itself."""
        self.pass_began = start = time.perf_counter()
        try:
            found = self._predict(jobs)
        except Exception as error:
            if len(jobs) == 1:
                log.exception("an image cannot be detected in")
                jobs[0].future.set_exception(error)
            else:
                for job in jobs:
                    self._detect([job])
            return
        finally:
            self.pass_began = None
        end = time.perf_counter()
        self.seconds_per_image += 0.1 * ((end - start) / len(jobs) - self.seconds_per_image)
        if self.observer is not None:
            self.observer.batch_done(len(jobs), end - start)
        for job, detections in zip(jobs, found, strict=True):
            began, ended = job.read
            waited = (began - job.submitted) + (start - ended)
            job.future.set_result(Found(detections, Timings(waited, ended - began, end - start, len(jobs))))

    def _predict(self, jobs: Sequence[_Job]) -> list[Detections]:
        batches = [job.batch for job in jobs if job.batch is not None]
        batch = ImageBatch(
            keys=tuple(range(len(batches))),
            images=torch.cat([one.images for one in batches]),
            sizes=torch.cat([one.sizes for one in batches]),
            original_sizes=torch.cat([one.original_sizes for one in batches]),
        )
        lowest = min(job.threshold for job in jobs)
        [(_, found)] = predict(self.model, [batch], lowest, self.precision, self.compiled)
        return [one.to("cpu") for one in found]


def range_of(image: EncodedImage, settings: InputSettings) -> Range | None:
    """The values of an image of more than 8 bits that become black and white, as ``model.detect`` chooses them."""
    if not image_header(image).is_deep:
        return None
    low, high = value_bounds(image)
    own = settings.value_range, settings.is_value_range_stated
    return choose_range(MeasuredValues(low, high, 1, 1), None, *own).value_range


def _size(job: _Job) -> tuple[int, ...]:
    assert job.batch is not None
    return tuple(job.batch.images.shape[-2:])


def _fail(job: _Job, error: Exception) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
