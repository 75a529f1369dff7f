"""A run stops when AP has not risen for a while, and a resumed one counts on."""

from __future__ import annotations

import pytest

from gfocal.training.checkpoints import Progress
from gfocal.training.settings import RunSettings
from gfocal.training.stopping import describe_early_stop, evaluations_without_improvement, should_stop_early


@pytest.mark.parametrize(
    ("epoch", "best_epoch", "eval_every", "without"),
    [(1, 1, 1, 0), (4, 1, 1, 3), (8, 4, 4, 1), (11, 4, 4, 1), (12, 4, 4, 2), (9, 9, 4, 0)],
)
def test_evaluations_are_counted_by_the_epochs(epoch: int, best_epoch: int, eval_every: int, without: int) -> None:
    assert evaluations_without_improvement(Progress(epoch=epoch, best_epoch=best_epoch), eval_every) == without


def test_it_stops_at_the_evaluation_that_uses_up_the_patience() -> None:
    run = RunSettings(patience=2, eval_every=3)
    progress = Progress(best_ap=0.25, best_epoch=6)
    dry = {}
    for epoch in range(6, 15):
        progress.epoch = epoch
        dry[epoch] = should_stop_early(progress, run)
    assert [epoch for epoch, is_dry in dry.items() if is_dry] == [12, 13, 14]
    progress.epoch = 12
    assert describe_early_stop(progress, run) == (
        "stopped early: no better AP than 0.250 of epoch 6 in 2 evaluations (run.patience = 2)"
    )


def test_never_without_patience_or_before_anything_was_found() -> None:
    assert not should_stop_early(Progress(epoch=99, best_epoch=1, best_ap=0.5), RunSettings(patience=0))
    assert not should_stop_early(Progress(epoch=99), RunSettings(patience=1))
    assert not should_stop_early(Progress(epoch=99, best_epoch=1, best_ap=0.0), RunSettings(patience=1))
