"""A run that is killed at random moments, and gone on with each time, beside one that nothing disturbs.

    python benchmarks/kill_and_resume.py PATH/TO/bccd --kills 5 --out runs/killed

Both are `gfocal train` with the config bccd_r18, in deterministic mode on the processor. The one is ended with
SIGKILL `--kills` times, wherever it happens to be: reading data, in the middle of an epoch, evaluating, writing. At
the end the weights of the two are compared bit for bit. Exit code 1 if they differ.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file


def command(chosen: argparse.Namespace, out: Path) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "gfocal",
        "train",
        str(chosen.data),
        "--train-split",
        "train",
        "--val-split",
        "test",
    ]
    words += ["--config", "bccd_r18", "--epochs", str(chosen.epochs), "--deterministic", "--out", str(out)]
    return [*words, "--set", "run.cpu=true", "--set", "run.save_every_minutes=0.1", "--set", "run.ema_decay=0.99"]


def undisturbed(chosen: argparse.Namespace, out: Path) -> float:
    started = time.monotonic()
    with (out.parent / "undisturbed.log").open("w") as log:
        subprocess.run(command(chosen, out), check=True, stdout=log, stderr=log)
    return time.monotonic() - started


def killed(chosen: argparse.Namespace, out: Path, seconds: float) -> list[str]:
    """Where each kill met the run, by the last line that it had said."""
    moments = random.Random(chosen.seed)
    met = []
    with (out.parent / "killed.log").open("w") as log:
        while True:
            resume = ["--resume"] if (out / "state.pt").exists() else []
            process = subprocess.Popen([*command(chosen, out), *resume], stdout=log, stderr=log)
            if len(met) == chosen.kills:
                if process.wait():
                    raise SystemExit(f"the run ended with {process.returncode}; see {log.name}")
                return met
            wait = moments.uniform(0.15, 0.6) * seconds / 2
            try:
                code = process.wait(wait)
                raise SystemExit(f"the run ended with {code} after {len(met)} kills: fewer, or more epochs")
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            lines = Path(log.name).read_text().splitlines()
            met.append(f"after {wait:.0f} s: {lines[-1] if lines else 'nothing said yet'}")
            print(f"kill {len(met)} {met[-1]}", flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("runs/kill_and_resume"))
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True)  # a folder of an earlier comparison would be taken for this one's
    seconds = undisturbed(chosen, chosen.out / "undisturbed")
    print(f"undisturbed: {seconds:.0f} s for {chosen.epochs} epochs", flush=True)
    killed(chosen, chosen.out / "killed", seconds)
    worst = 0
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (load_file(chosen.out / run / name) for run in ("undisturbed", "killed"))
        differing = [key for key in one if not torch.equal(one[key], other[key])]
        worst += len(differing)
        print(f"{name}: {len(one)} tensors, {len(differing)} differ")
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
