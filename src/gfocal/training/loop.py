"""A training run: prepare, resume if asked to; then train, evaluate and save, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gfocal import launch
from gfocal.atomic import remove_leftovers
from gfocal.console import note, progress_bar, say, warn
from gfocal.criteria.gfl import Criterion
from gfocal.data.augmentation.pipeline import AugmentSettings
from gfocal.data.dataset import ImageData
from gfocal.data.loading import evaluation_loader
from gfocal.evaluation.best_result import write_best_result
from gfocal.evaluation.bootstrap import MatchTable, ap_intervals, match_samples, read_matches, write_matches
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes
from gfocal.evaluation.detections import (
    average_precision,
    detect_all,
    detections_to_rows,
    explain_no_detections,
    rows_to_detections,
)
from gfocal.models.detector import Detector
from gfocal.models.inference_copy import forget_copy
from gfocal.models.model_file import save_model
from gfocal.run_folder import RunFolder
from gfocal.text import pluralize
from gfocal.training.checkpoints import Checkpointer, TrainingState, load_state, save_state
from gfocal.training.distributed import Devices
from gfocal.training.ema import WeightAverage
from gfocal.training.environment import deterministic
from gfocal.training.epoch import TrainingRun, save_and_interrupt, train_epoch
from gfocal.training.metrics_log import MetricsLog, format_epoch, set_aside_unusable_metrics
from gfocal.training.optim import OptimizerSettings, ScheduleSettings, make_optimizer
from gfocal.training.pace import Outside, now, with_eval_every
from gfocal.training.preparation import fit_length, load_training_batches, place_model, share_criterion
from gfocal.training.settings import RunSettings
from gfocal.training.stopping import (
    StopRequest,
    catch_stop_signals,
    describe_early_stop,
    explain_ended_processes,
    should_stop_early,
)
from gfocal.training.teaching import with_teacher
from gfocal.training.trackers import Trackers
from gfocal.training.watching import Evaluated, RunWatcher, Watch

# What is evaluated before a run of a given time begins: so many batches, for about this share of the time.
TIMED_BATCHES, TIMED = 4, 0.02


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
    watcher: RunWatcher | None = None,
    outside: Outside | None = None,
    console: Console | None = None,
) -> CocoResult | None:
    """Train a detector and leave ``best`` and ``last`` model files, metrics.csv and the state in a folder.

    Returns the numbers of the last evaluation, None without validation data. ``criterion`` may be left out for a
    detector of GFL. ``config`` is for experiment trackers, beside the metrics. ``watcher`` is shown the run after
    every epoch, at its end, and now and then in between; in the main process alone. ``outside`` is what of a given
    time is not training; none where it is left out.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
        NoPositivesError: no object of a whole epoch was assigned to a point of the detector.
        ResumeError: ``resume``, but there is no state that fits.
        TrainingInterrupt: Ctrl-C or SIGTERM; the state is saved.
        RunWriteError: the disk is full.
        ProcessEndedError: a process that loads images or takes part in the run has ended.
    """
    outside = outside or Outside(now())
    with explain_ended_processes(launch.world_size(), run.timeout_minutes):
        devices = Devices(run.precision, run.grad_accum_steps, run.cpu, run.timeout_minutes)
        training = prepare(
            model=model,
            train_data=train_data,
            val_data=val_data,
            folder=RunFolder(folder),
            devices=devices,
            console=(console or Console(stderr=True)) if devices.is_main else Console(quiet=True),
            settings=run,
            augment=augment,
            optimizer_settings=optimizer_settings,
            schedule=schedule,
            criterion=criterion,
            watcher=watcher,
            outside=outside,
            resume=resume,
        )
        training.state.config = dict(config or {})
        if resume:
            resume_state(training)
        wrap_for_devices(training)
    result = run_epochs(training, open_log(training, config or {}, resume) if devices.is_main else None)
    if training.state.average is not None:
        model.load_state_dict(training.state.average.model.state_dict())
    model.eval()
    return result


def run_epochs(training: TrainingRun, log: MetricsLog | None) -> CocoResult | None:
    """Train, evaluate and save, epoch by epoch. ``log`` is the main process's; returns the last evaluation."""
    devices, settings, progress = training.state.devices, training.settings, training.state.progress
    plan = training.state.plan
    result = None
    message = "stopping at the end of this step; once more to stop at once" if devices.is_main else ""
    with (
        show_stop(training.watch),
        explain_ended_processes(devices.world_size, settings.timeout_minutes),
        log or nullcontext(),
        catch_stop_signals(message) as stop,
    ):
        training.watch.rows = () if log is None else log.rows
        time_evaluation(training)
        ended_early = ""
        while progress.epoch < training.settings.epochs:
            if devices.broadcast(should_stop_early(progress, training.settings)):
                ended_early = describe_early_stop(progress, training.settings)
                say(training.console, ended_early)
                break
            is_whole, before = not progress.batches, progress.seconds
            with deterministic(settings.deterministic):
                row = train_epoch(training, stop)
            seconds = progress.seconds - before
            if is_whole:
                training.watch.pace.epochs.append(seconds)
            evaluation = None
            if needs_evaluation(training):
                if training.checkpointer.is_due:
                    training.checkpointer.save()
                started = now()
                with deterministic(settings.deterministic):
                    evaluation = evaluate(training, stop)
                result = evaluation.result
                training.watch.pace.evaluations.append(now() - started)
                seconds += training.watch.pace.evaluations[-1]
                if plan is not None:
                    plan.finish_evaluation(training.watch.pace.evaluations[-1])
            started = now()
            finish_epoch(training, log, row, evaluation, seconds)
            training.watch.show(evaluated=evaluation)
            if plan is not None:
                plan.finish_saving(now() - started)
        training.watch.show("finished", ended_early)
    if plan is not None:
        say(training.console, plan.describe(progress.epoch, progress.step))
    if log is not None and progress.best_epoch:
        say(training.console, describe_best(training))
    return result


