"""Writer of projects of the VGG Image Annotator (VIA 2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gfocal.data.sidecar import Corners, Sidecar
from gfocal.data.writers.decimals import to_xywh
from gfocal.data.writers.placement import Placement, check_names
from gfocal.data.writers.written_objects import (
    Storage,
    StoredSplit,
    WrittenObject,
    describe_losses,
    split_objects,
    to_sidecar,
)

IMAGES = "images"
VERSION = "2.0.10"  # of VIA's files
CLASS = "class"  # the attribute of regions
DIFFICULT = "difficult"  # the attribute of ignored regions


def write_via(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``<split>.json``, a project of VIA 2 for the images below ``images/``.

    The class is the attribute ``class`` of a region, one of a list; ignored regions have the attribute ``difficult``.
    Corners have the fewest digits that keep the float32. Returns what the files cannot store, and notes for the user.
    """
    check_names(placement.names, "VIA")
    splits = split_objects(placement, STORAGE, IMAGES)
    sizes = {f"{IMAGES}/{file}": source.stat().st_size for file, source in placement.sources.items()}
    for split in splits:
        content = _project(split, placement.names, sizes)
        (folder / f"{split.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return to_sidecar(placement, splits), describe_losses(STORAGE, splits)


def _as_read(box: Corners, size: tuple[int, int]) -> Corners:
    x, y, width, height = to_xywh(box)
    return x, y, x + width, y + height


STORAGE = Storage("VIA", _as_read, stores_ignored=True)


def _project(split: StoredSplit, names: Sequence[str], sizes: dict[str, int]) -> dict[str, Any]:
    images = {f"{file}{sizes[file]}": _image(file, sizes[file], objects) for file, _, objects in split.images}
    options = {
        "type": "dropdown",
        "description": "",
        "options": dict.fromkeys(names, ""),
        "default_options": {},
    }
    flag = {"type": "dropdown", "description": "", "options": {"true": ""}, "default_options": {}}
    return {
        "_via_settings": {
            "ui": {},
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": split.name},
        },
        "_via_img_metadata": images,
        "_via_attributes": {"region": {CLASS: options, DIFFICULT: flag}, "file": {}},
        "_via_data_format_version": VERSION,
        "_via_image_id_list": list(images),
    }


def _image(file: str, size: int, objects: Sequence[WrittenObject]) -> dict[str, Any]:
    return {"filename": file, "size": size, "regions": [_region(one) for one in objects], "file_attributes": {}}


def _region(one: WrittenObject) -> dict[str, Any]:
    x, y, width, height = to_xywh(one.box)
    flag = {DIFFICULT: "true"} if one.is_ignored else {}
    shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    return {"shape_attributes": shape, "region_attributes": {CLASS: one.name} | flag}
