"""Divisions of a dataset: every image once, groups whole, classes in proportion, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.fingerprints import Fingerprint, compute_fingerprint
from gfocal.data.grouping import Grouping, find_numbered, group_images
from gfocal.data.splitting import FEW, SplitPlan, divide

SHARES = st.sampled_from([{"val": 0.15}, {"val": 0.5}, {"val": 0.1, "test": 0.2}, {"test": 0.3}])


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[list[int]], np.ndarray]:
    """A partition of images into at least 4 groups, and numbers of each image."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=4, max_size=25))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    order = rng.permutation(sum(sizes))
    groups = [sorted(part.tolist()) for part in np.split(order, np.cumsum(sizes)[:-1])]
    classes = rng.poisson([0.1, 1, 4], (len(order), 3))
    return groups, np.concatenate((np.ones((len(order), 1)), classes), axis=1).astype(float)


@settings(max_examples=60)
@given(grouped(), SHARES, st.integers(0, 3))
def test_groups_stay_whole_and_no_split_is_empty(
    data: tuple[list[list[int]], np.ndarray], shares: dict[str, float], seed: int
) -> None:
    groups, features = data
    splits = divide(groups, features, shares, seed)
    assert len(splits) == len(features)
    assert set(splits) == {"train", *shares}
    for group in groups:
        assert len({splits[index] for index in group}) == 1
    assert divide(groups, features, shares, seed) == splits


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(60, 200))
def test_classes_are_in_proportion(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.poisson([0.3, 1, 5], (count, 3))
    features = np.concatenate((np.ones((count, 1)), classes), axis=1).astype(float)
    splits = np.array(divide([[index] for index in range(count)], features, {"val": 0.15, "test": 0.15}))
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        part = features[splits == split].sum(0)
        expected = share * features.sum(0)
        assert (np.abs(part - expected) <= np.maximum(1, 0.2 * expected)).all()


def test_a_class_too_rare_for_a_split_stays_in_train() -> None:
    features = np.ones((40, 2))
    features[1:, 1] = 0
    assert divide([[index] for index in range(40)], features, {"val": 0.15})[0] == "train"


def scenes(folder: Path, count: int, of_scene: int, step: int, name: str = "frame_{:06}.png") -> list[Path]:
    """Videos one after another: ``of_scene`` frames of each scene, in which a square moves by ``step`` pixels."""
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    for scene in range(count):
        small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        ground = np.asarray(Image.fromarray(small).resize((128, 96), Image.Resampling.BICUBIC))
        for frame in range(of_scene):
            image = ground.copy()
            image[30:54, 10 + step * frame : 34 + step * frame] = (250, 20 * scene % 255, 20)
            paths.append(folder / name.format(len(paths) + 1))
            Image.fromarray(image).save(paths[-1])
    return paths


def fingerprints(paths: list[Path]) -> list[Fingerprint | None]:
    return [compute_fingerprint(path) for path in paths]


def test_frames_of_a_sequence_stay_together(tmp_path: Path) -> None:
    paths = scenes(tmp_path, 3, 8, 4)
    found = group_images(paths, fingerprints(paths))
    assert found.groups == (tuple(range(24)),)
    assert found.num_sequences == 1
    # Too large to be held out: cut where the scene changes.
    found = group_images(paths, fingerprints(paths), max_images=16)
    assert found.cut == (str(tmp_path / "frame_#.png"),)
    assert all(any(set(group) <= set(range(k, k + 8)) for k in (0, 8, 16)) for group in found.groups)


def test_photographs_with_running_numbers_are_no_sequence(tmp_path: Path) -> None:
    paths = scenes(tmp_path, 12, 1, 0, "IMG_{:04}.png")
    found = group_images(paths, fingerprints(paths))
    assert found == Grouping(tuple((index,) for index in range(12)), 0, 0, ())


def test_copies_and_equal_images_stay_together(tmp_path: Path) -> None:
    first, second, third = scenes(tmp_path, 3, 1, 0, "a{}.png")
    copies = [tmp_path / f"dog_jpg.rf.{letters}.jpg" for letters in ("0ab1", "77fe")]
    same = tmp_path / "b.png"
    for source, target in ((first, copies[0]), (second, copies[1]), (third, same)):
        Image.open(source).save(target)
    paths = [*copies, third, same]
    found = group_images(paths, fingerprints(paths))
    assert found.groups == ((0, 1), (2, 3))
    assert found.num_similar == 4
    assert group_images(paths, [None] * 4).groups == ((0, 1), (2,), (3,))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"v/{k:03}.jpg" for k in range(6)], ({"v/#.jpg"}, 6)),
        ([f"20240131_{120000 + k}.jpg" for k in range(5)], ({"20240131_#.jpg"}, 5)),
        ([f"shot{k}_cam2.png" for k in range(5)], ({"shot#_cam2.png"}, 5)),
        ([f"cam{c}_{k}.png" for c in (1, 2) for k in range(5)], ({"cam1_#.png", "cam2_#.png"}, 10)),
        (["a1.jpg", "a2.jpg", "b.jpg"], (set(), 0)),
    ],
)
def test_names_that_differ_in_one_number(names: list[str], expected: tuple[set[str], int]) -> None:
    found = find_numbered([Path(name) for name in reversed(names)])
    assert (set(found), sum(map(len, found.values()))) == expected
    for frames in found.values():
        assert [names[::-1][index] for index in frames] == sorted(names[::-1][index] for index in frames)


def test_a_plan_says_what_was_kept_together() -> None:
    plan = SplitPlan(("train", "val"), {"val": 0.5}, 0, Grouping(((0,), (1,)), 0, 0, ()))
    assert plan.indices("val") == [1]
    assert plan.describe_groups() == "no near-duplicates or sequences of frames"
    assert FEW[0] == 0
