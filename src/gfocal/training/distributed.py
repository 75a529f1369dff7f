"""Devices, mixed precision, processes and gradient accumulation: the only module that imports accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfocal import launch
from gfocal.errors import DeviceError
from gfocal.models.precision import is_bf16_native
from gfocal.training.joining import join_processes

Precision = Literal["auto", "no", "bf16", "fp16"]
TIMEOUT_MINUTES = 30.0  # that of torch for gloo


class Devices:
    """Where a run computes: a thin wrapper of ``accelerate.Accelerator``.

    Args:
        precision: number format of the network, as ``choose_precision`` takes it; losses are float32 in any case.
        grad_accum_steps: batches whose gradients make one optimizer step.
        cpu: compute on the CPU although there is a GPU.
        timeout_minutes: how long a process waits for the others before it ends with an error, more than 0.

    Attributes:
        is_last_batch: set it before the last batch of an epoch, which completes a step in any case.
        is_idle: set it before a batch of which this process has no share; its losses and gradients then count as 0.

    Raises:
        DeviceError: the device does not support the precision, or several processes cannot share it.
        ProcessEndedError: the other processes are not there within the time.
    """

    def __init__(
        self,
        precision: Precision = "no",
        grad_accum_steps: int = 1,
        cpu: bool = False,
        timeout_minutes: float = TIMEOUT_MINUTES,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import InitProcessGroupKwargs

        # On a machine without GPUs, accelerate would ignore the launcher, and each process would train everything.
        cpu = cpu or (launch.world_size() > 1 and not has_accelerator())
        precision = choose_precision(precision, cpu)
        timeout = timedelta(minutes=timeout_minutes)
        join_processes(cpu, timeout)
        # accelerate keeps the first settings of a process and refuses others: a second run could not differ.
        parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        AcceleratorState._reset_state(reset_partial_state=not parallel)
        try:
            self.accelerator = Accelerator(
                mixed_precision=precision,
                gradient_accumulation_steps=grad_accum_steps,
                cpu=cpu,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)],
            )
        except ValueError as error:
            reason = " ".join(str(error).split())
            if launch.world_size() > 1 or "environment variable" in reason:
                raise DeviceError(
                    f"this process was launched as one of several and cannot connect to the others: {reason}; start "
                    "them by torchrun or accelerate launch"
                ) from error
            raise DeviceError(f"precision {precision!r} does not work here: {reason}; use 'bf16' or 'no'") from error
        if self.world_size != launch.world_size():
            raise DeviceError(
                f"this process was launched as one of {launch.world_size()}, but on {self.device} they cannot share "
                "the work; compute on the CPU (--set run.cpu=true, of gfocal eval --device cpu), or start one process"
            )
        self.grad_accum_steps, self.is_last_batch, self.is_idle = grad_accum_steps, False, False
        self._batches = 0  # since the last step

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.accelerator.process_index

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.accelerator.is_main_process

    def needs_sync_norm(self) -> bool:
        """Whether there are several processes, over which BatchNorm can be synchronized.

        Raises:
            DeviceError: there are, but not on GPUs.
        """
        if self.world_size > 1 and self.device.type != "cuda":
            raise DeviceError("run.sync_norm: BatchNorm over several processes needs GPUs; leave it out")
        return self.world_size > 1

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Wrap model and optimizer for these devices."""
        return self.accelerator.prepare(model, optimizer)

    def unwrap(self, model: nn.Module) -> nn.Module:
        """The model inside what ``prepare`` returned."""
        return self.accelerator.unwrap_model(model)

    @contextmanager
    def accumulate(self, model: nn.Module) -> Iterator[None]:
        """Around each batch of a step: gradients are exchanged between processes at the last one only."""
        # Not accelerator.accumulate: it would carry the batches left over from one epoch into the next, past
        # the state that is saved between them.
        self._batches += 1
        is_end = self.is_last_batch or self._batches == self.grad_accum_steps
        self.accelerator.sync_gradients = is_end
        if is_end:
            self._batches = 0
        with nullcontext() if is_end else self.accelerator.no_sync(model):
            yield

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of this process's share of a loss, scaled as the precision needs."""
        # Gradients are averaged over processes, but the shares of a loss have to be summed.
        share = 0 if self.is_idle else self.world_size
        self.accelerator.backward(loss if share == 1 else loss * share)

    def clip_grad_norm(self, model: nn.Module, max_norm: float) -> None:
        """Scale the gradients down to a norm of at most ``max_norm``, at the last batch of a step."""
        if not self.accelerator.sync_gradients:
            return
        if self.device.type == "cpu":  # where the norm may be looked at, which saves a pass over small gradients
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            if not norm.numpy() <= max_norm:  # so that one that is no number is seen in the weights
                torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
        else:
            self.accelerator.clip_grad_norm_(model.parameters(), max_norm)

    @property
    def is_step_end(self) -> bool:
        """Whether the last batch completed an optimizer step."""
        return self.accelerator.sync_gradients

    def sum_over_processes(self, value: Tensor) -> Tensor:
        """Sum of a tensor over processes, without the idle ones; without synchronizing."""
        return self.all_reduce(torch.zeros_like(value) if self.is_idle else value)

    def all_reduce(self, value: Tensor) -> Tensor:
        """Sum of a tensor over all processes, the idle ones too."""
        return value if self.world_size == 1 else self.accelerator.reduce(value, reduction="sum")

    def gather_objects(self, values: Sequence[Any]) -> list[Any]:
        """Numbers and small objects of every process, concatenated, in all of them."""
        from accelerate.utils import gather_object

        return list(values) if self.world_size == 1 else gather_object(list(values))

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Rows (N, ...) of every process, concatenated, in all of them."""
        if self.world_size == 1:
            return rows
        counts = self.accelerator.gather(torch.tensor([len(rows)], device=self.device)).tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:]).to(self.device)
        padded[: len(rows)] = rows.to(self.device)
        of_each = self.accelerator.gather(padded).to(rows.device).split(max(counts) or 1)
        return torch.cat([one[:count] for one, count in zip(of_each, counts, strict=False)] or [rows])

    def broadcast(self, value: Any) -> Any:
        """The main process's value, in all of them: numbers and small objects of ours."""
        from accelerate.utils import broadcast_object_list

        return value if self.world_size == 1 else broadcast_object_list([value])[0]

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers to every process: each has statistics of BatchNorm of its own."""
        from accelerate.utils import broadcast

        if self.world_size > 1:
            for buffer in model.buffers():
                buffer.copy_(broadcast(buffer))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs from here: the loss scale of fp16."""
        scaler = self.accelerator.scaler
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()


def choose_precision(precision: Precision, cpu: bool = False) -> Precision:
    """The number format that ``auto`` stands for: bf16 on a CPU that computes it natively, else no; others stay.

    ``cpu`` as in ``Devices``.
    """
    if precision != "auto":
        return precision
    return "bf16" if (cpu or not has_accelerator()) and is_bf16_native(torch.device("cpu")) else "no"


def has_accelerator() -> bool:
    """Whether there is a GPU or another accelerator."""
    of_any_kind = getattr(torch, "accelerator", None)  # since torch 2.6
    return torch.cuda.is_available() if of_any_kind is None else of_any_kind.is_available()


def start_tracker(kind: str, project: str, settings: Mapping[str, Any]) -> Any:
    """accelerate's interface to an experiment tracker, started: ``log(values, step)``, ``finish()``."""
    from accelerate import tracking

    classes = {"tensorboard": "TensorBoardTracker", "wandb": "WandBTracker", "mlflow": "MLflowTracker"}
    tracker = getattr(tracking, classes[kind])(project, **settings)
    if hasattr(tracker, "start"):  # older versions start on construction
        tracker.start()
    return tracker
