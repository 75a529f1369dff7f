"""The dataset interface of gfocal: class names, and images with ground truth, whatever format they came from."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import torch
from torch import Tensor

from gfocal.data.stated import StatedObjects, StatedTable, count_up, make_offsets, select_groups
from gfocal.text import one_line, pluralize


@dataclass(frozen=True)
class Sample:
    """The ground truth of one image."""

    image_id: int
    path: Path | None  # None for an image that is generated, not read
    boxes: Tensor  # (G, 4) float32, xyxy in pixels of the upright image
    labels: Tensor  # (G,) int64, 0..C-1
    crowd: Tensor  # (G,) bool: ignored regions, neither ground truth nor background in training and evaluation
    size: tuple[int, int] | None = None  # height and width of the image as read
    # (G,) float64, square pixels of the objects' outlines, NaN where not stated: COCO divides objects into
    # small, medium and large by these. None: by the area of the box.
    areas: Tensor | None = None
    edge_laws: Tensor | None = None  # (G, 4, 3) float32, see gfocal.data.synthetic.edge_laws
    stated: StatedObjects | None = None  # as the file states them, for evaluation; None: the same as above


@dataclass(frozen=True)
class Problem:
    """Something wrong in a dataset, and what was done about it."""

    file: str
    record: str  # which annotation, line or object of that file
    reason: str  # one fixed text per kind; details go into the record
    action: str  # dropped, clipped, kept, skipped

    def __post_init__(self) -> None:
        object.__setattr__(self, "record", one_line(self.record, max_length=400))  # it quotes untrusted files
        object.__setattr__(self, "file", one_line(self.file, max_length=600))

    def __str__(self) -> str:
        return f"{self.file}: {self.record}: {self.reason} ({self.action})"


class ImageData(Protocol):
    """Images with ground truth, read from files or generated."""

    names: tuple[str, ...]  # of the classes, indexed by label
    category_ids: tuple[int, ...]  # of the classes in the source's own numbering, for COCO results

    @property
    def files(self) -> FileData | None:
        """The dataset itself if its images are files, with their paths and problems; None for any other source."""
        ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample:
        """The ground truth of one image, without reading its pixels."""
        ...

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One image, uint8 RGB (3, H, W), upright, with its ground truth."""
        ...

    def at_epoch(self, epoch: int) -> ImageData:
        """The data of one training epoch: generated images differ from epoch to epoch, files do not."""
        ...


