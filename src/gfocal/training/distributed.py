"""Devices, mixed precision, processes and accumulation: the only room that knows accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["no", "bf16", "fp16"]


class DeviceError(ValueError):
    """Settings that this machine cannot compute with; the message names the mend."""


class Devices:
    """Where a run computes: a thin face over ``accelerate.Accelerator``.

    Args:
        precision: number format of the network; losses are float32 whatever it is.
        accumulate: batches whose gradients make one step.
        cpu: stay on the processor although there is a GPU.

    Attributes:
        is_last_batch: set it before the last batch of an epoch, which completes a step in any case.

    Raises:
        DeviceError: the device does not know the precision.
    """

    def __init__(self, precision: Precision = "no", accumulate: int = 1, cpu: bool = False) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        # accelerate keeps the first settings of a process and refuses others: a second run could not differ.
        parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        AcceleratorState._reset_state(reset_partial_state=not parallel)
        try:
            self.accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=accumulate, cpu=cpu)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise DeviceError(f"precision {precision!r} does not work here: {reason}; take 'bf16' or 'no'") from error
        self.accumulate, self.is_last_batch = accumulate, False
        self._batches = 0  # since the last step

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
        # Not accelerator.accumulate: it would carry the batches left over from one epoch into the next, past
        # the state that is saved between them.
        self._batches += 1
        is_end = self.is_last_batch or self._batches == self.accumulate
        self.accelerator.sync_gradients = is_end
        if is_end:
            self._batches = 0
        with nullcontext() if is_end else self.accelerator.no_sync(model):
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

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of this room: the loss scale of fp16."""
        scaler = self.accelerator.scaler
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def wait(self) -> None:
        """Until every process is here."""
        self.accelerator.wait_for_everyone()
