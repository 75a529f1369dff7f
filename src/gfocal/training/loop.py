"""A training run, in chapters: prepare, go on or begin; then each epoch learns, evaluates and is saved."""

from __future__ import annotations

import time
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import DataLoader

from gfocal.criterion import Criterion, GFLCriterion
from gfocal.data.loading import evaluation_loader, training_loader
from gfocal.data.orders import EpochOrder
from gfocal.data.samples import ImageData
from gfocal.data.transforms import Augmentation, AugmentSettings
from gfocal.distributions import GeneralDistribution
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.evaluation.running import average_precision, detect_all, nothing_found
from gfocal.models.detector import Detector
from gfocal.models.files import save_model
from gfocal.sapd_criterion import SAPDCriterion
from gfocal.structures import Batch, Losses
from gfocal.training.checkpoints import Progress, load_state, save_state
from gfocal.training.distributed import Devices, Precision
from gfocal.training.ema import WeightAverage
from gfocal.training.failures import check_finite, check_learned
from gfocal.training.logging import MetricsLog, epoch_line, progress_bar
from gfocal.training.memory import keep_freed_memory
from gfocal.training.optimisers import (
    OptimiserSettings,
    ScheduleSettings,
    capped,
    lr_factor,
    make_optimiser,
    set_learning_rate,
)
from gfocal.training.step import training_step


@dataclass(frozen=True)
class RunSettings:
    """The numbers of a run that belong to no other part."""

    epochs: int = 12
    batch_size: int = 16  # images per process and batch
    accumulate: int = 1  # batches per step of the optimiser
    workers: int = 2  # processes that load pictures
    skip_empty: bool = False  # leave out training pictures without objects, as the published recipes do
    precision: Precision = "no"  # number format of the network: no (float32), bf16, fp16
    ema: float = 0.0  # decay of the average of the weights; 0: no average
    eval_every: int = 1  # epochs between evaluations; the last epoch is always evaluated
    eval_batch_size: int = 8
    seed: int = 0
    channels_last: bool = True  # memory layout in which convolutions are faster
    cpu: bool = False  # stay on the processor although there is a GPU

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "eval_every", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, not {self.workers}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema lies in 0 <= ema < 1, not {self.ema}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed lies in 0..{2**32 - 1}, not {self.seed}")


