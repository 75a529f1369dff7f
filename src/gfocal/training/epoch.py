"""One epoch of a run: a training step for every batch, and the epoch's row of metrics.csv."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gfocal.console import progress_bar
from gfocal.criteria.gfl import Criterion
from gfocal.data.dataset import ImageData
from gfocal.data.loading import TrainingItems
from gfocal.data.samplers import BatchOrder
from gfocal.models.detector import Detector
from gfocal.models.nanodet import set_auxiliary_detached
from gfocal.run_folder import RunFolder
from gfocal.structures import Batch, Losses
from gfocal.training.checkpoints import Checkpointer, Progress, TrainingState
from gfocal.training.distributed import Devices
from gfocal.training.optim import ScheduleSettings, lr_factor, schedule_factor, set_learning_rate, warmup_factor
from gfocal.training.pace import now
from gfocal.training.settings import RunSettings
from gfocal.training.step import training_step
from gfocal.training.stopping import StopRequest, TrainingInterrupt, check_finite, check_positives
from gfocal.training.watching import Watch


@dataclass(kw_only=True)
class TrainingRun:
    """What the epochs of a run share."""

    folder: RunFolder
    settings: RunSettings
    schedule: ScheduleSettings
    clip_norm: float
    model: Detector
    network: nn.Module  # the model, compiled and wrapped for the devices
    criterion: Criterion
    batches: DataLoader[Batch]
    val_data: ImageData | None
    val_batches: DataLoader[Batch] | None
    state: TrainingState  # changes with every step
    checkpointer: Checkpointer
    watch: Watch
    console: Console

    @property
    def order(self) -> BatchOrder:
        """The order of the training batches."""
        order = self.batches.batch_sampler
        assert isinstance(order, BatchOrder)
        return order

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self.batches) // self.settings.grad_accum_steps)

    @property
    def batches_planned(self) -> int:
        """Batches of the epoch under way: a part of the epoch if the run ends at a time that comes before its end."""
        plan, epoch = self.state.plan, self.state.progress.epoch
        if plan is None:
            return len(self.batches)
        steps = plan.state.steps - epoch * self.steps_per_epoch
        return min(len(self.batches), steps * self.settings.grad_accum_steps)

    def follow_plan(self) -> None:
        """Take over the number of epochs, and of those between evaluations, of a run that ends at a time."""
        if (plan := self.state.plan) is not None:
            settings = replace(self.settings, epochs=plan.planned_epochs, eval_every=plan.planned_eval_every)
            self.settings = self.watch.settings = settings

    @property
    def averaged_model(self) -> Detector:
        """The model that is evaluated and saved: the average of the weights, if there is one."""
        model = self.model if self.state.average is None else self.state.average.model
        assert isinstance(model, Detector)
        return model


@dataclass(frozen=True)
class BatchSums:
    """Sums over all processes of what each has of a batch, computed without synchronizing."""

    terms: dict[str, Tensor]  # of the loss
    positives: Tensor
    asked_to_stop: Tensor  # number of processes that were
    image_ids: tuple[int, ...]  # of this process alone

    def is_finite(self) -> bool:
        """Whether the loss is. Waits for the device."""
        return bool(torch.isfinite(torch.stack([*self.terms.values()])).all())


def train_epoch(run: TrainingRun, stop: StopRequest) -> dict[str, Any]:
    """Train on the batches of an epoch that are not done yet; returns its row of metrics.

    Raises:
        TrainingInterrupt: the run was asked to stop; its state is saved.
        NonFiniteLossError: a loss is not finite. All processes find it at the same batch.
        NoPositivesError: no object of the epoch was assigned to a point of the detector.
    """
    progress, devices, order = run.state.progress, run.state.devices, run.order
    order.order.epoch, order.first = progress.epoch, progress.batches
    detach_epoch = run.model.published.detach_epoch
    set_auxiliary_detached(run.model, detach_epoch is not None and progress.epoch >= detach_epoch)
    criterion = run.criterion.at_epoch(progress.epoch, begin_epoch(run))
    run.network.train()
    started, before = now(), progress.seconds
    previous: BatchSums | None = None
    title = f"epoch {progress.epoch + 1}/{run.settings.epochs}"
    with progress_bar(run.console, title, run.batches_planned, progress.batches) as bar:
        for batch in run.batches:
            if progress.batches >= run.batches_planned:
                break
            prepare_step(run)
            batch = batch.to(devices.device)
            losses = training_step(run.network, criterion, batch, run.state.optimizer, devices, run.clip_norm)
            sums = sum_over_processes(losses, batch.image_ids, stop, devices)
            # One batch late, so that a GPU is never waited for.
            if previous is not None:
                check_batch(previous, progress.step, devices)
            add_batch(progress, sums)
            progress.seconds = before + now() - started
            if devices.is_step_end:
                finish_step(run, stop, previous, sums)
            previous = sums
            run.watch.show_now_and_then()
            losses_text = ""
            if run.console.is_terminal and progress.batches % 10 == 0:
                losses_text = " ".join(f"{name} {value:.3f}" for name, value in mean_terms(progress).items())
            bar.advance(order.images(progress.batches) - order.images(progress.batches - 1), losses_text)
        if previous is not None:
            check_batch(previous, progress.step, devices)
            if previous.asked_to_stop > 0:
                save_and_interrupt(run, stop)
    return summarize_epoch(run)


def begin_epoch(run: TrainingRun) -> int:
    """Set what follows the planned number of epochs in the whole epoch; returns that number."""
    plan, items = run.state.plan, run.batches.dataset
    if plan is None:
        return run.settings.epochs
    if not run.state.progress.batches:  # else it has begun before the run was resumed
        plan.begin_epoch()
        run.follow_plan()
    assert isinstance(items, TrainingItems)
    items.closed_from.fill_(plan.closed_from(items.augmentation.settings.close_epochs))
    return plan.state.epochs_at_start


def learning_rate_factor(run: TrainingRun) -> float:
    """Factor of the learning rate at the next step."""
    step, plan = run.state.progress.step, run.state.plan
    if plan is None:
        return lr_factor(step, run.steps_per_epoch, run.settings.epochs, run.schedule)
    done = plan.state.fraction
    warmup = warmup_factor(step, replace(run.schedule, warmup_steps=plan.state.warmup_steps))
    return warmup * schedule_factor(done * plan.epochs, done, run.schedule)


def prepare_step(run: TrainingRun) -> None:
    """Set what the next batch's step depends on: random numbers, learning rate, and this process's share of it."""
    progress, devices = run.state.progress, run.state.devices
    # What a step draws depends on its place in the run alone, so that a resumed run draws the same.
    torch.manual_seed(_seed(run.settings.seed, progress.epoch, progress.batches, devices.rank))
    set_learning_rate(run.state.optimizer, learning_rate_factor(run))
    devices.is_last_batch = progress.batches + 1 == run.batches_planned
    devices.is_idle = run.order.is_idle(progress.batches)


def _seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    return (((seed * 1_000_003 + epoch) * 1_000_003 + batch) * 1_009 + rank) % 2**63


def sum_over_processes(losses: Losses, image_ids: tuple[int, ...], stop: StopRequest, devices: Devices) -> BatchSums:
    """Sums over all processes of what each has of a batch, in one exchange."""
    terms = losses.terms()
    values = torch.stack([*terms.values(), losses.num_positives.detach()])
    if devices.is_idle:
        values = torch.zeros_like(values)
    asked = torch.full((1,), float(stop.is_made), device=values.device)
    *sums, positives, asked_to_stop = devices.all_reduce(torch.cat([values, asked])).unbind()
    return BatchSums(dict(zip(terms, sums, strict=True)), positives, asked_to_stop, image_ids)


def check_batch(sums: BatchSums, step: int, devices: Devices) -> None:
    """NonFiniteLossError in all processes, with the images of all, unless the loss of a batch is finite."""
    if not sums.is_finite():
        check_finite(sums.terms, devices.gather_objects(sums.image_ids), step)


def add_batch(progress: Progress, sums: BatchSums) -> None:
    """Count a batch and its losses."""
    progress.batches += 1
    for name, value in {**sums.terms, "positives": sums.positives}.items():
        progress.sums[name] = progress.sums.get(name, 0.0) + value


def finish_step(run: TrainingRun, stop: StopRequest, previous: BatchSums | None, sums: BatchSums) -> None:
    """After an optimizer step: average the weights; stop if asked to; save the state if it is time.

    ``sums`` are those of the step's last batch, ``previous`` those of the one before.
    """
    state = run.state
    state.progress.step += 1
    if state.average is not None:
        state.average.update(run.model)
    if state.plan is not None:
        done = state.progress
        state.plan.finish_step(done.step, done.epoch, done.seconds, state.devices.broadcast)
        run.follow_plan()
    # Several processes have to stop after the same step; reading the sums of the batch before waits for nothing.
    if state.devices.world_size == 1:
        is_asked = stop.is_made
    else:
        is_asked = previous is not None and bool(previous.asked_to_stop > 0)
    if is_asked:
        check_batch(sums, state.progress.step, state.devices)
        save_and_interrupt(run, stop)
    if run.checkpointer.is_due and sums.is_finite():
        run.checkpointer.save()


def save_and_interrupt(run: TrainingRun, stop: StopRequest) -> NoReturn:
    """Save the state and raise TrainingInterrupt."""
    run.checkpointer.save(is_last=True)
    progress = run.state.progress
    done = f"after {progress.batches} of its {len(run.batches)} batches"
    raise TrainingInterrupt(f"stopped in epoch {progress.epoch + 1}, {done}; the state is saved", stop.number)


def summarize_epoch(run: TrainingRun) -> dict[str, Any]:
    """The epoch's row of metrics; NoPositivesError if it had no positive point."""
    progress, images = run.state.progress, run.order.images(run.state.progress.batches)
    check_positives(progress.sums["positives"], images, run.model.input_settings)
    terms = {f"loss_{name}": round(value, 6) for name, value in mean_terms(progress).items()}
    return {
        "images": images,
        "lr": run.state.optimizer.param_groups[-1]["lr"],
        "loss": round(sum(terms.values()), 6),
        **terms,
        "positives": round(float(progress.sums["positives"]) / images, 2),
    }


def mean_terms(progress: Progress) -> dict[str, float]:
    """The terms of the loss, as means over the batches so far."""
    return {name: float(value) / progress.batches for name, value in progress.sums.items() if name != "positives"}
