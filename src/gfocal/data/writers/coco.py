"""Writer of COCO json: datasets. (Detections are written by ``gfocal.interop.coco_results``.)"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.paths import split_name
from gfocal.data.readers.coco import WRITTEN_BY_GFOCAL
from gfocal.data.readers.coco_objects import AREA_OF_BOX
from gfocal.data.sidecar import Sidecar
from gfocal.data.writers.decimals import shorten, to_xywh
from gfocal.data.writers.placement import Part, Placement, stated_areas
from gfocal.data.writers.rows import write_rows

IMAGES = "images"


def write_coco(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``annotations/instances_<split>.json`` for images below ``images/``; the result is empty: all is stored.

    Boxes have the fewest digits that keep the float32. An area that is not stated is that of the box, which COCO's
    tools require, and marked as such for gfocal's reader. Every object has a ``segmentation``, which some tools
    require too: the polygon of its box, and for a crowd region run lengths, as in COCO's own files. Splits other than
    train, val and test have a ``<split>.json``: readers find the split in the name.
    """
    home = folder / "annotations"
    home.mkdir(parents=True)
    usual = all(split_name(part.split) == part.split for part in placement.parts)
    for part in placement.parts:
        # Names are relative to the split's own folder if readers look for it, else to the folder of all images.
        start = f"{part.split}/" if usual and part.has_own_folder else ""
        with (home / f"{'instances_' * usual}{part.split}.json").open("w", encoding="utf-8") as file:
            categories = [
                {"id": i, "name": name} for i, name in zip(placement.category_ids, placement.names, strict=True)
            ]
            file.write('{"info": {"description": "' + WRITTEN_BY_GFOCAL + '"},\n"images": [')
            write_rows(file, _images(part, start))
            file.write('],\n"categories": [')
            write_rows(file, iter(categories))
            file.write('],\n"annotations": [')
            write_rows(file, _annotations(part, placement.category_ids))
            file.write("]}\n")
    return Sidecar(), []


def _images(part: Part, start: str) -> Iterator[dict[str, Any]]:
    for sample, name in zip(part.data.samples, part.files, strict=True):
        assert sample.size is not None, "samples of files have a size"
        height, width = sample.size
        yield {"id": sample.image_id, "file_name": name.removeprefix(start), "height": height, "width": width}


def _annotations(part: Part, category_ids: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    number = 0
    for sample in part.data.samples:
        assert sample.size is not None, "samples of files have a size"
        rows = (sample.boxes, sample.labels, sample.crowd, stated_areas(sample))
        for box, label, crowd, area in zip(*(rows_.tolist() for rows_ in rows), strict=True):
            number += 1
            x, y, width, height = to_xywh(box)
            yield {
                "id": number,
                "image_id": sample.image_id,
                "category_id": category_ids[label],
                "bbox": [x, y, width, height],
                "area": width * height if math.isnan(area) else area,
                "iscrowd": int(crowd),
                "segmentation": to_run_lengths(box, sample.size) if crowd else [_polygon(box)],
            } | ({AREA_OF_BOX: True} if math.isnan(area) else {})


def _polygon(box: Sequence[float]) -> list[float]:
    """The corners of a box, clockwise from the left top."""
    x1, y1, x2, y2 = map(shorten, box)
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def to_run_lengths(box: Sequence[float], size: tuple[int, int]) -> dict[str, list[int]]:
    """COCO's uncompressed mask of all pixels that a box touches: runs down the columns, of 0 and 1 in turn."""
    height, width = size
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = min(math.ceil(box[2]), width), min(math.ceil(box[3]), height)
    rows, columns = bottom - top, right - left
    counts = [left * height + top]
    if rows == height:
        counts += [columns * height]
    else:
        counts += [rows, height - rows] * (columns - 1) + [rows]
    counts.append(height * width - sum(counts))
    return {"counts": counts if counts[-1] else counts[:-1], "size": [height, width]}