def train(
    model: Detector,
    train_data: ImageData,
    val_data: ImageData | None,
    folder: Path,
    *,
    run: RunSettings,
    augment: AugmentSettings,
    optimiser_settings: OptimiserSettings,
    schedule: ScheduleSettings,
    criterion: Criterion | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> CocoResult | None:
    """Train a detector and leave ``best`` and ``last`` model files, metrics.csv and the state in a folder.

    Returns the numbers of the last evaluation, None without validation data.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite.
        NothingToLearn: no object of a whole epoch met a point of the detector.
        ResumeError: ``resume``, but there is no state that fits.
    """
    # Prepare.
    console = console or Console(stderr=True)
    devices = Devices(run.precision, run.accumulate, run.cpu)
    if devices.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(run.seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(devices.device)
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
        run.workers,
        devices.rank,
        devices.world,
    )
    val_batches = None
    if val_data is not None:
        val_batches = evaluation_loader(val_data, input_settings, run.eval_batch_size, run.workers)
    images_per_step = run.batch_size * run.accumulate * devices.world
    optimiser = make_optimiser(model, optimiser_settings, images_per_step)
    steps_per_epoch = -(-len(batches) // run.accumulate)
    schedule, shortened = capped(schedule, steps_per_epoch * run.epochs)
    if criterion is None:
        assert isinstance(model.distribution, GeneralDistribution), "only GFL's criterion is taken for granted"
        criterion = GFLCriterion(distribution=model.distribution)
    assert is_dataclass(criterion)
    criterion = replace(criterion, mean_over_processes=devices.mean_over_processes)
    average = WeightAverage(model, run.ema) if run.ema else None

    # Go on, or begin.
    if shortened:
        console.print(shortened)
    progress, result = Progress(), None
    if resume:
        progress, extra = load_state(folder, model, optimiser, average)
        devices.restore(extra)
        done = "; nothing is left to do" if progress.epoch >= run.epochs else ""
        console.print(f"resuming after epoch {progress.epoch} of {run.epochs}{done}")
    wrapped, optimiser = devices.prepare(model, optimiser)
    log = MetricsLog(folder, keep_epochs=progress.epoch) if devices.is_main else None

    while progress.epoch < run.epochs:
        # Learn.
        started = time.perf_counter()
        epoch = progress.epoch
        order.epoch = epoch
        torch.manual_seed(run.seed * 1_000_003 + epoch)  # a resumed run draws what an unbroken one would
        if isinstance(criterion, SAPDCriterion):  # its selector has its say when it has learned
            criterion = replace(criterion, soft=2 * epoch >= run.epochs)
        row = _learn(
            wrapped,
            model,
            criterion,
            batches,
            order,
            optimiser,
            devices,
            average,
            progress,
            lambda step: lr_factor(step, steps_per_epoch, run.epochs, schedule),
            optimiser_settings.clip_norm,
            console,
            f"epoch {epoch + 1}/{run.epochs}",
        )
        progress.epoch += 1
        progress.seconds += time.perf_counter() - started

        # Evaluate.
        judged = average.model if average is not None else model
        assert isinstance(judged, Detector)
        is_last = progress.epoch == run.epochs
        due = val_batches is not None and (is_last or progress.epoch % run.eval_every == 0)
        if due and devices.is_main:
            assert val_data is not None
            assert val_batches is not None
            result = evaluate(judged, val_data, val_batches, devices, console)
            row |= {"ap": result.ap or 0.0, "ap50": result.ap50 or 0.0, "ap75": result.ap75 or 0.0}

        # Save.
        if devices.is_main and log is not None:
            log.add({"epoch": progress.epoch, "step": progress.step, "seconds": round(progress.seconds, 1)} | row)
            console.print(epoch_line(progress.epoch, run.epochs, row, progress.seconds))
            if due and result is not None and (why := nothing_found(result, judged.decode_settings)):
                console.print(why, highlight=False, soft_wrap=True)
            save_model(judged, folder / "last.safetensors")
            if due and row["ap"] > progress.best_ap:
                progress.best_ap, progress.best_epoch = row["ap"], progress.epoch
                save_model(judged, folder / "best.safetensors")
            save_state(folder, model, optimiser, average, progress, devices.state())
        devices.wait()
    if log is not None:
        log.close()
        if progress.best_epoch:
            console.print(f"best: epoch {progress.best_epoch}, AP {progress.best_ap:.3f} (best.safetensors)")
    if average is not None:
        model.load_state_dict(average.model.state_dict())
    model.eval()
    return result


def _learn(
    wrapped: torch.nn.Module,
    model: Detector,
    criterion: Criterion,
    batches: DataLoader[Batch],
    order: EpochOrder,
    optimiser: torch.optim.Optimizer,
    devices: Devices,
    average: WeightAverage | None,
    progress: Progress,
    factor_at: Any,
    clip_norm: float,
    console: Console,
    title: str,
) -> dict[str, Any]:
    """One epoch of steps; returns its row of metrics."""
    wrapped.train()
    sums: dict[str, torch.Tensor] = {}
    previous: tuple[Losses, tuple[int, ...]] | None = None
    positives = torch.zeros((), device=devices.device)
    num_batches = num_images = 0
    with progress_bar(console, title, len(batches)) as bar:
        for batch in batches:
            set_learning_rate(optimiser, factor_at(progress.step))
            devices.is_last_batch = num_batches + 1 == len(batches)
            batch = batch.to(devices.device)
            losses = training_step(wrapped, criterion, batch, optimiser, devices, clip_norm)
            # One batch late, so that a GPU is never waited for.
            if previous is not None:
                check_finite(*previous, progress.step)
            previous = losses, batch.image_ids
            if devices.is_step_end:
                progress.step += 1
                if average is not None:
                    average.update(model)
            for name, value in losses.terms().items():
                sums[name] = sums.get(name, 0.0) + value
            positives += losses.num_positives
            num_batches += 1
            num_images += len(batch.image_ids)
            text = ""
            if console.is_terminal and num_batches % 10 == 0:
                text = " ".join(f"{name} {float(value) / num_batches:.3f}" for name, value in sums.items())
            bar.advance(len(batch.image_ids), text)
        if previous is not None:
            check_finite(*previous, progress.step)
    check_learned(devices.mean_over_processes(positives), num_images * devices.world, model.input_settings)
    terms = {f"loss_{name}": round(float(value) / num_batches, 6) for name, value in sums.items()}
    return {
        "images": num_images * devices.world,
        "lr": optimiser.param_groups[-1]["lr"],
        "loss": round(sum(terms.values()), 6),
        **terms,
        "positives": round(float(positives) / max(num_images, 1), 2),
    }


def evaluate(
    model: torch.nn.Module, data: ImageData, batches: DataLoader[Batch], devices: Devices, console: Console
) -> CocoResult:
    """The COCO numbers of a detector on a data set."""
    assert isinstance(model, Detector)
    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(
            model,
            batches,
            data.names,
            model.distribution,
            model.decode_settings,
            devices.device,
            on_batch=bar.advance,
        )
    return average_precision(data, found)
