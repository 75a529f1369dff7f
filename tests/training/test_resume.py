"""A run that is killed goes on as if nothing had happened: the same losses, the same weights, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import gfocal
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import read_metrics

# What is to be killed stops for ever at the third image of its second epoch, and says so by a file.
SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
os.fsync = lambda _: None  # a process is killed here, not the machine
from gfocal.run import run_training
from gfocal.config.config import Config, with_changes
from gfocal.data.synthetic.scenes import SyntheticScenes

folder, what = Path(sys.argv[1]), sys.argv[2]
epochs_read = []

class Scenes:
    names, category_ids = SyntheticScenes.names, SyntheticScenes.category_ids
    files = None

    def __init__(self, epoch=0):
        self.epoch, self.scenes = epoch, SyntheticScenes(4, size=96).at_epoch(epoch)

    def __len__(self):
        return len(self.scenes)

    def at_epoch(self, epoch):
        return Scenes(epoch)

    def sample(self, index):
        return self.scenes.sample(index)

    def read(self, index):
        epochs_read.append(self.epoch)
        if what == "stop" and epochs_read.count(1) == 3:
            (folder / "here").touch()
            time.sleep(600)
        return self.scenes.read(index)

config = with_changes(Config(), {
    "model.preset": "gfl_light_fpn", "model.pretrained": False,
    "model.options": {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1},
    "size.short_side": 64, "size.long_side": 64,
    "augment.flip": 0.5, "augment.color": 0.5, "augment.crop": 0.5,
    "optimizer.kind": "sgd", "optimizer.lr": 0.01, "optimizer.lr_batch": 2, "optimizer.clip_norm": 10.0,
    "schedule.kind": "cosine", "schedule.warmup_steps": 3,
    "run.epochs": 3, "run.batch_size": 1, "run.grad_accum_steps": 3, "run.num_workers": 0, "run.ema_decay": 0.9,
    "run.eval_every": 1, "run.seed": 4, "run.cpu": True,
})
if what == "resume":  # the saved config counts
    config = Config()
run_training(config, Scenes(), SyntheticScenes(2, 96, purpose="val"), folder, resume=what == "resume")
"""


def started(script: Path, folder: Path, what: str) -> subprocess.Popen[bytes]:
    source = str(Path(gfocal.__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen([sys.executable, str(script), str(folder), what], env=environment)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    processes = [started(script, killed, "stop"), started(script, whole, "run")]
    try:
        deadline = time.monotonic() + 240
        while not (killed / "here").exists():
            assert processes[0].poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes[0].kill()
        assert processes[0].wait() == -signal.SIGKILL
        assert [row["epoch"] for row in read_metrics(RunFolder(killed).metrics)] == ["1"]
        before = RunFolder(killed).metrics.read_text()

        processes.append(started(script, killed, "resume"))
        assert processes[2].wait(timeout=240) == 0
        assert processes[1].wait(timeout=240) == 0
    finally:
        for process in processes:
            process.kill()

    assert RunFolder(killed).metrics.read_text().startswith(before)
    rows = [read_metrics(RunFolder(folder).metrics) for folder in (whole, killed)]
    for one, two in zip(*rows, strict=True):
        assert {**one, "seconds": ""} == {**two, "seconds": ""}
    for name in ("best.safetensors", "last.safetensors", "config.toml", "result.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name

    states = [torch.load(RunFolder(folder).state, weights_only=True) for folder in (whole, killed)]
    assert states[0]["average_updates"] == states[1]["average_updates"] == 6
    for part in ("model", "average"):
        for key, value in states[0][part].items():
            assert torch.equal(value, states[1][part][key]), (part, key)
    momenta = [state["optimizer"]["state"] for state in states]
    for key, entry in momenta[0].items():
        assert torch.equal(entry["momentum_buffer"], momenta[1][key]["momentum_buffer"]), key
    for state in states:
        state["progress"].pop("seconds")
    assert states[0]["progress"] == states[1]["progress"]
