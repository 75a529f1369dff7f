"""Names of images that were written on another machine: found by their last parts, inside the dataset alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.dataset import Problem
from gfocal.data.locate import AMBIGUOUS, FOUND_BY_LAST_PARTS, SAME_IMAGE, ImageLocator, clean_name, find_images
from gfocal.errors import DataError


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


def test_a_file_name_never_leads_to_another_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/0001.jpg", "val/0002.jpg")
    locator = ImageLocator(tmp_path, [tmp_path / "val"], "val")
    assert locator.locate("0001.jpg").path is None
    assert locator.locate("/elsewhere/train/0001.jpg").path == tmp_path / "train/0001.jpg"  # the name says so
    assert ImageLocator(tmp_path).locate("0001.jpg").path == tmp_path / "train/0001.jpg"


def test_names_of_several_folders_that_lead_to_one_file_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "images/0001.jpg", "images/0002.jpg")
    locator = ImageLocator(tmp_path)
    names = ["batch1/0001.jpg", "batch2/0001.jpg", "batch1/0002.jpg", "batch1\\0002.jpg", "images/0002.jpg"]
    found = locator.locate_all(names)
    assert [one.path for one in found] == [None, None, None, None, tmp_path / "images/0002.jpg"]
    problems: list[Problem] = []
    assert locator.take(found[0], "a.json", "image 1", problems) is None
    assert [(problem.reason, problem.action) for problem in problems] == [(SAME_IMAGE, "dropped")]
    again = locator.locate_all(["batch1/0001.jpg", "batch1\\0001.jpg"])  # one name, written in two ways
    assert {one.path for one in again} == {tmp_path / "images/0001.jpg"}


def test_names_without_suffix_are_files_of_any(tmp_path: Path) -> None:
    """Ids of tables, frames of videos; masks have the same stems as images and lie elsewhere."""
    touch(tmp_path, "images/000a1.jpg", "masks/000a1.png", "images/frame_000012.PNG")
    locator = ImageLocator(tmp_path, [tmp_path / "images"])
    for name, file in (("000a1", "000a1.jpg"), ("frame_000012", "frame_000012.PNG")):
        found = locator.locate(name)
        assert found.path == tmp_path / "images" / file
        assert not found.by_last_parts
    assert locator.locate("000a1.tif").path is None


def test_folders_behind_symbolic_links_are_searched_once(tmp_path: Path) -> None:
    touch(tmp_path, "disk/photos/a.jpg", "set/labels.csv")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    assert ImageLocator(tmp_path / "set").locate("/elsewhere/a.jpg").path == tmp_path / "set/images/photos/a.jpg"


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of a folder could not tell one file that fits from several."""
    monkeypatch.setattr("gfocal.data.locate.MAX_INDEXED", 3)
    touch(tmp_path, *(f"{number}.jpg" for number in range(4)))
    with pytest.raises(DataError, match="more than 3 files: give the folder of the dataset alone"):
        ImageLocator(tmp_path).locate("/elsewhere/1.jpg")


def test_all_ambiguous_is_an_error_and_one_of_them_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg", "one/b.jpg", "labels.json")
    with pytest.raises(DataError, match=r"several images fit.* one/a.jpg, two/a.jpg; keep one of them"):
        find_images(tmp_path / "labels.json", ["/elsewhere/a.jpg"])
    locator = find_images(tmp_path / "labels.json", ["/elsewhere/a.jpg", "/elsewhere/b.jpg"])
    problems: list[Problem] = []
    for found in locator.locate_all(["/elsewhere/a.jpg", "/elsewhere/b.jpg"]):
        locator.take(found, "labels.json", "image", problems)
    assert [problem.reason for problem in problems] == [AMBIGUOUS, FOUND_BY_LAST_PARTS]
