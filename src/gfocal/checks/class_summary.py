"""How many objects each class has, in how many images, and how large they are: what to know of a dataset first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gfocal.data.dataset import FileData
from gfocal.data.preprocess import InputSettings, input_shape

SMALL_AREA = 32**2  # square pixels of the image: COCO's small objects


@dataclass(frozen=True)
class ClassSummary:
    """The objects of one class in all splits, without crowd regions and difficult boxes."""

    name: str
    objects: Mapping[str, int]  # of each split
    images: int  # that have one
    median_side: float | None  # square root of the area, pixels of the image; None without objects
    median_side_at_input: float | None  # the same in pixels of the network's input; None too if that is not known
    small_fraction: float | None  # with an area under ``SMALL_AREA``

    @property
    def num_objects(self) -> int:
        """Objects in all splits."""
        return sum(self.objects.values())

    def to_json(self) -> dict[str, Any]:
        """As ``gfocal check --json`` writes it."""
        return {
            "objects": self.num_objects,
            "splits": dict(self.objects),
            "images": self.images,
            "median_side": _round(self.median_side),
            "median_side_at_input": _round(self.median_side_at_input),
            "small_fraction": _round(self.small_fraction),
        }


@dataclass
class _Objects:
    """Objects of one class, gathered split by split."""

    number: dict[str, int] = field(default_factory=dict)
    images: int = 0
    sides: list[Tensor] = field(default_factory=list)
    sides_at_input: list[Tensor] = field(default_factory=list)
    num_small: int = 0


def count_boxes(data: FileData) -> list[int]:
    """Number of boxes of each class, by label, without crowd regions and difficult boxes."""
    table = data.table
    return torch.bincount(table.labels[~table.crowd], minlength=len(data.names)).tolist()


def summarize_classes(splits: Mapping[str, FileData], settings: InputSettings | None) -> tuple[ClassSummary, ...]:
    """One summary for each class name of the splits, those with most objects first.

    ``settings`` are those of the network's input; None leaves the sizes there out.
    """
    classes: dict[str, _Objects] = {}
    for split, data in splits.items():
        for name in data.names:
            classes.setdefault(name, _Objects())
        _gather(data, split, settings, classes)
    return tuple(
        sorted((_summarize(name, objects) for name, objects in classes.items()), key=lambda one: -one.num_objects)
    )


def _gather(data: FileData, split: str, settings: InputSettings | None, classes: Mapping[str, _Objects]) -> None:
    table = data.table
    image = torch.repeat_interleave(torch.arange(len(table)), table.offsets.diff())  # (M,) of each box
    area = (table.boxes[:, 2:] - table.boxes[:, :2]).prod(1)  # (M,) square pixels
    stated = area if table.areas is None else torch.where(table.areas.isnan(), area.double(), table.areas)
    scale = None if settings is None else _input_scales(table.sizes, settings)[image]  # (M,)
    for label, name in enumerate(data.names):
        here = (table.labels == label) & ~table.crowd
        objects = classes[name]
        objects.number[split] = objects.number.get(split, 0) + int(here.sum())
        objects.images += len(image[here].unique())
        objects.sides.append(area[here].sqrt())
        objects.num_small += int((stated[here] < SMALL_AREA).sum())
        if scale is not None:
            objects.sides_at_input.append(area[here].sqrt() * scale[here])


def _input_scales(sizes: Tensor, settings: InputSettings) -> Tensor:
    """Square root of the ratio of the areas of each image at the network's input and in its file; (N,)."""
    unique, which = sizes.unique(dim=0, return_inverse=True)
    scales = []
    for height, width in unique.tolist():
        shape = input_shape((height, width), settings) if min(height, width) > 0 else (0, 0)
        scales.append((shape[0] * shape[1] / max(height * width, 1)) ** 0.5)
    return torch.tensor(scales)[which]


def _summarize(name: str, objects: _Objects) -> ClassSummary:
    sides = torch.cat(objects.sides)
    at_input = torch.cat(objects.sides_at_input) if objects.sides_at_input else torch.zeros(0)
    return ClassSummary(
        name=name,
        objects=objects.number,
        images=objects.images,
        median_side=float(sides.median()) if len(sides) else None,
        median_side_at_input=float(at_input.median()) if len(at_input) else None,
        small_fraction=objects.num_small / len(sides) if len(sides) else None,
    )


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
