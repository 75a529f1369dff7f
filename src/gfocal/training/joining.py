"""How the processes that torchrun starts find each other, also after it has started some of them again."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any

import torch

from gfocal import launch
from gfocal.errors import ProcessEndedError

POLL_SECONDS = 0.05


def join_processes(cpu: bool, timeout: timedelta) -> None:
    """Connect to the other processes of torchrun where some of them may have been started again.

    torchrun's store outlives its processes, and its numbers of restarts differ between machines: a new process would
    read the address of one that is gone as that of another new one, and fail. A prefix for each attempt, which the
    processes agree on, keeps attempts apart. In every other case this does nothing: accelerate connects them.

    Raises:
        ProcessEndedError: the others are not there within ``timeout``.
    """
    variable = os.environ.get
    is_first = int(variable("TORCHELASTIC_RESTART_COUNT") or 0) == 0
    is_one_machine = variable("GROUP_WORLD_SIZE") == "1"
    if launch.world_size() == 1 or variable("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return
    from torch import distributed

    if (is_first and is_one_machine) or distributed.is_initialized():
        return
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = distributed.TCPStore(host, port, is_master=False, timeout=timeout)  # type: ignore[attr-defined]
    attempt = agree_on_attempt(store, launch.rank(), launch.world_size(), timeout)
    distributed.init_process_group(
        None if torch.cuda.is_available() and not cpu else "gloo",
        store=distributed.PrefixStore(f"gfocal/{attempt}", store),  # type: ignore[attr-defined]
        rank=launch.rank(),
        world_size=launch.world_size(),
        timeout=timeout,
    )


def agree_on_attempt(store: Any, rank: int, world_size: int, timeout: timedelta) -> str:
    """A name that no earlier attempt had, the same in all processes; what earlier ones left in the store is ignored.

    Every other process leaves a number in the store, which the first answers with the name. A number may be that of
    a process that is gone: the first goes on answering until each of the others has confirmed the new name.

    Raises:
        ProcessEndedError: the first process waited for ``timeout`` in vain; in the others the store raises.
    """
    mine = uuid.uuid4().hex
    if rank != 0:
        store.set(f"gfocal/number/{rank}", mine)
        attempt = str(store.get(f"gfocal/answer/{mine}").decode())
        store.set(f"gfocal/confirmed/{attempt}/{rank}", "")
        return attempt
    deadline = time.monotonic() + timeout.total_seconds()
    missing = set(range(1, world_size))
    while missing:
        for other in sorted(missing):
            if store.check([f"gfocal/number/{other}"]):
                store.set(f"gfocal/answer/{store.get(f'gfocal/number/{other}').decode()}", mine)
            if store.check([f"gfocal/confirmed/{mine}/{other}"]):
                missing.discard(other)
        if missing and time.monotonic() > deadline:
            raise ProcessEndedError(
                f"{len(missing)} of {world_size} processes are not there after {timeout.total_seconds() / 60:g} "
                "minutes (run.timeout_minutes): look at the output of their machines, and at the network between them"
            )
        if missing:
            time.sleep(POLL_SECONDS)
    return mine
