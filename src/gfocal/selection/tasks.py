"""The images that were chosen as a table, a list of files, and tasks of labeling tools with the objects found."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gfocal.atomic import atomic_folder, atomic_write
from gfocal.data.convert import convert
from gfocal.data.dataset import FileData, Sample
from gfocal.data.writers import label_studio
from gfocal.data.writers.placement import Images, Placement, check_names, place_images, store_images
from gfocal.data.writers.rows import write_rows
from gfocal.errors import DataError
from gfocal.selection.choice import Choice
from gfocal.selection.pool import Pool, SeenImage

Tool = Literal["cvat", "label-studio"]

TABLE, LIST, TASKS = "selected.csv", "selected.txt", "tasks.json"
SPLIT = "train"  # the folder of the images
COLUMNS = (
    *("rank", "file", "width", "height", "uncertainty", "score_uncertainty", "edge_uncertainty", "objects"),
    *("distance", "nearest"),
)


@dataclass(frozen=True)
class Chosen:
    """An image that was chosen, and why."""

    rank: int  # from 1
    image: SeenImage
    distance: float  # to the nearest labeled or earlier chosen image, 0..2; inf for the first of all
    nearest: str  # path of that image; empty for the first of all

    @property
    def row(self) -> tuple[Any, ...]:
        """Values of ``COLUMNS``."""
        image, is_first = self.image, not self.nearest
        numbers = (image.uncertainty, image.score_uncertainty, image.edge_uncertainty)
        return (
            *(self.rank, image.path, image.size[1], image.size[0], *(f"{v:.3f}" for v in numbers)),
            *(len(image.objects), "" if is_first else f"{self.distance:.3f}", self.nearest),
        )


def list_chosen(choice: Choice, pool: Pool, labeled: Sequence[SeenImage]) -> list[Chosen]:
    """The chosen images with the names of those that they are nearest to."""

    def path(index: int) -> str:
        if index == -1:
            return ""
        return pool.images[index].path if index >= 0 else labeled[-2 - index].path

    rows = zip(choice.indices.tolist(), choice.distances.tolist(), choice.nearest.tolist(), strict=True)
    return [Chosen(rank, pool.images[i], far, path(near)) for rank, (i, far, near) in enumerate(rows, 1)]


def require_new(folder: Path) -> None:
    """Raise DataError unless a folder is new or empty."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder for what is chosen")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{folder}: is not empty; name another folder (the images chosen before are left out with "
            f"--already @{folder / LIST})"
        )


def write_choice(chosen: Sequence[Chosen], folder: Path) -> tuple[Path, Path]:
    """Write the table and the list of files, whose paths are as they were given; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(one.row for one in chosen)])
    for name, content in (
        (TABLE, text.getvalue()),
        (LIST, "".join(f"{one.image.path}\n" for one in chosen)),
    ):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
    return folder / TABLE, folder / LIST


def check_tool(names: Sequence[str], tool: Tool) -> None:
    """Raise DataError for classes that a labeling tool cannot store."""
    check_names(names, "CVAT xml" if tool == "cvat" else "Label Studio")


def write_tasks(
    chosen: Sequence[Chosen], names: Sequence[str], tool: Tool, folder: Path, images: Images, model: str
) -> list[str]:
    """Write what a labeling tool imports: the images, and the objects found in them, to be corrected.

    For CVAT they are annotations in ``annotations.xml``, as ``gfocal convert`` writes them. For Label Studio
    ``tasks.json`` has a task for each image in the order of the choice, with ``rank``, ``uncertainty`` and
    ``distance`` beside the image and the objects as predictions with their scores, and ``label_config.xml`` the
    labeling interface. Returns notes for the user.

    Args:
        chosen: images, best first.
        names: of the classes.
        tool: see above.
        folder: new or empty.
        images: copied, linked or not stored.
        model: named as the author of the predictions.

    Raises:
        DataError: the folder is not empty, or the tool cannot store the name of a class.
    """
    data = _as_dataset(chosen, names)
    if tool == "cvat":
        return convert({SPLIT: data}, "cvat", folder, images)
    check_tool(names, tool)
    require_new(folder)
    placement = place_images({SPLIT: data})
    with atomic_folder(folder) as work:
        with (work / TASKS).open("w", encoding="utf-8") as stream:
            stream.write("[")
            write_rows(stream, _tasks(chosen, placement, names, model))
            stream.write("]\n")
        (work / label_studio.CONFIG).write_text(label_studio.format_interface(names), encoding="utf-8")
        store_images(placement, work / label_studio.IMAGES, images)
    return []


def _as_dataset(chosen: Iterable[Chosen], names: Sequence[str]) -> FileData:
    """The objects as annotations, in the order of the paths."""
    samples = []
    for number, image in enumerate(sorted((one.image for one in chosen), key=lambda image: image.path), 1):
        height, width = image.size
        objects = torch.from_numpy(image.objects)
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = torch.minimum(objects[:, :4].clamp(min=0), limit)
        no_crowd = torch.zeros(len(boxes), dtype=torch.bool)
        path = Path(os.path.abspath(image.path))
        samples.append(Sample(number, path, boxes, objects[:, 5].long(), no_crowd, image.size))
    return FileData(tuple(names), tuple(range(1, len(names) + 1)), samples)


def _tasks(
    chosen: Iterable[Chosen], placement: Placement, names: Sequence[str], model: str
) -> Iterator[dict[str, Any]]:
    """The tasks of Label Studio, in the order of the choice."""
    (part,) = placement.parts
    place = {sample.path: (file, sample) for file, sample in zip(part.files, part.data.samples, strict=True)}
    for one in chosen:
        file, sample = place[Path(os.path.abspath(one.image.path))]
        file = f"{label_studio.IMAGES}/{file}"
        data: dict[str, Any] = {"image": label_studio.local_file(file), "rank": one.rank}
        data["uncertainty"] = round(one.image.uncertainty, 3)
        if one.nearest:
            data["distance"] = round(one.distance, 3)
        record = {"size": one.image.size, "labels": sample.labels.tolist(), "boxes": sample.boxes.tolist()}
        record["scores"] = one.image.objects[:, 4].tolist()
        prediction = label_studio.format_prediction(file, record, names, model, digits=4)
        yield {"data": data, "annotations": [], "predictions": [prediction]}
