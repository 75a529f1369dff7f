"""Class-agnostic data: every object is of one class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gfocal.data.samples import FileData, ImageData, Sample

NAMES = ("object",)  # a model with these finds objects of any class, and is judged so


def as_one_class(data: ImageData) -> ImageData:
    """The same pictures and boxes, every class called "object"."""
    if data.names == NAMES:
        return data
    if isinstance(data, FileData):
        table = replace(data.table, labels=torch.zeros_like(data.table.labels))
        return replace(data, names=NAMES, category_ids=(1,), samples=table)
    return OneClass(data)


@dataclass
class OneClass:
    """Drawn pictures, or others that are not files, as an ``ImageData`` of one class."""

    data: ImageData
    names: tuple[str, ...] = NAMES
    category_ids: tuple[int, ...] = (1,)

    def __len__(self) -> int:
        return len(self.data)

    def sample(self, index: int) -> Sample:
        """The truth of one picture."""
        return _relabelled(self.data.sample(index))

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One picture with its truth."""
        image, sample = self.data.read(index)
        return image, _relabelled(sample)

    def at_epoch(self, epoch: int) -> OneClass:
        """What a training epoch sees."""
        return OneClass(self.data.at_epoch(epoch))


def _relabelled(sample: Sample) -> Sample:
    return replace(sample, labels=torch.zeros_like(sample.labels))
