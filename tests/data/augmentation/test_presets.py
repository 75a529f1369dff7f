"""Light, medium and strong: boxes stay those of the pixels through it all; a config that names one is whole."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import BLACK, boxes_are_those_of_masks, is_sound, scene

from gfocal.config.config import Config, ConfigError, read_config, with_changes, write_config
from gfocal.data.augmentation.labeled_image import LabeledImage
from gfocal.data.augmentation.pipeline import AUGMENT_PRESETS, Augmentation, AugmentSettings

PIXELS = dict.fromkeys(("color", "distort", "gray", "blur", "noise", "jpeg"), 0.0)
MIXED = {"mosaic": 1.0, "mixup": 1.0, "copy_paste": 1.0}
ALL = {key: 1.0 for key, value in asdict(AugmentSettings()).items() if value in (0.0, 0.5) and key != "close_epochs"}
EVERYTHING = AugmentSettings(**(ALL | {"scale": 0.3, "rotate": 5.0, "shear": 5.0}))


def test_light_is_the_preset_of_the_config_light() -> None:
    assert read_config("light").augment == AUGMENT_PRESETS["light"]


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "augmentation.md"
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", page.read_text(encoding="utf-8"), re.M)
    keys = [field.name for field in fields(AugmentSettings)]
    assert [row[0] for row in rows] == keys
    for column, chosen in enumerate(AUGMENT_PRESETS.values(), start=1):
        words = {"none": None, "false": False, "true": True}
        told = [words[row[column]] if row[column] in words else float(row[column]) for row in rows]
        assert told == [getattr(chosen, key) for key in keys]


def test_strength_grows() -> None:
    light, medium, strong = (asdict(settings) for settings in AUGMENT_PRESETS.values())
    assert list(AUGMENT_PRESETS) == ["light", "medium", "strong"]
    used = [{key for key, value in settings.items() if value} for settings in (light, medium, strong)]
    assert used[0] < used[1] < used[2]
    assert {"mosaic", "mixup", "copy_paste", "close_epochs"} <= used[2] - used[1]


@pytest.mark.parametrize("name", AUGMENT_PRESETS)
@pytest.mark.parametrize("mixed", [{}, MIXED], ids=["as it is", "always mixed"])
def test_boxes_after_a_whole_preset_are_those_of_the_pixels(name: str, mixed: dict[str, float]) -> None:
    """Without what changes colors, by which the objects are known. Turned rectangles have the box of an ellipse."""
    chosen = replace(AUGMENT_PRESETS[name], **PIXELS, **(mixed if name == "strong" else {}))
    augmentation = Augmentation(chosen, 120, 160, fill=BLACK)
    near = 1.5 if not chosen.rotate else 12.0
    total = 0
    for seed in range(40):
        sample = scene(150, 200, [[30, 40, 90, 85], [120, 20, 150, 100], [40, 100, 100, 140]])
        others = [scene(150, 200, []), scene(90, 90, [])]
        torch.manual_seed(seed)
        image = augmentation(*sample, others=lambda o=others: o[int(torch.randint(2, ()))])  # type: ignore[misc]
        is_sound(image)
        total += boxes_are_those_of_masks(image, tolerance=near, threshold=70)
    assert total >= 40


boxes_of = st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=12)


@pytest.mark.parametrize("name", [*AUGMENT_PRESETS, "everything"])
@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 120) | st.just(1),
    width=st.integers(1, 300) | st.just(1),
    shares=boxes_of,
    short=st.integers(1, 80),
    extra=st.integers(0, 80),
    seed=st.integers(0, 2**31),
)
def test_images_of_any_size_and_number_of_boxes(
    name: str,
    height: int,
    width: int,
    shares: list[tuple[float, float, float, float]],
    short: int,
    extra: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    chosen = EVERYTHING if name == "everything" else AUGMENT_PRESETS[name]
    four = torch.tensor(shares, dtype=torch.float32).view(-1, 2, 2).sort(dim=1).values.view(-1, 4)
    count = len(four)
    sample = LabeledImage(
        torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
        four * torch.tensor([width, height, width, height]),
        torch.arange(count),
        torch.arange(count) % 3 == 2,
    )
    image = Augmentation(chosen, short, short + extra)(*sample, others=lambda: sample)
    is_sound(image)
    assert max(image.size) <= (short + extra) * (1 + chosen.scale) + 1
    assert set(image.labels.tolist()) <= set(range(count))


def written(text: str, folder: Path) -> Config:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_other_keys_change_a_preset_and_the_result_is_written_out(tmp_path: Path) -> None:
    config = written('[augment]\ncrop = 0.9\npreset = "strong"\nmosaic = 0.0\n', tmp_path)
    assert config.augment == replace(AUGMENT_PRESETS["strong"], crop=0.9, mosaic=0.0)
    text = write_config(config)
    assert "preset = " not in text.partition("[augment]")[2].partition("[")[0]
    assert written(text, tmp_path) == config


def test_a_preset_replaces_what_the_config_had_before() -> None:
    before = with_changes(Config(), {"augment.short_sides": (100, 200), "augment.quarter_turns": 0.5})
    assert with_changes(before, {"augment.preset": "medium"}).augment == AUGMENT_PRESETS["medium"]
    changed = with_changes(before, {"augment.preset": "medium", "augment.quarter_turns": "0.25"}).augment
    assert changed == replace(AUGMENT_PRESETS["medium"], quarter_turns=0.25)


@pytest.mark.parametrize("name", ["heavy", 3, "", True, ["light"]])
def test_unknown_preset(name: object) -> None:
    with pytest.raises(ConfigError, match=r"changes: augment.preset is one of light, medium, strong, not "):
        with_changes(Config(), {"augment.preset": name})
