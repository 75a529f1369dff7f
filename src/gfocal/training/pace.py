"""How long a run takes: the time left, and how often it evaluates where its config does not say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from gfocal.training.settings import RunSettings

RECENT = 5  # epochs and evaluations that the time left is estimated from
EVALUATIONS = 10  # in a run, about
# An image that is evaluated takes about a third of the time of one that is trained on, which also goes back through
# the network; so evaluations take up to a fifth of the time where they see at most 3/4 as many images.
EVALUATED_PER_TRAINED = 0.75
EVALUATED_IN_TRAINING_TIME = 1 / 3


def now() -> float:
    """Seconds of the clock that runs are timed by."""
    return time.perf_counter()


@dataclass(frozen=True)
class Outside:
    """What of the time that a run is given is not training: its command begins before and ends after."""

    started: float  # when the command began, by ``now``
    images_after: int = 0  # on which objects are detected after training, as fast as in an evaluation


@dataclass
class Pace:
    """How long epochs and evaluations took in this process."""

    epochs: list[float] = field(default_factory=list)  # seconds of training of each whole epoch
    evaluations: list[float] = field(default_factory=list)  # seconds of each

    def seconds_left(self, epochs: float, evaluations: int) -> float | None:
        """Time for so many more epochs and evaluations; None before an epoch is done."""
        if not self.epochs:
            return None
        return epochs * _recent_mean(self.epochs) + evaluations * _recent_mean(self.evaluations)


def _recent_mean(seconds: list[float]) -> float:
    recent = seconds[-RECENT:]
    return sum(recent) / len(recent) if recent else 0.0


def with_eval_every(settings: RunSettings, train_images: int, val_images: int) -> RunSettings:
    """The settings with ``eval_every``, chosen by the sizes of the sets where it is None.

    About ten evaluations in a run; fewer where they would take more than about a fifth of the time.
    """
    if settings.eval_every is not None or settings.time_minutes is not None:  # of a given time: see TimePlan
        return settings
    return replace(settings, eval_every=choose_eval_every(settings.epochs, train_images, val_images))


def choose_eval_every(epochs: int, train_images: int, val_images: int) -> int:
    """Epochs between the evaluations of a run of so many epochs; see ``with_eval_every``."""
    affordable = -(-val_images // max(1, int(EVALUATED_PER_TRAINED * train_images)))
    return max(1, round(epochs / EVALUATIONS), affordable)


def count_evaluations(done: int, epochs: int, eval_every: int) -> int:
    """Evaluations still to come after ``done`` of a run's epochs."""
    return 0 if done >= epochs else -(-epochs // eval_every) - done // eval_every


def format_duration(seconds: float | None) -> str:
    """A time in words: 12 s, 3.5 min, 2.4 h."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
