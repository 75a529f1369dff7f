"""Small sets for the tests of readers: their files, and what was read of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from PIL import Image

from gfocal.data.dataset import FileData


def image(path: Path, width: int = 100, height: int = 80) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def content(data: FileData) -> dict[str, list[tuple[str, list[float], bool]]]:
    """Class, box and flag of each object, by the stem of its image."""
    return {
        sample.path.stem: [
            (data.names[label], box, crowd)
            for label, box, crowd in zip(
                sample.labels.tolist(), sample.boxes.tolist(), sample.crowd.tolist(), strict=True
            )
        ]
        for sample in data.samples
        if sample.path is not None
    }


def reasons(data: FileData) -> Counter[str]:
    return Counter(problem.reason for problem in data.problems if "marked as crowd" not in problem.record)
