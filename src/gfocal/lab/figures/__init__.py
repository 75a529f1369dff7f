"""The paper's figures drawn again, each with its data as csv: from simulation, or from trained detectors.

``draw_simulated`` needs no training; ``draw_from_runs`` takes what was trained. Charts need matplotlib, the extra
``lab``: ``pip install 'gfocal[lab]'``.
"""

from __future__ import annotations

from gfocal.errors import MissingExtraError
from gfocal.lab.figures.draw import draw_from_runs, draw_simulated
from gfocal.lab.figures.figure_8 import Measured

__all__ = ["Measured", "MissingExtraError", "draw_from_runs", "draw_simulated"]
