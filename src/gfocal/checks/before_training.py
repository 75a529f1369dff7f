"""What ``gfocal train`` checks before the first step.

It refuses a run in which too many edges would be clamped, warns of validation images that are training images too,
and with ``--auto`` takes the advice that its training data call for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from gfocal.build import build_criterion, build_model
from gfocal.checks.advice import Advice, advise_for_network, find_smallest_range
from gfocal.checks.duplicates import find_shared_images
from gfocal.checks.geometry import DetectorGeometry, read_geometry
from gfocal.checks.regression_range import (
    TOLERATED,
    RegressionRangeResult,
    describe_clamping,
    describe_unassigned,
    measure_regression_range,
)
from gfocal.config.config import Config, with_changes
from gfocal.console import note, say, warn
from gfocal.data.class_ids import IDS_SHIFTED
from gfocal.data.conventions import REFUSED
from gfocal.data.dataset import ImageData
from gfocal.data.views import select_trained, select_with_objects
from gfocal.errors import ClampedEdgesError, ConfigError, DataError
from gfocal.text import pluralize

MIN_TRAIN_IMAGES = 20  # of fewer, a detector learns these images and little more
MIN_VAL_OBJECTS = 10  # of fewer, one object more or less moves AP by 0.1
MAX_IMAGES = 500  # measured before a run, in a second or two
MAX_SYNTHETIC_IMAGES = 100  # which are drawn for it


def refuse_clamped_edges(
    geometry: DetectorGeometry | None,
    data: ImageData,
    max_clamped_fraction: float,
    console: Console,
    data_name: str = "",
) -> RegressionRangeResult | None:
    """Measure the regression range on the training data; print a note on clamped edges and unassigned boxes.

    Returns the measurement, None for a detector without a regression range. Raises ClampedEdgesError if more than
    ``max_clamped_fraction`` of the edges lie outside: their DFL targets would be clamped to the last value, and the
    predicted boxes would be too small.
    """
    if geometry is None:
        return None
    result = measure_regression_range(data, geometry, _limit_images(data))
    if result.clamped_fraction > max_clamped_fraction:
        n, delta = find_smallest_range(result)
        options = f"--set model.options.n={n}"
        options += f" --set model.options.delta={delta:g}" if delta != result.delta else ""
        where = f"{data_name}: " if data_name else ""
        raise ClampedEdgesError(
            f"{where}{describe_clamping(result)}, more than run.max_clamped_fraction = {max_clamped_fraction:g} "
            "allows: their DFL targets would be clamped, and these boxes would be too small. Give --auto, or "
            f"{options}; --set run.max_clamped_fraction=1 trains all the same"
        )
    if result.unassigned_fraction > TOLERATED:
        note(
            console,
            f"{describe_unassigned(result)}: 'gfocal check' shows them, and what --auto would change",
        )
    if result.clamped_fraction > 0:
        note(console, describe_clamping(result))
    return result


def explain_small_sets(train_data: ImageData, val_data: ImageData | None) -> list[str]:
    """What sets that are too small to mean anything cannot say, one line for each."""
    lines = []
    if len(train_data) < MIN_TRAIN_IMAGES:
        lines.append(
            f"{pluralize(len(train_data), 'training image')}: too few to learn from; the model will know these "
            "images and little else. Label 100 or more, of all the situations it is to work in"
        )
    if val_data is not None:
        objects = count_objects(val_data)
        if objects < MIN_VAL_OBJECTS:
            lines.append(
                f"{pluralize(objects, 'object')} in {pluralize(len(val_data), 'validation image')}: too few to "
                "measure anything; AP, and the epoch chosen by it, are chance. 100 objects of each class are a start"
            )
    return lines


def count_objects(data: ImageData) -> int:
    """Objects that evaluation counts: without crowd and ignored regions."""
    if data.files is not None:
        return int((~data.files.table.crowd).sum())
    few = range(min(len(data), MAX_SYNTHETIC_IMAGES))
    return sum(int((~data.sample(i).crowd).sum()) for i in few)


def refuse_large_batch(batch_size: int, train_data: ImageData, processes: int) -> None:
    """Raise ConfigError if a step would take more images than there are.

    The learning rate is scaled with images per step, so that it would be one for a batch that never comes.
    """
    images = len(train_data)
    if batch_size * processes > images:
        together = f" in each of {processes} processes" if processes > 1 else ""
        fitting = images // processes
        fix = (
            f"give --batch-size {fitting}" if fitting else f"use at most {pluralize(images, 'process', 'processes')}"
        )
        raise ConfigError(
            f"run.batch_size {batch_size}{together} is more than the {pluralize(images, 'training image')}: {fix}, "
            "or label more images"
        )


def fit_batch_size(
    config: Config, train_data: ImageData, is_stated: bool, processes: int, console: Console
) -> Config:
    """The config with a batch that the training images fill, said where it is lowered.

    Raises ConfigError for a larger batch that the user stated.
    """
    used = select_trained(train_data)
    used = select_with_objects(used) if config.run.skip_empty else used
    images = len(used)
    if is_stated and images:
        refuse_large_batch(config.run.batch_size, used, processes)
    fitting = images // processes
    if not 0 < fitting < config.run.batch_size:
        return config
    say(
        console,
        f"batch size {fitting} instead of {config.run.batch_size}: there are only "
        f"{pluralize(images, 'training image')} (--batch-size states another)",
    )
    return replace(config, run=replace(config.run, batch_size=fitting))


def fit_epochs(config: Config, train_data: ImageData, processes: int, console: Console) -> Config:
    """The config with as many epochs as its ``run.min_steps`` and ``run.max_steps`` call for, said where they differ.

    Of a run of a given time it is returned as it is.
    """
    used = select_trained(train_data)
    images = len(select_with_objects(used) if config.run.skip_empty else used)
    run = config.run
    if run.time_minutes is not None or not images:
        return config
    steps_per_epoch = -(-images // (run.batch_size * processes * run.grad_accum_steps))
    epochs = max(run.epochs, -(-run.min_steps // steps_per_epoch))
    if run.max_steps is not None:
        epochs = max(1, min(epochs, run.max_steps // steps_per_epoch))
    if epochs == run.epochs:
        return config
    say(
        console,
        f"{pluralize(epochs, 'epoch')} instead of {run.epochs}, {pluralize(epochs * steps_per_epoch, 'step')}, for "
        f"{pluralize(images, 'training image')} (--epochs states another number)",
    )
    return replace(config, run=replace(run, epochs=epochs))


def refuse_other_convention(data: ImageData, trust_boxes: bool) -> None:
    """Raise DataError if the boxes of the training data seem to be of another convention, or of other classes."""
    files = data.files
    doubtful = [] if files is None or trust_boxes else [p for p in files.problems if p.reason in REFUSED]
    if doubtful:
        first = doubtful[0]
        all_the_same = "; --set run.trust_boxes=true trains on them as they are"
        if first.reason == IDS_SHIFTED:
            all_the_same = ""  # the model would find the right boxes under wrong names
        raise DataError(f"{first.file}: {first.record}: {first.reason}{all_the_same}")


def warn_of_shared_images(train_data: ImageData, val_data: ImageData | None, console: Console) -> None:
    """Print a warning if validation images are training images too: the same file, or files of equal bytes."""
    train_files, val_files = train_data.files, None if val_data is None else val_data.files
    if train_files is None or val_files is None:
        return
    pairs = find_shared_images(train_files, val_files)
    if not pairs:
        return
    first, other = pairs[0]
    which = str(first) if first == other else f"{first} is {other}"
    are = "is a training image" if len(pairs) == 1 else "are training images"
    warn(
        console,
        f"{len(pairs)} of {pluralize(len(val_files), 'validation image')} {are} too ({which}): AP is too high, and "
        "the best epoch is chosen by it; 'gfocal check' lists them, and near-duplicates",
    )


def geometry_from_config(config: Config) -> DetectorGeometry | None:
    """The geometry of a config's detector, which is built without memory for its weights.

    None for a detector without a regression range. Raises ConfigError if the detector cannot be built.
    """
    bare = replace(config, model=replace(config.model, pretrained=False, weights=None, init_from=None))
    with torch.device("meta"):
        model = build_model(bare, ("object",))
    geometry = read_geometry(model, build_criterion(model, config.method), config.augment.short_sides)
    if geometry is None or config.model.init_from is None:
        return geometry
    return replace(geometry, supports_finer_level=False)  # the network is that of the model file


def take_advice(config: Config, data: ImageData, console: Console) -> Config:
    """The config changed by the advice for these training data; prints every change with its reason.

    Raises ConfigError if the config's detector cannot be built.
    """
    geometry = geometry_from_config(config)
    if geometry is None:
        say(console, f"auto: nothing to change, {config.model.preset} has no regression range")
        return config
    result = measure_regression_range(data, geometry, _limit_images(data))
    given, why_not = advise_for_network(data, geometry, result, config.augment.short_sides, config.model.init_from)
    if why_not:
        say(console, f"auto: {why_not}" + ": nothing is changed" * (not given))
    elif not given:
        say(console, "auto: nothing to change, edges are inside the regression range and boxes have assigned points")
    for advice in given:
        say(console, f"auto: {_describe_changes(advice, config, geometry)}: {advice.why}")
        config = with_changes(config, advice.changes, "--auto")
    return config


def _limit_images(data: ImageData) -> int:
    return MAX_SYNTHETIC_IMAGES if data.files is None else MAX_IMAGES


def _describe_changes(advice: Advice, config: Config, geometry: DetectorGeometry) -> str:
    """``model.options.n = 24 (was 16)``, for each change."""
    before: dict[str, Any] = {
        "model.options.n": geometry.n,
        "model.options.delta": geometry.delta,
        "model.options.finest": geometry.strides[0],
        "size.short_side": geometry.input_settings.short_side,
        "size.long_side": geometry.input_settings.long_side,
        "augment.short_sides": config.augment.short_sides,
    }
    return ", ".join(f"{key} = {value} (was {before[key]})" for key, value in advice.changes.items())
