"""A run as a whole: it learns, it says when it cannot, and it leaves what it promises."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from gfocal.data.augmentation.pipeline import AugmentSettings
from gfocal.data.dataset import Sample
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import NonFiniteLossError, NoPositivesError
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.models.zoo import create
from gfocal.run_folder import RunFolder
from gfocal.training.distributed import Devices
from gfocal.training.epoch import TrainingRun
from gfocal.training.loop import RunSettings, train
from gfocal.training.metrics_log import COLUMNS, read_metrics
from gfocal.training.optim import OptimizerSettings, ScheduleSettings
from gfocal.training.watching import Evaluated, RunView

RUN = RunSettings(epochs=2, batch_size=2, num_workers=0, eval_batch_size=4, cpu=True)


@dataclass(frozen=True)
class Squares:
    """Two images over and over: a red square on a dark ground, and beside its place a green one."""

    count: int
    names = ("red", "green")
    category_ids = (1, 2)
    files = None

    def __len__(self) -> int:
        return self.count

    def at_epoch(self, epoch: int) -> Squares:
        return self

    def sample(self, index: int) -> Sample:
        x, y = 8 + 12 * (index % 2), 16
        box = torch.tensor([[x, y, x + 32, y + 32]], dtype=torch.float32)
        return Sample(index, None, box, torch.tensor([index % 2]), torch.tensor([False]), size=(64, 64))

    def read(self, index: int) -> tuple[Tensor, Sample]:
        sample = self.sample(index)
        image = torch.full((3, 64, 64), 40, dtype=torch.uint8)
        x1, y1, x2, y2 = sample.boxes[0].long().tolist()
        image[index % 2, y1:y2, x1:x2] = 250
        return image, sample


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def small(names: tuple[str, ...] = SyntheticScenes.names, side: int = 64) -> Detector:
    torch.manual_seed(0)
    model = create("gfl_r18_fpn", len(names), names=names, pretrained=False, channels=32, num_convs=1)
    model.input_settings = InputSettings(short_side=side, long_side=side)
    return model


def learn(model: Detector, data: Any, val: Any, folder: Path, run: RunSettings, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "augment": AugmentSettings(flip=0.0),
        "optimizer_settings": OptimizerSettings("adamw", lr=1e-3, lr_batch=2, clip_norm=10.0),
        "schedule": ScheduleSettings("cosine", warmup_steps=2),
        "console": Console(file=io.StringIO()),
    }
    return train(model, data, val, folder, run=run, **(settings | more))


def test_a_few_scenes_are_learned_by_heart(tmp_path: Path) -> None:
    data = Squares(20)
    model = small(data.names)
    optimizer = OptimizerSettings("adamw", lr=2e-3, lr_batch=2)
    run = replace(RUN, epochs=4, eval_every=100)
    result = learn(model, data, Squares(2), tmp_path, run, optimizer_settings=optimizer)
    losses = [float(row["loss"]) for row in read_metrics(RunFolder(tmp_path).metrics)]
    assert losses[-1] < 0.5 * max(losses)
    assert result.ap50 > 0.99
    for index in range(2):
        image, sample = data.read(index)
        found = model.detect(image, score_threshold=0.05)
        assert found.class_names[0] == data.names[index]  # type: ignore[union-attr]
        torch.testing.assert_close(found.boxes[0], sample.boxes[0], atol=4, rtol=0)  # type: ignore[union-attr]


def test_what_a_run_leaves(tmp_path: Path) -> None:
    data = SyntheticScenes(4, size=96)
    said = io.StringIO()
    model = small()
    result = learn(
        model,
        data,
        SyntheticScenes(2, 96, purpose="val"),
        tmp_path,
        RUN,
        console=Console(file=said, width=200),
    )
    rows = read_metrics(RunFolder(tmp_path).metrics)
    assert tuple(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["2", "4"]
    assert [row["images"] for row in rows] == ["4", "4"]
    for row in rows:
        parts = sum(float(row[f"loss_{term}"]) for term in ("cls", "box", "dfl"))
        assert float(row["loss"]) == pytest.approx(parts, abs=2e-6)
        assert 0 <= float(row["ap"]) <= float(row["ap50"]) <= 1
        assert float(row["positives"]) > 0
    assert float(rows[-1]["ap"]) == pytest.approx(result.ap)
    for name in ("best", "last"):
        loaded = load_model(tmp_path / f"{name}.safetensors")
        assert loaded.names == SyntheticScenes.names
        assert loaded.input_settings == model.input_settings
    for key, value in load_model(tmp_path / "last.safetensors").state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    assert not model.training
    assert RunFolder(tmp_path).state.is_file()
    assert not list(tmp_path.glob("*.tmp"))
    lines = said.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 2


def test_best_is_the_best_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.evaluation.coco_ap import coco_ap
    from gfocal.training import loop

    data = SyntheticScenes(2, size=96)
    empty = coco_ap([data.sample(0)], {}, data.names)
    aps = iter([0.2, 0.6, 0.4])
    states: list[dict[str, Tensor]] = []

    def evaluation(training: TrainingRun, _: object) -> Evaluated:
        states.append({key: value.clone() for key, value in training.model.state_dict().items()})
        return Evaluated(replace(empty, ap=next(aps)), {})

    monkeypatch.setattr(loop, "evaluate", evaluation)
    learn(small(), data, data, tmp_path, replace(RUN, epochs=3, eval_every=1))
    for name, state in (("best", states[1]), ("last", states[2])):
        for key, value in load_model(tmp_path / f"{name}.safetensors").state_dict().items():
            assert torch.equal(value, state[key]), (name, key)
    assert any(not torch.equal(states[1][key], value) for key, value in states[2].items())


def test_a_run_is_shown_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.training import watching

    monkeypatch.setattr(watching, "SECONDS_BETWEEN_VIEWS", -1)
    data, views = Squares(4), list[RunView]()
    said = io.StringIO()
    more: dict[str, Any] = {"watcher": views.append, "console": Console(file=said, width=80)}
    learn(small(data.names), data, data, tmp_path, replace(RUN, epochs=2, eval_every=1), **more)
    # Two batches an epoch, the epoch, and the end.
    assert [(one.epoch, one.batches) for one in views] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 0)]
    assert [one.phase for one in views] == ["running"] * 6 + ["finished"]
    assert [one.evaluated is not None for one in views] == [False, False, True, False, False, True, False]
    assert views[0].seconds_left is None
    assert views[2].seconds_left is not None
    assert views[2].seconds_left > 0 == views[-1].seconds_left
    assert [row["epoch"] for row in views[-1].rows] == [1, 2]
    assert re.search(r"epoch 1/2  loss [\d.]+  AP [\d.]+  took \d+ s, \d+ s left\n", said.getvalue())
    assert re.search(r"epoch 2/2  loss [\d.]+  AP [\d.]+  took \d+ s\n", said.getvalue())


def test_a_run_that_fails_is_shown_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.training import loop

    def interrupted(*_: object) -> Evaluated:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "evaluate", interrupted)
    data, views = Squares(2), list[RunView]()
    with pytest.raises(KeyboardInterrupt):
        learn(small(data.names), data, data, tmp_path, replace(RUN, eval_every=1), watcher=views.append)
    assert (views[-1].phase, views[-1].message) == ("stopped", "KeyboardInterrupt")


def test_without_validation_there_is_a_last_model_only(tmp_path: Path) -> None:
    assert learn(small(), SyntheticScenes(2, size=96), None, tmp_path, replace(RUN, epochs=1)) is None
    assert (tmp_path / "last.safetensors").is_file()
    assert not (tmp_path / "best.safetensors").exists()
    assert read_metrics(RunFolder(tmp_path).metrics)[0]["ap"] == ""
    load_model(tmp_path)


@pytest.mark.parametrize(("epochs", "every", "evaluation"), [(3, 2, [2, 3]), (2, 5, [2]), (2, 1, [1, 2])])
def test_evaluations_are_every_few_epochs_and_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, every: int, evaluation: list[int]
) -> None:
    data = SyntheticScenes(1, size=96)
    learn(small(), data, data, tmp_path, replace(RUN, epochs=epochs, eval_every=every))
    rows = read_metrics(RunFolder(tmp_path).metrics)
    assert [int(row["epoch"]) for row in rows if row["ap"]] == evaluation


def test_the_average_of_the_weights_is_saved_and_evaluated(tmp_path: Path) -> None:
    model = small()
    start = {key: value.clone() for key, value in model.named_parameters()}
    learn(model, SyntheticScenes(4, size=96), None, tmp_path, replace(RUN, ema_decay=0.99))
    state = torch.load(RunFolder(tmp_path).state, weights_only=True)
    assert state["average_updates"] == 4
    last = load_model(tmp_path / "last.safetensors").state_dict()
    moved_model = moved_average = 0.0
    for key, value in last.items():
        assert torch.equal(value, state["average"][key]), key
        assert torch.equal(model.state_dict()[key], value), key  # and the model given is the average afterwards
        if key in start:
            moved_average += float((value - start[key]).detach().abs().sum())
            moved_model += float((state["model"][key] - start[key]).detach().abs().sum())
    assert 0 < moved_average < moved_model * 1.01


def test_two_batches_of_two_are_a_step_as_one_of_four(tmp_path: Path) -> None:
    steps, rates = [], []
    for batch_size, accumulate in ((4, 1), (2, 2)):
        folder = tmp_path / str(accumulate)
        run = replace(RUN, batch_size=batch_size, grad_accum_steps=accumulate)
        learn(small(), SyntheticScenes(6, size=96), None, folder, run)  # 6: an epoch ends within a step
        rows = read_metrics(RunFolder(folder).metrics)
        steps.append([row["step"] for row in rows])
        rates.append([row["lr"] for row in rows])
    assert steps == [["2", "4"], ["2", "4"]]
    assert rates[0] == rates[1]


def test_the_average_follows_steps_not_batches(tmp_path: Path) -> None:
    run = replace(RUN, epochs=1, batch_size=1, grad_accum_steps=2, ema_decay=0.9)
    learn(small(), SyntheticScenes(4, size=96), None, tmp_path, run)
    assert torch.load(RunFolder(tmp_path).state, weights_only=True)["average_updates"] == 2


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The third batch's loss becomes infinite, as by an inf in a parameter; the batches' image ids."""
    from gfocal.training import epoch

    seen: list[tuple[int, ...]] = []
    real: Any = vars(epoch)["training_step"]

    def step(model: Detector, criterion: Any, batch: Any, optimizer: Any, devices: Devices, clip: float) -> Any:
        seen.append(batch.image_ids)
        if len(seen) == 3:
            with torch.no_grad():
                next(model.neck.parameters()).view(-1)[0] = float("inf")
        return real(model, criterion, batch, optimizer, devices, clip)

    monkeypatch.setattr(epoch, "training_step", step)
    return seen


