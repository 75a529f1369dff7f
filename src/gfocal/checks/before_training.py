"""Before the first step: no run that would teach many edges a wrong value in silence."""

# FOLDED doctor.automatic: ``gfocal train --auto``: a config takes the advice that its training data call for.
from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from gfocal.build import build_model, criterion_of
from gfocal.checks.advice import FEW, Advice, Layout, advise, layout_of, least_values, none_helps
from gfocal.checks.reach import ReachResult
from gfocal.config.config import Config, with_changes
from gfocal.console import note, say
from gfocal.data.dataset import FileData, ImageData
from gfocal.errors import ClampedEdgesError

LOOKED_AT = 500  # images
LOOKED_AT_DRAWN = 100  # of scenes that are drawn for it


def refuse_clamped(
    layout: Layout | None, data: ImageData, max_clamped_fraction: float, console: Console, data_name: str = ""
) -> ReachResult | None:
    """Tell the share of edges beyond reach where there are some.

    Returns what was found, None for a detector without reach. Raises ClampedEdgesError when they are more than
    ``max_clamped_fraction`` of all: DFL would teach them the last value of the distribution, and boxes would stay too small.
    """
    if layout is None:
        return None
    result = layout.reach(data, looked_at(data))
    if result.share > max_clamped_fraction:
        n, delta = least_values(result)
        options = f"--set model.options.n={n}"
        options += f" --set model.options.delta={delta:g}" if delta != result.delta else ""
        where = f"{data_name}: " if data_name else ""
        raise ClampedEdgesError(
            f"{where}{told(result)}, more than run.max_clamped_fraction = {max_clamped_fraction:g} allows: DFL would teach them its "
            f"last value, and these boxes would stay too small. Give --auto, or {options}; "
            "--set run.max_clamped_fraction=1 trains all the same"
        )
    if result.unplaced_share > FEW:
        note(
            console,
            f"{percent(result.unplaced_share)} of the boxes are learned by no point at a short side of "
            f"{result.short_side}, and will hardly be found: 'gfocal check' shows them, --auto takes its advice",
        )
    if result.share > 0:
        note(console, told(result))
    return result


def looked_at(data: ImageData) -> int:
    """How many images tell enough before a run, in a second or two."""
    return LOOKED_AT if isinstance(data, FileData) else LOOKED_AT_DRAWN


def told(result: ReachResult) -> str:
    """The shares in one sentence: overall, then of each level that has such edges."""
    levels = [
        f"{percent(level.share)} at stride {level.stride} (reach {level.reach:g} pixels)"
        for level in result.levels
        if level.edges_beyond
    ]
    return (
        f"{percent(result.share)} of the edges to learn lie beyond reach (n = {result.n}, delta = {result.delta:g}, "
        f"short side {result.short_side}): {', '.join(levels) or 'on no level'}"
    )


def percent(share: float) -> str:
    """A share as people read it; what is there is never 0."""
    if not share:
        return "0%"
    return f"{share:.2%}" if share >= 0.0001 else "under 0.01%"


def config_layout(config: Config) -> Layout | None:
    """The layout of a config's detector, which is built without memory for its weights."""
    bare = replace(config, model=replace(config.model, pretrained=False, weights=None, init_from=None))
    with torch.device("meta"):
        model = build_model(bare, ("object",))
    layout = layout_of(model, criterion_of(model, config.method), config.augment.short_sides)
    # The network of a start stays as it is.
    return layout if layout is None or config.model.init_from is None else replace(layout, can_be_finer=False)


def take_advice(config: Config, data: ImageData, console: Console) -> Config:
    """The config with what ``advise`` gives for these training data; every change is told, with its reason.

    Raises:
        ConfigError: the config's detector cannot be built.
    """
    layout = config_layout(config)
    if layout is None:
        say(console, f"auto: nothing to change, {config.model.preset} has no reach")
        return config
    result = layout.reach(data, looked_at(data))
    given = advise(data, layout, result, config.augment.short_sides)
    start = config.model.init_from
    if start is not None and len(given) > 1:
        say(
            console, f"auto: {given[0].why}; but {given[1].why}, and the network of {start} stays: nothing is changed"
        )
        return config
    helping = {"size.short_side", "model.options.finest"}
    if result.unplaced_share > FEW and not any(helping & advice.changes.keys() for advice in given):
        say(console, f"auto: {none_helps(result)}")
    elif not given:
        say(console, "auto: nothing to change, the boxes are within reach and have points that learn them")
    for advice in given:
        if config.model.init_from is not None and any(key.startswith("model.") for key in advice.changes):
            say(
                console,
                f"auto: {advice.why}; but the network is that of {config.model.init_from}, and stays as it is",
            )
            continue
        say(console, f"auto: {_changes_told(advice, config, layout)}: {advice.why}")
        config = with_changes(config, advice.changes, "--auto")
    return config


def _changes_told(advice: Advice, config: Config, layout: Layout) -> str:
    """``model.options.n = 24 (was 16)``, for each change."""
    before: dict[str, Any] = {
        "model.options.n": layout.n,
        "model.options.delta": layout.delta,
        "model.options.finest": layout.strides[0],
        "size.short_side": layout.input_settings.short_side,
        "size.long_side": layout.input_settings.long_side,
        "augment.short_sides": config.augment.short_sides,
    }
    return ", ".join(f"{key} = {value} (was {before[key]})" for key, value in advice.changes.items())
