"""Detection in many images on a Ray cluster: parts of the job go to actors, each with a model and its own threads."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from gfocal.console import fail, note, progress_bar, say
from gfocal.data.classes import ClassMap
from gfocal.data.images import max_pixels, set_max_pixels
from gfocal.data.value_range import Range
from gfocal.errors import DataError, MissingExtraError
from gfocal.inference.batches import DetectBatch
from gfocal.inference.intervals import choose_coverage
from gfocal.inference.journal import JOURNAL_FILE, Journal, Record, describe_difference
from gfocal.inference.labeling import Order, check_tools
from gfocal.inference.results import WrittenResults, record_columns, write_results
from gfocal.inference.resume import run_header, unique_names
from gfocal.models.exported import AnyDetector, ExportedDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import computed_precision, resolve_threshold
from gfocal.text import pluralize
from gfocal.visualize.annotate import DrawStyle

PART_SIZE = 256  # images of a part: what an actor that is killed has to do again
_MAX_BLOCKS = 4000  # of the table of parts; Ray plans a task for each
_AT_ONCE = 2  # parts that an actor has: one in work and the next; more would be waiting when others have none left
_SHOWN = 5  # failed images that the terminal names


@dataclass(frozen=True)
class Workers:
    """The processes of a job.

    Attributes:
        count: at most so many; None: as many as the cluster has CPUs for.
        threads: of each, which are CPUs to Ray.
        gpus: of each, also a share of one; 0: none.
        part_size: images of a part, which is what a process does at once, and a file of results.
        batch_size: images per pass through the network.
    """

    count: int | None = None
    threads: int = 1
    gpus: float = 0.0
    part_size: int = PART_SIZE
    batch_size: int = 1


class DetectPart:
    """An actor's work: read a part, detect in its images, write its file."""

    def __init__(self, model: AnyDetector | str, out: str, size: int, limit: int | None, **options: Any) -> None:
        set_max_pixels(limit)
        self.out, self.size = out, size
        self.detect = DetectBatch(model, **options)

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[int]]:
        """Rows of one text each, a part as json -> how many images it has, and how many failed."""
        from gfocal.inference import parts

        done: dict[str, list[int]] = {"start": [], "count": []}
        for text in rows["part"]:
            part = json.loads(str(text))
            if not parts.is_part_done(self.out, part["start"]):  # by an actor that was killed before it said so
                columns = self.detect(parts.read_part(part, self.size))
                parts.write_part(self.out, columns, part["start"])
            done["start"].append(part["start"])
            done["count"].append(part["count"])
        return done


