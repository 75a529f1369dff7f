"""Small COCO datasets for the tests of the reader and of the validation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from gfocal.data.dataset import FileData

CATEGORIES = [{"id": 90, "name": "zebra"}, {"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]


def image(path: Path, width: int = 100, height: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)
    return path


def box(number: int, image: Any, category: Any, bbox: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def dump(file: Path, annotations: list[Any], images: list[Any] | None = None, **more: Any) -> Path:
    """A json file of the images b.png (id 1) and a.png (id 7), with the given annotations."""
    if images is None:
        images = [
            {"id": 7, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 1, "file_name": "b.png", "width": 100, "height": 80},
        ]
        for entry in images:
            image(file.parent / entry["file_name"])
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def reasons(data: FileData) -> Counter[tuple[str, str]]:
    return Counter((p.reason, p.action) for p in data.problems)
