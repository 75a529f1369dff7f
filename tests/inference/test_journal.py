"""The journal: what is in it is whole, whatever happened to the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.errors import DataError
from gfocal.inference.journal import Journal, difference, end_of, read_header, records

HEADER = {"model": "abc", "score": 0.3}
IMAGES = [{"index": i, "file": f"ä{i}.jpg", "labels": [i] * i} for i in range(4)]


def written(path: Path) -> bytes:
    with Journal(path, HEADER) as journal:
        for image in IMAGES:
            journal.add(image)
            assert [one for one, _ in records(path)] == IMAGES[: journal.count]  # with the system at once
        assert end_of(path) is None
        journal.finish(2)
    return path.read_bytes()


def test_what_is_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    written(path)
    assert read_header(path) == HEADER
    assert [one for one, _ in records(path)] == IMAGES
    assert end_of(path) == {"failed": 2}


@given(cut=st.integers(0, 400))
def test_law_a_journal_cut_anywhere_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "j.jsonl"
    content = written(path)
    first = content.index(b"\n") + 1
    path.write_bytes(content[: max(cut, first)])
    there = list(records(path))
    assert [one for one, _ in there] == IMAGES[: len(there)]
    assert len(there) == min(len(IMAGES), content[first : max(cut, first)].count(b"\n"))
    with Journal(path, HEADER, there[-1][1] if there else first) as journal:
        for image in IMAGES[len(there) :]:
            journal.add(image)
        journal.finish(2)
    assert path.read_bytes() == content


def test_what_was_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    content = written(path)
    *_, (_, length) = records(path)
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
    assert difference(HEADER, dict(HEADER)) is None
    assert difference(HEADER, {"model": "abc", "score": 0.5}) == "score was 0.3 and is 0.5"
    assert difference(HEADER, HEADER | {"shards": 2}) == "shards was null and is 2"
