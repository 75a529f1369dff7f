"""A training run, in chapters: prepare, go on or begin; then each epoch learns, evaluates and is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import DataLoader

from gfocal.atomic import remove_leftovers
from gfocal.console import note, progress_bar, say, warn
from gfocal.criteria.gfl import Criterion, GFLCriterion, Staged
from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings
from gfocal.data.dataset import ImageData
from gfocal.data.loading import evaluation_loader, training_loader
from gfocal.data.samplers import repeats_of
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes
from gfocal.evaluation.detections import as_rows, average_precision, detect_all, from_rows, nothing_found
from gfocal.models.backbone import Backbone
from gfocal.models.detector import Detector
from gfocal.models.model_file import save_model
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Batch
from gfocal.text import counted
from gfocal.training.checkpoints import Progress, StateKeeper, load_state, save_state
from gfocal.training.distributed import Devices
from gfocal.training.ema import WeightAverage
from gfocal.training.environment import deterministic, keep_freed_memory
from gfocal.training.epoch import Learning, learn_epoch, stop_if_asked
from gfocal.training.metrics_log import MetricsLog, closed_at_end, epoch_line
from gfocal.training.optim import OptimizerSettings, ScheduleSettings, capped, lr_factor, make_optimizer
from gfocal.training.settings import RunSettings
from gfocal.training.stopping import has_run_dry, named_failures, stop_requests, why_stopped
from gfocal.training.trackers import Trackers


def train(
    model: Detector,
    train_data: ImageData,
    val_data: ImageData | None,
    folder: Path,
    *,
    run: RunSettings,
    augment: AugmentSettings,
    optimizer_settings: OptimizerSettings,
    schedule: ScheduleSettings,
    criterion: Criterion | None = None,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> CocoResult | None:
    """Train a detector and leave ``best`` and ``last`` model files, metrics.csv and the state in a folder.

    Returns the numbers of the last evaluation, None without validation data. ``config`` is what trackers are told
    of the run, beside its metrics.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
        NoPositivesError: no object of a whole epoch met a point of the detector.
        ResumeError: ``resume``, but there is no state that fits.
        Stopped: Ctrl-C or SIGTERM; the state is saved.
        RunWriteError: the disk takes nothing more.
        ProcessEndedError: a process that loads images or takes part in the run has ended.
    """
    # Prepare.
    devices = Devices(run.precision, run.grad_accum_steps, run.cpu)
    if not devices.is_main:
        console = Console(quiet=True)
    console = console or Console(stderr=True)
    if devices.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(run.seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(devices.device)
    if run.sync_norm and devices.shares_norms() and isinstance(model.backbone, Backbone):
        model.backbone.synchronize_norms()
    if run.channels_last:
        model.to(memory_format=torch.channels_last)
    input_settings = model.input_settings
    augmentation = Augmentation(
        augment, input_settings.short_side, input_settings.long_side, input_settings.antialias
    )
    batches, order = training_loader(
        train_data,
        augmentation,
        input_settings,
        run.batch_size,
        run.seed,
        run.num_workers,
        devices.rank,
        devices.world,
        run.epochs,
    )
    if run.repeat_threshold:
        order.repeats = repeats_of(train_data, run.repeat_threshold)
        console.print(f"an epoch shows {counted(len(order), 'image')}, {len(train_data)} of them different")
    val_batches = None
    if val_data is not None:
        val_batches = evaluation_loader(
            val_data, input_settings, run.eval_batch_size, run.num_workers, devices.rank, devices.world
        )
    images_per_step = run.batch_size * run.grad_accum_steps * devices.world
    optimizer = make_optimizer(model, optimizer_settings, images_per_step)
    steps_per_epoch = -(-len(batches) // run.grad_accum_steps)
    schedule, shortened = capped(schedule, steps_per_epoch * run.epochs)
    if criterion is None:
        assert isinstance(model.box_coder, GeneralDistribution), "only GFL's criterion is taken for granted"
        criterion = GFLCriterion(box_coder=model.box_coder)
    assert is_dataclass(criterion)
    criterion = replace(criterion, sum_over_processes=devices.sum_over_processes)
    average = WeightAverage(model, run.ema_decay) if run.ema_decay else None

    # Go on, or begin.
    if devices.world > 1:
        say(console, f"{devices.world} processes, {counted(images_per_step, 'image')} a step")
    if shortened and not resume:
        console.print(shortened)
    if (augment.mosaic or augment.mixup or augment.copy_paste) and augment.close_epochs >= run.epochs:
        note(console, f"augment.close_epochs {augment.close_epochs} leaves no epoch to mosaic and the like")
    progress, result = Progress(), None
    if resume:
        progress, extra, damage = load_state(folder, model, optimizer, average)
        devices.restore(extra)
        if damage:
            warn(console, damage)
        where = f" and {progress.batches} of {len(batches)} batches" if progress.batches else ""
        done = "; nothing is left to do" if progress.epoch >= run.epochs else ""
        console.print(f"resuming after epoch {progress.epoch} of {run.epochs}{where}{done}")
    network = torch.compile(model) if run.compile else model
    wrapped, optimizer = devices.prepare(network, optimizer)
    log = None
    if devices.is_main:
        trackers = Trackers(folder, run.trackers, config or {}, resume, progress.epoch)
        log = MetricsLog(folder, progress.epoch, trackers)
        remove_leftovers(folder)
    keeper = StateKeeper(
        folder, model, optimizer, average, progress, devices.state, run.save_every_minutes, devices.is_main, console
    )

    stopping = "stopping at the end of this step; once more, and at once" if devices.is_main else ""
    with named_failures(devices.world), closed_at_end(log), stop_requests(stopping) as stop:
        learning = Learning(
            model,
            wrapped,
            optimizer,
            average,
            batches,
            devices,
            progress,
            keeper,
            stop,
            lambda step: lr_factor(step, steps_per_epoch, run.epochs, schedule),
            optimizer_settings.clip_norm,
            run.seed,
            console,
        )
        while progress.epoch < run.epochs:
            if devices.from_main(has_run_dry(progress, run)):
                say(console, why_stopped(progress, run))
                break

            # Learn.
            order.epoch = progress.epoch
            if isinstance(criterion, Staged):
                criterion = criterion.at_epoch(progress.epoch, run.epochs)
            with deterministic(run.deterministic):
                row = learn_epoch(learning, criterion, f"epoch {progress.epoch + 1}/{run.epochs}")

            # Evaluate.
            evaluation = average.model if average is not None else model
            assert isinstance(evaluation, Detector)
            is_last = progress.epoch + 1 == run.epochs
            latest = None
            if val_data is not None and (is_last or (progress.epoch + 1) % run.eval_every == 0):
                assert val_batches is not None
                if keeper.is_due:
                    keeper.save()
                with deterministic(run.deterministic):
                    stop_between = partial(stop_if_asked, learning)
                    result = latest = evaluate(evaluation, val_data, val_batches, devices, console, stop_between)
                row |= {"ap": latest.ap or 0.0, "ap50": latest.ap50 or 0.0, "ap75": latest.ap75 or 0.0}

            # Save.
            progress.epoch, progress.batches, progress.sums = progress.epoch + 1, 0, {}
            is_best = latest is not None and row["ap"] > progress.best_ap
            if log is not None:
                console.print(epoch_line(progress.epoch, run.epochs, row, progress.seconds))
                if latest is not None and (why := nothing_found(latest, evaluation.decode_settings)):
                    say(console, why)
                with keeper.writing(must=is_last):
                    counts = {"epoch": progress.epoch, "step": progress.step, "seconds": round(progress.seconds, 1)}
                    log.add(counts | row)
                    save_model(evaluation, folder / "last.safetensors")
                    if is_best:
                        save_model(evaluation, folder / "best.safetensors")
                        progress.best_ap, progress.best_epoch = row["ap"], progress.epoch
                    save_state(folder, model, optimizer, average, progress, devices.state())
            devices.wait()
    if log is not None and progress.best_epoch:
        console.print(f"best: epoch {progress.best_epoch}, AP {progress.best_ap:.3f} (best.safetensors)")
    if average is not None:
        model.load_state_dict(average.model.state_dict())
    model.eval()
    return result


def evaluate(
    model: torch.nn.Module,
    data: ImageData,
    batches: DataLoader[Batch],
    devices: Devices,
    console: Console,
    stop_if_asked: Callable[[], object],
) -> CocoResult:
    """The COCO numbers of a detector on a dataset, whose batches the processes share."""
    assert isinstance(model, Detector)
    devices.copy_statistics(model)

    def advance(images: int) -> None:
        bar.advance(images)
        stop_if_asked()

    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(
            model,
            batches,
            data.names,
            model.box_coder,
            model.decode_settings,
            devices.device,
            on_batch=advance,
        )
    everything: Mapping[int, ScoredBoxes] = found
    if devices.world > 1:
        everything = from_rows(devices.gather_rows(as_rows(found)))
    return devices.from_main(average_precision(data, everything) if devices.is_main else None)
