"""Detection over picture files: json with boxes and edge deviations, and pictures with the boxes drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from gfocal.atomic import atomic_write
from gfocal.data.images import read_image
from gfocal.data.layouts import is_picture, visible_in
from gfocal.data.samples import DataError
from gfocal.inference import detect_batch
from gfocal.models.detector import Detector
from gfocal.structures import Detections
from gfocal.words import counted

JSON_FILE = "detections.json"
INFO = (
    "Found by gfocal. Category ids are those of 'categories', numbered from 1 in the model's order, and not those of "
    "its training data. bbox is x, y, width, height, and edge_std is left, top, right, bottom, in pixels of the file."
)


def detect_files(
    model: Detector,
    paths: Sequence[Path],
    folder: Path,
    *,
    score_threshold: float = 0.3,
    batch_size: int = 1,
    pictures: bool = True,
    edges: Literal["none", "std", "distribution"] = "none",
    console: Console | None = None,
) -> int:
    """Find objects in files and folders of files; returns how many files failed.

    Writes ``detections.json``, COCO's layout with a score and the standard deviations of the four edges
    (``edge_std``: left, top, right, bottom, in pixels; not of a detector without edge distributions) at each
    annotation, and one picture per file, which the record of an image names as ``picture``. Category ids are numbers
    from 1 in the model's order, whatever those of its training data are. A file that cannot be read, or a folder
    without pictures, is told in one line and left out; the rest goes on. Stopped by Ctrl-C, it writes what was found
    until then.

    Raises:
        DataError: ``folder`` is a file, or pictures would be drawn into a folder that is looked through; or edges
            are to be drawn of a detector without edge distributions.
    """
    console = console or Console(stderr=True)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if edges != "none" and not has_distributions(model):
        raise DataError(
            f"edges={edges}: {model.built_from['preset']} gives four numbers to a box and says nothing of how sure "
            "it is of an edge; draw boxes alone (--edges none)"
        )
    found = Found(model.names)
    taken: set[str] = set()
    failed = 0

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def fail(reason: object) -> None:
        nonlocal failed
        failed += 1
        console.print(f"failed: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)

    files: list[Path] = []
    for path in paths:
        found_here, others = files_of(path, folder)
        files += found_here
        if others:
            endings = ", ".join(sorted({other.suffix.lower() or "no ending" for other in others}))
            tell(f"note: {path}: {counted(len(others), 'file')} passed over, not named like pictures ({endings})")
        if not found_here:
            fail(f"{path}: no pictures in this folder (known by names that end in .jpg, .png ...)")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder for what is found")
    if pictures and any(file.parent.resolve() == folder.resolve() for file in files):
        raise DataError(
            f"{folder}: holds pictures to look through, and drawn ones would take their places; "
            "name another folder, or draw none (--no-pictures)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    json_file = folder / JSON_FILE
    try:
        for start in range(0, len(files), batch_size):
            read = []
            for path in files[start : start + batch_size]:
                try:
                    read.append((path, read_image(path)))
                except DataError as error:
                    fail(error)
            if not read:
                continue
            results = detect_batch(model, [image for _, image in read], score_threshold)
            for (path, image), one in zip(read, results, strict=True):
                detections = one.to("cpu")
                name: str | None = None
                if pictures:
                    from gfocal.plots import draw_detections

                    name = free_name(path, taken)
                    draw_detections(image, detections, score_threshold, edges=edges).save(folder / name, quality=92)
                found.add(path, detections, name)
                told = ", ".join(f"{count} {kind}" for kind, count in _counted(detections.class_names).items())
                tell(f"{path}: {told or 'nothing'}")
    except KeyboardInterrupt:
        if not found.images:
            raise KeyboardInterrupt("stopped before a picture was done; nothing was written") from None
        found.write(json_file)
        raise KeyboardInterrupt(
            f"stopped after {len(found.images)} of {counted(len(files), 'picture')}; what was found until then is in "
            f"{json_file}"
        ) from None
    found.write(json_file)
    told = f"{counted(len(found.annotations), 'object')} in {counted(len(found.images), 'picture')}: {json_file}"
    tell(told + f", and drawn in {folder}" * (pictures and len(found.images) > 0))
    return failed


class Found:
    """The content of detections.json, as it grows."""

    def __init__(self, names: Sequence[str]) -> None:
        self.categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, path: Path, detections: Detections, picture: str | None) -> None:
        """One picture more, and the name of the one that was drawn of it."""
        image_id = len(self.images) + 1
        height, width = detections.size
        image = {"id": image_id, "file_name": str(path), "height": height, "width": width}
        self.annotations += records(detections, image_id, len(self.annotations) + 1)
        self.images.append(image | ({} if picture is None else {"picture": picture}))

    def write(self, file: Path) -> None:
        """Write all of it; the records of a picture that was not added to its end are left out."""
        content = {
            "info": {"description": INFO},
            "images": self.images,
            "categories": self.categories,
            "annotations": [one for one in self.annotations if one["image_id"] <= len(self.images)],
        }
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def files_of(path: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """A file itself, or the pictures in a folder and below, and its other files.

    What an earlier call left in ``out``, below the folder, is none of them.
    """
    if not path.is_dir():
        return [path], []
    drawn = out.resolve()
    below = path.resolve() in drawn.parents
    kept = [file for file in visible_in(path, deep=True) if not below or drawn not in file.resolve().parents]
    others = [file for file in kept if not is_picture(file) and file.is_file()]
    return [file for file in kept if is_picture(file)], others


def has_distributions(model: Detector) -> bool:
    """Whether a detector gives a distribution behind each edge, and not four numbers alone."""
    return model.distribution.probabilities(torch.zeros(4, model.distribution.num_bins)).shape[-1] > 0


def records(detections: Detections, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Annotations in COCO's layout, with score and, where they are known, edge deviations."""
    boxes, stds = detections.boxes.double(), detections.edge_std.double()
    result = []
    for i, (box, label, score, std) in enumerate(
        zip(boxes.tolist(), detections.labels.tolist(), detections.scores.tolist(), stds.tolist(), strict=True)
    ):
        width, height = box[2] - box[0], box[3] - box[1]
        record = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [round(v, 2) for v in (box[0], box[1], width, height)],
            "area": round(width * height, 2),
            "iscrowd": 0,
            "score": round(score, 5),
        }
        if detections.edges.shape[-1]:
            record["edge_std"] = [round(v, 2) for v in std]
        result.append(record)
    return result


def free_name(path: Path, taken: set[str]) -> str:
    """A name for the drawn picture that no other file of the same name has taken."""
    name, number = f"{path.stem}.jpg", 1
    while name.lower() in taken:  # on many disks A.jpg and a.jpg are one file
        number += 1
        name = f"{path.stem}_{number}.jpg"
    taken.add(name.lower())
    return name


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in dict.fromkeys(names)}
