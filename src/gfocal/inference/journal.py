"""The journal of a run: a line for each finished image, so that a run killed at any moment can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from gfocal.errors import DataError

Record = dict[str, Any]
JOURNAL_FILE = "detections.jsonl"
HEADER, END = "journal", "done"  # keys of the first line and of the last


class Journal:
    """An open journal: a line survives the process once ``add`` has returned.

    Args:
        path: the file; the folder exists.
        header: what identifies the run, see ``gfocal.inference.resume.run_header``.
        length: bytes of an existing journal to keep and to append to; None: write a new one.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], length: int | None = None) -> None:
        self.path = path
        self.count = 0  # images added by this process
        self._file: IO[bytes] = path.open("wb" if length is None else "r+b")
        if length is None:
            self._write({HEADER: dict(header)})
        else:
            self._file.truncate(length)
            self._file.seek(length)

    def add(self, record: Record) -> None:
        """Add a finished image."""
        self._write(record)
        self.count += 1

    def finish(self, failed: int) -> None:
        """Write that the run has ended, with how many images failed."""
        self._write({END: {"failed": failed}})

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_header(path: Path) -> dict[str, Any]:
    """The header in the first line. Raises DataError for a file that is no journal."""
    with path.open("rb") as file:
        header = _parsed(file.readline())
    if header is None or not isinstance(header.get(HEADER), dict):
        raise DataError(f"{path}: not a journal of gfocal detect; remove it, or name another folder")
    return header[HEADER]


def read_records(path: Path) -> Iterator[tuple[Record, int]]:
    """The images of a journal, each with the number of bytes up to the end of its line.

    An incomplete last line, which a process was writing when it was killed, is left out.
    """
    with path.open("rb") as file:
        end = len(file.readline())
        for line in file:
            end += len(line)
            record = _parsed(line)
            if record is None:
                return
            if END not in record:
                yield record, end


def read_end(path: Path) -> dict[str, Any] | None:
    """The last line of a run that has ended, ``{"failed": count}``; None for a run that has not."""
    last = b""
    with path.open("rb") as file:
        for line in file:
            last = line
    record = _parsed(last)
    return None if record is None else record.get(END)


def _parsed(line: bytes) -> Record | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def describe_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first key in which two headers differ, with both values; None for the same run."""
    for key in [*one, *(key for key in other if key not in one)]:
        if one.get(key) != other.get(key):
            return f"{key} was {json.dumps(one.get(key))} and is {json.dumps(other.get(key))}"
    return None
