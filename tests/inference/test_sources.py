"""The images that a command line names."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from gfocal.errors import DataError
from gfocal.inference.sources import find_images


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/1.jpg", "a/deep/2.PNG", "a/deep/notes.txt", "b/3.jpg", "x[1].jpg", "@odd.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(*words: str | Path, **options: object) -> list[str]:
    found = find_images(words, Path("out"), **options)  # type: ignore[arg-type]
    assert not found.failures
    return found.files


def test_patterns_match_images_and_subfolders(here: Path) -> None:
    assert named("a/**/*") == ["a/1.jpg", "a/deep/2.PNG"]
    assert named("?/*.jpg") == ["a/1.jpg", "b/3.jpg"]
    assert named("x[1].jpg") == ["x[1].jpg"]  # a file of this name is that file
    (failure,) = find_images(["c/*.jpg"], Path("out")).failures
    assert failure.startswith("c/*.jpg: no image matches this pattern")


def test_images_drawn_earlier_match_no_pattern(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "1.jpg").touch()
    assert named("*/*.jpg") == ["a/1.jpg", "b/3.jpg"]


def test_paths_in_lists_are_relative_to_the_current_folder(here: Path) -> None:
    (here / "lists").mkdir()
    (here / "lists" / "mine.txt").write_text("\ufeffb/3.jpg\r\n\n   \na\n", encoding="utf-8")
    expected = ["b/3.jpg", "a/1.jpg", "a/deep/2.PNG"]
    assert named("@lists/mine.txt") == expected
    assert named(lists=[Path("lists/mine.txt")]) == expected
    assert named("-", standard_input=io.StringIO("b/3.jpg\na\n")) == expected
    assert named("@odd.jpg") == ["@odd.jpg"]  # a file of this name is that file
    with pytest.raises(DataError, match=r"no\.txt: the list of images cannot be read: No such file"):
        find_images(["@no.txt"], Path("out"))


def test_an_image_is_used_once(here: Path) -> None:
    found = find_images(["b/3.jpg", "a", "a/1.jpg", "*/*.jpg"], Path("out"))
    assert found.files == ["b/3.jpg", "a/1.jpg", "a/deep/2.PNG"]
    assert found.notes[-1] == "3 images named more than once, used once"


def test_names_of_any_bytes(here: Path) -> None:
    (here / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    (name,) = named("@list.txt")
    assert name.encode("utf-8", "surrogateescape") == b"caf\xe9.jpg"
