"""Every block of every page is one that something runs; this file runs the commands, and test_readme.py the Python.

A page's ``gfocal`` commands run one after the other, as a reader types them, in a folder with small files of the
names on the page. Training is replaced by a copy of a finished run, once options, config and data are read.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import gfocal.run
from doc_commands import BLOCKS, CHECKOUT, COMMANDS, PAGES, Block, Command
from doc_workplace import Workplace
from gfocal.cli.main import build_parser
from gfocal.config.config import Config, read_config

Run = Callable[..., tuple[int, str, str]]
# Languages of blocks -> what runs or reads them.
LANGUAGES = {
    "bash": "this file",
    "python": "test_readme.py",
    "py": "this file, where the trackers are installed",
    "toml": "this file",
    "json": "this file",
    "yaml": "this file",
    "text": "this file, if it is of commands; else what a command prints",
    "bibtex": "nothing",
    "": "nothing: trees of files, and what a command prints",
}
# Programs that are not gfocal, which these tests neither run nor parse.
OTHERS = {"source", "pre-commit", "ruff", "mypy", "sphinx-build", ".ci/run", "cp", "cd", "export", "docker", "curl"}
OTHERS |= {"xargs", "cvat-cli", "label-studio"}
# gfocal commands that are parsed but not run -> why.
NOT_RUN = {
    "demo": "takes minutes; tests/lab",
    "lab": "takes hours; tests/lab",
    "export": "takes long; tests/export",
    "import": "needs a checkpoint of another tool; tests/interop",
    "benchmark": "takes long; tests/cli",
    "serve": "runs until it is stopped; tests/serving",
}
# Words of gfocal commands that need a network, a device, a cluster or minutes; those are parsed but not run.
NOT_HERE = (
    *("s3://", "rtsp://", "camera", "--engine", "--merge", "mine.onnx", "--track", "images.parquet", "PATH/TO"),
    *("synthetic", "demo.safetensors", "gfl_r50_1x_coco", "ld_r18_1x_coco"),
)


def shown(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


def test_every_block_is_of_a_known_kind() -> None:
    assert {block.language for block in BLOCKS} <= set(LANGUAGES)
    assert sum(block.is_commands for block in BLOCKS) > 50


def test_every_program_is_known() -> None:
    known = OTHERS | {"gfocal", "python", "pip", "torchrun", "accelerate", "srun"}
    assert not [str(command) for command in COMMANDS if command.words[0] not in known]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        return Workplace(tmp_path_factory.mktemp("docs"))


def is_run(command: Command) -> bool:
    words = command.words
    is_elsewhere = any(word.startswith(NOT_HERE) for word in words[1:])
    return words[0] == "gfocal" and "--help" not in words and words[1] not in NOT_RUN and not is_elsewhere


RUN = {page: [one for one in COMMANDS if one.page == page and is_run(one)] for page in PAGES}


@pytest.fixture
def copied_runs(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Replaces training; the configs of all runs."""
    configs: list[Config] = []

    def copy_run(config: Config, train_data: Any, val_data: Any, folder: Path, **options: Any) -> tuple[None, None]:
        assert len(train_data) > 0
        configs.append(config)
        workplace.copy_run(folder, train_data.names)
        return None, None

    monkeypatch.setattr(gfocal.run, "run_training", copy_run)
    monkeypatch.setattr("gfocal.cli.train.check_bf16", lambda *arguments: None)
    return configs


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=shown)
def test_commands_of_a_page_run_in_turn(
    page: Path,
    workplace: Workplace,
    copied_runs: list[Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GFOCAL_CACHE", str(workplace.folder / "cache"))
    splits = [one for one in RUN[page] if one.words[1] == "split" and "--replace" not in one.words]
    if splits:
        workplace.unsplit(tmp_path)
    for command in RUN[page]:
        words = list(command.words[1:])
        if command in splits[1:]:  # another way to do the same
            workplace.unsplit(tmp_path)
        prepare(words, workplace, tmp_path)
        if words[0] == "check":
            words += ["--jobs", "1"]
        if "--number" in words:
            words[words.index("--number") + 1] = "1"  # there are only a few
        if words[0] in ("train", "eval") and "--num-workers" not in words:
            words += ["--num-workers", "0"]
        code, _, err = run(*words)
        assert code == 0 or (words[0] == "check" and code == 1), f"{command}\n{err}"
        assert copied_runs or words[0] != "train", f"{command}\n{err}"
        copied_runs.clear()


def prepare(words: list[str], workplace: Workplace, folder: Path) -> None:
    """Make the files that a command reads, unless an earlier one of the page has made them."""
    out = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "--out"), None)
    if words[0] == "train" and "--resume" not in words and out is not None:
        shutil.rmtree(folder / out, ignore_errors=True)  # the page starts a run there more than once
    elif out is not None and words[0] in ("convert", "detect", "select") and "--resume" not in words:
        shutil.rmtree(folder / out, ignore_errors=True)
    values = [
        word for i, word in enumerate(words) if (not word.startswith("--") and word != out) or words[0] == "split"
    ]
    for word in values[1:]:
        name = word.removeprefix("@")
        if not (folder / name).exists():
            workplace.put(word, folder)
    if words[0] == "train" and "--resume" in words and out is not None and not (folder / out).exists():
        workplace.put(out, folder)


def parsed_by(command: Command) -> int | None:
    """Where the words of gfocal start in a command that launches it, else None."""
    words = list(command.words)
    if "-m" in words and words[words.index("-m") + 1] == "gfocal":
        return words.index("-m") + 2
    if words[:2] == ["docker", "run"]:
        return len(words) - words[::-1].index("gfocal")
    return None