@pytest.mark.parametrize("scenes", [10, 6])  # in the middle of an epoch, and in its last batch
def test_an_infinite_loss_names_terms_step_and_images(
    tmp_path: Path, poisoned: list[tuple[int, ...]], scenes: int
) -> None:
    with pytest.raises(NonFiniteLossError) as error:
        learn(small(), SyntheticScenes(scenes, size=96), None, tmp_path, replace(RUN, epochs=1))
    message = str(error.value)
    assert "step 3 " in message
    assert f"image ids {', '.join(map(str, poisoned[2]))}." in message
    assert "cls nan" in message or "cls inf" in message
    assert "box " in message
    assert len(message.splitlines()) == 1
    assert not RunFolder(tmp_path).state.exists()
    assert not (tmp_path / "last.safetensors").exists()


class Small(Squares):
    """Squares that vanish: at 64 pixels no point lies in any."""

    def sample(self, index: int) -> Sample:
        box = torch.tensor([[1.0, 1.0, 2.5, 2.5]])
        return replace(super().sample(index), boxes=box)

    def read(self, index: int) -> tuple[Tensor, Sample]:
        return super().read(index)[0], self.sample(index)


def test_an_epoch_without_a_positive_point_ends_the_run(tmp_path: Path) -> None:
    said = io.StringIO()
    with pytest.raises(NoPositivesError, match=r"in 4 images at 64 x 64 pixels no object was large enough"):
        learn(small(Small.names), Small(4), Squares(2), tmp_path, RUN, console=Console(file=said))
    assert "epoch" not in said.getvalue()
    assert not RunFolder(tmp_path).state.exists()


