"""Processes that are started again agree on a name that no earlier attempt had."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch

from gfocal.errors import ProcessEndedError
from gfocal.training.joining import agree_on_attempt, join_processes

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
SOON = timedelta(seconds=20)


def test_each_attempt_has_a_name_of_its_own_whatever_earlier_ones_left() -> None:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    store.set("gfocal/number/2", "that of a process that is gone")
    names = []
    with ThreadPoolExecutor(3) as pool:
        for late in range(3):  # whoever comes last

            def join(rank: int, late: int = late) -> str:
                time.sleep(0.3 * (rank == late))
                return agree_on_attempt(store, rank, 3, SOON)

            one, *others = pool.map(join, range(3))
            assert others == [one, one]
            names.append(one)
    assert len(set(names)) == 3


def test_the_first_process_says_who_is_not_there() -> None:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    store.set("gfocal/number/1", "that of a process that is gone")
    with pytest.raises(ProcessEndedError, match=r"1 of 2 processes are not there after 0\.005 minutes .*timeout_min"):
        agree_on_attempt(store, 0, 2, timedelta(minutes=0.005))


def test_one_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    join_processes(cpu=True, timeout=SOON)
    assert not torch.distributed.is_initialized()
