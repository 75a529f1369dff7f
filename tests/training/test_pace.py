"""The time left, and how often a run evaluates where its config does not say."""

from __future__ import annotations

import pytest

from gfocal.training.pace import Pace, count_evaluations, format_duration, with_eval_every
from gfocal.training.settings import RunSettings


@pytest.mark.parametrize(
    ("epochs", "train", "val", "every"),
    [
        (12, 400, 100, 1),  # about ten evaluations
        (20, 400, 100, 2),
        (100, 400, 100, 10),
        (3, 3, 1, 1),
        (12, 118_000, 5_000, 1),
        (12, 100, 100, 2),  # a third of the time of an epoch each: every other one
        (12, 100, 1000, 14),  # more than the run has: the last epoch is evaluated in any case
        (20, 1, 0, 2),
    ],
)
def test_how_often_a_run_evaluates(epochs: int, train: int, val: int, every: int) -> None:
    settings = with_eval_every(RunSettings(epochs=epochs), train, val)
    assert settings.eval_every == every
    # An evaluated image takes about a third of the time of one that is trained on.
    if every < epochs:
        assert val / 3 <= 0.26 * (every * train + val / 3)


def test_what_a_config_states_stays() -> None:
    assert with_eval_every(RunSettings(epochs=100, eval_every=7), 10, 10_000).eval_every == 7


@pytest.mark.parametrize(
    ("done", "epochs", "every", "left"), [(0, 10, 2, 5), (4, 10, 3, 3), (9, 10, 3, 1), (10, 10, 3, 0)]
)
def test_evaluations_to_come(done: int, epochs: int, every: int, left: int) -> None:
    due = [e for e in range(done + 1, epochs + 1) if e % every == 0 or e == epochs]
    assert count_evaluations(done, epochs, every) == left == len(due)


def test_the_time_left_follows_recent_epochs() -> None:
    pace = Pace()
    assert pace.seconds_left(3, 1) is None
    pace.epochs += [100.0] + [10.0] * 5  # the first one started processes and warmed up caches
    assert pace.seconds_left(3, 1) == 30
    pace.evaluations.append(4.0)
    assert pace.seconds_left(2.5, 2) == 33


def test_times_in_words() -> None:
    assert format_duration(None) == "–"
    assert format_duration(61) == "61 s"
