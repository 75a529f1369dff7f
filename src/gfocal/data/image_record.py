"""One image as the annotations describe it, before validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

Stated = tuple[float, float, float, float, float]  # x, y, width, height and area as the file has them


@dataclass
class ImageRecord:
    """One image as the annotations describe it, not validated yet."""

    file: str  # the annotation file, for problems
    path: Path
    image_id: int
    stated_size: tuple[int, int] | None = None  # height, width
    relative: bool = False  # boxes are fractions of the image's size
    boxes: list[Sequence[float]] = field(default_factory=list)  # xyxy
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    records: list[str] = field(default_factory=list)  # where in the file each box is, for problems
    areas: list[float] = field(default_factory=list)  # of the objects' outlines; NaN if not stated
    # Of formats in which invalid boxes count in evaluation: boxes as the file has them; None: as above.
    stated: list[Stated | None] = field(default_factory=list)
    stated_id: int | str | None = None  # where it is not ``image_id``
    on_stored_pixels: bool = False  # boxes were drawn on the pixels as stored, not rotated by EXIF
    left_out: str = ""  # why the image takes no part in the dataset, as the reason of a problem; "": it does
    left_out_for: str = ""  # which of its objects is the cause, for the record of that problem
    num_lost: int = 0  # objects that the reader has dropped

    def add(
        self,
        box: Sequence[float],
        label: int,
        crowd: bool,
        record: str,
        area: float = math.nan,
        stated: Stated | None = None,
    ) -> None:
        """Add one box."""
        self.stated.append(stated)
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.records.append(record)
        self.areas.append(area)


Usable = tuple[ImageRecord, tuple[int, int]]  # with height and width of the image file
