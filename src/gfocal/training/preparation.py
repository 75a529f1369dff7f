"""Parts of a run before its first step: the model on its device, training batches, criterion, length."""

from __future__ import annotations

from dataclasses import is_dataclass, replace

import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from gfocal.console import note, say
from gfocal.criteria.gfl import Criterion, GFLCriterion
from gfocal.data.augmentation.pipeline import AugmentSettings, augmentation_for
from gfocal.data.dataset import ImageData
from gfocal.data.loading import training_loader
from gfocal.data.samplers import dataset_repeat_factors
from gfocal.models.detector import Detector
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Batch
from gfocal.text import pluralize
from gfocal.training.distributed import Devices
from gfocal.training.environment import keep_freed_memory
from gfocal.training.epoch import TrainingRun
from gfocal.training.optim import limit_warmup
from gfocal.training.pace import Outside
from gfocal.training.settings import RunSettings
from gfocal.training.time_plan import TimePlan


def place_model(model: Detector, settings: RunSettings, devices: Devices) -> None:
    """Move a model to its device, in the memory layout and with the BatchNorm of the settings."""
    if devices.device.type == "cpu":
        keep_freed_memory()
    model.bf16_check, model.calibration = None, None  # of the weights before
    model.to(devices.device)
    if settings.sync_norm and devices.needs_sync_norm():
        model.backbone.synchronize_norms()
        model.neck = nn.SyncBatchNorm.convert_sync_batchnorm(model.neck)  # that of NanoDet-Plus has some too
        model.head = nn.SyncBatchNorm.convert_sync_batchnorm(model.head)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)


def load_training_batches(
    data: ImageData,
    model: Detector,
    augment: AugmentSettings,
    settings: RunSettings,
    devices: Devices,
    console: Console,
) -> DataLoader[Batch]:
    """This process's training batches, augmented; images with rare classes repeated if the settings say so."""
    size = model.input_settings
    batches, order = training_loader(
        data,
        augmentation_for(augment, size),
        size,
        settings.batch_size,
        settings.seed,
        settings.num_workers,
        devices.rank,
        devices.world_size,
        settings.epochs,
    )
    if (augment.mosaic or augment.mixup or augment.copy_paste) and augment.close_epochs >= settings.epochs:
        note(console, f"augment.close_epochs {augment.close_epochs} leaves no epoch to mosaic and the like")
    if settings.repeat_threshold:
        order.repeats = dataset_repeat_factors(data, settings.repeat_threshold)
        say(console, f"an epoch shows {pluralize(len(order), 'image')}, {len(data)} of them different")
    return batches


def share_criterion(criterion: Criterion | None, model: Detector, devices: Devices) -> Criterion:
    """The criterion with its normalizers summed over processes; GFL's where none is given."""
    if criterion is None:
        assert isinstance(model.box_coder, GeneralDistribution), "a detector other than GFL's needs its criterion"
        criterion = GFLCriterion(box_coder=model.box_coder)
    assert is_dataclass(criterion)
    return replace(criterion, sum_over_processes=devices.sum_over_processes)


def fit_length(training: TrainingRun, is_new: bool, outside: Outside) -> None:
    """Limit the warm-up to a fifth of a run of known length, and say so if it is new; plan one of a given time.

    ``outside``: what of that time is not training.
    """
    settings = training.settings
    if settings.time_minutes is None:
        steps = training.steps_per_epoch * settings.epochs
        training.schedule, shortened = limit_warmup(training.schedule, steps)
        if shortened and is_new:
            note(training.console, shortened)
        return
    training.state.plan = TimePlan(
        seconds=60 * settings.time_minutes,
        steps_per_epoch=training.steps_per_epoch,
        epochs=settings.epochs,
        warmup_steps=training.schedule.warmup_steps,
        eval_every=settings.eval_every,
        train_images=len(training.order.order),
        val_images=0 if training.val_data is None else len(training.val_data),
        started=outside.started,
        images_after=outside.images_after,
    )
    training.follow_plan()
