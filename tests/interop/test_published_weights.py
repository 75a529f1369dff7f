"""Published weights by name, from a server on this machine: downloaded once, checked, converted, found again."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_mmdet import same_outputs, their_name
from weights_server import WeightsServer, serve

import gfocal
from gfocal.build import build_model
from gfocal.config.config import Config, read_config, with_changes
from gfocal.config.start import describe_initial_model, with_initial_network
from gfocal.data.coco_names import COCO_NAMES
from gfocal.errors import CheckpointImportError, DownloadError, ModelFileError
from gfocal.interop import download
from gfocal.interop.mmdet import import_checkpoint
from gfocal.interop.mmdet_checkpoint import read_checkpoint
from gfocal.interop.published_weights import find_own_file, is_in_cache, load, locate_model
from gfocal.interop.weights_cache import cache_folder, mirrored, model_file_of
from gfocal.models.finetuning import for_classes
from gfocal.models.gfl import gfl_r18_fpn
from gfocal.models.model_file import load_model, read_description, save_model
from gfocal.models.published import PUBLISHED, Download, PublishedWeights

NAME = "gfl_tiny_coco"
FILE = "gfl_tiny_fpn_coco_20200629-{}.pth"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return gfl_r18_fpn(80, names=COCO_NAMES, pretrained=False, channels=16, num_convs=1).eval()


@pytest.fixture(scope="module")
def content(model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint as MMDetection publishes it; its metadata name a version before 2.0, as some of the oldest may."""
    state = {their_name(key): value for key, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp("checkpoint") / "x.pth"
    torch.save({"meta": {"mmdet_version": "1.1.0", "epoch": 12}, "state_dict": state}, path)
    return path.read_bytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, downloads allowed, and a folder to run in."""
    for key in ("GFOCAL_OFFLINE", "HF_HUB_OFFLINE", "GFOCAL_MIRROR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


@pytest.fixture
def server(content: bytes) -> Iterator[WeightsServer]:
    with serve(content) as running:
        yield running


@pytest.fixture
def weights(server: WeightsServer, content: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedWeights:
    """An entry of the table for the server's file."""
    digits = hashlib.sha256(content).hexdigest()[:8]
    address = f"{server.address}/v2.0/gfl/{FILE.format(digits)}"
    entry = PublishedWeights(
        NAME, "gfl_r18_fpn", (Download(address, f"sha256:{digits}"),), 36.5, "12 epochs", "https://github.com/x", 45.0
    )
    monkeypatch.setitem(PUBLISHED, NAME, entry)
    return entry


def change(monkeypatch: pytest.MonkeyPatch, entry: PublishedWeights, **changes: Any) -> PublishedWeights:
    changed = replace(entry, **changes)
    monkeypatch.setitem(PUBLISHED, NAME, changed)
    return changed


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_name_is_downloaded_once_and_then_found(
    model, weights: PublishedWeights, server: WeightsServer, cache: Path, capsys: pytest.CaptureFixture[str]
):
    assert not is_in_cache(weights)
    found = gfocal.load(NAME)
    assert same_outputs(model, found)
    assert found.names == COCO_NAMES
    assert found.head.origin == "corner"
    assert files(cache) == {weights.file_name, f"{NAME}.safetensors"}
    said = capsys.readouterr().err
    assert f"{NAME}: downloading {weights.downloads[0].address} (45 MB, Apache-2.0)" in said
    assert str(model_file_of(weights)) in said
    assert is_in_cache(weights)
    assert locate_model(NAME) == model_file_of(weights)
    assert len(server.requests) == 1
    server.behavior = "404"
    assert same_outputs(model, load(Path(NAME)))
    assert capsys.readouterr().err == ""


def test_the_model_file_says_where_its_weights_come_from(weights: PublishedWeights, content: bytes, tmp_path: Path):
    found = load(NAME)
    expected = {
        "name": NAME,
        "address": weights.downloads[0].address,
        "file": weights.file_name,
        "bytes": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
        "license": "Apache-2.0",
        "source": "https://github.com/x",
        "training": "12 epochs",
    }
    assert found.provenance == read_description(locate_model(NAME))["provenance"] == expected
    save_model(found, tmp_path / "copy.safetensors")
    assert load_model(tmp_path / "copy.safetensors").provenance == expected
    assert for_classes(found, ("cat", "owl")).provenance == {}


def test_the_model_file_alone_is_enough(weights: PublishedWeights, server: WeightsServer, cache: Path):
    load(NAME)
    (cache / "checkpoints" / weights.file_name).unlink()
    server.behavior = "404"
    assert load(NAME).names == COCO_NAMES


def test_a_damaged_model_file_is_made_again(model, weights: PublishedWeights, server: WeightsServer):
    load(NAME)
    model_file_of(weights).write_bytes(b"damaged")
    assert same_outputs(model, load(NAME))
    assert len(server.requests) == 1


@pytest.mark.parametrize("by", ["official", ".pth", ".ckpt"])
def test_a_file_put_there_by_hand_is_used(
    model,
    weights: PublishedWeights,
    server: WeightsServer,
    content: bytes,
    cache: Path,
    by: str,
    capsys: pytest.CaptureFixture[str],
):
    (cache / "checkpoints").mkdir(parents=True)
    name = weights.file_name if by == "official" else f"{NAME}{by}"
    (cache / "checkpoints" / name).write_bytes(content)
    assert is_in_cache(weights)
    assert same_outputs(model, load(NAME))
    assert server.requests == []
    assert ("no hash of it is published" in capsys.readouterr().err) == (by != "official")


def test_a_model_file_put_there_by_hand_is_used(model, weights: PublishedWeights, server: WeightsServer, cache: Path):
    (cache / "checkpoints").mkdir(parents=True)
    save_model(model, cache / "checkpoints" / f"{NAME}.safetensors")
    assert same_outputs(model, load(NAME))
    assert server.requests == []


def test_a_better_file_put_there_later_is_used(model, weights: PublishedWeights, content: bytes, cache: Path):
    (cache / "checkpoints").mkdir(parents=True)
    other = gfl_r18_fpn(80, names=COCO_NAMES, pretrained=False, channels=16, num_convs=1)
    save_model(other, cache / "checkpoints" / f"{NAME}.safetensors")
    assert not same_outputs(model, load(NAME))
    (cache / "checkpoints" / weights.file_name).write_bytes(content)
    assert same_outputs(model, load(NAME))


def test_a_damaged_file_by_hand_is_named(
    weights: PublishedWeights, server: WeightsServer, content: bytes, cache: Path
):
    (cache / "checkpoints").mkdir(parents=True)
    file = cache / "checkpoints" / weights.file_name
    file.write_bytes(content[:-1000])
    with pytest.raises(CheckpointImportError, match=rf"{re.escape(str(file))}: its sha256 starts with .*remove"):
        load(NAME)
    assert file.exists()
    file.unlink()
    assert load(NAME).names == COCO_NAMES


def test_another_detector_by_hand_is_named(weights: PublishedWeights, cache: Path):
    (cache / "checkpoints").mkdir(parents=True)
    file = cache / "checkpoints" / f"{NAME}.safetensors"
    with torch.device("cpu"):
        save_model(gfocal.create("atss_r50_fpn", 80, pretrained=False, body="resnet18.tv_in1k", channels=32), file)
    with pytest.raises(
        CheckpointImportError, match=r"is a atss_r50_fpn with the backbone resnet18.*not gfl_tiny_coco"
    ):
        load(NAME)


def test_a_file_or_folder_of_that_name_comes_first(
    weights: PublishedWeights, server: WeightsServer, capsys: pytest.CaptureFixture[str]
):
    save_model(gfl_r18_fpn(2, names=("cat", "owl"), pretrained=False, channels=32), NAME)
    assert load(NAME).names == ("cat", "owl")
    assert "note: gfl_tiny_coco: the file or folder of this name is used" in capsys.readouterr().err
    assert server.requests == []
    assert find_own_file(NAME) == Path(NAME)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("gfl_r50_1x_cocco", "gfl_r50_1x_coco"),
        ("GFL_R101_2x_coco", "gfl_r101_2x_coco"),
        ("nanodet-plus-m_416", "nanodet_plus_m_416_coco"),
        ("gfl_r50_fpn_1x_coco", "gfl_r50_1x_coco"),
    ],
)
def test_a_typo_is_answered_with_the_right_name(cache: Path, typo: str, meant: str):
    with pytest.raises(ModelFileError, match=rf"{typo}: no such file or folder.*did you mean .*{meant}"):
        load(typo)


