"""Small inputs of the tests of labeling tools: images of 100x80, json files, and what is read of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from gfocal.data.dataset import FileData


def write_images(folder: Path, *names: str, size: tuple[int, int] = (100, 80)) -> Path:
    """Images of a width and height in a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
    return folder


def write_json(file: Path, content: Any) -> Path:
    """A json file, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def boxes(data: FileData) -> dict[str, list[tuple[str, list[float], bool]]]:
    """Name of an image -> class, rounded corners and flag of each object."""
    return {
        sample.path.name: [
            (data.names[label], [round(value, 3) for value in box], crowd)
            for box, label, crowd in zip(
                sample.boxes.tolist(), sample.labels.tolist(), sample.crowd.tolist(), strict=True
            )
        ]
        for sample in data.samples
        if sample.path is not None
    }


def reasons(data: FileData) -> Counter[str]:
    """How many problems there are for each reason."""
    return Counter(problem.reason for problem in data.problems)


def corners(data: FileData) -> dict[str, list[list[float]]]:
    """Name of an image -> rounded corners of each object."""
    return {name: [box for _, box, _ in objects] for name, objects in boxes(data).items()}


def outcomes(data: FileData) -> Counter[tuple[str, str]]:
    """How many problems there are for each reason and action."""
    return Counter((problem.reason, problem.action) for problem in data.problems)
