"""How many steps a run takes that is to end at a time: planned again and again from the recent pace until it ends.

The learning rate follows the share of the schedule that is done. Each step does an equal part of what is left of it:
whatever becomes of the plan, the learning rate neither jumps back nor stops halfway (Li et al. 2020, "Budgeted
Training", compare schedules that end with a budget of steps).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gfocal.text import pluralize
from gfocal.training.pace import (
    EVALUATED_IN_TRAINING_TIME,
    choose_eval_every,
    count_evaluations,
    format_duration,
    now,
)
from gfocal.training.settings import MOST

FIRST_PLAN = 4  # steps; the first ones start processes, compile and fill caches
YOUNG = 0.1  # share of the steps in which plans are rough, and each one starts the schedule afresh
# Of the time asked for:
WINDOW = 0.05  # in which the pace is measured
BETWEEN_PLANS = 0.01
WHOLE_EPOCH = 0.04  # that a run may end earlier or later for its last epoch to be a whole one
# A run whose time is suddenly over does what is left of its schedule in this share of the steps it would have taken.
HURRY = 0.1


@dataclass
class PlanState:
    """What a resumed run needs of a plan; the same in all processes, but for the times."""

    steps: int  # of the run
    next_plan: int  # the step after which it is planned again
    warmup_steps: int
    fraction: float = 0.0  # of the schedule that is done
    eval_every: int = 0  # epochs between evaluations; 0: not settled
    epochs_at_start: int = 0  # that were planned when the epoch under way began
    spent: float = 0.0  # seconds of the whole run
    step_seconds: float = 0.0  # of training; these three are 0 while unknown
    evaluation_seconds: float = 0.0
    saving_seconds: float = 0.0  # of files, after an epoch


@dataclass(kw_only=True)
class TimePlan:
    """Plans a run of a given time."""

    seconds: float  # asked for
    steps_per_epoch: int
    epochs: int  # of the config: milestones and close_epochs are meant for so many
    warmup_steps: int  # of the config
    eval_every: int | None  # of the config
    train_images: int
    val_images: int
    started: float = field(default_factory=now)  # the time counts from here
    images_after: int = 0  # on which objects are detected after training, in the same time
    state: PlanState = field(init=False)
    pace: deque[tuple[int, float]] = field(default_factory=deque)  # recent steps, and the training time after each
    steps_seen: int = 0  # by this process
    seconds_before: float = field(init=False)  # the first step of this process

    def __post_init__(self) -> None:
        steps = max(self.steps_per_epoch * self.epochs, 2 * FIRST_PLAN)
        self.state = PlanState(steps, FIRST_PLAN, self.warmup_steps)
        self.seconds_before = self.spent

    @property
    def spent(self) -> float:
        """Seconds of the run so far, also before it was resumed."""
        return now() - self.started

    @property
    def seconds_after(self) -> float:
        """Time of what comes after training: objects detected on images, and files, like those after an epoch."""
        detecting = self.images_after * self._evaluation_seconds / max(self.val_images, 1)
        return detecting + self.state.saving_seconds

    @property
    def planned_epochs(self) -> int:
        """Epochs of the run, of which the last one may be a part."""
        return -(-self.state.steps // self.steps_per_epoch)

    @property
    def planned_eval_every(self) -> int:
        """Epochs between evaluations."""
        return self.eval_every or self.state.eval_every or self._eval_every(self.planned_epochs)

    def closed_from(self, close_epochs: int) -> int:
        """The epoch from which no images are mixed: as large a part of the run as the config's ``close_epochs``."""
        epochs = self.state.epochs_at_start
        return epochs - round(close_epochs * epochs / self.epochs)

    def begin_epoch(self) -> None:
        """Keep how many epochs are planned now: what changes between epochs goes by that in the whole epoch."""
        if not self.state.eval_every and self.state.fraction >= YOUNG / 2:
            self.state.eval_every = self._eval_every(self.planned_epochs)
        self.state.epochs_at_start = self.planned_epochs

    def finish_step(self, step: int, epoch: int, training_seconds: float, agree: Callable[[Any], Any]) -> None:
        """Count a step, and plan again if it is time.

        Args:
            step: steps done, this one included.
            epoch: epochs done.
            training_seconds: spent in steps so far.
            agree: gives all processes the value of the main one.
        """
        state = self.state
        if state.next_plan > FIRST_PLAN:  # else the number of steps is not known yet
            state.fraction += (1 - state.fraction) / max(1, state.steps - (step - 1))
        self._measure(step, training_seconds)
        if state.next_plan <= step < state.steps and state.step_seconds:
            steps = self._choose_steps(step, epoch, self.seconds - self.spent - self.seconds_after)
            pause = min(int(BETWEEN_PLANS * self.seconds / state.step_seconds), (steps - step) // 4, step)
            state.steps, state.next_plan = agree((steps, step + max(1, pause)))
            is_young = step < YOUNG * state.steps
            if is_young:
                state.fraction = step / state.steps
            if is_young or step < state.warmup_steps:
                state.warmup_steps = min(self.warmup_steps, state.steps // 5)

    def finish_evaluation(self, seconds: float) -> None:
        """Take note of how long an evaluation took."""
        self.state.evaluation_seconds = _smooth(self.state.evaluation_seconds, seconds)

    def finish_saving(self, seconds: float) -> None:
        """Take note of how long files took after an epoch."""
        self.state.saving_seconds = _smooth(self.state.saving_seconds, seconds)

    def describe(self, epochs: int, steps: int) -> str:
        """A line on a run that has ended after so many epochs and steps."""
        part = steps % self.steps_per_epoch
        if not epochs:
            done = "no epoch"
        elif epochs == 1 and part:
            done = f"{part} of the {self.steps_per_epoch} steps of an epoch: the time is too short for all images"
        else:
            done = pluralize(epochs, "epoch")
            done += f", {part} of {self.steps_per_epoch} steps of the last one" if part else ""
        before, after = self.seconds_before, self.seconds_after
        begun = f", {format_duration(before)} of them before the first step" if before >= 1 else ""
        rest = f"; what comes after takes about {format_duration(after)} more" if after >= 1 else ""
        return f"took {format_duration(self.spent)} of {format_duration(self.seconds)}{begun}: {done}{rest}"

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` takes."""
        self.state.spent = self.spent
        return asdict(self.state)

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Go on with a saved plan and the time that was left then."""
        self.state = PlanState(**values)
        self.started -= self.state.spent

    def _measure(self, step: int, training_seconds: float) -> None:
        self.steps_seen += 1
        if self.steps_seen < FIRST_PLAN // 2:
            return
        self.pace.append((step, training_seconds))
        while len(self.pace) > 2 and training_seconds - self.pace[1][1] > WINDOW * self.seconds:
            self.pace.popleft()
        first, since = self.pace[0]
        if step > first:
            self.state.step_seconds = max((training_seconds - since) / (step - first), 1e-6)

    def _choose_steps(self, step: int, epoch: int, left: float) -> int:
        """Steps of a run that ends in ``left`` seconds, or a little earlier or later after a whole epoch."""
        state, per_epoch = self.state, self.steps_per_epoch
        least = step + math.ceil(HURRY * (1 - state.fraction) * step / max(state.fraction, YOUNG))
        low, high = least, max(least, MOST["epochs"] * per_epoch)
        while low < high:  # the largest number that takes no longer
            middle = (low + high + 1) // 2
            if self._seconds_to(middle, step, epoch) <= left:
                low = middle
            else:
                high = middle - 1
        before, after = low // per_epoch * per_epoch, -(-low // per_epoch) * per_epoch
        off = {steps: abs(self._seconds_to(steps, step, epoch) - left) for steps in (before, after) if steps >= least}
        whole = min(off, key=lambda steps: off[steps])
        return whole if off[whole] <= WHOLE_EPOCH * self.seconds else low

    def _seconds_to(self, steps: int, step: int, epoch: int) -> float:
        """Time from a step to the end of a run of so many steps, with its evaluations and files."""
        state = self.state
        epochs = -(-steps // self.steps_per_epoch)
        seconds = (steps - step) * state.step_seconds + (epochs - epoch) * state.saving_seconds
        if not self.val_images:
            return seconds
        every = self.eval_every or state.eval_every or self._eval_every(epochs)
        return seconds + self._evaluation_seconds * count_evaluations(epoch, epochs, every)

    @property
    def _evaluation_seconds(self) -> float:
        """Time of an evaluation; without validation images that of one image."""
        if self.state.evaluation_seconds:
            return self.state.evaluation_seconds
        image = self.state.step_seconds * self.steps_per_epoch / self.train_images
        return EVALUATED_IN_TRAINING_TIME * image * max(self.val_images, 1)

    def _eval_every(self, epochs: int) -> int:
        return choose_eval_every(epochs, self.train_images, self.val_images)


def _smooth(before: float, seconds: float) -> float:
    """The mean of what was measured, of which the last counts half."""
    return (before + seconds) / 2 if before else seconds
