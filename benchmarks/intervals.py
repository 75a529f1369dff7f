"""Do confidence intervals of AP hold what they promise? Two detectors on many test sets of synthetic scenes.

    python benchmarks/intervals.py --out runs/intervals --sets 60 --images 40

Trains the config of ``gfocal demo`` for a few epochs, and a second time for fewer; then evaluates both on many sets
of new scenes. AP on all of them together stands for the AP that each set estimates. The table has, for AP, AP50 and
the difference of the two detectors:

- the spread over the sets, and the spread that the bootstrap predicts from each set alone (mean over sets);
- coverage: how often the 95 % interval of a set holds the AP of all sets together; 95 % is promised;
- transfer: how often it holds the AP of another set of the same size, which varies as much itself; of two normal
  distributions of equal width 83.4 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gfocal.config.config import read_config, with_changes
from gfocal.data.loading import evaluation_loader
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.bootstrap import ap_of, match_samples, percentile_interval, resample_ap
from gfocal.evaluation.coco_ap import ScoredBoxes
from gfocal.evaluation.detections import detect_all
from gfocal.models.model_file import load_model
from gfocal.run import run_training
from gfocal.run_folder import RunFolder

Floats = NDArray[np.float64]


def detections_after(
    epochs: int, train_images: int, scenes: SyntheticScenes, folder: Path
) -> Mapping[int, ScoredBoxes]:
    """What a detector that was trained for so many epochs finds."""
    config = with_changes(read_config("demo"), {"run.epochs": epochs, "run.num_workers": 0})
    size = config.size.short_side
    assert size is not None
    if not RunFolder(folder).last.exists():
        run_training(config, SyntheticScenes(train_images, size), None, folder)
    model = load_model(folder)
    return detect_all(model, evaluation_loader(scenes, model.input_settings, 8))


def describe(truth: float, values: Floats, resampled: list[Floats]) -> list[str]:
    """A row of the table: the value on each set, and its resamples."""
    intervals = [percentile_interval(one) for one in resampled]
    ends = np.array([(one.low, one.high) for one in intervals if one is not None])
    assert len(ends) == len(values), "a set without objects"
    held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    others = (ends[:, :1] <= values) & (values <= ends[:, 1:])
    np.fill_diagonal(others, False)
    predicted = np.mean([np.nanstd(one) for one in resampled])
    transfer = others.sum() / (len(values) * (len(values) - 1))
    error = 1.96 * (0.95 * 0.05 / len(values)) ** 0.5
    return [
        f"{truth:.3f}",
        f"{values.mean():.3f}",
        f"{values.std(ddof=1):.4f}",
        f"{predicted:.4f}",
        f"{held.mean():.1%} (95 ± {100 * error:.0f})",
        f"{transfer:.1%}",
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("runs/intervals"))
    arguments.add_argument("--sets", type=int, default=60)
    arguments.add_argument("--images", type=int, default=40, help="of each set")
    arguments.add_argument("--epochs", type=int, nargs=2, default=[6, 4], help="of the two detectors")
    arguments.add_argument("--train-images", type=int, default=400)
    chosen = arguments.parse_args()
    size = read_config("demo").size.short_side
    assert size is not None
    scenes = SyntheticScenes(chosen.sets * chosen.images, size, 1, "test")
    samples = [scenes.sample(i) for i in range(len(scenes))]
    parts = [samples[k : k + chosen.images] for k in range(0, len(samples), chosen.images)]
    whole, single, resampled = [], [], []
    for epochs in chosen.epochs:
        found = detections_after(epochs, chosen.train_images, scenes, chosen.out / f"{epochs} epochs")
        whole.append(ap_of(match_samples(samples, found, scenes.names)))
        tables = [match_samples(part, found, scenes.names) for part in parts]
        single.append([ap_of(table) for table in tables])
        resampled.append([resample_ap(table) for table in tables])
    table = Table("", "all", "mean of sets", "spread", "predicted", "coverage", "transfer")
    table.title = f"{chosen.sets} sets of {chosen.images} images"
    for key in ("ap", "ap50"):
        truth = [float(getattr(one, key)[0]) for one in whole]
        values = [np.array([float(getattr(one, key)[0]) for one in each]) for each in single]
        samples_of = [[getattr(one, key) for one in each] for each in resampled]
        for k, epochs in enumerate(chosen.epochs):
            table.add_row(f"{key}, {epochs} epochs", *describe(truth[k], values[k], samples_of[k]))
        paired = [a - b for a, b in zip(*samples_of, strict=True)]
        table.add_row(f"{key}, difference", *describe(truth[0] - truth[1], values[0] - values[1], paired))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
