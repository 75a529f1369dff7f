"""How long a run of ``gfocal train`` is: by the number of images, unless somebody states it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import gfocal.run
from conftest import Run
from gfocal.config.config import Config


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """16 training images and one for validation."""
    lines = {"train": ["filename,class,xmin,ymin,xmax,ymax"], "val": ["filename,class,xmin,ymin,xmax,ymax"]}
    for number in range(17):
        split = "train" if number < 16 else "val"
        file = tmp_path / "photos" / split / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (number, 0, 0)).save(file)
        lines[split].append(f"{number}.png,cat,4,4,40,40")
    for split, rows in lines.items():
        (tmp_path / "photos" / split / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("options", "epochs", "said"),
    [
        (("--config", "light"), 250, "250 epochs instead of 20, 500 steps, for 16 training images (--epochs"),
        (("--config", "light", "--epochs", 20), 20, ""),
        (("--config", "light", "--set", "run.epochs=3"), 3, ""),
        (("--config", "light", "--time", "5m"), 20, ""),
        (("--config", "light", "--batch-size", 4), 125, "125 epochs instead of 20, 500 steps"),
        (("--config", "mine.toml"), 7, ""),
    ],
)
def test_epochs_are_chosen_unless_stated(
    options: tuple[Any, ...], epochs: int, said: str, photos: Path, tmp_path: Path, run: Run, monkeypatch: Any
) -> None:
    chosen: list[Config] = []

    def take(config: Config, *arguments: Any, **further: Any) -> None:
        chosen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(gfocal.run, "run_training", take)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("[run]\nepochs = 7\nmin_steps = 500\nbatch_size = 8\n", encoding="utf-8")
    _, _, err = run("train", photos, "--no-pretrained", "--out", "out", *options)
    assert chosen, err
    assert chosen[0].run.epochs == epochs
    assert said in err
    assert ("instead of" in err) == bool(said)
