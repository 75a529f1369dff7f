"""Devices, mixed precision, processes and accumulation: the only room that knows accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["no", "bf16", "fp16"]


class Devices:
    """Where a run computes: a thin face over ``accelerate.Accelerator``.

    Args:
        precision: number format of the network; losses are float32 whatever it is.
        accumulate: batches whose gradients make one step.
        cpu: stay on the processor although there is a GPU.
    """

    def __init__(self, precision: Precision = "no", accumulate: int = 1, cpu: bool = False) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=accumulate, cpu=cpu)

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.accelerator.is_main_process

    def prepare(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Model and optimiser made ready for these devices."""
        return self.accelerator.prepare(model, optimiser)

    def unwrap(self, model: nn.Module) -> nn.Module:
        """The model inside."""
        return self.accelerator.unwrap_model(model)

    @contextmanager
    def accumulating(self, model: nn.Module) -> Iterator[None]:
        """One batch of a step."""
        with self.accelerator.accumulate(model):
            yield

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled as the precision needs."""
        self.accelerator.backward(loss)

    def clip(self, model: nn.Module, max_norm: float) -> None:
        """Scale the gradients down to a norm, at the last batch of a step."""
        if self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(model.parameters(), max_norm)

    @property
    def is_step_end(self) -> bool:
        """Whether the last batch completed a step of the optimiser."""
        return self.accelerator.sync_gradients

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """Mean of a tensor over processes."""
        if self.world == 1:
            return value
        return self.accelerator.reduce(value, reduction="mean")

    def wait(self) -> None:
        """Until every process is here."""
        self.accelerator.wait_for_everyone()
