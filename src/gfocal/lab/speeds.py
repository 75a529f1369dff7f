"""How fast the detectors of a lab are, measured in turn on one picture after the other: the data of figure 8."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import torch

from gfocal.build import RESULT_FILE
from gfocal.data.samples import ImageData
from gfocal.inference import detect_batch
from gfocal.lab.figures.speed import Measured
from gfocal.models.files import load_model

# The names of the runs that figures are drawn from -> the words of figure 8.
WORDS = {
    "joint": "Dirac, QFL",
    "separate": "Dirac, IoU branch",
    "dirac": "Dirac, centerness branch",
    "gaussian": "Gaussian, centerness branch",
    "general": "General with DFL, centerness branch",
}


def measured(models: Mapping[str, Path], data: ImageData, pictures: int = 12) -> list[Measured]:
    """AP of each run, as its result says, and the pictures a second that its model detects in, one at a time.

    The detectors take turns, so that a machine whose speed drifts treats all alike; the median counts. The first
    picture warms up.
    """
    detectors = {name: load_model(path).eval() for name, path in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for index in range(min(pictures + 1, len(data))):
        picture, _ = data.read(index)
        for name, detector in detectors.items():
            start = time.perf_counter()
            detect_batch(detector, [picture])
            seconds[name].append(time.perf_counter() - start)
    found = []
    for name, path in models.items():
        ap = json.loads((path.parent / RESULT_FILE).read_text(encoding="utf-8"))["ap"] or 0.0
        found.append(Measured(WORDS[name], ap, 1 / median(seconds[name][1:] or seconds[name])))
    return found


def machine() -> str:
    """On what the speeds were measured."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, one picture at a time"
