"""AP of the bccd_r18 config on the BCCD test split, as published, with what helps rare classes, and with later parts.

    python benchmarks/bccd.py PATH/TO/bccd --out runs/bccd --seeds 0 1 2
    python benchmarks/bccd.py PATH/TO/bccd --out runs/bccd12 --epochs 12 --rows both dgqp tal varifocal teacher \\
        --teacher runs/bccd/both_seed0

Beside it stands MMDetection's GFL at the same settings, 24 epochs. With other ``--epochs`` the learning rate falls
at the same parts of the run. A seed whose run is complete is not run again; one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch
from rich.console import Console
from rich.table import Table

from gfocal.config.config import Config, read_config, with_changes
from gfocal.data.discovery import read_data
from gfocal.run import run_training
from gfocal.run_folder import RunFolder

# MMDetection 3.3.0, mmcv 2.1.0, one seed, ResNet-18 from random weights, at the settings of the config.
MMDETECTION = {"ap": 0.416, "ap50": 0.628, "ap75": 0.524}
EPOCHS = 24  # of the config


# The rows: changes of the config, as ``gfocal train --set`` takes them.
RARE = {"method.beta_warmup": 1.0, "method.box_weights": "equal"}
NEAR = {"model.initial_distance": 3.0}
ROWS: dict[str, dict[str, object]] = {
    "published": {},
    "warm-up": {"method.beta_warmup": 1.0},
    "equal": {"method.box_weights": "equal"},
    "both": RARE,
    "near": NEAR,  # edges begin at 3 strides, not at 8
    "near-equal": NEAR | {"method.box_weights": "equal"},
    "three": RARE | NEAR,
    # Later parts, each added to both; the Varifocal Loss stands in the place of QFL, of which the warm-up is a part.
    "dgqp": RARE | {"model.options.dgqp": True},
    "tal": RARE | {"method.assigner": "tal"},
    "varifocal": {"method.cls_loss": "varifocal", "method.box_weights": "equal"},
    "teacher": RARE,
}
RAREST = "Platelets"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("runs/bccd"))
    arguments.add_argument("--rows", nargs="+", choices=ROWS, default=["published", "three"])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    arguments.add_argument("--teacher", help="of the row teacher: a run, or a model file")
    arguments.add_argument("--precision", choices=("no", "bf16"), default="no")
    arguments.add_argument("--threads", type=int, help="processor threads (default: all)")
    chosen = arguments.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if "teacher" in chosen.rows and not chosen.teacher:
        arguments.error("the row teacher needs --teacher: a run of both, for instance")
    base = shorten(read_config("bccd_r18"), chosen.epochs)
    base = with_changes(base, {"run.precision": chosen.precision})
    rows = ROWS | {"teacher": ROWS["teacher"] | {"distill.teacher": chosen.teacher}}
    results = {
        row: [
            train(with_changes(base, rows[row]), chosen.data, seed, chosen.out / f"{row}_seed{seed}")
            for seed in chosen.seeds
        ]
        for row in chosen.rows
    }
    Console().print(table_of(results, chosen.seeds))


def shorten(config: Config, epochs: int) -> Config:
    """The config with this number of epochs, and its milestones at the same parts of them."""
    milestones = tuple(round(epoch * epochs / EPOCHS) for epoch in config.schedule.milestones)
    run = replace(config.run, epochs=epochs, eval_every=epochs)
    return replace(config, schedule=replace(config.schedule, milestones=milestones), run=run)


def train(config: Config, data: Path, seed: int, folder: Path) -> dict[str, float]:
    """The result of a run, which is trained or resumed where it is not complete."""
    if not RunFolder(folder).result.exists():
        run_training(
            replace(config, run=replace(config.run, seed=seed)),
            read_data(data, "train"),
            read_data(data, "test"),
            folder,
            resume=RunFolder(folder).state.exists(),
            data_name=str(data),
        )
    result = json.loads(RunFolder(folder).result.read_text(encoding="utf-8"))
    return {key: result[key] for key in MMDETECTION} | {RAREST: result["per_class"][RAREST]["ap50"]}


def table_of(results: dict[str, list[dict[str, float]]], seeds: list[int]) -> Table:
    """A line for each run, and the mean and standard deviation of each row's seeds."""
    table = Table("", "AP", "AP50", "AP75", f"AP50 of {RAREST}", title="BCCD test split, last epoch")
    for row, runs in results.items():
        for seed, run in zip(seeds, runs, strict=True):
            table.add_row(f"{row}, seed {seed}", *(f"{value:.3f}" for value in run.values()))
        if len(runs) > 1:
            values = [[run[key] for run in runs] for key in runs[0]]
            table.add_row(f"{row}, mean of {len(runs)}", *(f"{mean(v):.3f} ± {stdev(v):.3f}" for v in values))
        table.add_section()
    table.add_row("MMDetection 3.3 GFL, 24 epochs, one seed", *(f"{value:.3f}" for value in MMDETECTION.values()))
    return table


if __name__ == "__main__":
    main()