@contextmanager
def show_stop(watch: Watch) -> Iterator[None]:
    """Show the run once more where it ends by an error, a signal or Ctrl-C."""
    try:
        yield
    except BaseException as error:
        watch.show("stopped", str(error) or type(error).__name__)
        raise


def describe_best(training: TrainingRun) -> str:
    """A line on the best epoch, with the confidence interval of its AP."""
    progress, folder, interval = training.state.progress, training.folder, ""
    with suppress(OSError, ValueError):  # of a run that was started by an older gfocal
        table = read_matches(folder.matches)
        found = ap_intervals(table).ap
        images = pluralize(len(table.image_ids), "validation image")
        interval = "" if found is None else f", 95 % interval {found.describe()} on {images}"
    return f"best: epoch {progress.best_epoch}, AP {progress.best_ap:.3f}{interval} ({folder.best.name})"


def prepare(
    *,
    model: Detector,
    train_data: ImageData,
    val_data: ImageData | None,
    folder: RunFolder,
    devices: Devices,
    console: Console,
    settings: RunSettings,
    augment: AugmentSettings,
    optimizer_settings: OptimizerSettings,
    schedule: ScheduleSettings,
    criterion: Criterion | None,
    watcher: RunWatcher | None,
    outside: Outside,
    resume: bool,
) -> TrainingRun:
    """Model on its device, batches, optimizer and criterion: a run before its first step."""
    settings = with_eval_every(settings, len(train_data), 0 if val_data is None else len(val_data))
    torch.manual_seed(settings.seed)
    folder.path.mkdir(parents=True, exist_ok=True)
    place_model(model, settings, devices)
    batches = load_training_batches(train_data, model, augment, settings, devices, console)
    val_batches = None
    if val_data is not None:
        sizes = settings.eval_batch_size, settings.num_workers, devices.rank, devices.world_size
        val_batches = evaluation_loader(val_data, model.input_settings, *sizes)
    images_per_step = settings.batch_size * settings.grad_accum_steps * devices.world_size
    optimizer = make_optimizer(model, optimizer_settings, images_per_step)
    is_averaged = settings.ema_decay or settings.ema_share
    average = WeightAverage(model, settings.ema_decay, share=settings.ema_share) if is_averaged else None
    state = TrainingState(model, optimizer, average, devices)
    training = TrainingRun(
        folder=folder,
        settings=settings,
        schedule=schedule,
        clip_norm=optimizer_settings.clip_norm,
        model=model,
        network=model,
        criterion=share_criterion(criterion, model, devices),
        batches=batches,
        val_data=val_data,
        val_batches=val_batches,
        state=state,
        checkpointer=Checkpointer(folder, state, settings.save_every_minutes, console),
        watch=Watch(
            watcher=watcher if devices.is_main else None,
            folder=folder,
            settings=settings,
            state=state,
            batches_per_epoch=len(batches),
            val_data=val_data,
        ),
        console=console,
    )
    if devices.world_size > 1:
        say(console, f"{devices.world_size} processes, {pluralize(images_per_step, 'image')} a step")
    fit_length(training, is_new=not resume, outside=outside)
    return training


def resume_state(training: TrainingRun) -> None:
    """Load the saved state, and print where the run continues."""
    if damage := load_state(training.folder, training.state):
        warn(training.console, damage)
    training.follow_plan()
    progress, epochs = training.state.progress, training.settings.epochs
    batches = f" and {progress.batches} of {len(training.batches)} batches" if progress.batches else ""
    done = "; nothing is left to do" if progress.epoch >= epochs else ""
    say(training.console, f"resuming after epoch {progress.epoch} of {epochs}{batches}{done}")


