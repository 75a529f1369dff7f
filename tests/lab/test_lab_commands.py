"""gfocal lab as a user meets it: list, run, report, figures, theory; and how it says what must be fixed."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_runs import TINY, Runs

from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.cli.lab import RUNS_OF_FIGURES
from gfocal.cli.main import build_parser, main
from gfocal.config.config import read_config, with_changes
from gfocal.lab import figures, running, theory
from gfocal.lab import setup as lab_setup
from gfocal.lab.figures import figure_8 as speeds
from gfocal.lab.studies import COLUMNS, STUDIES

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(lab_setup, "read_config", lambda name: with_changes(read_config(name), TINY))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(["lab", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run_it


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(running, "run_training", made)
    return made


@pytest.mark.parametrize("command", ["", "list", "run", "report", "figures", "theory"])
def test_help(run: Run, command: str) -> None:
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (DONE, "")
    assert out.startswith(f"usage: gfocal lab {command}".rstrip())
    assert max(map(len, out.splitlines())) <= 158


def test_list_names_all(run: Run) -> None:
    code, out, _ = run("list")
    assert code == DONE
    for study in STUDIES.values():
        assert study.title in out
        for cell in study.cells:
            assert cell.name in out
    for column in COLUMNS.values():
        assert column in out
    assert "40.2" in out


def test_run_then_report(run: Run, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "lab"
    code, _, err = run("run", "3", "--seeds", "2", "--out", out)
    assert code == DONE, err
    assert len(runs.asked) == 8
    assert (out / "report.html").is_file()
    assert "report: " in err

    markdown = tmp_path / "docs" / "lab.md"
    code, _, err = run("report", "--out", out, "--markdown", markdown)
    assert code == DONE, err
    assert "Table 3" in markdown.read_text(encoding="utf-8")
    assert str(markdown) in err


def test_threads(run: Run, runs: Runs, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run("run", "1c", "--seeds", "1", "--threads", "3", "--out", tmp_path)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_failed_run_gives_its_own_exit_code(run: Run, runs: Runs, tmp_path: Path) -> None:
    runs.failing = {"branch"}
    code, _, err = run("run", "3", "--seeds", "1", "--out", tmp_path)
    assert code == SOME_FAILED
    assert err.splitlines()[-1].startswith("failed: atss_r50_fpn-")
    assert "cannot be built" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_ctrl_c_says_how_to_continue(run: Run, runs: Runs, tmp_path: Path) -> None:
    runs.stop_at = 2
    code, _, err = run("run", "3", "--seeds", "1", "--out", tmp_path)
    assert code == 130
    assert err.splitlines()[-1] == "stopped; the same command continues"
    assert (tmp_path / "results.json").is_file()


def test_the_papers_budget_starts_nothing(run: Run, runs: Runs, tmp_path: Path) -> None:
    code, _, err = run("run", "2b", "--budget", "paper", "--data", "coco", "--seeds", "1", "--out", tmp_path)
    assert code == DONE
    assert not runs.asked
    assert len(list((tmp_path / "configs").iterdir())) == 4
    assert "nothing was started" in err
    assert str(tmp_path / "commands.sh") in err


def test_the_papers_budget_starts_on_demand(
    run: Run, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = lab_setup.SyntheticScenes(2)
    monkeypatch.setattr(running, "load_lab_data", lambda *_: lab_setup.LabData(lambda seed: scenes, scenes))
    arguments = ("--budget", "paper", "--start", "--data", "coco", "--seeds", "1", "--out", tmp_path)
    code, _, err = run("run", "2b", *arguments)
    assert code == DONE, err
    assert len(runs.asked) == 4
    assert not (tmp_path / "configs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "9z"), "there is no study '9z'; there are 1a, 1b"),
        (("run", "1a", "--column", "ssd"), "column 'ssd'"),
        (("run", "1a", "--data", "nowhere"), "nowhere: no such file or folder"),
        (("run", "1c", "--set", "method.beta=3"), "rows have a value of their own"),
        (("run", "1a", "--set", "run.seed=3"), "--seeds"),
        (("run", "1a", "--set", "distill.teacher=runs/x"), "for the study ld alone"),
        (("run", "ld", "--set", "distill.teacher=nowhere"), "nowhere"),
        (("run", "1a", "--budget", "paper"), "--data PATH/TO/coco"),
        (("report", "--out", "nowhere"), "start with gfocal lab run"),
    ],
)
def test_mistakes_end_in_one_line(
    run: Run, arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == USER_ERROR
    assert len(err.splitlines()) == 1
    assert said in err
    assert not list(tmp_path.iterdir())


def test_figures_of_what_there_is(run: Run, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def simulated(folder: Path, data: object, *, split: str | None) -> list[Path]:
        asked.append({"data": data, "split": split})
        return [folder / "figure_05.png"]

    def from_runs(folder: Path, **given: Any) -> list[Path]:
        asked.append(given)
        return [folder / "figure_07.png"]

    monkeypatch.setattr(figures, "draw_simulated", simulated)
    monkeypatch.setattr(figures, "draw_from_runs", from_runs)
    monkeypatch.setattr(speeds, "measure_speeds", lambda models, data: sorted(models))  # these models are only names
    code, _, err = run("figures", "--out", tmp_path)
    assert code == DONE
    assert asked == [{"data": None, "split": None}]
    assert "figure_05.png" in err
    assert "1a (joint IoU (QFL))" in err

    run("run", "2a", "--seeds", "2", "--column", "atss", "--out", tmp_path)
    for folder in (tmp_path / "runs").iterdir():
        (folder / "last.safetensors").write_text(folder.name)
    asked.clear()
    code, _, err = run("figures", "--out", tmp_path)
    assert code == DONE
    given = {name for name, value in asked[1].items() if value}
    assert given == {"data", "dirac", "gaussian", "general", "speeds", "machine"}
    assert asked[1]["speeds"] == ["dirac", "gaussian", "general"]
    assert asked[1]["general"].read_text().endswith("-seed0")
    assert len(asked[1]["data"]) == lab_setup.TEST_IMAGES
    assert "figure_07.png" in err
    assert err.splitlines()[-1].endswith("1a (joint IoU (QFL)), 1a (IoU-branch)")

    code, _, err = run("figures", "--out", tmp_path, "--data", tmp_path)
    assert code == USER_ERROR


def test_figures_are_of_cells_that_exist() -> None:
    for study, column, name in RUNS_OF_FIGURES.values():
        assert [c for c in STUDIES[study].cells if (c.column, c.name) == (column, name)]


def test_theory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("theory")
    assert code == DONE
    assert "holds" in out
    assert "NO" not in out
    broken = [theory.Check("a statement", 10, 1.0, 0.1)]
    monkeypatch.setattr(theory, "check_theory", lambda: broken)
    code, out, _ = run("theory")
    assert code == SOME_FAILED
    assert "NO" in out


def test_examples_of_the_help_parse() -> None:
    from gfocal.cli.lab import LAB_EPILOG

    lines = [line.strip() for line in LAB_EPILOG.splitlines() if line.strip().startswith("gfocal lab")]
    assert len(lines) == 7
    for line in lines:
        words = re.split(" {2,}", line)[0].split()[1:]
        assert build_parser().parse_args(words).lab_command == words[1]
