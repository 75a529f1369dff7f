"""Small annotated sets, clean or with planted faults, written to disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 160, 120
NAMES = ("cat", "dog", "owl")
# Boxes of a clean image, xywh; each image shifts them by a number of its own.
BOXES = ((6.0, 8.0, 40.0, 36.0), (70.0, 20.0, 52.0, 44.0), (24.0, 62.0, 48.0, 40.0))


def texture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """An image that resembles no other: a coarse random pattern."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@dataclass
class Split:
    """A COCO split under construction."""

    name: str
    folder: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def save_image(self, image: Image.Image, file_name: str, **save: Any) -> int:
        """Save an image and list it; its image id."""
        path = self.folder / self.name / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **save)
        return self.listed(file_name, image.width, image.height)

    def listed(self, file_name: str, width: int = WIDTH, height: int = HEIGHT) -> int:
        """List an image without a file."""
        self.images.append({"id": len(self.images) + 1, "file_name": file_name, "width": width, "height": height})
        return len(self.images)

    def box(self, image_id: int, xywh: Any, category: int = 1, **more: Any) -> int:
        """Annotate a box; its annotation id."""
        number = len(self.annotations) + 1
        entry = {"id": number, "image_id": image_id, "category_id": category, "bbox": xywh, "iscrowd": 0}
        self.annotations.append(entry | more)
        return number

    def fill(self, count: int, seed: int) -> None:
        """So many clean images, each with a box of every class."""
        for i in range(count):
            image_id = self.save_image(texture(seed + i), f"{self.name}{i:02d}.png")
            for category, (x, y, w, h) in enumerate(BOXES, 1):
                self.box(image_id, [x + 1.5 * i, y + i % 5, w, h], category)


class CocoSet:
    """A COCO set of two splits; ``write`` puts its json files down."""

    def __init__(self, folder: Path, names: tuple[str, ...] = NAMES) -> None:
        self.folder, self.names = folder, names
        self.train, self.val = Split("train", folder), Split("val", folder)
        self.train.fill(12, 100)
        self.val.fill(5, 200)

    def write(self) -> Path:
        """The folder of the set."""
        (self.folder / "annotations").mkdir(parents=True, exist_ok=True)
        categories = [{"id": i, "name": name} for i, name in enumerate(self.names, 1)]
        for split in (self.train, self.val):
            content = {"images": split.images, "annotations": split.annotations, "categories": categories}
            (self.folder / "annotations" / f"instances_{split.name}.json").write_text(json.dumps(content))
        return self.folder


def yolo_set(folder: Path, count: int = 6) -> Path:
    """A clean YOLO set: train and val, two classes, a data.yaml."""
    for s, split in enumerate(("train", "val")):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            texture(1000 * (s + 1) + i).save(folder / "images" / split / f"{split}{i}.png")
            lines = [
                f"{c} {0.25 + 0.4 * c + 0.02 * i:.4f} {0.3 + 0.03 * i + 0.2 * b:.4f} 0.22 0.16"
                for c in (0, 1)
                for b in (0, 1)
            ]
            (folder / "labels" / split / f"{split}{i}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cup, plate]\n")
    return folder


def voc_set(folder: Path, count: int = 10) -> Path:
    """A clean VOC set: xml beside the images in train and val."""
    for s, split in enumerate(("train", "val")):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            texture(5000 * (s + 1) + i).save(folder / split / f"{split}{i}.png")
            boxes = [(8 + i + 60 * k, 10 + 2 * i + 20 * k) for k in (0, 1)]
            objects = "".join(
                f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
                f"<xmax>{x + 50}</xmax><ymax>{y + 40}</ymax></bndbox></object>"
                for name, (x, y) in zip(("fork", "knife"), boxes, strict=True)
            )
            write_xml(folder / split / f"{split}{i}.xml", f"{split}{i}.png", objects)
    return folder


def write_xml(file: Path, image: str, objects: str) -> None:
    """An annotation of one image of the usual size."""
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    file.write_text(f"<annotation><filename>{image}</filename>{size}{objects}</annotation>")