LAUNCHED = [command for command in COMMANDS if parsed_by(command) is not None]


@pytest.mark.parametrize("command", LAUNCHED, ids=str)
def test_launched_commands_parse(command: Command) -> None:
    start = parsed_by(command)
    assert callable(build_parser().parse_args(command.words[start:]).run)
    words = list(command.words)
    if words[0] == "srun":
        words = words[words.index("torchrun") :]
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        assert get_args_parser().parse_args(words[1:]).training_script == "gfocal"
    if words[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        assert launch_command_parser().parse_args(words[2:]).training_script == "gfocal"


def test_the_container_runs_gfocal_by_itself() -> None:
    """``docker run IMAGE ARGUMENTS``: the image is called gfocal, and so is its entry point."""
    assert 'ENTRYPOINT ["gfocal"' in (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")


def benchmarks() -> list[Command]:
    """The commands of blocks and of the text that name a script of benchmarks/."""
    found = [one for one in COMMANDS if one.words[0] == "python" and one.words[1].startswith("benchmarks/")]
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for span in re.findall(r"`python (benchmarks/[^`\n]+)`", text):
            found.append(Command(page, 0, ("python", *span.split())))
    return found


class ParsedError(Exception):
    """The options of a script were read."""


@pytest.mark.parametrize("command", benchmarks(), ids=str)
def test_options_of_benchmarks_are_theirs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if "[" in " ".join(command.words) or "..." in command.words:
        pytest.skip("names its options, and is no command")
    script = CHECKOUT / command.words[1]
    if "parse_args" not in script.read_text(encoding="utf-8"):
        pytest.skip("is there, and reads no options by argparse")
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(parser, *arguments)
        raise ParsedError

    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", list(command.words[1:]))
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except ParsedError:
        return
    except ModuleNotFoundError as missing:
        pytest.skip(f"needs {missing.name}")
    raise AssertionError(f"{command}: reads no options")


def test_scripts_are_there() -> None:
    scripts = [one for one in COMMANDS if one.words[0] == "python" and one.words[1].endswith(".py")]
    folders = (CHECKOUT, CHECKOUT / "examples")
    assert not [str(one) for one in scripts if not any((folder / one.words[1]).is_file() for folder in folders)]


def test_pip_installs_what_is_there() -> None:
    from gfocal.config.values import import_toml

    extras = import_toml().loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in (one for one in COMMANDS if one.words[0] == "pip"):
        for word in command.words[2:]:
            name, _, wanted = word.rstrip("]").partition("[")
            if wanted and name in (".", "gfocal"):  # the second where gfocal is installed already
                assert set(wanted.split(",")) <= set(extras), str(command)


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.words[:2] == ("python", "-c")], ids=str)
def test_one_line_scripts_run(command: Command, workplace: Workplace, tmp_path: Path) -> None:
    code = command.words[2]
    if "pyvips" in code:
        pytest.importorskip("pyvips", reason="needs the extra large")
        workplace.put("survey.tif", tmp_path)
        (tmp_path / "survey.tif").rename(tmp_path / "survey.jpg")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_requests_to_the_service_are_answered(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from gfocal.serving.app import create_app
    from gfocal.serving.service import make_service

    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        workplace.put(name, tmp_path)
    with TestClient(create_app(make_service(workplace.detector, "mine"))) as client:
        for command in (one for one in COMMANDS if one.words[0] == "curl"):
            words = command.words[1:]
            fields = [value.split("=@") for option, value in pairwise(words) if option == "-F"]
            address = re.sub(r"^http://[\w.]+:8000", "", next(word for word in words if word.startswith("http")))
            if "coverage" in address and workplace.detector.calibration is None:
                address = re.sub(r"&?coverage=[\d.]+", "", address)
            files = [(field, (name, (tmp_path / name).read_bytes(), "image/jpeg")) for field, name in fields]
            found = client.post(address, files=files)
            assert found.status_code == 200, f"{command}\n{found.text}"
        probes = yaml.safe_load(next(block.text for block in BLOCKS if "livenessProbe" in block.text))
        for probe in (probes["livenessProbe"], probes["readinessProbe"]):
            assert client.get(probe["httpGet"]["path"]).status_code == 200


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "toml"], ids=lambda one: shown(one.page))
def test_configs_are_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(block.text, encoding="utf-8")
    assert read_config(file) != Config()


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "json"], ids=lambda one: shown(one.page))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


def test_cells_of_the_lab_are_built() -> None:
    import gfocal.lab.studies as studies

    block = next(block for block in BLOCKS if block.text.startswith("Cell("))
    cells = eval(f"[{block.text}]", {**vars(studies)})
    assert len(cells) == 2


def test_trackers_take_covariances(workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of the page on trust with trackers of others; each block where its library is installed."""
    from calibrations import calibration
    from gfocal.models.model_file import load_model, save_model
    from gfocal.models.precision import digest_weights

    pytest.importorskip("filterpy", reason="needs filterpy, and norfair and trackers for two of three examples")
    model = load_model(workplace.folder / "run")
    model.calibration = calibration(digest_weights(model), num_classes=3)
    save_model(model, tmp_path / "calibrated.safetensors")
    workplace.put("new", tmp_path)
    (tmp_path / "new").rename(tmp_path / "frames")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in (one for one in BLOCKS if one.language == "py"):
        needs = re.findall(r"^from (\w+)", block.text, re.M)
        if all(importlib.util.find_spec(name) for name in needs):
            exec(compile(block.text, f"{shown(block.page)}:{block.line}", "exec"), names)
    assert names["kalman"] is not None