@pytest.mark.parametrize("path", ["nothing.safetensors", "runs/mine", "x"])
def test_a_path_that_is_not_there_is_a_path(cache: Path, path: str):
    with pytest.raises(ModelFileError, match=rf"^{path}: no such file or folder$"):
        load(path)


@pytest.mark.parametrize("variable", ["GFOCAL_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_so_at_once(
    weights: PublishedWeights, server: WeightsServer, monkeypatch: pytest.MonkeyPatch, variable: str
):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(DownloadError, match=rf"not in the cache, and {variable}=1 forbids downloads\. By hand: get"):
        load(NAME)
    assert server.requests == []
    monkeypatch.setenv(variable, "0")
    assert load(NAME).names == COCO_NAMES


def test_the_error_names_address_file_and_folder(weights: PublishedWeights, server: WeightsServer, cache: Path):
    server.behavior = "login"
    with pytest.raises(DownloadError) as error:
        load(NAME)
    text = str(error.value)
    assert f"{NAME} cannot be downloaded: {weights.downloads[0].address}: a web page came instead" in text
    assert f"save it as {cache / 'checkpoints' / weights.file_name}" in text
    assert "GFOCAL_CACHE" in text
    assert "\n" not in text
    assert files(cache) == set()
    server.behavior = "good"
    assert load(NAME).names == COCO_NAMES


def test_a_mirror_replaces_the_server(
    model, weights: PublishedWeights, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
):
    path = f"/v2.0/gfl/{weights.file_name}"
    change(monkeypatch, weights, downloads=(replace(weights.downloads[0], address=f"https://gone.invalid{path}"),))
    monkeypatch.setenv("GFOCAL_MIRROR", f"{server.address}/mirror/")
    assert same_outputs(model, load(NAME))
    assert server.requests == [(f"/mirror{path}", "")]
    monkeypatch.setenv("GFOCAL_MIRROR", "mirror.example")
    with pytest.raises(DownloadError, match=r"GFOCAL_MIRROR=mirror\.example: not an address"):
        mirrored("https://a/b")


def test_the_next_address_is_tried(
    model, weights: PublishedWeights, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
):
    first = Download("http://gone.invalid/x.pth", weights.downloads[0].digest)
    change(monkeypatch, weights, downloads=(first, *weights.downloads))
    server.behavior = "404"
    with pytest.raises(DownloadError, match=r"gone\.invalid/x\.pth: cannot be reached.*; http://127.*answers 404"):
        load(NAME)
    server.behavior = "good"
    assert same_outputs(model, load(NAME))


def test_what_can_be_resumed_is_not_left_for_another_address(
    model, weights: PublishedWeights, server: WeightsServer, monkeypatch: pytest.MonkeyPatch, cache: Path
):
    known = weights.downloads[0]
    second = replace(known, address=f"{known.address}?second")
    change(monkeypatch, weights, downloads=(known, second))
    server.behavior, server.piece = "break", 1_000_000
    with pytest.raises(DownloadError, match="second try resumes"):
        load(NAME)
    assert files(cache) == {f"{weights.file_name}.part", f"{weights.file_name}.part.json"}
    server.behavior = "good"
    assert same_outputs(model, load(NAME))
    assert not any("second" in path for path, _ in server.requests)
    assert server.requests[-1][1] == "bytes=5000000-"


def test_a_download_without_a_known_hash_is_checked_by_its_tensors(
    model, weights: PublishedWeights, server: WeightsServer, monkeypatch: pytest.MonkeyPatch, cache: Path
):
    change(monkeypatch, weights, downloads=(replace(weights.downloads[0], digest=None),))
    good, server.content = server.content, server.content[:-5000]
    with pytest.raises(
        DownloadError, match=r"what came from http://127.* is no such checkpoint, and was removed .*By hand"
    ):
        load(NAME)
    assert files(cache) == set()
    server.content = good
    assert same_outputs(model, load(NAME))


def test_a_full_disk_leaves_no_half_model_file(
    model, weights: PublishedWeights, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        real(self, data[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            DownloadError, match=r"safetensors: cannot be written \(No space left on device;.*free in"
        ):
            load(NAME)
    assert files(cache) == {weights.file_name}
    assert same_outputs(model, load(NAME))


def test_a_cache_that_cannot_be_one(weights: PublishedWeights, cache: Path):
    cache.write_text("a file")
    with pytest.raises(DownloadError, match=r"cannot be used as the cache .*GFOCAL_CACHE=FOLDER"):
        load(NAME)


def test_the_cache_is_the_users_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("GFOCAL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "gfocal"
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "gfocal"


SCRIPT = f"""
import sys
from gfocal.models.published import PUBLISHED, Download, PublishedWeights
from gfocal.interop import published_weights
address, digest = sys.argv[1:]
PUBLISHED["{NAME}"] = PublishedWeights("{NAME}", "gfl_r18_fpn", (Download(address, digest),), 1, "", "", 45.0)
print("ready", flush=True)
sys.stdin.readline()
print(len(published_weights.load("{NAME}").names), flush=True)
"""


def start(weights: PublishedWeights) -> subprocess.Popen[str]:
    """A process that loads the weights once it gets a line."""
    known = weights.downloads[0]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", SCRIPT, known.address, str(known.digest)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_download_it_once(weights: PublishedWeights, server: WeightsServer, cache: Path):
    server.behavior, server.stall, server.piece = "slow", 1.0, 0
    processes = [start(weights), start(weights)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in results] == ["80\n", "80\n"]
    assert len(server.requests) == 1
    said = "".join(err for _, err in results)
    assert said.count("downloading") == 1
    assert "waiting for another process" in said
    assert files(cache) == {weights.file_name, f"{NAME}.safetensors"}


def test_a_killed_process_leaves_what_can_be_resumed(
    model, weights: PublishedWeights, server: WeightsServer, cache: Path
):
    server.behavior, server.stall, server.piece = "stall", 30.0, 3_000_000
    process = start(weights)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    part = cache / "checkpoints" / f"{weights.file_name}.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 1_000_000) and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    server.behavior = "good"
    assert same_outputs(model, load(NAME))
    assert server.requests[-1][1].startswith("bytes=")
    assert files(cache) == {weights.file_name, f"{NAME}.safetensors"}


def test_training_starts_from_a_name(weights: PublishedWeights, capsys: pytest.CaptureFixture[str]):
    config: Config = with_changes(read_config("light"), {"model.init_from": NAME})
    config = with_initial_network(config)
    assert config.model.init_from == NAME  # so that the run's config means the same on another machine
    assert config.model.preset == "gfl_r18_fpn"
    assert "knows 2 of your 3 classes; new: owl" in describe_initial_model(NAME, ("cat", "owl", "dog"))
    assert build_model(config, ("cat", "owl", "dog")).names == ("cat", "owl", "dog")


def test_training_from_a_name_that_cannot_be_had_says_why(weights: PublishedWeights, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    config = replace(read_config("light"), model=replace(read_config("light").model, init_from=NAME))
    with pytest.raises(DownloadError):
        build_model(config, ("cat",))
    with pytest.raises(DownloadError):
        with_initial_network(config)


def test_thresholds_are_not_stored_in_the_cache(weights: PublishedWeights):
    with pytest.raises(ModelFileError, match=rf"copy {re.escape(str(model_file_of(weights)))}"):
        find_own_file(NAME)


@pytest.fixture
def loaded(weights: PublishedWeights) -> None:
    """The weights in the cache, before the fixture ``run`` forbids downloads."""
    load(NAME)


def test_commands_take_a_name(loaded: None, run: Callable[..., Any], server: WeightsServer, tmp_path: Path):

    Image.new("RGB", (96, 64)).save(tmp_path / "photo.png")
    code, out, err = run("detect", NAME, tmp_path / "photo.png", "--out", tmp_path / "found")
    assert code == 0, err
    assert (tmp_path / "found" / "detections.json").is_file()
    code, out, err = run("models")
    line = next(line for line in out.splitlines() if NAME in line)
    assert re.search(r"36\.5 .* 45 .*Apache-2\.0 .* yes ", line)
    code, out, err = run("detect", "gfl_tiny_cocoo", tmp_path / "photo.png")
    assert code == 2
    assert "did you mean gfl_tiny_coco" in err
    assert len(server.requests) == 1


def test_the_tensors_of_a_teacher_are_left_out_and_said(model, content: bytes, tmp_path: Path):
    state = {their_name(key): value for key, value in model.state_dict().items()}
    teacher = {f"teacher_model.{key}": value for key, value in list(state.items())[:50]}
    torch.save({"state_dict": state | teacher}, tmp_path / "ld.pth")
    found = import_checkpoint(tmp_path / "ld.pth")
    assert same_outputs(model, found.model)
    assert found.left_out == (
        "teacher_model.backbone.conv1.weight, ... (50 tensors): the teacher of a distillation, which detection does "
        "not need",
    )


def test_classes_of_lightning_are_read_without_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        content = {"callbacks": {callback: {"best": torch.ones(1)}}, "state_dict": {"a": torch.ones(2)}}
        torch.save(content, tmp_path / "x.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "x.ckpt")["state_dict"]["a"], torch.ones(2))
    assert "pytorch_lightning" not in sys.modules


def test_the_folded_weights_by_hand_detect(shared: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    folded = shared / "parity" / "nanodet" / "nanodet_plus_m_320.safetensors"
    if not folded.is_file():
        pytest.skip(f"no file {folded}")
    (cache / "checkpoints").mkdir(parents=True)
    (cache / "checkpoints" / "nanodet_plus_m_320_coco.safetensors").write_bytes(folded.read_bytes())
    model = load("nanodet_plus_m_320_coco")
    assert (model.input_settings.short_side, model.input_settings.long_side) == (320, 320)
    assert model.input_settings.stretch
    photo = shared / "data" / "coco_ccby" / "images" / "000000252219.jpg"
    found = model.detect(photo, score_threshold=0.5)
    assert found.class_names.count("person") == 3  # type: ignore[union-attr]