def detect_on_ray(
    model: AnyDetector,
    sources: Sequence[str],
    out: str,
    *,
    lists: Sequence[Path] = (),
    address: str | None = None,
    workers: Workers | None = None,
    score_threshold: float | None = None,
    value_range: Range | None = None,
    classes: ClassMap | None = None,
    precision: Precision = "auto",
    coverage: float | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> int:
    """Detect objects in images on a Ray cluster; returns how many images could not be read.

    ``OUT/parts/*.parquet`` have a row for each image, in the order of the sources: the columns of ``DetectBatch``
    and ``index``, the place in the job. An image that cannot be read is a row with its reason.

    Args:
        model: a detector; an exported file must be at the same path on all machines.
        sources: image files, folders, patterns, @lists, parquet files with a column of paths or of file contents, or
            addresses of such (s3://...). Paths must be the same on all machines.
        out: a folder that all machines share, or an address.
        lists: text files with a path in each line.
        address: of a running cluster; None: that of $RAY_ADDRESS, else of a Ray that runs here, else a new one.
        workers: processes, their threads and what they do at once.
        score_threshold: minimum score; None: the model's own of each class, else 0.3.
        value_range: of images of more than 8 bits; None: the model's, else 0 and 65535.
        classes: which of the model's classes are reported, under which names; None: all.
        precision: number format of the network.
        coverage: of a calibrated model, that of the intervals of edges; None: 0.9.
        resume: do only the parts that are not done.
        console: for messages; None: standard error.

    Raises:
        DataError: no image is found; the folder has another job, or an unfinished one without ``resume``.
        MissingExtraError: ray or pyarrow is not installed.
    """
    require_ray()
    from gfocal.inference import parts as stored

    console, workers = console or Console(stderr=True), workers or Workers()
    coverage = choose_coverage(model, coverage)
    threshold = resolve_threshold(model, score_threshold)
    before = stored.read_run(out)
    size = workers.part_size if before is None else int(before.get("part_size", workers.part_size))
    parts, notes = stored.list_parts(sources, lists, Path(out), size)
    for text in notes:
        note(console, text)
    computed = computed_precision(model, precision)
    header = run_header(model, threshold, False, DrawStyle(), value_range, classes, computed, coverage)
    header = json.loads(json.dumps(header | {"part_size": size, "files": _digest(parts)}))
    _begin(out, before, header, resume)
    done = stored.finished_parts(out)
    rest = [part for part in parts if part["start"] not in done]
    if len(rest) < len(parts):
        count = sum(part["count"] for part in parts) - sum(part["count"] for part in rest)
        note(console, f"{pluralize(count, 'image')} done before, in {out}/{stored.FOLDER}")
    options = {
        "score_threshold": threshold,
        "batch_size": workers.batch_size,
        "value_range": value_range,
        "precision": precision,
        "num_threads": workers.threads,
        "classes": classes,
        "coverage": coverage,
        "decode_settings": model.decode_settings if isinstance(model, ExportedDetector) else None,
        "device": "cuda" if workers.gpus else "cpu",
    }
    where = out if "://" in out else str(Path(out).absolute())
    if rest:
        _run(rest, [_sendable(model), where, size, max_pixels()], options, workers, address, console)
    return _report(out, console)


def _sendable(model: AnyDetector) -> AnyDetector | str:
    """What goes to the workers: weights; of an exported file, whose engine cannot be sent, its path."""
    return str(model.path.absolute()) if isinstance(model, ExportedDetector) else model.to("cpu").eval()


def _digest(parts: Sequence[Mapping[str, Any]]) -> str:
    """A hash of the images of a job, 16 characters."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(json.dumps(part).encode() + b"\n")
    return sha.hexdigest()[:16]


def require_ray() -> None:
    """Raise MissingExtraError where ray or pyarrow is not installed."""
    try:
        import pyarrow
        import ray.data  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"--engine ray needs ray and pyarrow: pip install 'gfocal[ray]' ({error})") from error
    assert pyarrow


def _begin(out: str, before: Mapping[str, Any] | None, header: Mapping[str, Any], resume: bool) -> None:
    """Create the folder of a new job, or find that the same one is continued."""
    from gfocal.inference import parts

    if before is None:
        parts.write_run(out, header)
        return
    if (why := describe_difference(before, header)) is not None:
        raise DataError(f"{out}: of a job with other images or settings: {why}; name another folder")
    if not resume:
        raise DataError(f"{out}: has this job already; continue it (--resume), or name another folder")


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected; a connection that was there before stays."""
    import ray

    was_there = ray.is_initialized()
    if not was_there:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield ray
    finally:
        if not was_there:
            ray.shutdown()


def _run(
    parts: Sequence[Mapping[str, Any]],
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    workers: Workers,
    address: str | None,
    console: Console,
) -> None:
    with _cluster(address) as ray:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # which says that its bars are off
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        fitting = _count_fitting(ray.nodes(), workers)
        count = min(fitting if workers.count is None else workers.count, len(parts))
        total = sum(part["count"] for part in parts)
        say(
            console,
            f"{pluralize(total, 'image')} in {pluralize(len(parts), 'part')}, for {pluralize(count, 'worker')}",
        )
        rows = [{"part": json.dumps(part)} for part in parts]
        found = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS)).map_batches(
            DetectPart,
            batch_size=1,
            fn_constructor_args=arguments,
            fn_constructor_kwargs=dict(options),
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=count, initial_size=count, max_tasks_in_flight_per_actor=_AT_ONCE
            ),
            num_cpus=workers.threads,
            num_gpus=workers.gpus or None,
        )
        done = 0
        try:
            with progress_bar(console, "detecting", len(parts)) as bar:
                for several in found.iter_batches(batch_size=1, prefetch_batches=0):
                    done += int(several["count"][0])
                    bar.advance(int(several["count"][0]))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped after {done:,} of {pluralize(total, 'image')}; the same command with --resume continues"
            ) from None


