"""Light, medium and strong: boxes stay those of the pixels through it all; a recipe that names one is whole."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import BLACK, boxes_are_those_of_masks, is_sound, scene

from gfocal.config.config import ConfigError, Recipe, read_recipe, with_changes, write_recipe
from gfocal.data.augmentation.labelled import Labelled
from gfocal.data.augmentation.pipeline import AUGMENT_RECIPES, Augmentation, AugmentSettings

PIXELS = dict.fromkeys(("colour", "distort", "grey", "blur", "noise", "jpeg"), 0.0)
MIXED = {"mosaic": 1.0, "mixup": 1.0, "copy_paste": 1.0}
ALL = {key: 1.0 for key, value in asdict(AugmentSettings()).items() if value in (0.0, 0.5) and key != "close_epochs"}
EVERYTHING = AugmentSettings(**(ALL | {"scale": 0.3, "rotate": 5.0, "shear": 5.0}))


def test_light_is_what_the_recipe_light_has() -> None:
    assert read_recipe("light").augment == AUGMENT_RECIPES["light"]


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "augmentation.md"
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", page.read_text(encoding="utf-8"), re.M)
    keys = [field.name for field in fields(AugmentSettings)]
    assert [row[0] for row in rows] == keys
    for column, chosen in enumerate(AUGMENT_RECIPES.values(), start=1):
        told = [None if row[column] == "none" else float(row[column]) for row in rows]
        assert told == [getattr(chosen, key) for key in keys]


def test_strength_grows() -> None:
    light, medium, strong = (asdict(settings) for settings in AUGMENT_RECIPES.values())
    assert list(AUGMENT_RECIPES) == ["light", "medium", "strong"]
    used = [{key for key, value in settings.items() if value} for settings in (light, medium, strong)]
    assert used[0] < used[1] < used[2]
    assert {"mosaic", "mixup", "copy_paste", "close_epochs"} <= used[2] - used[1]


@pytest.mark.parametrize("name", AUGMENT_RECIPES)
@pytest.mark.parametrize("mixed", [{}, MIXED], ids=["as it is", "always mixed"])
def test_boxes_after_a_whole_recipe_are_those_of_the_pixels(name: str, mixed: dict[str, float]) -> None:
    """Without what changes colours, by which the objects are known. Turned rectangles have the box of an ellipse."""
    chosen = replace(AUGMENT_RECIPES[name], **PIXELS, **(mixed if name == "strong" else {}))
    augmentation = Augmentation(chosen, 120, 160, fill=BLACK)
    near = 1.5 if not chosen.rotate else 12.0
    total = 0
    for seed in range(40):
        sample = scene(150, 200, [[30, 40, 90, 85], [120, 20, 150, 100], [40, 100, 100, 140]])
        others = [scene(150, 200, []), scene(90, 90, [])]
        torch.manual_seed(seed)
        picture = augmentation(*sample, others=lambda o=others: o[int(torch.randint(2, ()))])  # type: ignore[misc]
        is_sound(picture)
        total += boxes_are_those_of_masks(picture, tolerance=near, threshold=70)
    assert total >= 40


boxes_of = st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=12)


@pytest.mark.parametrize("name", [*AUGMENT_RECIPES, "everything"])
@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 120) | st.just(1),
    width=st.integers(1, 300) | st.just(1),
    shares=boxes_of,
    short=st.integers(1, 80),
    extra=st.integers(0, 80),
    seed=st.integers(0, 2**31),
)
def test_pictures_of_any_size_and_number_of_boxes(
    name: str,
    height: int,
    width: int,
    shares: list[tuple[float, float, float, float]],
    short: int,
    extra: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    chosen = EVERYTHING if name == "everything" else AUGMENT_RECIPES[name]
    four = torch.tensor(shares, dtype=torch.float32).view(-1, 2, 2).sort(dim=1).values.view(-1, 4)
    count = len(four)
    sample = Labelled(
        torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
        four * torch.tensor([width, height, width, height]),
        torch.arange(count),
        torch.arange(count) % 3 == 2,
    )
    picture = Augmentation(chosen, short, short + extra)(*sample, others=lambda: sample)
    is_sound(picture)
    assert max(picture.size) <= (short + extra) * (1 + chosen.scale) + 1
    assert set(picture.labels.tolist()) <= set(range(count))


def written(text: str, folder: Path) -> Recipe:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_like_is_a_start_that_other_keys_change_and_is_written_out(tmp_path: Path) -> None:
    recipe = written('[augment]\ncrop = 0.9\nlike = "strong"\nmosaic = 0.0\n', tmp_path)
    assert recipe.augment == replace(AUGMENT_RECIPES["strong"], crop=0.9, mosaic=0.0)
    text = write_recipe(recipe)
    assert "like" not in text
    assert written(text, tmp_path) == recipe


def test_like_forgets_what_the_recipe_had_before() -> None:
    before = with_changes(Recipe(), {"augment.short_sides": (100, 200), "augment.quarter_turns": 0.5})
    assert with_changes(before, {"augment.like": "medium"}).augment == AUGMENT_RECIPES["medium"]
    changed = with_changes(before, {"augment.like": "medium", "augment.quarter_turns": "0.25"}).augment
    assert changed == replace(AUGMENT_RECIPES["medium"], quarter_turns=0.25)


@pytest.mark.parametrize("name", ["heavy", 3, "", True, ["light"]])
def test_an_augmentation_that_is_not_there(name: object) -> None:
    with pytest.raises(ConfigError, match=r"changes: augment.like is one of light, medium, strong, not "):
        with_changes(Recipe(), {"augment.like": name})
