"""Activation checkpointing: activations are dropped in the forward pass and recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn


@contextmanager
def recompute_activations(parts: Sequence[nn.Module]) -> Iterator[None]:
    """A context in which each part stores only its input for the backward pass, not its activations.

    Gradients are the same, and so are the statistics of BatchNorm: the second forward pass does not update them.
    """
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(_recompute(part))
        yield


@contextmanager
def _recompute(part: nn.Module) -> Iterator[None]:
    from torch.utils.checkpoint import checkpoint  # here: it imports much that detection never needs

    forward = part.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_norm_updates(part)

    def checkpointed(value: Any) -> Any:
        return checkpoint(forward, value, use_reentrant=False, context_fn=contexts)

    # Restored after the pass: a copy of the network, such as the average of its weights, must not call this part.
    part.forward = checkpointed
    try:
        yield
    finally:
        del part.forward


@contextmanager
def _without_norm_updates(part: nn.Module) -> Iterator[None]:
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, _ in before:  # a momentum of 0 changes nothing, and without a counter nothing is counted
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, counter in before:
            norm.momentum, norm.num_batches_tracked = momentum, counter
