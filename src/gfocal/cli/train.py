"""gfocal train."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import launch
from gfocal.cli import DONE
from gfocal.cli.inputs import explain_missing_coco, read_datasets, select_splits, standard_output
from gfocal.cli.options import add_rename, add_short_side, fraction, int_at_least, parse_settings, short_side_changes
from gfocal.console import say
from gfocal.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.config.config import Config


def add(commands: Any) -> None:
    """Declare the command and its options."""
    train = commands.add_parser(
        "train", help="train a detector on annotated images", usage="gfocal train DATA ... [--out DIR] [options]"
    )
    train.set_defaults(run=run)
    train.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="COCO json or folder, VOC or YOLO folder, CSV table or folder; several become one set with the classes "
        "of all; or 'synthetic'",
    )
    train.add_argument("--train-split", metavar="NAME", help="(default: train, or all where there are no splits)")
    train.add_argument("--val-split", metavar="NAME", help="evaluated at run.eval_every (default: val, else test)")
    train.add_argument("--val", nargs="+", metavar="DATA", help="validation data that lies elsewhere")
    add_rename(train)
    train.add_argument("--config", metavar="NAME|FILE", help="see 'gfocal models' (default: light)")
    train.add_argument("--out", type=Path, default=Path("runs/train"), metavar="DIR", help="(default: runs/train)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, exactly as it was")
    train.add_argument(
        "--auto-resume",
        action="store_true",
        help="go on with the run in --out if there is one, else begin it: one command for the first start and every "
        "restart, by torchrun --max-restarts or a scheduler",
    )
    train.add_argument("--preset", metavar="NAME", help="another network than the config's")
    train.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    train.add_argument("--backbone-weights", metavar="FILE", help="ImageNet weights from a local file")
    train.add_argument(
        "--init-from",
        dest="init_from",
        metavar="MODEL",
        help="begin with the network and all weights of a model file, a run or hf://owner/name; classes of the same "
        "name keep what was learned of them, others start anew",
    )
    train.add_argument(
        "--freeze",
        metavar="PART",
        help="what is not trained: none, stem, a number of stages behind it, backbone, or neck (then the head alone "
        "is trained); default: as published for the weights, or as in the run of --init-from",
    )
    train.add_argument(
        "--class-agnostic", action="store_true", help="all classes are one, 'object'; eval then counts them so too"
    )
    train.add_argument(
        "--auto",
        action="store_true",
        help="take the advice of 'gfocal check' on n, size of the input and levels, so that edges are within reach "
        "and small boxes have points; what is changed is told, and stands in config.toml",
    )
    train.add_argument("--epochs", type=int_at_least(1))
    train.add_argument("--batch-size", type=int_at_least(1), help="images per step; the learning rate scales along")
    train.add_argument("--lr", type=float, help="learning rate at the config's reference batch")
    add_short_side(train)
    train.add_argument(
        "--augment", metavar="NAME", help="light, medium or strong in place of the config's; see docs/augmentation.md"
    )
    train.add_argument(
        "--repeat-threshold",
        type=fraction,
        metavar="SHARE",
        help="images with classes that are in less than this share of them, 0..1, are shown more often in an epoch",
    )
    train.add_argument(
        "--patience",
        type=int_at_least(1),
        metavar="N",
        help="stop after so many evaluations in a row without a better AP",
    )
    train.add_argument(
        "--track",
        action="append",
        choices=("tensorboard", "wandb", "mlflow"),
        help="a service that gets config and metrics; may be repeated (TensorBoard does wherever it is installed)",
    )
    train.add_argument(
        "--deterministic", action="store_true", help="the same bits each time on the same machine, slower on a GPU"
    )
    train.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="less memory, more time: the backbone's stages are computed again on the way back",
    )
    train.add_argument(
        "--compile", action="store_true", help="torch.compile; worth it where batches have few different shapes"
    )
    train.add_argument("--precision", choices=("no", "bf16", "fp16"), help="number format of the network")
    train.add_argument("--num-workers", type=int_at_least(0), help="processes that load images")
    train.add_argument("--seed", type=int_at_least(0))
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any value of the config, e.g. --set augment.crop=0.5; may be repeated",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal train."""
    from gfocal.reports.tables import coco_table
    from gfocal.run import run_training
    from gfocal.run_folder import RunFolder

    args.resume = args.resume or (args.auto_resume and RunFolder(args.out).has_state)
    config = chosen_config(args)
    val_data = None
    with explain_missing_coco(Path(args.config or "").stem.startswith("coco_"), args.data[0]):
        parts = select_splits(args.data, args.train_split, "train")
        train_data = read_datasets(parts, console, config, renames=args.rename)
        parts = select_splits(args.val or args.data, args.val_split, "val", "test")
        parts = [(path, split) for path, split in parts if args.val or split]
        if parts:
            names = None if config.model.class_agnostic else train_data.names
            val_data = read_datasets(parts, console, config, names, args.rename)
    if args.auto and not args.resume:
        from gfocal.checks.before_training import take_advice

        config = take_advice(config, train_data, console)
    if val_data is None:
        console.print("no validation split: the last epoch's weights are the result")
    num_val = 0 if val_data is None else len(val_data)
    say(console, f"{counted(len(train_data), 'image')} to train, {num_val} to validate")
    data_name = ", ".join(args.data)
    _, result = run_training(
        config, train_data, val_data, args.out, resume=args.resume, data_name=data_name, console=console
    )
    if not launch.is_main():
        return DONE
    if result is not None:
        standard_output().print(coco_table(result))
    say(console, f"model files: {', '.join(map(str, RunFolder(args.out).model_files))}")
    return DONE