def wrap_for_devices(training: TrainingRun) -> None:
    """Compile the network if the settings say so, and wrap it and the optimizer for the devices."""
    network: Any = torch.compile(training.model) if training.settings.compile else training.model
    network = with_teacher(network, training.criterion, training.model)
    state = training.state
    training.network, state.optimizer = state.devices.prepare(network, state.optimizer)


def open_log(training: TrainingRun, config: Mapping[str, Any], resume: bool) -> MetricsLog:
    """Start the trackers and metrics.csv, after the epochs that are done."""
    folder, epochs = training.folder, training.state.progress.epoch
    trackers = Trackers(folder, training.settings.trackers, config, resume, epochs)
    if epochs and (problem := set_aside_unusable_metrics(folder.metrics)):
        note(training.console, problem)
    log = MetricsLog(folder.metrics, epochs, trackers)
    remove_leftovers(folder.path)
    return log


def needs_evaluation(training: TrainingRun) -> bool:
    """Whether the epoch just trained is to be evaluated: every few epochs, and the last one."""
    epoch = training.state.progress.epoch + 1
    assert training.settings.eval_every is not None
    is_due = epoch == training.settings.epochs or epoch % training.settings.eval_every == 0
    return training.val_data is not None and is_due


def evaluate(training: TrainingRun, stop: StopRequest) -> Evaluated:
    """Detections and their COCO numbers on the validation data, whose batches the processes share.

    Raises:
        TrainingInterrupt: this process was asked to stop; its state is saved.
    """
    model, devices = training.averaged_model, training.state.devices
    assert training.val_data is not None
    assert training.val_batches is not None
    devices.broadcast_buffers(model)

    def on_batch(images: int) -> None:
        bar.advance(images)
        if stop.is_made:  # the state is whole here, and no process waits for another
            save_and_interrupt(training, stop)

    with progress_bar(training.console, "evaluating", len(training.val_batches)) as bar:
        found = detect_all(model, training.val_batches, on_batch)
    forget_copy(model)  # its weights are about to change, and training needs the memory
    everything: Mapping[int, ScoredBoxes] = found
    if devices.world_size > 1:
        everything = rows_to_detections(devices.gather_rows(detections_to_rows(found)))
    result = devices.broadcast(average_precision(training.val_data, everything) if devices.is_main else None)
    return Evaluated(result, everything)


def time_evaluation(training: TrainingRun) -> None:
    """Tell the plan of a given time how long an evaluation takes, from a few batches before the first step.

    In a short run the only evaluation is the last one, and what follows it detects objects too: after them nothing
    can be planned again.
    """
    plan, batches, model = training.state.plan, training.val_batches, training.averaged_model
    devices = training.state.devices
    if plan is None or batches is None or plan.state.evaluation_seconds or not devices.is_main:
        return
    started = now()
    detect_all(model, islice(batches, 1))  # starts processes and fills caches
    count = max(1, min(TIMED_BATCHES, int(TIMED * plan.seconds / max(now() - started, 1e-6))))
    started = now()
    found = detect_all(model, islice(batches, count))
    plan.finish_evaluation((now() - started) / len(found) * plan.val_images / devices.world_size)
    forget_copy(model)


def finish_epoch(
    training: TrainingRun,
    log: MetricsLog | None,
    row: dict[str, Any],
    evaluated: Evaluated | None,
    seconds: float,
) -> None:
    """Count an epoch as done, which took ``seconds``; the main process, which has the log, prints and saves it."""
    result = None if evaluated is None else evaluated.result
    if result is not None:
        row |= {"ap": result.ap or 0.0, "ap50": result.ap50 or 0.0, "ap75": result.ap75 or 0.0}
    progress, epochs = training.state.progress, training.settings.epochs
    progress.epoch, progress.batches, progress.sums = progress.epoch + 1, 0, {}
    if log is not None:
        say(training.console, format_epoch(progress.epoch, epochs, row, seconds, training.watch.seconds_left()))
        model, folder = training.averaged_model, training.folder
        if result is not None and (why := explain_no_detections(result, model.decode_settings)):
            say(training.console, why)
        with training.checkpointer.tolerate_write_failure(is_last=progress.epoch == epochs):
            counts = {"epoch": progress.epoch, "step": progress.step, "seconds": round(progress.seconds, 1)}
            log.add(counts | row)
            save_model(model, folder.last)
            if evaluated is not None and row["ap"] > progress.best_ap:
                save_model(model, folder.best)
                write_matches(folder.matches, match_validation(training.val_data, evaluated))
                write_best_result(folder.best_result, progress.epoch, evaluated.result)
                progress.best_ap, progress.best_epoch = row["ap"], progress.epoch
            save_state(folder, training.state)
    training.state.devices.barrier()


def match_validation(data: ImageData | None, evaluated: Evaluated) -> MatchTable:
    """Which detections of an evaluation match which objects."""
    assert data is not None
    return match_samples([data.sample(i) for i in range(len(data))], evaluated.detections, data.names)