def test_what_a_run_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.evaluation.coco_ap import coco_ap
    from gfocal.training import loop

    data = Squares(2)
    empty = coco_ap([data.sample(0)], {}, data.names)
    results = iter([replace(empty, ap=0.0), replace(empty, ap=0.5, num_detections=3), replace(empty, ap=0.25)])

    def evaluation(*_: object) -> Evaluated:
        return Evaluated(next(results), {})

    monkeypatch.setattr(loop, "evaluate", evaluation)
    for resume in (False, True):
        said = io.StringIO()
        console = Console(file=said, width=80)
        warm = ScheduleSettings("cosine", warmup_steps=50)
        run = replace(RUN, epochs=3, batch_size=1, eval_every=1)
        learn(small(data.names), data, data, tmp_path, run, schedule=warm, console=console, resume=resume)
        lines = said.getvalue().splitlines()
        shortened = "note: warm-up takes 1 step, a fifth of this run's 6, instead of 50"
        assert lines[0] == ("resuming after epoch 3 of 3; nothing is left to do" if resume else shortened)
        interval = "95 % interval 0.000 to 0.000 on 2 validation images"  # the evaluation is made up
        assert lines[-1] == f"best: epoch 2, AP 0.500, {interval} (best.safetensors)"
        if not resume:
            nothing = "no detections: no score is above the model's threshold of 0.05 (normal in"
            assert [line[:7] for line in lines[1:-1]] == ["epoch 1", nothing[:7], "epoch 2", "epoch 3", nothing[:7]]
            assert lines[2].startswith(nothing)


def test_a_long_warm_up_is_shortened(tmp_path: Path) -> None:
    """Of 10 steps, 2: the third is at the full rate."""
    run = replace(RUN, epochs=1, batch_size=1)
    schedule = ScheduleSettings("step", milestones=(), warmup_steps=50, warmup_from=0.1)
    optimizer = OptimizerSettings("adamw", lr=1e-3, lr_batch=1)
    learn(small(("red", "green")), Squares(10), None, tmp_path, run, schedule=schedule, optimizer_settings=optimizer)
    assert float(read_metrics(RunFolder(tmp_path).metrics)[-1]["lr"]) == pytest.approx(1e-3)


def test_one_thread_and_one_seed_give_one_result(tmp_path: Path) -> None:
    data = SyntheticScenes(4, size=96)
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)
        learn(small(), data, None, tmp_path / name, replace(RUN, epochs=1, seed=5))
    for file in ("last.safetensors",):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    learn(small(), data, None, tmp_path / "three", replace(RUN, epochs=1, seed=6))
    assert (tmp_path / "one" / file).read_bytes() != (tmp_path / "three" / file).read_bytes()
