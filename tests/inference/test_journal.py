"""The journal: its lines are whole, whatever happened to the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.errors import DataError
from gfocal.inference.journal import Journal, describe_difference, read_end, read_header, read_records

HEADER = {"model": "abc", "score": 0.3}
IMAGES = [{"index": i, "file": f"ä{i}.jpg", "labels": [i] * i} for i in range(4)]


def write_journal(path: Path) -> bytes:
    with Journal(path, HEADER) as journal:
        for image in IMAGES:
            journal.add(image)
            assert [one for one, _ in read_records(path)] == IMAGES[: journal.count]  # with the system at once
        assert read_end(path) is None
        journal.finish(2)
    return path.read_bytes()


def test_added_records_are_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write_journal(path)
    assert read_header(path) == HEADER
    assert [one for one, _ in read_records(path)] == IMAGES
    assert read_end(path) == {"failed": 2}


@given(cut=st.integers(0, 400))
def test_law_a_journal_cut_anywhere_can_be_continued(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "j.jsonl"
    content = write_journal(path)
    first = content.index(b"\n") + 1
    path.write_bytes(content[: max(cut, first)])
    there = list(read_records(path))
    assert [one for one, _ in there] == IMAGES[: len(there)]
    assert len(there) == min(len(IMAGES), content[first : max(cut, first)].count(b"\n"))
    with Journal(path, HEADER, there[-1][1] if there else first) as journal:
        for image in IMAGES[len(there) :]:
            journal.add(image)
        journal.finish(2)
    assert path.read_bytes() == content


def test_an_incomplete_line_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    content = write_journal(path)
    *_, (_, length) = read_records(path)
    with path.open("ab") as file:
        file.write(b'{"index": 4, "file": "a long line, longer than all that follows')
    with Journal(path, HEADER, length) as journal:
        journal.finish(2)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"[]\n", b"{}\n", b'{"journal": {"score"', b'{"journal": 3}\n', b"\xff\n"])
def test_other_files_are_no_journals(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="not a journal of gfocal detect"):
        read_header(tmp_path / "j.jsonl")


def test_differences_are_named() -> None:
    assert describe_difference(HEADER, dict(HEADER)) is None
    assert describe_difference(HEADER, {"model": "abc", "score": 0.5}) == "score was 0.3 and is 0.5"
    assert describe_difference(HEADER, HEADER | {"every": 2}) == "every was null and is 2"