@dataclass(frozen=True, eq=False)
class SampleTable(Sequence[Sample]):
    """Samples as a few arrays: a ``Sequence[Sample]`` that creates each sample on access.

    There is no Python object for each image that the loader's worker processes would touch and so copy: memory does
    not grow with the number of workers. The arrays are tensors because spawned processes share those. A sample has
    copies of its rows; the arrays must not be modified.
    """

    image_ids: Tensor  # (N,) int64
    sizes: Tensor  # (N, 2) int32, height and width; -1 where unknown
    offsets: Tensor  # (N + 1,) int64: sample i has the boxes offsets[i] to offsets[i + 1] - 1
    boxes: Tensor  # (M, 4) float32, the boxes of all samples
    labels: Tensor  # (M,) int64
    crowd: Tensor  # (M,) bool
    areas: Tensor | None  # (M,) float64; a sample whose areas are all NaN gets None
    edge_laws: Tensor | None  # (M, 4, 3) float32; the same
    folder: bytes  # common start of all paths
    path_offsets: Tensor  # (N + 1,) int64, into path_bytes; a sample with none has no path
    path_bytes: Tensor  # uint8
    stated: StatedTable | None = None  # for evaluation alone; training does without it

    @staticmethod
    def from_samples(samples: Sequence[Sample]) -> SampleTable:
        """A table of the given samples."""
        areas = [torch.full((len(s.boxes),), math.nan) if s.areas is None else s.areas for s in samples]
        laws = [torch.full((len(s.boxes), 4, 3), math.nan) if s.edge_laws is None else s.edge_laws for s in samples]
        return SampleTable.from_arrays(
            image_ids=[sample.image_id for sample in samples],
            paths=[sample.path for sample in samples],
            sizes=[sample.size for sample in samples],
            counts=[len(sample.boxes) for sample in samples],
            boxes=torch.cat([torch.zeros(0, 4), *(sample.boxes for sample in samples)]),
            labels=torch.cat([torch.zeros(0, dtype=torch.int64), *(sample.labels for sample in samples)]),
            crowd=torch.cat([torch.zeros(0, dtype=torch.bool), *(sample.crowd for sample in samples)]),
            areas=torch.cat(areas).double() if any(sample.areas is not None for sample in samples) else None,
            edge_laws=torch.cat(laws) if any(sample.edge_laws is not None for sample in samples) else None,
        )

    @staticmethod
    def from_arrays(
        image_ids: Sequence[int],
        paths: Sequence[Path | None],
        sizes: Sequence[tuple[int, int] | None],
        counts: Sequence[int],
        boxes: Tensor,
        labels: Tensor,
        crowd: Tensor,
        areas: Tensor | None = None,
        edge_laws: Tensor | None = None,
        stated: StatedTable | None = None,
    ) -> SampleTable:
        """A table from the concatenated boxes of all samples, of which sample i has ``counts[i]``."""
        encoded = [b"" if path is None else os.fsencode(path) for path in paths]
        start = os.path.commonprefix([path for path in encoded if path]) or b""  # noqa: RUF071 (cut at a folder below)
        folder = start[: start.rfind(os.sep.encode()) + 1]
        names = [path[len(folder) :] for path in encoded]
        return SampleTable(
            image_ids=torch.tensor(image_ids, dtype=torch.int64),
            sizes=torch.tensor([size or (-1, -1) for size in sizes], dtype=torch.int32).view(-1, 2),
            offsets=make_offsets(torch.tensor(counts, dtype=torch.int64)),
            boxes=boxes,
            labels=labels,
            crowd=crowd,
            areas=areas,
            edge_laws=edge_laws,
            folder=folder,
            path_offsets=make_offsets(torch.tensor([len(name) for name in names], dtype=torch.int64)),
            path_bytes=torch.from_numpy(np.frombuffer(b"".join(names), dtype=np.uint8).copy()),
            stated=stated,
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> SampleTable: ...

    def __getitem__(self, index: int | slice) -> Sample | SampleTable:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        i = range(len(self))[index]  # negative indices too; IndexError outside
        own = slice(*self.offsets[i : i + 2].tolist())
        height, width = self.sizes[i].tolist()
        return Sample(
            image_id=int(self.image_ids[i]),
            path=self.path(i),
            boxes=self.boxes[own].clone(),
            labels=self.labels[own].clone(),
            crowd=self.crowd[own].clone(),
            size=None if height < 0 else (height, width),
            areas=_stated(self.areas, own),
            edge_laws=_stated(self.edge_laws, own),
            stated=None if self.stated is None else self.stated[i],
        )

    def path(self, index: int) -> Path | None:
        """The path of one image."""
        start, end = self.path_offsets[index : index + 2].tolist()
        return Path(os.fsdecode(self.folder + self.path_bytes[start:end].numpy().tobytes())) if end > start else None

    def select(self, indices: Sequence[int] | Tensor) -> SampleTable:
        """A table of the samples at some indices, in that order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        offsets, rows = select_groups(self.offsets, chosen)
        path_offsets, letters = select_groups(self.path_offsets, chosen)
        return SampleTable(
            image_ids=self.image_ids[chosen],
            sizes=self.sizes[chosen],
            offsets=offsets,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=None if self.areas is None else self.areas[rows],
            edge_laws=None if self.edge_laws is None else self.edge_laws[rows],
            folder=self.folder,
            path_offsets=path_offsets,
            path_bytes=self.path_bytes[letters],
            stated=None if self.stated is None else self.stated.select(chosen),
        )

    def relabel(self, new_labels: Tensor) -> SampleTable:
        """With other classes: label i becomes ``new_labels[i]``; objects whose new label is negative are left out."""
        labels = new_labels[self.labels]
        keep = labels >= 0
        return replace(
            self,
            offsets=count_up(keep, self.offsets),
            boxes=self.boxes[keep],
            labels=labels[keep],
            crowd=self.crowd[keep],
            areas=None if self.areas is None else self.areas[keep],
            edge_laws=None if self.edge_laws is None else self.edge_laws[keep],
            stated=None if self.stated is None else self.stated.relabel(new_labels),
        )

    def sample_indices(self) -> Tensor:
        """Index of the sample of each box. (M,) int64"""
        return torch.arange(len(self)).repeat_interleave(self.offsets.diff())

    def indices_with_objects(self) -> Tensor:
        """Indices of the samples with at least one object that is not ignored. int64, ascending"""
        return self.sample_indices()[~self.crowd].unique()


def _stated(values: Tensor | None, own: slice) -> Tensor | None:
    return None if values is None or bool(values[own].isnan().all()) else values[own].clone()


@dataclass
class FileData:
    """A dataset of annotated image files (an ``ImageData``)."""

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: Sequence[Sample]  # a SampleTable; any other sequence is converted to one
    problems: list[Problem] = field(default_factory=list)
    value_range: tuple[int, int] | None = None  # of images of more than 8 bits, see ``gfocal.data.value_range``
    # Ids of images that have lost all of their objects: as background they would be trained on wrongly.
    untrained: frozenset[int] = frozenset()
    format: str = ""  # title of the format that the files are of; empty for data of several

    def __post_init__(self) -> None:
        if not isinstance(self.samples, SampleTable):
            self.samples = SampleTable.from_samples(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        classes = ", ".join(self.names[:5]) + ", ..." * (len(self.names) > 5)
        counts = [pluralize(len(self), "image"), pluralize(len(self.table.boxes), "object")]
        counts.append(pluralize(len(self.problems), "problem"))
        return f"FileData({', '.join(counts)}; {pluralize(len(self.names), 'class', 'classes')}: {classes})"

    @property
    def files(self) -> FileData:
        """Itself."""
        return self

    @property
    def table(self) -> SampleTable:
        """The samples as arrays."""
        assert isinstance(self.samples, SampleTable)
        return self.samples

    def select(self, indices: Sequence[int] | Tensor) -> FileData:
        """The images at some indices, in that order, with the problems of the whole dataset."""
        return replace(self, samples=self.table.select(indices))

    def without_stated(self) -> FileData:
        """The data as training needs them, in less memory: without what is for evaluation alone."""
        return self if self.table.stated is None else replace(self, samples=replace(self.table, stated=None))

    def before_scaling(self) -> FileData:
        """The data with the objects for evaluation in the coordinates of the annotation file."""
        if self.table.stated is None:
            return self
        return replace(self, samples=replace(self.table, stated=self.table.stated.before_scaling()))

    def sample(self, index: int) -> Sample:
        """The ground truth of one image."""
        return self.samples[index]

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One image, uint8 RGB (3, H, W), with its ground truth; ImageError if the file cannot be read."""
        from gfocal.data.images import read_image

        sample = self.samples[index]
        assert sample.path is not None, "a sample of files has a path"
        return read_image(sample.path, sample.size, self.value_range), sample

    def at_epoch(self, epoch: int) -> FileData:
        """Itself: files are the same in every epoch."""
        return self
