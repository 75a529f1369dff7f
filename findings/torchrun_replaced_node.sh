#!/usr/bin/env bash
# Guess: torchrun over two nodes (c10d, --max-restarts 3) takes back a node that was killed and is started again by the
#   same command: the documentation calls both failure and return of a node membership changes.
# Behaviour: it does not, restarts left or not. The survivor keeps the address of the first round's store and does not
#   publish it again, so the new agent waits 60 s for it and both end by DistStoreError. With
#   TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, which gives each round a store of its own, both train again.
# Versions: torch 2.14.1, Linux. Source: the results below (torch/distributed/elastic/rendezvous). Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.3.5
cd "$place"
cat >worker.py <<'PY'
import time
from datetime import timedelta

import torch
import torch.distributed as dist

dist.init_process_group("gloo", timeout=timedelta(seconds=20))
total = torch.ones(1)
dist.all_reduce(total)
print("JOINED", int(total), "workers", flush=True)
time.sleep(1000)
PY
cat >nodes.py <<'PY'
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]
LOGS = [Path(f"log{node}") for node in (0, 1)]

def start(node):
    options = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{PORT} --max-restarts 3"
    options += f" --rdzv-conf is_host={int(node == 0)},keep_alive_interval=1 --local-addr 127.0.0.{node + 1}"
    with LOGS[node].open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options.split(), "worker.py"],
            stdout=log, stderr=log, start_new_session=True,
        )

def kill(agent):
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    workers = children.read_text().split() if agent.poll() is None else []
    for pid in [agent.pid, *map(int, workers)] if agent.poll() is None else []:
        os.kill(pid, signal.SIGKILL)
    agent.wait()

def wait_for(times, seconds):
    end = time.time() + seconds
    while time.time() < end:
        if all(log.read_text().count("JOINED 2 workers") >= times for log in LOGS):
            return True
        time.sleep(0.2)
    return False

agents = [start(0), start(1)]
assert wait_for(1, 120), "the two nodes never met"
kill(agents[1])
began = time.time()
agents[1] = start(1)
joined = wait_for(2, 150)
errors = sorted({name for log in LOGS for name in re.findall(r"\w*DistStoreError", log.read_text())})
print("joined again" if joined else "not joined again", f"after {time.time() - began:.0f} s;", "errors:", errors)
for agent in agents:
    kill(agent)
sys.exit(0 if joined else 3)
PY
"$place/venv/bin/python" -c "import torch; print('torch', torch.__version__)"
run() { rm -f log0 log1; OMP_NUM_THREADS=1 "$place/venv/bin/python" nodes.py; }
code=0; run || code=$?
echo "as installed: exit status $code"
[[ $code == 3 ]] && grep -q DistStoreError log0 log1
TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 run
