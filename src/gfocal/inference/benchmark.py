"""How fast a detector is on this machine, stage by stage: each engine in a process of its own, in turns.

Processes of their own, as engines disturb each other: once OpenVINO has compiled a model in a process, torch computes
there with one thread. In turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gfocal.data.images import read_pixels
from gfocal.errors import GFocalError, ProcessEndedError
from gfocal.inference.journal import Journal
from gfocal.inference.results import make_record
from gfocal.interop.any_model import load
from gfocal.models.exported import ExportedDetector
from gfocal.models.inference_copy import inference_network
from gfocal.models.precision import Precision
from gfocal.models.predict import predict_batch, resolve_threshold, stack_inputs

STAGES = ("read", "preprocess", "network", "decode", "write")
ENGINES = {".onnx": "onnxruntime", ".xml": "openvino"}  # by the suffix of an exported file
LATENCY = ("preprocess", "network", "decode")  # from pixels to detections
WARM_UP = 2  # rounds that are not counted

Seconds = dict[str, float]  # of each stage of one batch


@dataclass(frozen=True)
class Job:
    """A detector to be measured."""

    model: str  # a model file, the folder of a run, a name of published weights, or an exported file
    precision: Precision  # of an exported file it is the file's own
    images: tuple[str, ...]
    batch_size: int = 1
    size: tuple[int, int] | None = None  # height and width of the network's input; None: as the model has it
    device: str = "cpu"  # of a model that is not exported


@dataclass
class Measured:
    """What was measured of a job."""

    job: Job
    engine: str
    precision: str
    batches: list[Seconds] = field(default_factory=list)
    peak_memory: int = 0  # bytes of the whole process

    @property
    def latencies(self) -> list[float]:
        """Seconds of each batch from its pixels to its detections, in ascending order."""
        return sorted(sum(batch[stage] for stage in LATENCY) for batch in self.batches)

    @property
    def images_per_second(self) -> float:
        """Of all stages, one after the other; ``gfocal detect`` reads the next images meanwhile."""
        return self.job.batch_size / median(sum(batch.values()) for batch in self.batches)

    @property
    def shares(self) -> dict[str, float]:
        """Of each stage in the time of all, by the medians."""
        medians = {stage: median(batch[stage] for batch in self.batches) for stage in STAGES}
        whole = sum(medians.values())
        return {stage: seconds / whole for stage, seconds in medians.items()}


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def measure(jobs: Sequence[Job], rounds: int) -> list[Measured]:
    """Measure detectors in turns: in each round every one goes through all of its images.

    Raises:
        ProcessEndedError: a process ended, which usually means that memory was short.
        GFocalError: a model or an image cannot be read.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for job in jobs:
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, job), daemon=True)
            process.start()
            there.close()
            worker = _Worker(job, process, here)
            workers.append(worker)
            worker.measured = Measured(job, *worker.receive())
        for number in range(WARM_UP + rounds):
            for worker in workers:
                batches = worker.ask("round")
                if number >= WARM_UP:
                    worker.measured.batches += batches
        for worker in workers:
            worker.measured.peak_memory = worker.ask("memory")
    finally:
        for worker in workers:
            worker.connection.close()  # at which it ends
            worker.process.join(5)
            worker.process.kill()
    return [worker.measured for worker in workers]


@dataclass
class _Worker:
    job: Job
    process: Any
    connection: Connection
    measured: Measured = field(init=False)

    def ask(self, request: str) -> Any:
        self.connection.send(request)
        return self.receive()

    def receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            raise ProcessEndedError(
                f"{self.job.model}: the process that measures it ended (exit code {self.process.exitcode}); was "
                "there enough memory?"
            ) from error
        if isinstance(answer, GFocalError):
            raise answer
        return answer


def serve(connection: Connection, job: Job) -> None:
    """Of a process: measure a job on request, until the other end of the connection is closed."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            stages = Stages(job, Path(folder))
            with stages.journal:
                connection.send((stages.engine, stages.precision))
                while True:
                    request = connection.recv()
                    connection.send(stages.run() if request == "round" else peak_memory())
    except GFocalError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


class Stages:
    """A detector whose stages are timed, one after the other.

    Args:
        job: what to measure.
        folder: for what is written.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        model = load(job.model, job.device)
        if job.size is not None:
            short, long = sorted(job.size)
            model.input_settings = replace(model.input_settings, short_side=short, long_side=long)
        self.job, self.model = job, model
        lowest = resolve_threshold(model, None)
        lowest = lowest if isinstance(lowest, float) else min(lowest)
        self.settings = replace(model.decode_settings, score_threshold=lowest)
        self.journal = Journal(folder / "records.jsonl", {})
        if isinstance(model, ExportedDetector):
            self.engine, self.precision = ENGINES[model.path.suffix.lower()], model.metadata.precision
            self.network = model.engine = Timed(model.engine)
        else:
            network = inference_network(model, job.precision)
            self.engine = "torch"
            self.precision = "float32" if network is None else network.precision
            self.network = Timed(model.eval() if network is None else network)

    def run(self) -> list[Seconds]:
        """Detect in all images once; the seconds of each batch."""
        size = self.job.batch_size
        return [self._batch(self.job.images[start : start + size]) for start in range(0, len(self.job.images), size)]

    def _batch(self, paths: Sequence[str]) -> Seconds:
        times = [time.perf_counter()]
        images = [read_pixels(path, value_range=self.model.input_settings.value_range) for path in paths]
        times.append(time.perf_counter())
        batch = stack_inputs(paths, images, self.model.input_settings)
        times.append(time.perf_counter())
        if isinstance(self.model, ExportedDetector):
            found = self.model.predict_batch(batch, self.settings)
        else:
            found = predict_batch(self.model, self.network, batch, self.settings)
        found = [one.to("cpu") for one in found]
        times.append(time.perf_counter())
        for i, (path, one) in enumerate(zip(paths, found, strict=True)):
            self.journal.add(make_record(i, path, Path(path).stem, None, one))
        times.append(time.perf_counter())
        read, preprocess, both, write = (end - start for start, end in pairwise(times))
        network = self.network.seconds
        return dict(zip(STAGES, (read, preprocess, network, both - network, write), strict=True))


class Timed:
    """A network that measures its last call."""

    def __init__(self, network: Callable[..., Any]) -> None:
        self.network, self.seconds = network, 0.0
        self.metadata: Any = getattr(network, "metadata", None)  # of an exported file

    def __call__(self, images: Any) -> Any:
        """What the network gives for images."""
        start = time.perf_counter()
        found = self.network(images)
        if isinstance(images, torch.Tensor) and images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        self.seconds = time.perf_counter() - start
        return found


def peak_memory() -> int:
    """Bytes of memory that this process held at most."""
    try:
        # Not of getrusage, which counts what the process that started this one had.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
