"""The paper's figures, each with its data as csv: from simulation, or from trained detectors.

    draw.py           all figures in order, from simulation or from trained detectors
    canvas.py         the one place that imports matplotlib; csv tables
    contact_sheet.py  images in rows and columns with captions, without matplotlib
    trained.py        predictions of trained detectors at points with known ground truth
    figure_2.py       scores against quality; background with a high predicted quality
    figure_3.py       edge distributions on images (also figures 13 and 14)
    figure_5.py       QFL curves, distributions of equal expectation, regression targets
    figure_7.py       detections with different box representations
    figure_8.py       accuracy against speed
    figure_9.py       Dirac delta, Gaussian and General distribution of one edge
    figure_10.py      stability of an edge under feature perturbation
    figure_11_12.py   centerness and IoU as quality labels

Charts need matplotlib: ``pip install 'gfocal[lab]'``.
"""

from __future__ import annotations

from gfocal.errors import MissingExtraError
from gfocal.lab.figures.draw import draw_from_runs, draw_simulated
from gfocal.lab.figures.figure_8 import DetectorSpeed

__all__ = ["DetectorSpeed", "MissingExtraError", "draw_from_runs", "draw_simulated"]
