"""A run that ends at a time: how many steps it takes where the pace changes, and that its schedule ends with it."""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.augmentation.pipeline import AugmentSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.models.zoo import create
from gfocal.run_folder import RunFolder
from gfocal.training import epoch as epoch_module
from gfocal.training import loop, pace
from gfocal.training.metrics_log import read_metrics
from gfocal.training.optim import OptimizerSettings, ScheduleSettings, schedule_factor
from gfocal.training.settings import RunSettings
from gfocal.training.stopping import TrainingInterrupt
from gfocal.training.time_plan import TimePlan

STEP, COSINE = ScheduleSettings("step", milestones=(8, 11)), ScheduleSettings("cosine")


@dataclass
class Clock:
    """A clock that goes only where it is told to."""

    seconds: float = 1000.0

    def perf_counter(self) -> float:
        return self.seconds


@dataclass
class Simulated:
    """What a simulated run did."""

    seconds: float = 0.0
    epochs: int = 0
    fractions: list[float] = field(default_factory=list)  # at each step
    evaluations: int = 0


def simulate(
    seconds: float,
    per_epoch: int,
    step_seconds: Callable[[float], float],  # by the time of the run
    *,
    evaluation: float = 0.0,
    saving: float = 0.0,
    eval_every: int | None = None,
    before: float = 0.0,
    after: int = 0,
) -> Simulated:
    """A run as the loop makes it, by a clock of its own; an evaluation takes the time of so many steps.

    The command takes ``before`` seconds before training; ``after`` it, it detects so often on the validation images.
    """
    clock, run, training = Clock(), Simulated(), 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "time", clock)
        clock.seconds += before
        plan = TimePlan(
            seconds=seconds,
            started=clock.seconds - before,
            images_after=after * 2 * per_epoch,
            steps_per_epoch=per_epoch,
            epochs=12,
            warmup_steps=0,
            eval_every=eval_every,
            train_images=10 * per_epoch,
            val_images=2 * per_epoch if evaluation else 0,
        )
        step = 0

        def evaluate() -> float:
            took = evaluation * sum(step_seconds(plan.spent) for _ in range(10)) / 10
            clock.seconds += took
            return took

        while run.epochs < plan.planned_epochs:
            plan.begin_epoch()
            while step < min(plan.state.steps, (run.epochs + 1) * per_epoch):
                run.fractions.append(plan.state.fraction)
                took = step_seconds(plan.spent)
                clock.seconds, training, step = clock.seconds + took, training + took, step + 1
                plan.finish_step(step, run.epochs, training, lambda value: value)
            run.epochs += 1
            if evaluation and (run.epochs == plan.planned_epochs or run.epochs % plan.planned_eval_every == 0):
                plan.finish_evaluation(evaluate())
                run.evaluations += 1
            clock.seconds += saving
            plan.finish_saving(saving)
        for _ in range(after):
            evaluate()
        clock.seconds += saving
        run.seconds = plan.spent
    return run


def noisy(seed: int) -> Callable[[float], float]:
    generator = random.Random(seed)
    return lambda _: generator.lognormvariate(0, 0.7)


PACES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "twice as slow from the middle": lambda at: 1.0 if at < 600 else 2.0,
    "twice as fast from the middle": lambda at: 2.0 if at < 600 else 1.0,
    "busy near the end": lambda at: 1.0 if at < 1050 else 3.0,
    "busy at times": lambda at: 2.5 if at % 300 < 100 else 1.0,
    "noisy": noisy(0),
    "slow first steps": lambda at: 40.0 if at < 80 else 1.0,
}


