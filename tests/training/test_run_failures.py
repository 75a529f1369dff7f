"""What ends a run early; ``test_loop.py`` has the runs that end so."""

from __future__ import annotations

import pytest
import torch

from gfocal.data.preprocess import InputSettings
from gfocal.errors import NonFiniteLossError, NoPositivesError, ProcessEndedError
from gfocal.structures import Losses
from gfocal.training.stopping import check_finite, check_positives, explain_ended_processes

SIZE = InputSettings(short_side=8, long_side=11)


def test_a_sound_epoch_passes() -> None:
    levels = torch.ones(5)
    check_finite(Losses(levels, levels, levels, torch.tensor(1.0)).terms(), (1,), 1)
    check_positives(torch.tensor(0.5), 3, SIZE)  # a mean over processes may be less than one


def test_the_messages_are_of_one_line() -> None:
    levels = torch.tensor([0.0, torch.nan])
    with pytest.raises(NonFiniteLossError, match=r"step 7 \(cls nan, box nan, dfl nan\).* image ids 3, 4\.") as error:
        check_finite(Losses(levels, levels, levels, torch.tensor(1.0)).terms(), (3, 4), 7)
    assert "\n" not in str(error.value)
    with pytest.raises(NoPositivesError, match=r"in 1 image at 8 x 11 pixels no object.*--short-side") as error:
        check_positives(torch.tensor(0.0), 1, SIZE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "world_size", "told"),
    [
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
            1,
            r"loads images was killed \(Killed\)",
        ),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. Out of"),
            1,
            r"killed \(Bus\).*/dev/shm",
        ),
        (RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"), 2, "loads images ended"),
        (ConnectionResetError(104, "Connection reset by peer"), 1, "loads images ended"),
        (EOFError(), 1, "loads images ended"),
        (RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:4"), 2, "another process of this run"),
        (RuntimeError("NCCL communicator was aborted on rank 1"), 2, "another process of this run"),
        (
            RuntimeError("[unbound_buffer.cc:78] Timed out waiting 1800000ms for recv"),
            2,
            "for 30 minutes .run.timeout",
        ),
        (RuntimeError("Application timeout caused pair closure"), 2, "not answered for 30 minutes"),
        (RuntimeError("[pair.cc:534] Read error: Connection timed out"), 2, "not answered: its machine is gone"),
    ],
)
def test_a_process_that_is_gone_is_named(error: Exception, world_size: int, told: str) -> None:
    with pytest.raises(ProcessEndedError, match=told) as named, explain_ended_processes(world_size, 30):
        raise error
    assert "continue with --resume" in str(named.value)
    assert "\n" not in str(named.value)
    assert named.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Connection closed by peer"),  # of what, in a run of one process?
        RuntimeError("shape mismatch"),
        NonFiniteLossError("the loss is not finite"),
        ValueError("reset by peer"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as same, explain_ended_processes(1, 30):
        raise error
    assert same.value is error
