"""The settings of a run that belong to no other part: [run] of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfocal.text import pluralize
from gfocal.training.distributed import TIMEOUT_MINUTES, Precision

Tracker = Literal["tensorboard", "wandb", "mlflow"]
# Beyond these a number is a mistake: a million processes would end the machine, not the run.
MOST = {
    "epochs": 1_000_000,
    "min_steps": 1_000_000,
    "batch_size": 65_536,
    "grad_accum_steps": 65_536,
    "eval_batch_size": 65_536,
    "num_workers": 1024,
}
MINUTES_OF_A_YEAR = 525_600  # far beyond it, torch would not count


@dataclass(frozen=True)
class RunSettings:
    """How long a run is, what a step takes, and where and how it computes."""

    epochs: int = 12
    """Passes over the training images, at least 1; with ``time_minutes`` the number that the schedule's milestones
    and ``close_epochs`` of the augmentation are meant for."""
    time_minutes: float | None = None
    """How long the run is to take, more than 0: as many steps as end in this time, planned again while it trains.
    None: ``epochs``."""
    min_steps: int = 0
    """Least number of optimizer steps of a run of ``gfocal train`` that states no epochs: fewer images are seen more
    often. 0: ``epochs`` counts."""
    max_steps: int | None = None
    """And the largest number: many images are seen less often, but once. None: ``epochs`` counts."""
    batch_size: int = 16
    """Images per process and batch, at least 1."""
    grad_accum_steps: int = 1
    """Batches whose gradients make one optimizer step, at least 1."""
    num_workers: int = 2
    """Processes that load images, per training process; 0: the training process loads them itself."""
    skip_empty: bool = False
    """Leave out training images without objects, as the published configs do."""
    repeat_threshold: float = 0.0
    """Images with classes that occur in less than this share of the images, 0..1, are repeated; 0: none are."""
    precision: Precision = "no"
    """Number format of the network: no (float32), bf16 or fp16; auto: bf16 on a CPU that has it, else no.
    Losses are float32 in any case."""
    ema_decay: float = 0.0
    """Decay of the exponential moving average of the weights, 0 <= ema_decay < 1; 0: no average."""
    ema_share: float = 0.0
    """In place of ``ema_decay``: mean age of the averaged weights as a share of the run's steps, 0..0.5; 0: not."""
    eval_every: int | None = None
    """Epochs between evaluations, at least 1; the last epoch is always evaluated. None: about ten evaluations in a
    run, fewer where they would take more than about a fifth of the time."""
    eval_batch_size: int = 8
    """Images per process and batch in an evaluation, at least 1."""
    save_every_minutes: float = 10.0
    """Minutes between two saved states within an epoch; 0: the state is saved only at its end."""
    patience: int = 0
    """Stop after this many evaluations in a row without a better AP; 0: never."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers that get the config and the rows of metrics.csv: tensorboard, wandb, mlflow."""
    max_clamped_fraction: float = 0.05
    """Share of the training boxes' edges, 0..1, that may lie outside the regression range (``reg_max`` = n); a run
    with more is refused."""
    trust_boxes: bool = False
    """Train even where most boxes seem to be of another convention than their format's."""
    seed: int = 0
    """Of all random numbers, 0..2**32 - 1."""
    deterministic: bool = False
    """Use only operations that give the same bits each time; slower on a GPU."""
    channels_last: bool = True
    """Memory layout in which convolutions are faster."""
    checkpoint_activations: bool = False
    """Compute the backbone's stages again in the backward pass: less memory, more time."""
    compile: bool = False
    """Run the network through torch.compile; each new shape of a batch is compiled again."""
    sync_norm: bool = False
    """With several processes on GPUs: BatchNorm over the images of all of them."""
    cpu: bool = False
    """Train on the CPU although there is a GPU."""
    timeout_minutes: float = TIMEOUT_MINUTES
    """With several processes: how long one waits for the others before it ends, more than 0. The others wait while
    the main process computes AP and writes files."""

    @property
    def length(self) -> str:
        """How long a run is, in words."""
        return pluralize(self.epochs, "epoch") if self.time_minutes is None else f"{self.time_minutes:g} min"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "grad_accum_steps", "eval_every", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most:,}, not {getattr(self, name):,}")
        if self.max_steps is not None and self.max_steps < max(1, self.min_steps):
            raise ValueError(f"max_steps must be at least 1 and min_steps, not {self.max_steps}")
        for name in ("num_workers", "patience", "save_every_minutes", "min_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("repeat_threshold", "max_clamped_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies in 0..1, not {getattr(self, name)}")
        if self.time_minutes is not None and not 0 < self.time_minutes <= MINUTES_OF_A_YEAR:
            raise ValueError(f"time_minutes must be above 0 and at most a year, not {self.time_minutes}")
        if not 0 < self.timeout_minutes <= MINUTES_OF_A_YEAR:
            raise ValueError(f"timeout_minutes must be above 0 and at most a year, not {self.timeout_minutes}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay lies in 0 <= ema_decay < 1, not {self.ema_decay}")
        if not 0 <= self.ema_share <= 0.5:
            raise ValueError(f"ema_share lies in 0..0.5, not {self.ema_share}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed lies in 0..{2**32 - 1}, not {self.seed}")
        if self.compile and self.checkpoint_activations:
            raise ValueError("compile and checkpoint_activations do not go together; take one of them")
