"""``gfocal`` in which something goes wrong in the second of two processes, for ``test_launched.py``.

torchrun --nproc-per-node 2 launched_run.py WHAT train ...
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

torch.set_num_threads(1)

from gfocal import launch  # noqa: E402
from gfocal.cli.main import main  # noqa: E402
from gfocal.data.dataset import FileData, Sample  # noqa: E402
from gfocal.errors import DataError  # noqa: E402
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes  # noqa: E402
from gfocal.evaluation.detections import average_precision  # noqa: E402
from gfocal.structures import Losses  # noqa: E402
from gfocal.training import epoch, loop, pace  # noqa: E402

reads = steps = 0
read, training_step = FileData.read, vars(epoch)["training_step"]


def bad_read(self: FileData, index: int) -> tuple[Tensor, Sample]:
    """The process is killed, asked to stop or paused in the middle of its second epoch; or no image can be read."""
    global reads
    reads += 1
    if what in ("SIGKILL", "SIGTERM") and reads == 8 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), getattr(signal, what))
    if what == "pause" and reads == 8 and not (mark := Path(os.environ["PAUSED"])).exists():
        mark.touch()
        while mark.exists() and not mark.read_text():  # until the test has cut the link
            time.sleep(0.02)
    if what == "data":
        raise DataError(f"image {index}: gone")
    return read(self, index)


def bad_step(*arguments: Any) -> Losses:
    """The third loss is not a number."""
    global steps
    steps += 1
    losses = training_step(*arguments)
    return replace(losses, cls=losses.cls * torch.nan) if steps == 3 else losses


def flat(data: FileData, found: Mapping[int, ScoredBoxes]) -> CocoResult:
    """An evaluation that ends as every other one."""
    return replace(average_precision(data, found), ap=0.5)


def show_rates() -> None:
    """The clock of the second process is four times as fast; both say which learning rates they had.

    The time is that of training alone, so that a slow start of the processes leaves enough of it.
    """
    set_rate, rates = vars(epoch)["set_learning_rate"], []

    def note(optimizer: Any, factor: float) -> None:
        rates.append(factor)
        set_rate(optimizer, factor)

    epoch.set_learning_rate = note  # type: ignore[attr-defined]
    pace.time = SimpleNamespace(  # type: ignore[attr-defined]
        perf_counter=lambda: time.perf_counter() * (1 + 3 * launch.rank())
    )
    fit = vars(loop)["fit_length"]
    loop.fit_length = lambda run, is_new, outside: fit(run, is_new, pace.Outside(pace.now()))  # type: ignore[attr-defined]
    atexit.register(lambda: print(f"rates {launch.rank()}: {rates}", flush=True))


what = sys.argv[1]
if what == "clocks":
    show_rates()
if what == "flat":
    loop.average_precision = flat  # type: ignore[assignment]
if launch.rank() == 1:
    FileData.read = bad_read  # type: ignore[method-assign]
    if what == "nan":
        epoch.training_step = bad_step  # type: ignore[attr-defined]
sys.exit(main(sys.argv[2:]))
