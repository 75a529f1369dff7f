"""Writer of the json of Apple's Create ML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gfocal.data.sidecar import Corners, Sidecar
from gfocal.data.writers.decimals import to_center
from gfocal.data.writers.placement import Placement, check_names
from gfocal.data.writers.rows import write_rows
from gfocal.data.writers.written_objects import Storage, WrittenObject, describe_losses, split_objects, to_sidecar

IMAGES = ""  # beside the json file, in <split>/
ANNOTATIONS = "_annotations.createml.json"


def write_createml(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``<split>/_annotations.createml.json`` beside the images of the split.

    Boxes are center and size in pixels. Returns what the files cannot store, and notes for the user.
    """
    check_names(placement.names, "Create ML")
    splits = split_objects(placement, STORAGE)
    for split in splits:
        (folder / split.name).mkdir()
        with (folder / split.name / ANNOTATIONS).open("w", encoding="utf-8") as stream:
            stream.write("[")
            write_rows(stream, (_entry(file, sample.size, objects) for file, sample, objects in split.images))
            stream.write("]\n")
    return to_sidecar(placement, splits), describe_losses(STORAGE, splits)


def _entry(file: str, size: tuple[int, int] | None, objects: Sequence[WrittenObject]) -> dict[str, Any]:
    assert size is not None, "samples of files have a size"
    annotations = []
    for one in objects:
        x, y, width, height = _center(one.box, size)
        annotations.append({"label": one.name, "coordinates": {"x": x, "y": y, "width": width, "height": height}})
    return {"image": PurePosixPath(file).name, "annotations": annotations}


def _center(box: Corners, size: tuple[int, int]) -> Corners:
    """Center, width and height in pixels."""
    x1, y1, x2, y2 = box
    (x, width), (y, height) = to_center(x1, x2, size[1]), to_center(y1, y2, size[0])
    return x, y, width, height


def _as_read(box: Corners, size: tuple[int, int]) -> Corners:
    x, y, width, height = _center(box, size)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


STORAGE = Storage("Create ML", _as_read)
