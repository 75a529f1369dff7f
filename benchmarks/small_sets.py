"""What helps on small datasets: AP, AP50, their spread over seeds, and minutes, of a list of configs.

    python benchmarks/small_sets.py PATH/TO/bccd PATH/TO/cards --seeds 0 1 2 --out runs/small_sets
    python benchmarks/small_sets.py PATH/TO/bccd --rows "nano" "nano, as before" --images 40

A run that is complete is not run again, one that was stopped continues. AP is that of the last epoch: nothing is
selected on the images it is measured on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gfocal.checks.before_training import fit_batch_size, fit_epochs
from gfocal.cli.options import parse_settings
from gfocal.config.config import Config, read_config, with_changes
from gfocal.config.start import with_available_weights
from gfocal.data.dataset import FileData
from gfocal.data.discovery import list_splits, read_data
from gfocal.run import run_training
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import read_metrics


@dataclass(frozen=True)
class Row:
    """A config, and what is changed in it."""

    config: str
    changes: Mapping[str, Any] = field(default_factory=dict)


SIZES = {"augment.scale": 0.25, "augment.size_per_batch": True}
NEAR = {"model.initial_distance": 3.0}  # the published start is the middle of the range, 8
RARE = {"method.beta_warmup": 1.0, "method.box_weights": "equal"}
R18 = {"model.preset": "gfl_r18_fpn", "size.short_side": 320, "size.long_side": 427}
ROWS = {
    "nano": Row("nano"),
    # Epochs as stated, whatever the number of images: differs from nano below 200 images.
    "nano, as before": Row("nano", {"run.min_steps": 0, "run.max_steps": None}),
    "nano, no average": Row("nano", {"run.ema_decay": 0.0}),
    "nano, share 0.02": Row("nano", {"run.ema_share": 0.02}),
    "nano, share 0.1": Row("nano", {"run.ema_share": 0.1}),
    "nano, sizes": Row("nano", SIZES),
    "nano, sizes of each image": Row("nano", {"augment.scale": 0.25}),
    "nano, sizes, share 0.1": Row("nano", {**SIZES, "run.ema_share": 0.1}),
    "nano, layer decay": Row("nano", {"optimizer.layer_decay": 0.8}),
    "light": Row("light"),
    "light, as before": Row("light", {"run.min_steps": 0, "run.max_steps": None}),
    "light, no average": Row("light", {"run.ema_decay": 0.0}),
    "light, share 0.02": Row("light", {"run.ema_share": 0.02}),
    "light, share 0.1": Row("light", {"run.ema_share": 0.1}),
    "light, sizes": Row("light", SIZES),
    "light, sizes, share 0.1": Row("light", {**SIZES, "run.ema_share": 0.1}),
    "light, near edges": Row("light", NEAR),
    "light, rare classes": Row("light", NEAR | RARE),
    "light, dgqp": Row("light", {"model.options.dgqp": True}),
    "light, layer decay": Row("light", {"optimizer.layer_decay": 0.8, "optimizer.backbone_lr": 1.0}),
    # One network from the first weights of torchvision and from better ones, with AdamW as published for the latter.
    "r18, tv": Row("timm_r50", {**R18, "model.options.body": "resnet18.tv_in1k"}),
    "r18, a1": Row("timm_r50", {**R18, "model.options.body": "resnet18.a1_in1k"}),
    "r50, a1": Row("timm_r50"),
}
DEFAULT = [name for name in ROWS if not name.startswith(("r18", "r50"))]  # those need weights from the hub


def main() -> None:
    chosen = read_options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    console = Console(stderr=True)
    for data in chosen.data:
        table = Table("", "AP", "AP50", "AP of each seed", "epochs", "minutes", title=f"{data.name}, last epoch")
        for name in chosen.rows:
            results = [result for seed in chosen.seeds if (result := run(data, name, seed, chosen, console))]
            if results:
                table.add_row(name, *summarize(results))
                Console().print(table)


def read_options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--rows", nargs="+", choices=ROWS, default=DEFAULT, metavar="NAME", help=", ".join(ROWS))
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--split", default="test", help="that AP is measured on, else val (default: test)")
    arguments.add_argument(
        "--images", type=int, help="training images, the same for every row and seed (default: all)"
    )
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every row")
    arguments.add_argument("--out", type=Path, default=Path("runs/small_sets"))
    arguments.add_argument("--threads", type=int, help="processor threads (default: all)")
    arguments.add_argument("--table", action="store_true", help="print the table of the runs there are, train none")
    return arguments.parse_args()


def run(data: Path, name: str, seed: int, chosen: argparse.Namespace, console: Console) -> dict[str, float] | None:
    """The numbers of a run, which is trained unless it is complete; None if it is not to be."""
    images = f"_{chosen.images}" if chosen.images else ""
    folder = RunFolder(chosen.out / f"{data.name}{images}" / name.replace(",", "").replace(" ", "_") / f"seed{seed}")
    if not folder.result.exists():
        if chosen.table:
            return None
        console.rule(f"{data.name}, {name}, seed {seed}")
        train_data, val_data = read_sets(data, chosen)
        config = choose_config(ROWS[name], {**parse_settings(chosen.set), "run.seed": seed}, train_data, console)
        is_begun = folder.state.exists()
        run_training(config, train_data, val_data, folder.path, resume=is_begun, data_name=str(data), console=console)
    last = read_metrics(folder.metrics)[-1]
    result = json.loads(folder.result.read_text(encoding="utf-8"))
    return {
        "ap": result["ap"] or 0.0,
        "ap50": result["ap50"] or 0.0,
        "epochs": float(last["epoch"]),
        "minutes": float(last["seconds"]) / 60,
    }


def read_sets(data: Path, chosen: argparse.Namespace) -> tuple[FileData, FileData]:
    """Training and evaluation images."""
    train_data = read_data(data, "train")
    if chosen.images:
        order = torch.randperm(len(train_data), generator=torch.Generator().manual_seed(0))
        train_data = train_data.select(sorted(order[: chosen.images].tolist()))
    split = chosen.split if chosen.split in list_splits(data) else "val"
    return train_data, read_data(data, split, train_data.names)


def choose_config(row: Row, further: Mapping[str, Any], train_data: FileData, console: Console) -> Config:
    """The config of a row as ``gfocal train`` would choose it for this number of images."""
    changes = {**row.changes, **further}
    config = with_changes(read_config(row.config), changes)
    config = fit_batch_size(config, train_data, "run.batch_size" in changes, 1, console)
    if "run.epochs" not in changes:
        config = fit_epochs(config, train_data, 1, console)
    return with_available_weights(config, changes, console.print)


def summarize(results: list[dict[str, float]]) -> list[str]:
    """The cells of a row."""

    def spread(key: str) -> str:
        values = [result[key] for result in results]
        return f"{mean(values):.3f}" + (f" ({stdev(values):.3f})" if len(values) > 1 else "")

    each = ", ".join(f"{result['ap']:.3f}" for result in results)
    epochs = ", ".join(sorted({f"{result['epochs']:.0f}" for result in results}))
    return [spread("ap"), spread("ap50"), each, epochs, f"{mean(result['minutes'] for result in results):.1f}"]


if __name__ == "__main__":
    main()
