"""AP of the bccd_r18 config on the BCCD test split, beside MMDetection's GFL at the same settings.

    python benchmarks/bccd.py PATH/TO/bccd --out runs/bccd --seeds 0 1 2

A seed whose run is complete is not run again; one that was stopped goes on.
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

from gfocal.config.config import read_config
from gfocal.data.discovery import read_data
from gfocal.run import run_training
from gfocal.run_folder import RunFolder

# MMDetection 3.3.0, mmcv 2.1.0, one seed, ResNet-18 from random weights, at the settings of the config.
MMDETECTION = {"ap": 0.416, "ap50": 0.628, "ap75": 0.524}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("runs/bccd"))
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--threads", type=int, help="processor threads (default: all)")
    chosen = arguments.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    config = read_config("bccd_r18")
    train_data, test_data = read_data(chosen.data, "train"), read_data(chosen.data, "test")
    rows = {}
    for seed in chosen.seeds:
        folder = chosen.out / f"seed{seed}"
        if not RunFolder(folder).result.exists():
            run_training(
                replace(config, run=replace(config.run, seed=seed)),
                train_data,
                test_data,
                folder,
                resume=RunFolder(folder).state.exists(),
                data_name=str(chosen.data),
            )
        rows[f"gfocal, seed {seed}"] = json.loads(RunFolder(folder).result.read_text(encoding="utf-8"))

    table = Table("", "AP", "AP50", "AP75", title="BCCD test split, last epoch")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in MMDETECTION))
    if len(rows) > 1:
        spread = [
            f"{mean(r[key] for r in rows.values()):.3f} ± {stdev(r[key] for r in rows.values()):.3f}"
            for key in MMDETECTION
        ]
        table.add_row(f"gfocal, mean and standard deviation of {len(rows)} seeds", *spread)
    table.add_row("MMDetection 3.3 GFL, one seed", *(f"{value:.3f}" for value in MMDETECTION.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
