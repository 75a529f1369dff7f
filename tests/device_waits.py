"""Which operations of a call make the CPU wait for a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from torch.autograd.profiler import profile

# What makes the CPU wait for a GPU. A boolean index shows itself as nonzero. The profiler sees what runs
# below autograd too; a dispatch mode would not: some gradients (that of prod) take another way under it.
WAITING = ("item", "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")


def waits(run: Callable[[], object]) -> Counter[str]:
    """How often each operation that waits for data ran."""
    with profile() as record:
        run()
    assert record.function_events
    names = (event.name.removeprefix("aten::") for event in record.function_events)
    return Counter(name for name in names if name in WAITING)
