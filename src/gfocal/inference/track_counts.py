"""How many objects were tracked in a video, by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gfocal.inference.tracking import LOST_SECONDS
from gfocal.text import pluralize

MIN_SURE_FRAMES = 5  # in which a track has a sure box, for it to be counted


class TrackCounts:
    """Counts the tracks in the lines of a video, one line after another.

    A track is of the class of most of its sure boxes, and counts if it has ``MIN_SURE_FRAMES`` of them. What is kept
    does not grow with the length of the video: of a track that has ended, only its class.
    """

    def __init__(self) -> None:
        self._names: dict[int, Counter[str]] = {}  # of the sure boxes of a track that may go on
        self._last: dict[int, float] = {}  # seconds
        self._ended: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a line with ``track_ids``, see ``gfocal.inference.video_lines``."""
        now = record["time"]
        for one, name, is_sure in zip(record["track_ids"], record["names"], record["is_sure"], strict=True):
            if one is not None:
                self._names.setdefault(one, Counter())[name] += is_sure
                self._last[one] = now
        for one in [one for one, last in self._last.items() if now - last > 2 * LOST_SECONDS]:
            del self._last[one]
            self._ended += _class_of(self._names.pop(one))

    def by_class(self) -> dict[str, int]:
        """The number of tracks of each class, that of most tracks first."""
        return dict(sum(map(_class_of, self._names.values()), self._ended).most_common())

    def __str__(self) -> str:
        """As ``9 tracks of at least 5 (7 person, 2 bus)``."""
        counts = self.by_class()
        each = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        return f"{pluralize(sum(counts.values()), 'track')} of at least {MIN_SURE_FRAMES}" + (
            f" ({each})" if each else ""
        )


def _class_of(names: Counter[str]) -> Counter[str]:
    """The class of a track, once; none for a track that does not count."""
    if names.total() < MIN_SURE_FRAMES:
        return Counter()
    return Counter([names.most_common(1)[0][0]])
