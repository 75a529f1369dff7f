"""One folder of images looked through by several processes: each takes its share, the last one merges."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gfocal.errors import DataError
from gfocal.inference.journal import difference, end_of, read_header

JOURNAL = "detections.jsonl"
CLAIM = "detections.merging"  # there while a process merges


@dataclass(frozen=True)
class Shard:
    """The share of one process: every ``count``-th image from the ``number``-th on."""

    number: int = 1  # from 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def journal(self) -> str:
        """Name of its journal."""
        return JOURNAL if self.count == 1 else f"detections-{self.number}-of-{self.count}.jsonl"

    def of(self, count: int) -> range:
        """Which of ``count`` images are its own."""
        return range(self.number - 1, count, self.count)


def shard(text: str) -> Shard:
    """``2/8``: the second of eight. ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"takes K/N with 1 <= K <= N, such as 2/8, not {text!r}")
    return Shard(int(found[1]), int(found[2]))


def launched(environment: Mapping[str, str] = os.environ) -> Shard:
    """The share of a process that torchrun or accelerate has launched; all of it for one without them."""
    try:
        rank, world = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    except ValueError:
        return Shard()
    return Shard(rank + 1, world) if 0 <= rank < world else Shard()


def digest(files: Sequence[str]) -> str:
    """A fingerprint of a list of files, on which the shares depend."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.encode("utf-8", "surrogateescape") + b"\n")
    return sha.hexdigest()[:16]


def journals_in(folder: Path) -> list[Path]:
    """All journals of a folder, in the order of their shards."""
    found = [f for f in folder.glob("detections*.jsonl") if f.name == JOURNAL or _number(f)]
    return sorted(found, key=lambda file: (_number(file) or (0, 0), file.name))


def _number(file: Path) -> tuple[int, int] | None:
    """Number of shards, and which it is."""
    found = re.fullmatch(r"detections-([0-9]+)-of-([0-9]+)\.jsonl", file.name)
    return (int(found[2]), int(found[1])) if found else None


def complete(folder: Path) -> list[Path] | None:
    """The journals of all shards when every one has ended; None while some are missing or at work.

    Raises DataError when they are not of one run.
    """
    found = journals_in(folder)
    try:
        if not found or missing(found) or any(end_of(file) is None for file in found):
            return None
        first = read_header(found[0])
        for file in found[1:]:
            if (why := difference(first, read_header(file))) is not None:
                raise DataError(f"{file}: of another run than {found[0].name}: {why}; detect anew in another folder")
    except FileNotFoundError:  # another process has merged and taken them away
        return None
    return found


def missing(found: Sequence[Path]) -> list[str]:
    """Which shards have no journal here."""
    numbers = [number for file in found if (number := _number(file)) is not None]
    if not numbers:
        return []
    count = numbers[0][0]
    return [str(Shard(k, count)) for k in range(1, count + 1) if (count, k) not in numbers]


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that merges; the claim is given back at the end."""
    try:
        os.close(os.open(folder / CLAIM, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        yield False
        return
    try:
        yield True
    finally:
        (folder / CLAIM).unlink(missing_ok=True)
