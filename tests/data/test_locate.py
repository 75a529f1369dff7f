"""Names of images that were written on another machine: found by their last parts, inside the dataset alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.locate import ImageLocator, clean_name


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a.jpg", "a.jpg"),
        (r"C:\set\train\a.jpg", "C:/set/train/a.jpg"),
        ("https://host.example/data/set/a%20b.jpg?token=x", "data/set/a b.jpg"),
        ("s3://bucket/set/a.jpg", "set/a.jpg"),
        ("/data/local-files/?d=set/a.jpg", "set/a.jpg"),
        ("/data/upload/3/0a1b2c3d-a.jpg", "/data/upload/3/0a1b2c3d-a.jpg"),
        (" a.jpg ", "a.jpg"),
    ],
)
def test_names_are_reduced_to_their_path(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


@pytest.mark.parametrize(
    "name",
    [
        "/home/somebody/set/train/a.jpg",
        r"C:\Users\somebody\set\train\a.jpg",
        r"\\server\share\train\a.jpg",
        "https://host.example/files/train/a.jpg?sig=1",
        "/data/local-files/?d=documents/train/a.jpg",
        "../../train/a.jpg",
        "file:///mnt/set/train/a.jpg",
    ],
)
def test_a_path_of_another_machine_is_found_by_its_last_parts(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "train/a.jpg", "val/a.jpg", "b.jpg")
    found = ImageLocator(tmp_path).locate(name)
    assert found.path == tmp_path / "train/a.jpg"
    assert found.by_last_parts


def test_a_name_that_is_there_is_taken_without_a_search(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "other/a.jpg")
    found = ImageLocator(tmp_path, [tmp_path / "images"]).locate("a.jpg")
    assert found.path == tmp_path / "images/a.jpg"
    assert not found.by_last_parts


def test_what_fits_several_images_is_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    found = ImageLocator(tmp_path).locate("/elsewhere/a.jpg")
    assert found.path is None
    assert {path.parent.name for path in found.candidates} == {"one", "two"}


def test_case_counts_only_where_it_must(tmp_path: Path) -> None:
    touch(tmp_path, "x/A.JPG", "y/b.jpg")
    locator = ImageLocator(tmp_path)
    assert locator.locate("/elsewhere/a.jpg").path == tmp_path / "x/A.JPG"
    touch(tmp_path, "z/a.jpg")
    assert ImageLocator(tmp_path).locate("/elsewhere/a.jpg").path == tmp_path / "z/a.jpg"


@given(st.text(max_size=60))
def test_nothing_outside_the_folder_is_ever_returned(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "locate" / "set"
    touch(root.parent, "secret.jpg", "set/inner/a.jpg")
    for text in (name, f"../{name}", f"{name}/../../secret.jpg", "../secret.jpg", str(root.parent / "secret.jpg")):
        path = ImageLocator(root).locate(text).path
        assert path is None or path.resolve().is_relative_to(root.resolve())


def test_hidden_files_and_other_kinds_are_not_found(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/a.jpg", "notes/b.txt", "c/.d.jpg")
    locator = ImageLocator(tmp_path)
    assert [locator.locate(f"/elsewhere/{name}").path for name in ("a.jpg", "b.txt", ".d.jpg")] == [None] * 3
