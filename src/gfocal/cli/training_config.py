"""From the options of ``gfocal train`` and ``gfocal check`` to a config."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gfocal.cli.options import image_changes, parse_settings, short_side_changes
from gfocal.console import note, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from gfocal.config.config import Config


def build_config(args: argparse.Namespace, console: Console | None = None) -> Config:
    """The config of ``gfocal train`` with the changes by its options; for a resumed run its own.

    Options may not differ from the config of a resumed run. Looks for the weights that the run starts from, and
    downloads published ones; ``draft_config`` and ``start_from_weights`` are its two halves.
    """
    return start_from_weights(draft_config(args), args, console)


def draft_config(args: argparse.Namespace) -> Config:
    """The config as far as it is known without the weights that the run starts from."""
    changes = _changes(args)
    if args.resume:
        return _config_of_run(args, changes, _where(args, changes))
    return config_with(args, changes, _where(args, changes))


def start_from_weights(config: Config, args: argparse.Namespace, console: Console | None = None) -> Config:
    """A draft with the network of the weights that it starts from, or without weights that cannot be downloaded."""
    from rich.console import Console as RichConsole

    from gfocal.config.start import explain_default, with_available_weights, with_initial_network

    if args.resume:
        return config
    changes = _changes(args)
    if console is not None and (line := explain_default(args.config, changes)):
        say(console, line)
    config = with_available_weights(config, changes, partial(note, console or RichConsole(stderr=True)))
    return with_initial_network(config, changes)


def config_with(args: argparse.Namespace, changes: Mapping[str, Any], where: str) -> Config:
    """The config of --config, else the default for ``changes``, with these and --short-side."""
    from gfocal.config.config import SizeSettings, read_config, with_changes
    from gfocal.config.start import default_config

    config = read_config(args.config or default_config(changes))
    if "model.init_from" in changes and not args.config:
        config = replace(config, size=SizeSettings())  # so that the model file's size is used
    scaled = short_side_changes(config, args.short_side)
    if "augment.preset" in changes:  # the sizes are then those of that augmentation
        scaled.pop("augment.short_sides", None)
    return with_changes(config, {**scaled, **changes}, where)


def states_batch_size(args: argparse.Namespace) -> bool:
    """Whether the user states a batch size: by an option, or in a config file of their own."""
    from gfocal.config.start import states_key

    return "run.batch_size" in _changes(args) or states_key(args.config, "run.batch_size")


def states_length(args: argparse.Namespace) -> bool:
    """Whether the user states how long the run is: by an option, or in a config file of their own."""
    from gfocal.config.start import states_key

    keys = ("run.epochs", "run.time_minutes")
    return any(key in _changes(args) or states_key(args.config, key) for key in keys)


def _where(args: argparse.Namespace, changes: Mapping[str, Any]) -> str:
    return "--set" if len(args.set) == len(changes) else "--set and options" if args.set else "options"


def _config_of_run(args: argparse.Namespace, changes: dict[str, Any], where: str) -> Config:
    """The config of the run in --out. Raises ConfigError where the changes differ from it."""
    from gfocal.checks.advice import ADVISED
    from gfocal.config.config import with_changes
    from gfocal.errors import ConfigError
    from gfocal.run import read_run_config

    config = read_run_config(args.out)
    if with_changes(config, changes, where) == config:  # all at once: keys change what augment.preset names
        return config
    if args.auto:  # these keys have the values that the advice gave
        changes = {key: value for key, value in changes.items() if key not in ADVISED}
    differing = [key for key, value in changes.items() if with_changes(config, {key: value}, where) != config]
    if differing:
        raise ConfigError(
            f"{args.out}: a run is resumed with the config it was started with, which differs in "
            f"{', '.join(differing)}; leave these options out, or start a new run in another folder "
            f"(--init-from {args.out} starts from the weights of this one)"
        )
    return config


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Keys of the config -> values given by options."""
    options = {
        "model.preset": args.preset,
        "model.weights": args.backbone_weights,
        "model.init_from": args.init_from,
        "model.freeze": args.freeze,
        "distill.teacher": args.teacher,
        "run.epochs": args.epochs,
        "run.time_minutes": args.time,
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
    if args.device is not None:
        changes["run.cpu"] = args.device == "cpu"
    if args.epochs is not None:  # in place of a time in the config
        changes["run.time_minutes"] = None
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
    return changes | image_changes(args) | parse_settings(args.set)
