"""Figure 8: accuracy against speed, of given measurements or of the detectors of a lab."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from gfocal.data.dataset import ImageData
from gfocal.lab.figures.canvas import INK, Axes, Table, label, save, sheet
from gfocal.models.model_file import load_model
from gfocal.models.predict import detect_batch
from gfocal.run_folder import RunFolder
from gfocal.visualize.charts import COLORS


@dataclass(frozen=True)
class DetectorSpeed:
    """One detector; those of one family, such as GFL with several backbones, are connected by a line."""

    name: str
    ap: float  # 0..1
    images_per_second: float
    family: str = ""


def draw_speed(points: Sequence[DetectorSpeed], path: Path, machine: str = "") -> None:
    """Draw as PNG; ``machine`` is where the speeds were measured.

    Raises:
        ValueError: there is nothing to draw, or a speed is not positive.
    """
    if not points or min(point.images_per_second for point in points) <= 0:
        raise ValueError("figure 8 needs at least one detector, and speeds above 0 images per second")
    figure, (axes,) = sheet(height=4.6)
    families = list(dict.fromkeys(point.family or point.name for point in points))
    for family, color in zip(families, COLORS * len(families), strict=False):
        row = sorted((p for p in points if (p.family or p.name) == family), key=lambda p: (p.images_per_second, p.ap))
        x, y = [p.images_per_second for p in row], [100 * p.ap for p in row]
        axes.plot(x, y, color=color, linewidth=1.4, marker="o", markersize=6)
    axes.margins(x=0.15, y=0.12)  # room for the names of the outermost points
    _write_names(axes, points)
    where = f", {machine}" if machine else ""
    label(axes, f"Accuracy and speed{where}", "images per second (more is better)", "AP, %")
    save(figure, path)


def _write_names(axes: Axes, points: Sequence[DetectorSpeed]) -> None:
    """Write each name beside its point, at the first of four places where it overlaps no other name."""
    taken: list[tuple[float, float, float, float]] = []
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    for point in sorted(points, key=lambda p: -p.ap):
        # In fractions of the axes: a letter is about 0.009 wide, a line 0.05 high.
        x = (point.images_per_second - x0) / (x1 - x0)
        y = (100 * point.ap - y0) / (y1 - y0)
        wide, tall = 0.0092 * len(point.name), 0.05
        places = (
            (x + 0.01, y + 0.035, "left"),
            (x - 0.01, y - 0.035, "right"),
            (x + 0.01, y - 0.035, "left"),
            (x - 0.01, y + 0.035, "right"),
        )
        for at_x, at_y, across in places:
            left = at_x - (wide if across == "right" else 0.0)
            box = (left, at_y - tall / 2, left + wide, at_y + tall / 2)
            inside = box[0] >= 0 and box[2] <= 1.02
            if inside and not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                break
        taken.append(box)
        veil = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
        axes.text(
            at_x,
            at_y,
            point.name,
            ha=across,
            va="center",
            fontsize=8.5,
            color=INK,
            transform=axes.transAxes,
            bbox=veil,
        )


def speed_table(points: Sequence[DetectorSpeed]) -> Table:
    """One row per detector."""
    return {
        "name": [point.name for point in points],
        "family": [point.family for point in points],
        "ap": [point.ap for point in points],
        "images_per_second": [point.images_per_second for point in points],
    }


# Names of the runs that figures are drawn from -> names in figure 8.
NAMES = {
    "joint": "Dirac, QFL",
    "separate": "Dirac, IoU branch",
    "dirac": "Dirac, centerness branch",
    "gaussian": "Gaussian, centerness branch",
    "general": "General with DFL, centerness branch",
}


def measure_speeds(models: Mapping[str, Path], data: ImageData, images: int = 12) -> list[DetectorSpeed]:
    """AP of each run, from its result, and images per second of its model, one image at a time.

    Detectors take turns on each image, so that a drift of the machine affects all alike; the median counts. The first
    image is a warm-up.
    """
    detectors = {name: load_model(path).eval() for name, path in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for index in range(min(images + 1, len(data))):
        image, _ = data.read(index)
        for name, detector in detectors.items():
            start = time.perf_counter()
            detect_batch(detector, [image], detector.decode_settings.score_threshold)
            seconds[name].append(time.perf_counter() - start)
    speeds = []
    for name, path in models.items():
        ap = json.loads(RunFolder(path.parent).result.read_text(encoding="utf-8"))["ap"] or 0.0
        speeds.append(DetectorSpeed(NAMES[name], ap, 1 / median(seconds[name][1:] or seconds[name])))
    return speeds


def describe_machine() -> str:
    """Processor and threads that speeds are measured with."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, one image at a time"
