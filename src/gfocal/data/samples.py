"""What a data set is to the rest of gfocal: names, and pictures with boxes, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gfocal.words import counted


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the record and the mend."""


@dataclass(frozen=True)
class Sample:
    """The truth of one picture."""

    image_id: int
    path: Path | None  # None for a picture that is drawn, not read
    boxes: Tensor  # (G, 4) float32, xyxy in pixels of the upright picture
    labels: Tensor  # (G,) int64, 0..C-1
    crowd: Tensor  # (G,) bool: regions of many objects; no truth for training, ignored in evaluation
    size: tuple[int, int] | None = None  # height and width of the picture as read
    # (G,) float64, square pixels of the objects' outlines, NaN where not stated: COCO sorts objects into
    # small, medium and large by these. None: by the area of the box.
    areas: Tensor | None = None
    edge_laws: Tensor | None = None  # (G, 4, 3) float32, see gfocal.data.synthetic


@dataclass(frozen=True)
class Problem:
    """Something wrong in a data set, and what was done about it."""

    file: str
    record: str  # which annotation, line or object of that file
    reason: str  # one fixed text per kind; details go into the record
    action: str  # dropped, clipped, kept, passed over

    def __str__(self) -> str:
        return f"{self.file}: {self.record}: {self.reason} ({self.action})"


class ImageData(Protocol):
    """Pictures with truth: read from files, or drawn."""

    names: tuple[str, ...]  # of the classes, indexed by label
    category_ids: tuple[int, ...]  # of the classes in the source's own numbering, for COCO results

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample:
        """The truth of one picture, without reading its pixels."""
        ...

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One picture, uint8 RGB (3, H, W), upright, with its truth."""
        ...

    def at_epoch(self, epoch: int) -> ImageData:
        """What a training epoch sees: drawn data is new every time, files stay what they are."""
        ...


@dataclass
class FileData:
    """An annotated set of picture files (an ``ImageData``)."""

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: list[Sample]
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        objects = sum(len(sample.boxes) for sample in self.samples)
        classes = ", ".join(self.names[:5]) + ", ..." * (len(self.names) > 5)
        told = [counted(len(self), "picture"), counted(objects, "object"), counted(len(self.problems), "problem")]
        return f"FileData({', '.join(told)}; {counted(len(self.names), 'class', 'classes')}: {classes})"

    def sample(self, index: int) -> Sample:
        """The truth of one picture."""
        return self.samples[index]

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One picture, uint8 RGB (3, H, W), with its truth; ImageError if the file cannot be read."""
        from gfocal.data.images import read_image

        sample = self.samples[index]
        assert sample.path is not None, "a sample of files has a path"
        return read_image(sample.path, stated_size=sample.size), sample

    def at_epoch(self, epoch: int) -> FileData:
        """Itself: files stay what they are."""
        return self
