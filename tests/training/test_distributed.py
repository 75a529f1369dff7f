"""Several processes teach what one would: the same gradients, weights and numbers. ``gloo`` on this machine."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gfocal
from gfocal.data.loading import evaluation_loader
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import DeviceError
from gfocal.evaluation.detections import ScoredDetections, detections_to_rows, rows_to_detections
from gfocal.models.zoo import create
from gfocal.run_folder import RunFolder
from gfocal.training.distributed import Devices
from gfocal.training.metrics_log import read_metrics

INPUT = InputSettings(short_side=64, long_side=64)
HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def together(world: int, *command: object, timeout: float = 900) -> list[str]:
    """Run a Python command in so many processes that know of each other; returns what each has said."""
    base = {
        "PYTHONPATH": str(Path(gfocal.__file__).resolve().parents[1]),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ | base | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * world, "\n".join(said)
    return said


Found = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    """The same steps by one process and by two."""
    folder = tmp_path_factory.mktemp("steps")
    for world in (1, 2):
        together(world, HERE / "shared_steps.py", folder / f"{world}.pt")
    one, two = (torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2))
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "even",
        "uneven",
        "idle",
        "one process without objects",
        "no objects at all",
        "timid",
        "accumulated",
        "clipped",
        "atss",
        "fovea",
        "sapd",
        "taught",
    ],
)
def test_two_processes_have_the_gradients_of_one(steps: tuple[Found, Found], case: str) -> None:
    one, two = steps[0][case], steps[1][case]
    assert one.keys() == two.keys()
    assert sum(bool(value.any()) for value in one.values()) > 20
    for name, value in one.items():
        assert (two[name] - value).norm() <= 1e-10 * value.norm() + 1e-15, name


def test_the_cases_differ_in_what_they_test(steps: tuple[Found, Found]) -> None:
    one, _ = steps
    norms = {case: sum(float(v.square().sum()) for v in found.values()) ** 0.5 for case, found in one.items()}
    assert len(set(norms.values())) == len(norms)
    squares = sum(float(value.square().sum()) for name, value in one["clipped"].items() if name != "loss")
    assert squares**0.5 == pytest.approx(0.5, rel=1e-4)  # clipped indeed


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(tmp_path: Path) -> None:
    said = {world: together(world, HERE / "shared_runs.py", tmp_path / str(world)) for world in (1, 2)}
    lines = said[2][0].splitlines()
    told = [line for line in lines if line == "2 processes, 8 images a step"]
    assert lines[0] in told
    # Without numbers: in the last run each process has statistics of its own images.
    assert [re.split("  |,", line)[0] for line in lines if line not in told] == [
        re.split("  |,", line)[0] for line in said[1][0].splitlines()
    ]
    assert said[2][1] == ""  # only the first one speaks
    for count in ("7", "5"):
        one, two = (tmp_path / world / count for world in ("1", "2"))
        rows = [read_metrics(RunFolder(folder).metrics) for folder in (one, two)]
        for before, after in zip(*rows, strict=True):
            for name in set(before) - {"seconds"}:
                assert float(before[name] or 0) == pytest.approx(float(after[name] or 0), abs=2e-6), name
        results = [json.loads(path.read_text()) for path in (one / "result-0.json", *sorted(two.glob("result-*")))]
        assert len(results) == 3
        assert results[0] == results[1] == results[2]
        assert results[0]["num_detections"] > 100
        assert results[0]["ar100"] > 0  # else there is nothing to agree on
        states = [torch.load(folder / "state.pt", weights_only=True) for folder in (one, two)]
        assert states[0]["average_updates"] == states[1]["average_updates"] == 2
        for part in ("model", "average"):
            for name, value in states[0][part].items():
                close = (states[1][part][name] - value).double().norm() <= 1e-9 * value.double().norm() + 1e-12
                assert close, (count, part, name)
        assert sorted(p.name for p in one.glob("*.*")) == sorted(
            p.name for p in two.glob("*.*") if p.name != "result-1.json"
        )
    # Each process has statistics of BatchNorm of its own; those that are saved are the ones that are evaluated.
    norms = tmp_path / "2" / "norms"
    alone, *said_by = (
        json.loads((norms / name).read_text()) for name in ("alone.json", "result-0.json", "result-1.json")
    )
    assert said_by == [alone, alone]


def test_batch_norm_over_processes_has_the_weights_and_outputs_of_before_and_needs_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = create("gfl_light_fpn", 2, pretrained=False, body="mobilenetv4_conv_small_035", channels=32, num_convs=1)
    images = torch.randn(1, 3, 64, 64)
    before, keys = model.eval()(images).cls_logits, list(model.state_dict())
    model.backbone.synchronize_norms()  # type: ignore[operator]
    assert torch.equal(model(images).cls_logits, before)
    assert list(model.state_dict()) == keys
    kinds = {type(module) for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)}
    assert all(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)
    devices = Devices(cpu=True)
    assert not devices.needs_sync_norm()
    monkeypatch.setattr(Devices, "world_size", 2)
    with pytest.raises(DeviceError, match=r"run\.sync_norm: .* needs GPUs"):
        devices.needs_sync_norm()


@given(
    counts=st.lists(st.integers(0, 3), max_size=5),
    first=st.sampled_from([0, 900_000_000_000, 2**53, 2**63 - 5, -3, -(2**63)]),
    seed=st.integers(0, 9),
)
def test_detections_come_back_from_rows_as_they_were(counts: list[int], first: int, seed: int) -> None:
    torch.manual_seed(seed)
    found = {
        first + number: ScoredDetections(torch.rand(count, 4) * 500, torch.rand(count), torch.randint(80, (count,)))
        for number, count in enumerate(counts)
    }
    shuffled = dict(sorted(found.items(), key=lambda item: item[0] % 3))
    back = rows_to_detections(detections_to_rows(shuffled))
    assert list(back) == [number for number in sorted(found) if len(found[number].scores)]
    for number, one in back.items():
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one[:3], found[number][:3], strict=True))
        assert one.edge_std is None


def test_processes_evaluate_whole_batches_and_each_image_once() -> None:
    data = SyntheticScenes(11, size=96)
    alone = [batch.image_ids for batch in evaluation_loader(data, INPUT, 2)]
    shares = [[b.image_ids for b in evaluation_loader(data, INPUT, 2, 0, rank, 3)] for rank in range(3)]
    assert sorted(ids for share in shares for ids in share) == sorted(alone)
    assert [len(share) for share in shares] == [2, 2, 2]


def test_small_gradients_are_not_touched_and_large_ones_are_scaled() -> None:
    devices, model = Devices(cpu=True), torch.nn.Linear(3, 2)
    for size, is_clipped in ((0.01, False), (10.0, True)):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, size)
        before = [p.grad for p in model.parameters()]
        with devices.accumulate(model):
            devices.clip_grad_norm(model, 1.0)
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        assert all(mine is p.grad for mine, p in zip(before, model.parameters(), strict=True))
        assert float(norm) == pytest.approx(1.0 if is_clipped else size * 8**0.5, rel=1e-4)
