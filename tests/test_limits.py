"""Limits of the system end a command in one line that names them; they are set in child processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gfocal import limits
from gfocal.errors import ImageError, OpenFilesError
from gfocal.limits import is_out_of_files, is_out_of_memory, require_open_files
from gfocal.models.model_file import save_model
from gfocal.models.zoo import create

pytest.importorskip("resource")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs limits on memory, and /proc")

# Libraries are loaded before the limit is set, so that it is reached by the command's own work.
CHILD = """
import resource, sys
import gfocal.run, gfocal.reports.tables, gfocal.checks.check, gfocal.evaluation.evaluate, gfocal.models.model_file
import gfocal.training.distributed, timm, faster_coco_eval, rich.progress, rich.table
from gfocal.cli.main import main

def mapped():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

kind, amount, *command = sys.argv[1:]
if kind == "memory":
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + int(amount),) * 2)
elif kind == "files":
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(amount),) * 2)
elif kind == "images":  # only reading images meets the limit
    import gfocal.checks.check as check
    read = check.read_images
    def limited(*arguments):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(amount),) * 2)
        return read(*arguments)
    check.read_images = limited
sys.exit(main(command))
"""
OPTIONS = ("--preset", "gfl_light_fpn", "--no-pretrained", "--epochs", "1", "--num-workers", "0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images with a box each, in two splits."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        images = [{"id": i, "file_name": f"{split}{i}.jpg", "width": 96, "height": 96} for i in range(16)]
        boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 50, 50]} for i in range(16)]
        tree = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "box"}]}
        (folder / f"{split}.json").write_text(json.dumps(tree))
        for entry in images:
            Image.new("RGB", (96, 96), (200, entry["id"], 0)).save(folder / str(entry["file_name"]))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(create("gfl_light_fpn", 1, names=("box",), pretrained=False), path)
    return path


def run(kind: str, amount: int, *command: str | Path) -> tuple[int, list[str]]:
    """Exit code and lines of the standard error of a command in a process with a limit."""
    arguments = [sys.executable, "-c", CHILD, kind, str(amount), *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.splitlines()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "eval", "check"])
def test_out_of_memory_is_one_line(command: str, data: Path, model: Path, tmp_path: Path) -> None:
    if command == "train":
        size = ("--batch-size", "16", "--short-side", "1600", "--set", "augment.short_sides=none")
        code, lines = run("memory", 2**29, "train", data, "--out", tmp_path / "run", *OPTIONS, *size)
    elif command == "eval":
        code, lines = run("memory", 2**25, "eval", model, data, "--num-workers", "0")
    else:
        code, lines = run("memory", 2**20, "check", data, "--jobs", "4")
    assert code == 2
    assert lines[-1].startswith("gfocal: out of memory. Use less: ")
    assert sum(line.startswith("gfocal: ") for line in lines) == 1


@linux
@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "eval"])
def test_too_few_open_files_are_told_before_the_first_image(
    command: str, data: Path, model: Path, tmp_path: Path
) -> None:
    if command == "train":
        code, lines = run("files", 40, "train", data, "--out", tmp_path / "run", *OPTIONS[:-1], "2")
    else:
        code, lines = run("files", 40, "eval", model, data, "--num-workers", "2")
    assert code == 2
    assert "too few open files: this process may open 40 (ulimit -n), and to load images in 2 processes" in lines[-1]
    assert "--num-workers 0" in lines[-1]


@linux
@pytest.mark.slow
def test_check_calls_no_image_broken_for_want_of_open_files(data: Path) -> None:
    code, lines = run("images", 3, "check", data, "--jobs", "4")
    assert code == 2
    assert lines[-1].startswith("gfocal: too many open files: this process may open 3 (ulimit -n)")
    assert not any("jpg" in line for line in lines)


def test_an_image_that_cannot_be_opened_for_want_of_files_is_not_broken(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gfocal.data.images import read_image

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OpenFilesError, match="too many open files"):
        read_image(data / "train0.jpg")


@pytest.mark.parametrize("is_short", [True, False])
def test_an_image_is_broken_only_where_memory_is_left(
    data: Path, monkeypatch: pytest.MonkeyPatch, is_short: bool
) -> None:
    from gfocal.data import images

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(images, "can_allocate", lambda _: not is_short)
    with pytest.raises(MemoryError if is_short else ImageError):
        images.read_image(data / "train0.jpg")


def test_enough_files_or_no_processes_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "open_file_limit", lambda: 10)
    require_open_files(0)
    with pytest.raises(OpenFilesError, match="in 1 process it needs"):
        require_open_files(1)
    monkeypatch.setattr(limits, "open_file_limit", lambda: None)
    require_open_files(100)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "x"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback ..."),
    ],
)
def test_errors_that_mean_want_of_memory(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_files(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "x"),
        RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"),
        RuntimeError("received 0 items of ancillary data"),
    ],
)
def test_errors_that_mean_want_of_files(error: Exception) -> None:
    assert is_out_of_files(error)
    assert not is_out_of_memory(error)


def test_other_errors_mean_neither() -> None:
    for error in (ValueError("memory of an elephant"), OSError(errno.ENOENT, "x"), SystemError("x")):
        assert not is_out_of_memory(error)
        assert not is_out_of_files(error)