def _count_fitting(nodes: Sequence[Mapping[str, Any]], workers: Workers) -> int:
    """How many workers fit into the machines of a cluster, none across two."""
    total = 0
    for node in nodes:
        if node["Alive"]:
            fitting = node["Resources"].get("CPU", 0) // workers.threads
            if workers.gpus:
                fitting = min(fitting, node["Resources"].get("GPU", 0) // workers.gpus)
            total += int(fitting)
    if not total:
        raise DataError(
            f"no machine of the cluster has {pluralize(workers.threads, 'CPU')}"
            + (f" and {workers.gpus:g} GPU" if workers.gpus else "")
            + " for a worker; ask for fewer (--threads, --gpus)"
        )
    return total


def _report(out: str, console: Console) -> int:
    """Say what the parts of a finished job have; returns how many images failed."""
    from gfocal.inference import parts

    images = objects = failed = 0
    for rows in parts.read_parts(out, ["path", "labels", "error"]):
        images += len(rows)
        objects += sum(len(row["labels"]) for row in rows)
        for row in rows:
            if row["error"] is not None:
                failed += 1
                if failed <= _SHOWN:
                    fail(console, row["error"])
    more = f", {failed:,} failed" if failed else ""
    say(
        console,
        f"{pluralize(objects, 'object')} in {pluralize(images - failed, 'image')}{more}: {out}/{parts.FOLDER}; "
        f"'gfocal detect --merge {out} --format coco' writes other formats",
    )
    return failed


def merge_parts(folder: str, target: Path, formats: Sequence[str], order: Order = "uncertainty") -> WrittenResults:
    """Write the formats of ``gfocal detect`` into a folder from the parts in another, or behind an address.

    The job need not be finished. Raises DataError where nothing is there; MissingExtraError where pyarrow is not
    installed.
    """
    require_ray()
    from gfocal.inference import parts

    header = parts.read_run(folder)
    if header is None:
        raise DataError(f"{folder}: has no results of --engine ray; name the folder that was given as --out")
    names = unique_names([_name(row) for rows in parts.read_parts(folder, _NAMING) for row in rows], {})
    if not names:
        raise DataError(f"{folder}: no part is done yet")
    failed = 0
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".merge-", dir=target) as temporary:
        path = Path(temporary) / JOURNAL_FILE
        with Journal(path, header) as journal:
            numbers = iter(names)
            for rows in parts.read_parts(folder):
                for row in rows:
                    name = next(numbers)
                    failed += row["error"] is not None
                    if row["error"] is None:
                        journal.add(_record(row, name))
            journal.finish(failed)
        check_tools(header["names"], formats)
        return write_results(path, target, formats, header, order=order)


_NAMING = ["index", "path"]


def _name(row: Mapping[str, Any]) -> str:
    """A file's path, or of an image that is a cell of a table its place."""
    return row["path"] or f"{row['index']:012d}"


def _record(row: Mapping[str, Any], name: str) -> Record:
    """A row as the line of a journal."""
    record: Record = {"index": row["index"], "file": _name(row), "name": name, "image": None}
    record |= {"size": [row["height"], row["width"]]}
    return record | record_columns(
        row["labels"],
        row["scores"],
        row["boxes"],
        row.get("edge_std"),
        row.get("calibrated_scores"),
        row.get("edge_interval"),
    )
