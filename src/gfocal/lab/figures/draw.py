"""All figures in the order of the paper: those from simulation, and those of trained detectors.

Each is written as an image and as a csv of its data: ``figure_05a_qfl_curves.png`` and ``.csv``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gfocal.data.dataset import ImageData
from gfocal.data.discovery import read_data
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import DataError
from gfocal.lab.figures.canvas import Table, require_matplotlib, write_table
from gfocal.lab.figures.figure_2 import (
    confident_background,
    confident_background_table,
    draw_confident_background,
    draw_score_and_quality,
    score_and_quality,
    score_and_quality_table,
)
from gfocal.lab.figures.figure_3 import draw_edges_in_images, edges_in_images, edges_in_images_table
from gfocal.lab.figures.figure_5 import (
    draw_one_expectation,
    draw_qfl_curves,
    draw_targets,
    one_expectation,
    one_expectation_table,
    qfl_curves,
    qfl_table,
    regression_targets,
    targets_table,
)
from gfocal.lab.figures.figure_7 import draw_side_by_side, side_by_side, side_by_side_table
from gfocal.lab.figures.figure_8 import DetectorSpeed, draw_speed, speed_table
from gfocal.lab.figures.figure_9 import draw_representations, representations_table, three_representations
from gfocal.lab.figures.figure_10 import draw_perturbation, perturbation, perturbation_table
from gfocal.lab.figures.figure_11_12 import (
    centerness_map,
    centerness_table,
    draw_centerness,
    draw_quality_labels,
    quality_labels,
    quality_labels_table,
)
from gfocal.lab.figures.trained import Data, Model, as_data, as_detector
from gfocal.models.detector import Detector

PAPER_SIZE = (800, 1333)  # short and long side of the network's input in the paper, pixels
NUM_IMAGES, IMAGE_SIZE = 500, 192


@dataclass(frozen=True)
class Figure:
    """One figure of the paper: how its data are computed, drawn and tabulated."""

    name: str  # of its files
    compute: Callable[[], Any]
    draw: Callable[[Any, Path], None]
    table: Callable[[Any], Table]

    def write(self, folder: Path) -> list[Path]:
        """Compute and write the image and its data; returns the paths of both."""
        data = self.compute()
        image, table = folder / f"figure_{self.name}.png", folder / f"figure_{self.name}.csv"
        write_table(table, self.table(data))
        self.draw(data, image)
        return [image, table]


def draw_simulated(
    folder: Path,
    data: Data | None = None,
    *,
    split: str | None = None,
    size: tuple[int, int] | None = None,
) -> list[Path]:
    """Draw the figures that need no training: 5a, 5b, 5c, 9, 10, 11. Returns the files written.

    Args:
        folder: for the images and tables; created if missing.
        data: for the regression targets of figure 5c; synthetic images by default.
        split: of the data, if given as a path; all of them by default.
        size: short and long side to which images are resized; by default (800, 1333), for synthetic images their own.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: the data cannot be read.
    """
    require_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = SyntheticScenes(NUM_IMAGES, IMAGE_SIZE)
    images: ImageData = read_data(data, split) if isinstance(data, str | Path) else data
    if size is None:
        size = (images.size, images.size) if isinstance(images, SyntheticScenes) else PAPER_SIZE
    figures = (
        Figure("05a_qfl_curves", qfl_curves, draw_qfl_curves, qfl_table),
        Figure("05b_one_expectation", one_expectation, draw_one_expectation, one_expectation_table),
        Figure("05c_regression_targets", partial(regression_targets, images, *size), draw_targets, targets_table),
        Figure("09_representations", three_representations, draw_representations, representations_table),
        Figure("10_perturbation", perturbation, draw_perturbation, perturbation_table),
        Figure("11_centerness", centerness_map, draw_centerness, centerness_table),
    )
    return [path for figure in figures for path in figure.write(folder)]


def draw_from_runs(
    folder: Path,
    *,
    data: Data | None = None,
    split: str | None = None,
    joint: Model | None = None,
    separate: Model | None = None,
    dirac: Model | None = None,
    gaussian: Model | None = None,
    general: Model | None = None,
    speeds: Sequence[DetectorSpeed] = (),
    machine: str = "",
    at_most: int = 200,
    device: str = "cpu",
) -> list[Path]:
    """Draw the figures for which trained detectors are given. Returns the files written.

    * 2: ``separate`` (a quality branch; also its most confident background), ``joint`` (QFL), or both
    * 3 (with 13 and 14): ``general``, else ``joint``
    * 7: at least two of ``dirac``, ``gaussian``, ``general``
    * 8: ``speeds``, measured on ``machine``
    * 12: ``joint``, else ``general``

    Args:
        folder: for the images and tables; created if missing.
        data: annotated images of the detectors' classes, or their path; figure 8 alone needs none.
        split: of the data, if given as a path; val, else test, by default.
        joint, separate, dirac, gaussian, general: detectors, or paths that ``gfocal.load`` takes.
        speeds: name, AP and images per second of each detector of figure 8.
        machine: where they were measured.
        at_most: number of images for one figure.
        device: where the detectors run.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: the data cannot be read or do not fit the detectors, or nothing is given to draw from.
        ModelFileError: a detector cannot be loaded.
    """
    require_matplotlib()
    given = {"joint": joint, "separate": separate, "dirac": dirac, "gaussian": gaussian, "general": general}
    models = {name: as_detector(model, device) for name, model in given.items() if model is not None}
    if not models and not speeds:
        raise DataError("nothing to draw from: give trained detectors with their data, or measured speeds")
    figures: list[Figure] = []
    if models:
        if data is None:
            raise DataError("the figures of trained detectors need data: images with their classes")
        images = as_data(data, next(iter(models.values())), split)
        for model in models.values():
            as_data(images, model)  # all of them have these classes
        figures = [*_point_figures(models, images, at_most), *_image_figures(models, images, at_most)]
    if speeds:
        draw = partial(draw_speed, machine=machine)
        figures.append(Figure("08_speed", lambda: speeds, draw, speed_table))
    folder.mkdir(parents=True, exist_ok=True)
    return [path for figure in sorted(figures, key=lambda f: f.name) for path in figure.write(folder)]


def _point_figures(models: Mapping[str, Detector], data: ImageData, at_most: int) -> list[Figure]:
    """Figures 2 (right) and 12, of predictions at points."""
    figures = []
    joint, separate = models.get("joint"), models.get("separate")
    if joint is not None or separate is not None:
        compute = partial(score_and_quality, data, separate, joint, at_most)
        figures.append(Figure("02b_score_and_quality", compute, draw_score_and_quality, score_and_quality_table))
    labeled = joint or models.get("general")
    if labeled is not None:
        compute_labels = partial(quality_labels, labeled, data, at_most)
        figures.append(Figure("12_quality_labels", compute_labels, draw_quality_labels, quality_labels_table))
    return figures


def _image_figures(models: Mapping[str, Detector], data: ImageData, at_most: int) -> list[Figure]:
    """Figures 2 (left), 3 and 7, of images."""
    figures = []
    if (separate := models.get("separate")) is not None:
        compute = partial(confident_background, separate, data, at_most=at_most)
        draw = partial(draw_confident_background, data=data)
        figures.append(Figure("02a_confident_background", compute, draw, confident_background_table))
    if (general := models.get("general") or models.get("joint")) is not None:
        compute_edges = partial(edges_in_images, general, data, at_most=at_most)
        draw = partial(draw_edges_in_images, data=data)
        figures.append(Figure("03_edges_in_images", compute_edges, draw, edges_in_images_table))
    compared = {
        title: models[name]
        for name, title in (("dirac", "Dirac delta"), ("gaussian", "Gaussian"), ("general", "General"))
        if name in models
    }
    if len(compared) > 1:
        draw = partial(draw_side_by_side, data=data)
        figures.append(Figure("07_side_by_side", partial(side_by_side, compared, data), draw, side_by_side_table))
    return figures
