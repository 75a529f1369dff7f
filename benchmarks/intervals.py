"""Do confidence intervals of AP hold what they promise? A detector on many test sets of synthetic scenes.

    python benchmarks/intervals.py gfocal-demo --sets 60 --images 40

Takes the model of ``gfocal demo``, or trains it, and detects in images of full and of three quarters of their size:
two detectors, one better than the other. AP on all sets together, and the mean of AP over the sets, stand for what
each set estimates; AP of few images is a little too high, so that the two differ. The table has for AP, AP50 and the
difference of the two detectors:

- the spread over the sets, and the spread that the bootstrap predicts from each set alone (its mean over the sets);
- how often the 95 % interval of a set holds AP of all sets together, and the mean over the sets: 95 % is promised,
  and 60 sets tell it to 6 points;
- how often it holds AP of another set of the same size, which varies as much itself: 83 % for normal distributions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gfocal.data.loading import evaluation_loader
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.bootstrap import ap_of, confidence_interval, match_samples, resample_ap
from gfocal.evaluation.detections import detect_all
from gfocal.lab.demo_run import run_demo
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.run_folder import RunFolder
from gfocal.structures import Detections

Floats = NDArray[np.float64]
SIDES = (192, 144)  # pixels of an image at the input


def detect_at(model: Detector, side: int, scenes: SyntheticScenes) -> dict[int, Detections]:
    """What a detector finds in images of another size."""
    model.input_settings = replace(model.input_settings, short_side=side, long_side=side)
    return detect_all(model, evaluation_loader(scenes, model.input_settings, 8))


def describe(expected: float, values: Floats, resampled: list[Floats], num_images: int) -> list[str]:
    """A row of the table: the value on each set, and its resamples."""
    intervals = [confidence_interval(value, one, num_images) for value, one in zip(values, resampled, strict=True)]
    ends = np.array([(one.low, one.high) for one in intervals if one is not None])
    assert len(ends) == len(values), "a set without objects"
    others = (ends[:, :1] <= values) & (values <= ends[:, 1:])
    np.fill_diagonal(others, False)
    return [
        f"{expected:.3f}",
        f"{values.mean():.3f}",
        f"{values.std(ddof=1):.4f}",
        f"{np.mean([np.nanstd(one) for one in resampled]):.4f}",
        *(f"{((ends[:, 0] <= one) & (one <= ends[:, 1])).mean():.1%}" for one in (expected, values.mean())),
        f"{others.sum() / (len(values) * (len(values) - 1)):.1%}",
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, help="folder of a finished 'gfocal demo'; made if there is none")
    arguments.add_argument("--sets", type=int, default=60)
    arguments.add_argument("--images", type=int, default=40, help="of each set")
    chosen = arguments.parse_args()
    if not RunFolder(chosen.model).last.exists():
        run_demo(chosen.model)
    model = load_model(chosen.model)
    scenes = SyntheticScenes(chosen.sets * chosen.images, SIDES[0], 1, "test")
    samples = [scenes.sample(i) for i in range(len(scenes))]
    parts = [samples[k : k + chosen.images] for k in range(0, len(samples), chosen.images)]
    whole, single, resampled = [], [], []
    for side in SIDES:
        found = detect_at(model, side, scenes)
        whole.append(ap_of(match_samples(samples, found, scenes.names)))
        tables = [match_samples(part, found, scenes.names) for part in parts]
        single.append([ap_of(table) for table in tables])
        resampled.append([resample_ap(table) for table in tables])
    table = Table("", "all", "mean of sets", "spread", "predicted", "holds all", "holds mean", "holds another")
    table.title = f"{chosen.sets} sets of {chosen.images} images"
    for key in ("ap", "ap50"):
        truth = [float(getattr(one, key)[0]) for one in whole]
        values = [np.array([float(getattr(one, key)[0]) for one in each]) for each in single]
        samples_of = [[getattr(one, key) for one in each] for each in resampled]
        for k, side in enumerate(SIDES):
            table.add_row(f"{key}, {side} pixels", *describe(truth[k], values[k], samples_of[k], chosen.images))
        paired = [a - b for a, b in zip(*samples_of, strict=True)]
        table.add_row(
            f"{key}, difference", *describe(truth[0] - truth[1], values[0] - values[1], paired, chosen.images)
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
