"""How many objects were tracked: by the class of most sure boxes, without tracks of a few frames."""

from __future__ import annotations

from typing import Any

from gfocal.inference.track_counts import MIN_SURE_FRAMES, TrackCounts


def line(time: float, *boxes: tuple[int | None, str, bool]) -> dict[str, Any]:
    ids, names, is_sure = zip(*boxes, strict=True) if boxes else ((), (), ())
    return {"time": time, "track_ids": ids, "names": names, "is_sure": is_sure}


def test_a_track_is_of_the_class_of_most_of_its_sure_boxes() -> None:
    counts = TrackCounts()
    for i in range(3 * MIN_SURE_FRAMES):
        counts.add(line(i / 25, (1, "dog" if i % 3 else "cat", True), (2, "cat", i % 3 == 0), (None, "cat", True)))
    for i in range(2 * MIN_SURE_FRAMES):  # of 3 most boxes are of a dog, and most sure ones of a cat
        counts.add(line(1 + i / 25, (3, "cat" if i % 2 else "dog", i % 2 == 1), (4, "dog", False)))
    assert counts.by_class() == {"cat": 2, "dog": 1}
    assert str(counts) == f"3 tracks of at least {MIN_SURE_FRAMES} (2 cat, 1 dog)"


def test_tracks_of_few_sure_boxes_are_not_counted() -> None:
    counts = TrackCounts()
    for i in range(MIN_SURE_FRAMES - 1):
        counts.add(line(i, (1, "cat", True)))
    assert str(counts) == f"0 tracks of at least {MIN_SURE_FRAMES}"
    counts.add(line(MIN_SURE_FRAMES, (1, "cat", True)))
    assert counts.by_class() == {"cat": 1}


def test_what_is_kept_does_not_grow_with_the_video() -> None:
    counts = TrackCounts()
    for i in range(40_000):
        counts.add(line(i / 25, (1 + i // 10, "cat", True)))
    assert counts.by_class() == {"cat": 4000}
    assert len(counts._names) == len(counts._last) < 20
