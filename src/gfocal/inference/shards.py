"""Detection by several processes: each takes a shard of the images, the last one to finish merges the results."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gfocal.errors import DataError
from gfocal.inference.journal import describe_difference, read_end, read_header
from gfocal.inference.results import ViewerOfRun, WrittenResults, write_results

JOURNAL = "detections.jsonl"
CLAIM = "detections.merging"  # exists while a process merges


@dataclass(frozen=True)
class Shard:
    """The images of one process: every ``count``-th, starting with the ``number``-th."""

    number: int = 1  # from 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def journal(self) -> str:
        """File name of its journal."""
        return JOURNAL if self.count == 1 else f"detections-{self.number}-of-{self.count}.jsonl"

    def of(self, count: int) -> range:
        """Its indices into a list of ``count`` images."""
        return range(self.number - 1, count, self.count)


def parse_shard(text: str) -> Shard:
    """``2/8``: the second of eight. ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"takes K/N with 1 <= K <= N, such as 2/8, not {text!r}")
    return Shard(int(found[1]), int(found[2]))


def launched_shard(environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard of a process that torchrun or accelerate launched; of any other process all images."""
    try:
        rank, world = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    except ValueError:
        return Shard()
    return Shard(rank + 1, world) if 0 <= rank < world else Shard()


def digest(files: Sequence[str]) -> str:
    """A hash of a list of files, 16 characters."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.encode("utf-8", "surrogateescape") + b"\n")
    return sha.hexdigest()[:16]


def find_journals(folder: Path) -> list[Path]:
    """The journals in a folder, in the order of their shards."""
    found = [f for f in folder.glob("detections*.jsonl") if f.name == JOURNAL or _number(f)]
    return sorted(found, key=lambda file: (_number(file) or (0, 0), file.name))


def _number(file: Path) -> tuple[int, int] | None:
    """Count and number of the shard whose journal this is."""
    found = re.fullmatch(r"detections-([0-9]+)-of-([0-9]+)\.jsonl", file.name)
    return (int(found[2]), int(found[1])) if found else None


def finished_journals(folder: Path) -> list[Path] | None:
    """The journals of all shards once every one has ended; None while some are missing or running.

    Raises DataError when they are of different runs.
    """
    found = find_journals(folder)
    try:
        if not found or missing_shards(found) or any(read_end(file) is None for file in found):
            return None
        first = read_header(found[0])
        for file in found[1:]:
            if (why := describe_difference(first, read_header(file))) is not None:
                raise DataError(f"{file}: of another run than {found[0].name}: {why}; detect again in another folder")
    except FileNotFoundError:  # another process has merged and removed them
        return None
    return found


def missing_shards(found: Sequence[Path]) -> list[str]:
    """Shards that have no journal, as ``K/N``."""
    numbers = [number for file in found if (number := _number(file)) is not None]
    if not numbers:
        return []
    count = numbers[0][0]
    return [str(Shard(k, count)) for k in range(1, count + 1) if (count, k) not in numbers]


@contextmanager
def claim_merge(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that merges; on leaving the claim is released."""
    try:
        os.close(os.open(folder / CLAIM, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        yield False
        return
    try:
        yield True
    finally:
        (folder / CLAIM).unlink(missing_ok=True)


def merge_shards(folder: Path, formats: Sequence[str] = ("coco",)) -> WrittenResults:
    """Write the results of all shards in a folder and remove their journals.

    Raises DataError where shards are missing or have not ended.
    """
    (folder / CLAIM).unlink(missing_ok=True)  # left by a process that was killed while it merged
    written = _merge(folder, formats)
    if written is not None:
        return written
    found = find_journals(folder)
    if not found:
        raise DataError(f"{folder}: holds no journal of a shard; name the folder that was given as --out")
    absent = missing_shards(found)
    reason = f"shards {', '.join(absent)} have not started" if absent else "not every shard has ended"
    raise DataError(f"{folder}: {reason}; run what is missing with --resume, the last one to finish merges")


def merge_if_finished(
    folder: Path, formats: Sequence[str], viewer: ViewerOfRun | None = None
) -> WrittenResults | None:
    """As ``merge_shards``; None while shards are missing or running, or another process is merging."""
    # Checked before the claim: a claim means that a process is merging.
    return None if finished_journals(folder) is None else _merge(folder, formats, viewer)


def _merge(folder: Path, formats: Sequence[str], viewer: ViewerOfRun | None = None) -> WrittenResults | None:
    with claim_merge(folder) as is_ours:
        journals = finished_journals(folder) if is_ours else None
        if journals is None:
            return None
        written = write_results(journals, folder, formats, read_header(journals[0]), viewer)
        for journal in journals:
            journal.unlink()
        return written
