"""The numbers of a run that belong to no other part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfocal.training.distributed import Precision

Tracker = Literal["tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True)
class RunSettings:
    """How long a run is, what a step takes, and where and how it computes."""

    epochs: int = 12
    batch_size: int = 16  # images per process and batch
    grad_accum_steps: int = 1  # batches per step of the optimizer
    num_workers: int = 2  # processes that load images
    skip_empty: bool = False  # leave out training images without objects, as the published configs do
    repeat_threshold: float = 0.0  # classes in fewer than this share of the images are shown more often; 0: none
    precision: Precision = "no"  # number format of the network: no (float32), bf16, fp16
    ema_decay: float = 0.0  # decay of the average of the weights; 0: no average
    eval_every: int = 1  # epochs between evaluations; the last epoch is always evaluated
    eval_batch_size: int = 8
    save_every_minutes: float = 10.0  # between two states in the middle of an epoch; 0: only at its end
    patience: int = 0  # evaluations without a better AP after which a run stops; 0: it goes to its end
    trackers: tuple[Tracker, ...] = ()  # services that get the rows of metrics.csv and the config
    # Share of the edges to learn that may lie beyond what the General distribution can say; more are refused.
    max_clamped_fraction: float = 0.05
    seed: int = 0
    deterministic: bool = False  # only operations that give the same bits each time, slower
    channels_last: bool = True  # memory layout in which convolutions are faster
    checkpoint_activations: bool = False  # compute the backbone's stages twice and keep less of them in memory
    compile: bool = False  # the network through torch.compile; each new shape of a batch is compiled anew
    sync_norm: bool = False  # of several processes: BatchNorm over the images of all, on GPUs
    cpu: bool = False  # stay on the processor although there is a GPU

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "grad_accum_steps", "eval_every", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("num_workers", "patience", "save_every_minutes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.repeat_threshold <= 1:
            raise ValueError(f"repeat_threshold lies in 0..1, not {self.repeat_threshold}")
        if not 0 <= self.max_clamped_fraction <= 1:
            raise ValueError(f"max_clamped_fraction lies in 0..1, not {self.max_clamped_fraction}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay lies in 0 <= ema_decay < 1, not {self.ema_decay}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed lies in 0..{2**32 - 1}, not {self.seed}")
        if self.compile and self.checkpoint_activations:
            raise ValueError("compile and checkpoint_activations do not go together; take one of them")
