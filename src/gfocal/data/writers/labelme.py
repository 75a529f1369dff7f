"""Writer of LabelMe json: one file beside each image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gfocal.data.dataset import Sample
from gfocal.data.readers.labelme import BACKGROUND, IGNORE
from gfocal.data.sidecar import Sidecar
from gfocal.data.writers.decimals import shorten
from gfocal.data.writers.placement import Placement, check_names
from gfocal.data.writers.written_objects import Storage, WrittenObject, describe_losses, split_objects, to_sidecar
from gfocal.errors import DataError

IMAGES = ""  # beside their json files, in <split>/
VERSION = "5.5.0"  # of LabelMe, whose files look like this
STORAGE = Storage("LabelMe", lambda box, size: box, stores_ignored=True)


def write_labelme(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write a json file for each image, in ``<split>/`` beside it, and ``labels.txt`` for LabelMe's ``--labels``.

    Ignored regions have the flag ``difficult``. Corners have the fewest digits that keep the float32. Returns what
    the files cannot store, and notes for the user. Raises DataError for class names by which LabelMe
    means no class.
    """
    check_names(placement.names, "LabelMe")
    for name in (IGNORE, BACKGROUND):
        if name in placement.names:
            raise DataError(f"class name {name!r}: LabelMe means no class by it; rename it with --rename")
    splits = split_objects(placement, STORAGE)
    for split in splits:
        for file, sample, objects in split.images:
            target = (folder / file).with_suffix(".json")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(_content(file, sample, objects), indent=1) + "\n", encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in placement.names), encoding="utf-8")
    return to_sidecar(placement, splits), describe_losses(STORAGE, splits)


def _content(file: str, sample: Sample, objects: Sequence[WrittenObject]) -> dict[str, Any]:
    assert sample.size is not None, "samples of files have a size"
    return {
        "version": VERSION,
        "flags": {},
        "shapes": [_shape(one) for one in objects],
        "imagePath": PurePosixPath(file).name,
        "imageData": None,
        "imageHeight": sample.size[0],
        "imageWidth": sample.size[1],
    }


def _shape(one: WrittenObject) -> dict[str, Any]:
    x1, y1, x2, y2 = map(shorten, one.box)
    return {
        "label": one.name,
        "points": [[x1, y1], [x2, y2]],
        "group_id": None,
        "description": "",
        "shape_type": "rectangle",
        "flags": {"difficult": True} if one.is_ignored else {},
        "mask": None,
    }
