"""``gfocal train --auto``: a recipe takes the advice that its training data call for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from gfocal.build import build_model
from gfocal.configs import Recipe, with_changes
from gfocal.data.samples import ImageData
from gfocal.doctor.advice import FEW, Advice, advise, none_helps
from gfocal.doctor.layout import Layout, layout_of
from gfocal.doctor.refusal import looked_at
from gfocal.methods import criterion_of


def recipe_layout(recipe: Recipe) -> Layout | None:
    """The layout of a recipe's detector, which is built without memory for its weights."""
    bare = replace(recipe, model=replace(recipe.model, pretrained=False, weights=None, start=None))
    with torch.device("meta"):
        model = build_model(bare, ("object",))
    layout = layout_of(model, criterion_of(model, recipe.method), recipe.augment.short_sides)
    # The network of a start stays as it is.
    return layout if layout is None or recipe.model.start is None else replace(layout, can_be_finer=False)


def take_advice(recipe: Recipe, data: ImageData, console: Console) -> Recipe:
    """The recipe with what ``advise`` gives for these training data; every change is told, with its reason.

    Raises:
        RecipeError: the recipe's detector cannot be built.
    """
    layout = recipe_layout(recipe)
    if layout is None:
        _tell(console, f"auto: nothing to change, {recipe.model.preset} has no reach")
        return recipe
    result = layout.reach(data, looked_at(data))
    given = advise(data, layout, result, recipe.augment.short_sides)
    start = recipe.model.start
    if start is not None and len(given) > 1:
        _tell(
            console, f"auto: {given[0].why}; but {given[1].why}, and the network of {start} stays: nothing is changed"
        )
        return recipe
    helping = {"size.short_side", "model.options.finest"}
    if result.unplaced_share > FEW and not any(helping & advice.changes.keys() for advice in given):
        _tell(console, f"auto: {none_helps(result)}")
    elif not given:
        _tell(console, "auto: nothing to change, the boxes are within reach and have points that learn them")
    for advice in given:
        if recipe.model.start is not None and any(key.startswith("model.") for key in advice.changes):
            _tell(console, f"auto: {advice.why}; but the network is that of {recipe.model.start}, and stays as it is")
            continue
        _tell(console, f"auto: {_changes_told(advice, recipe, layout)}: {advice.why}")
        recipe = with_changes(recipe, advice.changes, "--auto")
    return recipe


def _changes_told(advice: Advice, recipe: Recipe, layout: Layout) -> str:
    """``model.options.n = 24 (was 16)``, for each change."""
    before: dict[str, Any] = {
        "model.options.n": layout.n,
        "model.options.delta": layout.delta,
        "model.options.finest": layout.strides[0],
        "size.short_side": layout.input_settings.short_side,
        "size.long_side": layout.input_settings.long_side,
        "augment.short_sides": recipe.augment.short_sides,
    }
    return ", ".join(f"{key} = {value} (was {before[key]})" for key, value in advice.changes.items())


def _tell(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
