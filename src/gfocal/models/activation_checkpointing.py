"""Gradient checkpointing: what a part computes on the way forward is dropped and computed again on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(parts: Sequence[nn.Module]) -> Iterator[None]:
    """While this lasts, each part keeps its input alone for the way back, and not what it computes from it.

    Gradients are the same, and so are the statistics of BatchNorm: the second time it leaves them alone.
    """
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(_recomputed(part))
        yield


@contextmanager
def _recomputed(part: nn.Module) -> Iterator[None]:
    forward = part.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(part)

    def lean(value: Any) -> Any:
        return checkpoint(forward, value, use_reentrant=False, context_fn=contexts)

    # Only for one pass: a copy of the network, such as the average of its weights, must not call this part.
    part.forward = lean
    try:
        yield
    finally:
        del part.forward


@contextmanager
def _statistics_kept(part: nn.Module) -> Iterator[None]:
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, _ in before:  # a momentum of 0 moves nothing, and without a counter nothing is counted
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, counter in before:
            norm.momentum, norm.num_batches_tracked = momentum, counter