def chosen_config(args: argparse.Namespace) -> Config:
    """The config with the changes of the options; of a run that goes on, its own."""
    from gfocal.checks.advice import ADVISED
    from gfocal.config.config import ConfigError, SizeSettings, read_config, with_changes
    from gfocal.config.start import with_initial_network
    from gfocal.run import read_run_config

    changes = _changes(args)
    where = "--set" if len(args.set) == len(changes) else "--set and options" if args.set else "options"
    if args.resume:
        config = read_run_config(args.out)
        if with_changes(config, changes, where) == config:  # all at once: keys change what augment.preset names
            return config
        if args.auto:  # what it began with is what came of these
            changes = {key: value for key, value in changes.items() if key not in ADVISED}
        differing = [key for key, value in changes.items() if with_changes(config, {key: value}, where) != config]
        if differing:
            raise ConfigError(
                f"{args.out}: a run goes on with the config it was begun with, which differs in "
                f"{', '.join(differing)}; leave these options out, or start anew in another folder "
                f"(--init-from {args.out} begins with the weights of this one)"
            )
        return config
    config = read_config(args.config or "light")
    if changes.get("model.init_from", config.model.init_from) and not args.config:
        config = replace(config, size=SizeSettings())  # then the model file's
    along = short_side_changes(config, args.short_side)
    if "augment.preset" in changes:  # then the range is that of the other augmentation
        along.pop("augment.short_sides", None)
    changes = along | changes
    return with_initial_network(with_changes(config, changes, where), changes)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The config's keys that options replace."""
    options = {
        "model.preset": args.preset,
        "model.weights": args.backbone_weights,
        "model.init_from": args.init_from,
        "model.freeze": args.freeze,
        "run.epochs": args.epochs,
        "run.batch_size": args.batch_size,
        "run.repeat_threshold": args.repeat_threshold,
        "run.patience": args.patience,
        "run.trackers": args.track,
        "run.precision": args.precision,
        "run.num_workers": args.num_workers,
        "run.seed": args.seed,
        "optimizer.lr": args.lr,
        "size.short_side": args.short_side,
        "augment.preset": args.augment,
    }
    changes = {key: value for key, value in options.items() if value is not None}
    if args.no_pretrained:
        changes["model.pretrained"] = False
    for key, wanted in (
        ("model.class_agnostic", args.class_agnostic),
        ("run.deterministic", args.deterministic),
        ("run.checkpoint_activations", args.checkpoint_activations),
        ("run.compile", args.compile),
    ):
        if wanted:
            changes[key] = True
    return changes | parse_settings(args.set)