@pytest.mark.parametrize("per_epoch", [1, 17, 100, 450])
@pytest.mark.parametrize("name", PACES)
def test_a_run_ends_in_time_and_its_schedule_with_it(name: str, per_epoch: int) -> None:
    run = simulate(1200, per_epoch, PACES[name], evaluation=0.08 * per_epoch, saving=0.5)
    assert run.seconds == pytest.approx(1200, rel=0.1)
    done = [*run.fractions, 1.0]
    sure = done[len(done) // 5 :]  # before, each plan starts afresh
    assert all(0 <= before < after for before, after in itertools.pairwise(sure))
    assert done[-2] > 0.97  # as of a run of some dozens of steps; all milestones are passed
    assert schedule_factor(12 * done[-2], done[-2], STEP) == pytest.approx(0.01)
    assert schedule_factor(12 * done[-2], done[-2], COSINE) < 0.0125
    assert run.evaluations >= 1


@pytest.mark.parametrize("per_epoch", [1, 17, 100, 450])
@pytest.mark.parametrize("name", PACES)
def test_what_comes_before_and_after_training_is_in_the_time(name: str, per_epoch: int) -> None:
    """Images are read for a while before; after training, two sets of images are detected on."""
    share = 0.08 * min(per_epoch, 100)
    run = simulate(1200, per_epoch, PACES[name], evaluation=share, saving=0.5, before=90, after=2)
    assert run.seconds == pytest.approx(1200, rel=0.1)
    assert run.fractions[-1] > 0.97


def test_training_that_begins_when_the_time_is_over_takes_a_few_steps() -> None:
    run = simulate(60, 50, PACES["constant"], before=65)
    assert run.seconds < 75
    assert 0 < len(run.fractions) < 10
    assert run.fractions == sorted(run.fractions)


def test_the_end_says_what_the_time_went_to(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    plan = TimePlan(
        seconds=60, steps_per_epoch=10, epochs=3, warmup_steps=0, eval_every=1, train_images=10, val_images=4,
        started=clock.seconds - 12, images_after=8,
    )  # fmt: skip
    plan.finish_evaluation(3)
    clock.seconds += 40
    assert (
        plan.describe(2, 20)
        == "took 52 s of 60 s, 12 s of them before the first step: 2 epochs; what comes after takes about 6 s more"
    )
    plan.images_after, plan.seconds_before = 0, 0.0
    assert plan.describe(2, 20) == "took 52 s of 60 s: 2 epochs"


@given(
    st.floats(60, 3600),
    st.integers(1, 2000),
    st.floats(0.05, 2),
    st.floats(0, 0.4),
    st.integers(0, 1000),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_run_of_many_steps_ends_in_time(
    seconds: float, per_epoch: int, step: float, share: float, seed: int, is_stated: bool
) -> None:
    """Where an evaluation is a small part of the time: one epoch more also takes one more evaluation."""
    evaluation = share * per_epoch
    if (evaluation + 20) * step > 0.02 * seconds or seconds / step > 20_000:
        return
    noise = noisy(seed)
    run = simulate(
        seconds, per_epoch, lambda at: step * noise(at), evaluation=evaluation, eval_every=3 if is_stated else None
    )
    assert run.seconds == pytest.approx(
        seconds, rel=0.15
    )  # a few draws of noise end by a little more than a tenth early
    assert run.fractions[-1] > 0.95


def test_whole_epochs_where_they_end_in_time() -> None:
    assert len(simulate(1000, 30, PACES["constant"]).fractions) == 990
    assert len(simulate(1000, 70, PACES["constant"]).fractions) == 980
    assert len(simulate(1000, 400, PACES["constant"]).fractions) == pytest.approx(1000, abs=2)  # 2.5 epochs


def test_a_time_that_is_less_than_an_epoch() -> None:
    run = simulate(300, 5000, PACES["constant"])
    assert run.epochs == 1
    assert run.seconds == pytest.approx(300, rel=0.1)
    assert run.fractions[-1] > 0.99


def test_a_stall_past_the_end_leaves_time_for_the_rest_of_the_schedule() -> None:
    """A schedule is not left half done, though the time is over."""
    run = simulate(600, 50, lambda at: 500.0 if 300 <= at < 302 else 1.0)
    assert 800 < run.seconds < 900
    assert run.fractions[-1] > 0.95


def test_mixed_images_end_in_proportion() -> None:
    plan = TimePlan(
        seconds=60, steps_per_epoch=10, epochs=30, warmup_steps=5, eval_every=None, train_images=10, val_images=0
    )
    plan.state.epochs_at_start = 60
    assert plan.closed_from(4) == 52
    plan.state.epochs_at_start = 2
    assert plan.closed_from(4) == 2  # never


def test_a_resumed_plan_has_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    values: dict[str, Any] = {
        "seconds": 100, "steps_per_epoch": 5, "epochs": 3, "warmup_steps": 2, "eval_every": 1, "train_images": 5,
        "val_images": 1,
    }  # fmt: skip
    plan = TimePlan(**values)
    for step in range(1, 31):
        clock.seconds += 1
        plan.finish_step(step, (step - 1) // 5, step, lambda value: value)
    saved = plan.state_dict()
    clock.seconds += 5000
    again = TimePlan(**values)
    again.load_state_dict(saved)
    assert again.state == plan.state
    assert again.spent == 30


# A real run, whose steps and evaluations take the time that a clock is told.


def run_of(
    folder: Path, resume: bool = False, images: int = 6, val_images: int = 2, **changes: Any
) -> torch.nn.Module:
    torch.manual_seed(0)
    tiny = {"body": "mobilenetv4_conv_small_035", "channels": 32, "num_convs": 1}
    model = create("gfl_light_fpn", 5, names=SyntheticScenes.names, pretrained=False, **tiny)
    model.input_settings = epoch_module.replace(model.input_settings, short_side=64, long_side=64)
    values: dict[str, Any] = {
        "time_minutes": 1, "batch_size": 2, "num_workers": 0, "ema_decay": 0.9, "cpu": True, "deterministic": True,
        "save_every_minutes": 0,
    }  # fmt: skip
    loop.train(
        model,
        SyntheticScenes(images, size=96),
        SyntheticScenes(val_images, size=96, purpose="val"),
        folder,
        run=RunSettings(**(values | changes)),
        augment=AugmentSettings(flip=0.5, mosaic=0.5, close_epochs=3),
        optimizer_settings=OptimizerSettings("adamw", lr=1e-3, lr_batch=2),
        schedule=ScheduleSettings("cosine", warmup_steps=5),
        resume=resume,
    )
    return model


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Steps take two seconds, evaluations one; ``at_step`` is called before each step."""
    clock, control = Clock(), SimpleNamespace(at_step=lambda _: None, steps=0, factors=[])
    step, evaluate = vars(epoch_module)["training_step"], vars(loop)["evaluate"]

    def slow_step(*arguments: Any) -> Any:
        control.steps += 1
        control.at_step(control.steps)
        clock.seconds += 2
        return step(*arguments)

    def slow_evaluation(*arguments: Any) -> Any:
        clock.seconds += 1
        return evaluate(*arguments)

    set_rate = vars(epoch_module)["set_learning_rate"]

    def note_rate(optimizer: Any, factor: float) -> None:
        control.factors.append(factor)
        set_rate(optimizer, factor)

    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(epoch_module, "training_step", slow_step)
    monkeypatch.setattr(epoch_module, "set_learning_rate", note_rate)
    monkeypatch.setattr(loop, "evaluate", slow_evaluation)
    control.clock = clock
    return control


def test_a_run_ends_in_its_minute(tmp_path: Path, timed: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path)
    assert 54 <= timed.clock.seconds - 1000 <= 66
    rows = read_metrics(RunFolder(tmp_path).metrics)
    assert timed.factors[-1] < 0.04
    assert timed.factors[0] == pytest.approx(1 / 3)
    assert max(timed.factors) > 0.85
    assert rows[-1]["ap"]
    printed = capsys.readouterr().err
    assert f"epoch {len(rows)}/{len(rows)}" in printed
    assert f"of 60 s: {len(rows)} epochs" in printed


@pytest.mark.parametrize(("batch_seconds", "batches"), [(0.1, 4), (0.55, 2), (20.0, 1)])
def test_an_evaluation_is_timed_before_the_first_step(
    batch_seconds: float, batches: int, tmp_path: Path, timed: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of the 2 % of a minute, half of them, and more: the last evaluation is in the time from the start."""
    asked: list[int] = []
    detect = vars(loop)["detect_all"]

    def slow(model: Any, batches: Any, *more: Any) -> Any:
        found = detect(model, batches, *more)
        asked.append(len(found) // 2)
        timed.clock.seconds += batch_seconds * len(found) / 2
        return found

    monkeypatch.setattr(loop, "detect_all", slow)
    known: list[float] = []
    finish = TimePlan.finish_evaluation

    def note_seconds(plan: TimePlan, seconds: float) -> None:
        known.append(seconds)
        finish(plan, seconds)

    monkeypatch.setattr(TimePlan, "finish_evaluation", note_seconds)
    at_first: list[float] = []
    timed.at_step = lambda step: at_first.append(timed.clock.seconds)
    run_of(tmp_path, val_images=10, eval_batch_size=2)
    assert asked[:2] == [1, batches]
    assert at_first[0] == pytest.approx(1000 + batch_seconds * (1 + batches))
    assert known[0] == pytest.approx(5 * batch_seconds)
    if batch_seconds < 10:
        assert timed.clock.seconds - 1000 == pytest.approx(60, rel=0.1)


def test_a_resumed_run_ends_as_one_that_was_not_stopped(
    tmp_path: Path, timed: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of(tmp_path / "whole")
    steps, factors, seconds = timed.steps, list(timed.factors), timed.clock.seconds

    def stop(step: int) -> None:
        if step == steps + 14:
            os.kill(os.getpid(), signal.SIGTERM)

    timed.at_step = stop
    with pytest.raises(TrainingInterrupt):
        run_of(tmp_path / "stopped")
    timed.clock.seconds += 10_000  # between the two does not count
    resumed = run_of(tmp_path / "stopped", resume=True)
    assert timed.factors[steps:] == factors
    assert timed.clock.seconds - seconds - 10_000 == seconds - 1000
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_run_of_less_than_an_epoch(
    tmp_path: Path, timed: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path, images=30, batch_size=1, time_minutes=0.7)
    assert math.isclose(timed.clock.seconds - 1000, 42, rel_tol=0.1)
    assert "steps of an epoch: the time is too short for all images" in capsys.readouterr().err
    assert len(read_metrics(RunFolder(tmp_path).metrics)) == 1
