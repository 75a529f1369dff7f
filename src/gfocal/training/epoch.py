"""One epoch of a run: a step for every batch, and what metrics.csv says of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gfocal.console import progress_bar
from gfocal.criteria.gfl import Criterion
from gfocal.data.samplers import BatchOrder
from gfocal.models.detector import Detector
from gfocal.structures import Batch, Losses
from gfocal.training.checkpoints import Progress, StateKeeper
from gfocal.training.distributed import Devices
from gfocal.training.ema import WeightAverage
from gfocal.training.optim import set_learning_rate
from gfocal.training.step import training_step
from gfocal.training.stopping import Stopped, StopRequest, check_finite, check_learned


@dataclass(frozen=True)
class Learning:
    """What the epochs of a run have in common."""

    model: Detector
    wrapped: nn.Module  # the same, made ready for the devices
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    batches: DataLoader[Batch]
    devices: Devices
    progress: Progress  # moved on as batches are learned
    keeper: StateKeeper
    stop: StopRequest
    factor_at: Callable[[int], float]  # of the learning rate, by the step
    clip_norm: float
    seed: int
    console: Console


@dataclass(frozen=True)
class Known:
    """What every process knows of a batch: sums over all of them, not waited for."""

    terms: dict[str, Tensor]  # of the loss
    positives: Tensor
    asked_to_stop: Tensor  # how many were
    image_ids: tuple[int, ...]  # of this process alone

    def is_finite(self) -> bool:
        """Whether the loss is. Waits for the device."""
        return bool(torch.isfinite(torch.stack([*self.terms.values()])).all())


def learn_epoch(learning: Learning, criterion: Criterion, title: str) -> dict[str, Any]:
    """The steps of an epoch that are not done yet; returns its row of metrics.

    Raises:
        Stopped: the run was asked to stop; its state is saved.
        NonFiniteLossError: a loss is not finite. All processes find it at the same batch.
        NoPositivesError: no object of the epoch met a point of the detector.
    """
    progress, devices, keeper = learning.progress, learning.devices, learning.keeper
    order = learning.batches.batch_sampler
    assert isinstance(order, BatchOrder)
    order.first = progress.batches
    learning.wrapped.train()
    started, before = time.perf_counter(), progress.seconds
    previous: Known | None = None
    with progress_bar(learning.console, title, len(order), progress.batches) as bar:
        for batch in learning.batches:
            # What a step draws depends on its place in the run alone, so that a resumed run draws the same.
            torch.manual_seed(_seed(learning.seed, progress.epoch, progress.batches, devices.rank))
            set_learning_rate(learning.optimizer, learning.factor_at(progress.step))
            devices.is_last_batch = progress.batches + 1 == len(order)
            devices.is_idle = order.is_idle(progress.batches)
            batch = batch.to(devices.device)
            losses = training_step(
                learning.wrapped, criterion, batch, learning.optimizer, devices, learning.clip_norm
            )
            known = shared(losses, batch.image_ids, learning.stop, devices)
            # One batch late, so that a GPU is never waited for.
            if previous is not None:
                _check(previous, progress.step, devices)
            progress.batches += 1
            for name, value in {**known.terms, "positives": known.positives}.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.seconds = before + time.perf_counter() - started
            if devices.is_step_end:
                progress.step += 1
                if learning.average is not None:
                    learning.average.update(learning.model)
                if _are_to_stop(previous, learning.stop, devices):
                    _check(known, progress.step, devices)
                    stop(learning)
                if keeper.is_due and known.is_finite():
                    keeper.save()
            previous = known
            text = ""
            if learning.console.is_terminal and progress.batches % 10 == 0:
                text = " ".join(f"{name} {value:.3f}" for name, value in _mean_terms(progress).items())
            bar.advance(order.images(progress.batches) - order.images(progress.batches - 1), text)
        if previous is not None:
            _check(previous, progress.step, devices)
            if previous.asked_to_stop > 0:
                stop(learning)
    images = order.images(len(order))
    check_learned(progress.sums["positives"], images, learning.model.input_settings)
    terms = {f"loss_{name}": round(value, 6) for name, value in _mean_terms(progress).items()}
    return {
        "images": images,
        "lr": learning.optimizer.param_groups[-1]["lr"],
        "loss": round(sum(terms.values()), 6),
        **terms,
        "positives": round(float(progress.sums["positives"]) / images, 2),
    }


def stop_if_asked(learning: Learning) -> None:
    """Stop this process if it was asked to, where the state is whole and no process waits for another.

    Raises:
        Stopped: it was.
    """
    if learning.stop.is_made:
        stop(learning)


def stop(learning: Learning) -> NoReturn:
    """Save the state and stop."""
    learning.keeper.save(must=True)
    progress = learning.progress
    done = f"after {progress.batches} of its {len(learning.batches)} batches"
    raise Stopped(f"stopped in epoch {progress.epoch + 1}, {done}; the state is saved", learning.stop.number)


def _seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    return (((seed * 1_000_003 + epoch) * 1_000_003 + batch) * 1_009 + rank) % 2**63


def shared(losses: Losses, image_ids: tuple[int, ...], stop: StopRequest, devices: Devices) -> Known:
    """What each process has of a batch becomes known to all, in one exchange."""
    terms = losses.terms()
    values = torch.stack([*terms.values(), losses.num_positives.detach()])
    if devices.is_idle:
        values = torch.zeros_like(values)
    asked = torch.full((1,), float(stop.is_made), device=values.device)
    *sums, positives, asked_to_stop = devices.sum_of_all(torch.cat([values, asked])).unbind()
    return Known(dict(zip(terms, sums, strict=True)), positives, asked_to_stop, image_ids)


def _check(known: Known, step: int, devices: Devices) -> None:
    """NonFiniteLossError in all processes, with the images of all."""
    if not known.is_finite():
        check_finite(known.terms, devices.gather_objects(known.image_ids), step)


def _are_to_stop(previous: Known | None, stop: StopRequest, devices: Devices) -> bool:
    """Whether all processes are to stop after this step: at once if there is one, else as the batch before said."""
    if devices.world == 1:
        return stop.is_made
    return previous is not None and bool(previous.asked_to_stop > 0)


def _mean_terms(progress: Progress) -> dict[str, float]:
    """The terms of the loss, as means over the batches so far."""
    return {name: float(value) / progress.batches for name, value in progress.sums.items() if name != "positives"}
