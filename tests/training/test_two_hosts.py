"""Training on two hosts by torchrun, with ``gloo``: the gradients of one process, and a cable that is pulled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from test_launched import HERE, environment, torchrun
from test_launched import place as launched_place
from two_hosts import INTERFACE, Network, two_hosts

from gfocal.run_folder import RunFolder
from gfocal.training.environment import lock_folder
from gfocal.training.metrics_log import read_metrics

pytestmark = pytest.mark.slow
CASES = ("uneven", "clipped")
PORT = 29400
NOT_ANSWERED = "gfocal: another process of this run has not answered for 0.2 minutes (run.timeout_minutes): "


place = launched_place  # a fixture


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Two hosts."""
    if not sys.platform.startswith("linux"):
        pytest.skip("network namespaces are Linux's")
    try:
        made = two_hosts()
        network = made.__enter__()
    except OSError as error:
        pytest.skip(f"no two hosts here: {error}")
    yield network
    made.__exit__(None, None, None)


@contextmanager
def started(network: Network, place: Path, logs: Path, what: Sequence[str], *more: str) -> Iterator[list[Torchrun]]:
    """torchrun on both hosts; ``more`` are options of it."""
    runs = [Torchrun(network, number, place, logs / f"host{number}.log", what, more) for number in range(2)]
    try:
        yield runs
    finally:
        for run in runs:
            run.end()


class Torchrun:
    """torchrun on one of two hosts, with one process."""

    def __init__(
        self, network: Network, number: int, place: Path, log: Path, what: Sequence[str], more: Sequence[str]
    ) -> None:
        host = network.hosts[number]
        # Both hosts have the name of this machine, which tells torchrun neither where it is nor who keeps the store.
        keeps_store = f"is_host={int(number == 0)}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{network.hosts[0].address}:{PORT}"]
        command += ["--rdzv-conf", f"{keeps_store},read_timeout=5,keep_alive_interval=1,join_timeout=60"]
        command += ["--local-addr", host.address, *more, *what]
        paused = str(log.parent / "paused")
        env = environment() | {"GLOO_SOCKET_IFNAME": INTERFACE, "PAUSED": paused}
        self.log, self.process = log, host.start(command, place, env, log)

    def said(self) -> str:
        return self.log.read_text()

    def ended(self, timeout: float) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s:\n{self.said()}")

    def end(self) -> None:
        """torchrun ends its processes when it is asked to; those that wait for a network do not listen."""
        if self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in (*map(int, children), self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


def wait_until(is_so: object, runs: list[Torchrun], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, "\n".join(run.said() for run in runs)
        time.sleep(0.05)


@contextmanager
def cut(network: Network, runs: list[Torchrun], logs: Path) -> Iterator[None]:
    """Cut the second host off in the middle of the second epoch."""
    paused = logs / "paused"
    wait_until(paused.exists, runs, 180)
    network.plug(1, is_in=False)
    paused.write_text("go on")
    try:
        yield
    finally:
        network.plug(1, is_in=True)


def training(out: Path) -> list[str]:
    words = [str(HERE / "launched_run.py"), "pause", "train", "scenes", "--config", "tiny.toml", "--out", str(out)]
    return [*words, "--auto-resume", "--set", "run.timeout_minutes=0.2"]


def test_two_hosts_have_the_gradients_of_one_process(network: Network, tmp_path: Path) -> None:
    script = str(HERE / "shared_steps.py")
    with started(network, tmp_path, tmp_path, [script, str(tmp_path / "2.pt"), *CASES]) as runs:
        command = [sys.executable, script, str(tmp_path / "1.pt"), *CASES]
        subprocess.run(command, env=environment(), check=True, timeout=300)
        assert [run.ended(300) for run in runs] == [0, 0], "\n".join(run.said() for run in runs)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("1.pt", "2.pt"))
    assert list(one) == list(two) == list(CASES)
    for case in CASES:
        assert one[case].keys() == two[case].keys()
        for name, value in one[case].items():
            assert (two[case][name] - value).norm() <= 1e-10 * value.norm() + 1e-15, (case, name)


def test_a_host_that_was_cut_off_comes_back_to_the_same_run(network: Network, place: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    with started(network, place, tmp_path, training(out), "--max-restarts", "1") as runs:
        with cut(network, runs, tmp_path), ThreadPoolExecutor(1) as pool:
            undisturbed = pool.submit(torchrun, place, "nothing", whole)  # while these wait
            wait_until(lambda: all(NOT_ANSWERED in run.said() for run in runs), runs, 90)
        assert [run.ended(180) for run in runs] == [0, 0], "\n".join(run.said() for run in runs)
        said = runs[0].said()
    assert said.count("2 processes, 2 images a step\n") == 2  # at the start and when the cable was back
    assert said.count("resuming after epoch 1 of 3 and ") == 1
    assert undisturbed.result().returncode == 0
    for name in ("last.safetensors", "best.safetensors", "result.json"):
        assert (whole / name).read_bytes() == (out / name).read_bytes(), name


def test_both_hosts_end_with_the_reason_where_the_link_stays_cut(
    network: Network,
    place: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    with started(network, place, tmp_path, training(out)) as runs, cut(network, runs, tmp_path):
        # torchrun of the host without the store waits for it until the system gives up: by default, 15 minutes.
        network.hosts[1].give_up_after(5)
        codes = [run.ended(90) for run in runs]
        said = [run.said() for run in runs]
    assert all(codes), said
    for one in said:
        assert one.count("gfocal: another process of this run has not answered") == 1, one
        assert "src/gfocal" not in one  # no traceback of ours
    # What was saved is whole, and nothing keeps the folder.
    state = torch.load(RunFolder(out).state, weights_only=True)
    assert (state["progress"]["epoch"], state["progress"]["batches"]) == (1, 3)
    assert not list(out.glob("*.tmp"))
    with lock_folder(RunFolder(out)):
        pass


def test_a_host_that_died_is_started_again_by_the_same_command(
    network: Network, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without it, torchrun 2.14 of the host that lives on does not tell a new one where its store is.
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    out, paused = tmp_path / "run", tmp_path / "paused"
    with started(network, place, tmp_path, training(out), "--max-restarts", "1") as runs:
        wait_until(paused.exists, runs, 180)
        runs[1].end()
        runs[1] = Torchrun(network, 1, place, tmp_path / "again.log", training(out), ("--max-restarts", "1"))
        assert [run.ended(180) for run in runs] == [0, 0], "\n".join(run.said() for run in runs)
        assert runs[0].said().count("resuming after epoch 1 of 3 and ") == 1
    assert read_metrics(RunFolder(out).metrics)[-1]["step"] == "12"
