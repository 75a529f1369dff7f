"""The page of a run says where the run is, shows what it detects, and never ends it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from gfocal.config.config import Config, write_config
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.bootstrap import match_samples, write_matches
from gfocal.evaluation.coco_ap import coco_ap
from gfocal.reports import training
from gfocal.reports.training import TrainingPage, choose_images, read_images
from gfocal.run_folder import RunFolder
from gfocal.training.watching import Evaluated, RunView
from gfocal.visualize.predictions import draw_predictions

DATA = SyntheticScenes(9, size=96, purpose="val")
ROWS = [
    {"epoch": e, "step": 5 * e, "seconds": 4.0 * e, "lr": 0.01, "loss": 1 / e, "loss_cls": 0.1, "ap": 0.1 * e}
    for e in (1, 2, 3)
]


def detected(score: float = 0.8) -> Evaluated:
    found = {}
    samples = [DATA.sample(i) for i in range(len(DATA))]
    for sample in samples:
        scores = torch.full((len(sample.boxes),), score)
        found[sample.image_id] = SimpleNamespace(boxes=sample.boxes + 1, scores=scores, labels=sample.labels)
    return Evaluated(coco_ap(samples, found, DATA.names), found)


@pytest.fixture
def view(tmp_path: Path) -> RunView:
    folder = RunFolder(tmp_path / "<mine>")
    folder.path.mkdir()
    folder.config.write_text(write_config(Config()))
    folder.description.write_text('{"gfocal": "0.1", "torch": "2.9", "data": "photos"}')
    evaluated = detected()
    write_matches(folder.matches, match_samples([DATA.sample(i) for i in range(9)], evaluated.detections, DATA.names))
    return RunView(
        folder=folder, phase="running", message="", epoch=3, epochs=10, batches=2, batches_per_epoch=5,
        seconds=1000.0,
        seconds_left=200.0, eval_every=1, best_epoch=3, best_ap=0.3, rows=ROWS, val_data=DATA, evaluated=evaluated,
    )  # fmt: skip


def read(view: RunView) -> str:
    return view.folder.page.read_text(encoding="utf-8")


def page(**more: Any) -> TrainingPage:
    return TrainingPage(Console(file=io.StringIO(), width=300), **more)


def test_a_running_run(view: RunView) -> None:
    page(notes=["3 training images: <few>"]).update(view)
    text = read(view)
    assert '<meta http-equiv="refresh" content="10">' in text
    assert "3 of 10 epochs done, 2 of 5 batches of the next one, 3.3 min left" in text
    assert "Training &lt;mine&gt;" in text
    assert "3 training images: &lt;few&gt;" in text
    assert text.count("<figure>") == 6
    assert "Validation images after epoch 3" in text
    assert re.search(r"<b>0\.\d\d – [01]\.\d\d</b><span>95 % interval of it", text)
    assert "AP is measured every epoch, on 9 validation images of photos." in text
    assert text.count("<svg") == 3
    assert "gfl_light_fpn" in text
    assert "2.9" in text
    assert "<script" not in text
    assert 'src="http' not in text


def test_an_ended_run_is_loaded_once(view: RunView) -> None:
    shown = page()
    shown.update(view)
    shown.update(replace(view, phase="finished", epoch=10, evaluated=None))
    text = read(view)
    assert "http-equiv" not in text
    assert "Finished at" in text
    assert text.count("<figure>") == 6
    shown.update(replace(view, phase="stopped", message="stopped in epoch 4; the state is saved", evaluated=None))
    assert "stopped in epoch 4; the state is saved. With --resume" in read(view)


def test_detections_of_before_stay_on_the_page_of_a_resumed_run(view: RunView) -> None:
    page().update(view)
    before = read_images(view.folder)
    page().update(replace(view, evaluated=None))
    assert read_images(view.folder) == before
    assert before.count("<figure>") == 6


def test_the_page_takes_little_of_the_time(view: RunView, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(training, "draw_images", lambda *_: drawn.append(1) or ["<figure></figure>"])
    monkeypatch.setattr(training, "SECONDS_BETWEEN_PAGES", 0)
    shown = page()
    shown.update(view)
    shown.spent = 0.03 * view.seconds
    shown.update(view)
    assert len(drawn) == 1
    shown.update(replace(view, phase="finished", evaluated=None))  # what was left out is drawn at the end
    assert len(drawn) == 2


def test_a_page_that_cannot_be_written_is_warned_of_once(view: RunView, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(training, "write_training_page", full)
    shown = page()
    shown.update(view)
    shown.update(replace(view, phase="finished"))
    assert isinstance(shown.console.file, io.StringIO)
    assert shown.console.file.getvalue().count("no space left on device") == 1


def test_without_validation_or_files_beside_it(view: RunView) -> None:
    for path in (view.folder.config, view.folder.description, view.folder.matches):
        path.unlink()
    page().update(replace(view, val_data=None, evaluated=None, best_epoch=0, rows=[]))
    text = read(view)
    assert "No epoch is done yet" in text
    assert "The weights of the last epoch: there is no validation data" in text


def test_the_same_images_every_time() -> None:
    assert choose_images(DATA) == choose_images(DATA) == [0, 1, 3, 4, 6, 7]
    assert choose_images(SyntheticScenes(2, size=96)) == [0, 1]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([0.9, 0.5], "2 detected"),
        ([0.2, 0.1], "nothing above 0.3 yet; the best is 0.20"),
        ([], "nothing detected yet"),
    ],
)
def test_what_is_drawn(scores: list[float], words: str) -> None:
    image, sample = DATA.read(0)
    big = torch.nn.functional.interpolate(image[None].float(), scale_factor=10).to(torch.uint8)[0]
    sample = replace(sample, boxes=sample.boxes * 10)
    found = SimpleNamespace(
        boxes=torch.tensor([[100.0, 100, 500, 400]] * len(scores)).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.zeros(len(scores), dtype=torch.int64),
    )
    drawn, line = draw_predictions(big, sample, found if scores else None, DATA.names)
    assert max(drawn.size) == 560
    assert line.endswith(words)
    assert line.startswith(f"{len(sample.boxes)} in ground truth")
    plain = Image.fromarray(big.permute(1, 2, 0).numpy()).resize(drawn.size)
    x, y = round(100 * drawn.width / big.shape[2]), round(250 * drawn.height / big.shape[1])
    changed = np.abs(np.asarray(drawn).astype(int) - np.asarray(plain)).max(2)[y, x - 2 : x + 3].max() > 40
    assert changed == bool(scores)
