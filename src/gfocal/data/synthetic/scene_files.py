"""Synthetic images as files with COCO annotations: example data for whoever has none at hand."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from gfocal.data.dataset import Sample
from gfocal.data.synthetic.scenes import SyntheticScenes


def write_scenes(scenes: SyntheticScenes, folder: Path) -> None:
    """Write scenes as ``folder/images/0000.jpg``, ... and ``folder/annotations.json``, in COCO's format.

    What is in the folder under these names is overwritten.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], list[dict[str, object]]()
    for index in range(len(scenes)):
        pixels, sample = scenes.read(index)
        name = f"{index:04d}.jpg"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / "images" / name, quality=92)
        images.append({"id": index, "file_name": name, "height": scenes.size, "width": scenes.size})
        annotations += _annotations(sample, index, len(annotations))
    categories = [
        {"id": number, "name": name} for number, name in zip(scenes.category_ids, scenes.names, strict=True)
    ]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _annotations(sample: Sample, image_id: int, first_id: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
        box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
        found.append(
            {
                "id": first_id + len(found) + 1,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
    return found
