"""gfocal benchmark: what its table says, which stages are timed, and its errors. Not the times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from gfocal.cli import DONE, USER_ERROR
from gfocal.errors import GFocalError
from gfocal.inference.benchmark import STAGES, Job, Measured, Stages, measure, percentile
from gfocal.models.model_file import save_model
from gfocal.models.zoo import create

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "nano.safetensors"
    torch.manual_seed(0)
    save_model(create("nanodet_plus_m", 2, pretrained=False, channels=32), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(5):
        Image.effect_noise((90, 60), 40 + i).convert("RGB").save(folder / f"{i}.jpg")
    return folder


def batch(network: float) -> dict[str, float]:
    return dict(zip(STAGES, (0.01, 0.02, network, 0.03, 0.04), strict=True))


def test_figures_follow_from_the_stages_of_each_batch() -> None:
    measured = Measured(Job("m", "auto", ("a", "b"), 2), "torch", "float32", [batch(n) for n in (0.3, 0.1, 0.2)])
    assert measured.latencies == pytest.approx([0.15, 0.25, 0.35])
    assert measured.images_per_second == pytest.approx(2 / 0.3)
    assert sum(measured.shares.values()) == pytest.approx(1)
    assert measured.shares["network"] == pytest.approx(0.2 / 0.3)
    assert [percentile([1, 2, 3, 4], share) for share in (0.01, 0.5, 0.95, 1.0)] == [1, 2, 4, 4]


def test_all_stages_of_all_images_are_timed(model: Path, images: Path, tmp_path: Path) -> None:
    job = Job(str(model), "bf16", tuple(map(str, sorted(images.iterdir()))), 2, (96, 64))
    stages = Stages(job, tmp_path)
    assert (stages.engine, stages.precision) == ("torch", "bf16")
    assert (stages.model.input_settings.short_side, stages.model.input_settings.long_side) == (64, 96)
    with stages.journal:
        batches = stages.run()
    assert len(batches) == 3  # of two, two and one
    assert all(tuple(one) == STAGES and min(one.values()) > 0 for one in batches)
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 1 + 5


def test_an_error_in_a_process_is_one_here(tmp_path: Path, images: Path) -> None:
    (tmp_path / "no.safetensors").write_bytes(b"no model")
    with pytest.raises(GFocalError, match=r"no\.safetensors"):
        measure([Job(str(tmp_path / "no.safetensors"), "auto", (str(images / "0.jpg"),))], 1)


def test_the_command_prints_a_table(run: Run, model: Path, images: Path) -> None:
    code, out, err = run("benchmark", model, "--images", images, "--max-images", 2, "--rounds", 1, "--size", "64x96")
    assert code == DONE, err
    machine, about, empty, head, line, *rows = out.splitlines()
    assert "cores usable" in machine
    assert f"torch {torch.__version__.partition('+')[0]}" in machine
    assert about.startswith(f"2 images of {images}, input 64x96, batch size 1, 1 round;")
    assert not empty
    columns = [name.strip() for name in head.strip("|").split("|")]
    assert columns[:3] == ["model", "engine", "precision"]
    assert columns[-len(STAGES) :] == [f"{stage} %" for stage in STAGES]
    assert set(line) <= set("|-:")
    assert len(rows) == 2
    for row, precision in zip(rows, ("float32", "bf16"), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:3] == ["nano.safetensors", "torch", precision]
        median, slowest, speed, memory, *shares = map(float, cells[3:])
        assert 0 < median <= slowest
        assert speed > 0
        assert memory > 20  # MB, of a whole process
        assert sum(shares) == pytest.approx(100, abs=3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch.safetensors"], "nosuch.safetensors: no such file or folder"),
        (["MODEL", "--engine", "openvino"], "--engine openvino: none of the models runs in it"),
        (["MODEL", "--images", "nosuch"], "--images nosuch: no such folder"),
        (["MODEL", "--size", "64"], "takes HEIGHTxWIDTH in pixels"),
        (["MODEL", "--precision", "int4"], "takes some of float32, bf16"),
    ],
)
def test_mistakes_are_answered_in_a_line(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("benchmark", *(str(model) if text == "MODEL" else text for text in arguments))
    assert code == USER_ERROR
    assert expected in err.splitlines()[-1]
