"""Running studies: once each, on after a stop, past a failure; and what the paper's budget writes."""

from __future__ import annotations

import io
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pretended_runs import TINY, Runs, leave_run
from rich.console import Console

from gfocal.cli.main import build_parser
from gfocal.config.config import read_config, with_changes
from gfocal.errors import ConfigError, DataError, LabError
from gfocal.lab import running
from gfocal.lab import setup as lab_setup
from gfocal.lab.report import describe_runs
from gfocal.lab.results_json import RUNS_FOLDER, read_results
from gfocal.lab.running import PlannedRun, plan_runs, require_shared_values, run_planned, write_commands
from gfocal.lab.setup import LabSetup, load_lab_data, make_setup
from gfocal.lab.studies import STUDIES, Cell, Study, branch, joint, resolve
from gfocal.run_folder import RunFolder

BRANCH, QFL = branch("atss", "centerness"), joint("atss")
ONE = Study("1a", "one", "", (Cell("atss", "branch", BRANCH, "39.2"), Cell("atss", "QFL", QFL, "39.9")))
TWO = Study("3", "two", "", (Cell("atss", "neither", BRANCH, "39.2"), Cell("fcos", "QFL", joint("fcos"), "39.0")))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_setup, "IMAGES_PER_EPOCH", 4)
    monkeypatch.setattr(lab_setup, "TEST_IMAGES", 2)
    monkeypatch.setattr(lab_setup, "read_config", lambda name: with_changes(read_config(name), TINY))
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(running, "run_training", made)
    return made


def run(
    studies: Sequence[Study], out: Path, seeds: int = 2, column: str | None = None, data: str = "synthetic"
) -> tuple[dict[str, str], str]:
    setting = make_setup("small", data)
    output = io.StringIO()
    failed = run_planned(
        plan_runs(studies, setting, range(seeds), column), setting, out, Console(file=output, width=200)
    )
    return failed, output.getvalue()


def test_equal_cells_run_once_in_whole_seeds(runs: Runs, tmp_path: Path) -> None:
    failed, output = run([ONE, TWO], tmp_path)
    assert not failed
    assert "8 rows of tables are 6 runs; 0 are finished" in output
    assert [config.run.seed for config, *_ in runs.asked] == [0, 0, 0, 1, 1, 1]
    assert max(Counter(folder for _, _, folder, _ in runs.asked).values()) == 1
    results = read_results(tmp_path)
    assert results is not None
    assert [o.ap for o in results.outcomes] == [0.5] * 4 + [0.51] * 4
    by_place = {o.key: o for o in results.outcomes}
    assert by_place["1a", "atss", "branch", 0].run == by_place["3", "atss", "neither", 0].run
    first = results.outcomes[0]
    assert (first.seconds, first.epochs, first.threads, first.gfocal, first.device) == (60.0, 2, 2, "9.9", "cpu")
    assert results.setup["epochs"] == 2


def test_what_is_finished_is_skipped(runs: Runs, tmp_path: Path) -> None:
    run([ONE], tmp_path, seeds=1)
    assert len(runs.asked) == 2
    _, output = run([ONE, TWO], tmp_path, seeds=1)
    assert "2 are finished" in output
    assert len(runs.asked) == 3
    assert runs.asked[-1][0].model.preset == "fcos_r50_fpn"
    run([ONE, TWO], tmp_path, seeds=1)
    assert len(runs.asked) == 3


def test_a_column_alone(runs: Runs, tmp_path: Path) -> None:
    run([ONE, TWO], tmp_path, seeds=1, column="fcos")
    assert [config.model.preset for config, *_ in runs.asked] == ["fcos_r50_fpn"]
    with pytest.raises(LabError, match="fxos"):
        run([ONE, TWO], tmp_path, column="fxos")


def test_seeds_see_other_scenes_and_are_evaluated_on_the_same(runs: Runs, tmp_path: Path) -> None:
    run([ONE], tmp_path, seeds=2)
    seeds = [(config.run.seed, data.seed) for config, data, *_ in runs.asked if hasattr(data, "seed")]
    assert seeds == [(0, 0), (0, 0), (1, 1), (1, 1)]
    data = load_lab_data(make_setup("small", "synthetic"), Console(file=io.StringIO()))
    images = [data.train(0).read(0)[0], data.train(1).read(0)[0], data.val.read(0)[0]]
    assert not any((images[a] == images[b]).all() for a, b in ((0, 1), (0, 2), (1, 2)))
    assert len(data.val) == 2
    assert len(data.train(0)) == 4


def test_a_failing_cell_is_reported_and_the_others_follow(runs: Runs, tmp_path: Path) -> None:
    runs.failing = {"branch"}
    failed, output = run([ONE, TWO], tmp_path, seeds=1)
    assert list(failed.values()) == ["ValueError: this cannot be built"]
    assert "failed: ValueError: this cannot be built" in output
    assert len(runs.asked) == 3
    results = read_results(tmp_path)
    assert results is not None
    assert [(o.ap, o.failed is None) for o in results.outcomes] == [(None, False), (0.5, True)] * 2

    runs.failing = set()
    failed, _ = run([ONE, TWO], tmp_path, seeds=1)
    assert not failed
    assert len(runs.asked) == 4
    results = read_results(tmp_path)
    assert results is not None
    assert all(o.ap == 0.5 and o.failed is None for o in results.outcomes)


def test_a_stopped_lab_keeps_what_is_done_and_resumes(runs: Runs, tmp_path: Path) -> None:
    runs.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run([ONE, TWO], tmp_path, seeds=1)
    results = read_results(tmp_path)
    assert results is not None
    assert [o.ap for o in results.outcomes] == [0.5, None, 0.5, None]
    run([ONE, TWO], tmp_path, seeds=1)
    assert [resume for *_, resume in runs.asked] == [False, False, True, False]
    assert runs.asked[2][2] == runs.asked[1][2]


def test_results_outlive_their_runs(runs: Runs, tmp_path: Path) -> None:
    import shutil

    run([ONE], tmp_path, seeds=1)
    before = read_results(tmp_path)
    shutil.rmtree(tmp_path / RUNS_FOLDER)
    setting = make_setup("small", "synthetic")
    assert running.update_results(plan_runs([ONE], setting, [0]), setting, tmp_path) == before


def test_another_setting_needs_another_folder(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run([ONE], tmp_path, seeds=1)
    monkeypatch.setattr(lab_setup, "IMAGES_PER_EPOCH", 6)
    with pytest.raises(LabError, match=r"another setup, which differs in data .*--out"):
        run([ONE], tmp_path, seeds=1)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(LabError, match=r"results\.json"):
        run([ONE], tmp_path, seeds=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="is a file"):
        run([ONE], tmp_path / "file", seeds=1)


def test_changes_of_all_rows(runs: Runs, tmp_path: Path) -> None:
    setting = make_setup("small", "synthetic", {"run.epochs": "18", "method.beta": "1.5"})
    own, joint_one = plan_runs([STUDIES["1c"], ONE], setting, [0])[0], plan_runs([ONE], setting, [0])[0]
    assert own.config.run.epochs == joint_one.config.run.epochs == 18
    assert own.config.method.beta == 0.0, "beta is what the rows of this table differ in"
    assert joint_one.outcome.run != first_run(make_setup("small", "synthetic")).outcome.run
    results = running.update_results([joint_one], setting, tmp_path)
    assert results.setup["changes"] == "run.epochs = 18, method.beta = 1.5"
    assert "Changed in it: run.epochs = 18" in describe_runs(results)
    other = make_setup("small", "synthetic", {"run.epochs": "18"})
    with pytest.raises(LabError, match=r"another setup, which differs in changes .*--out"):
        running.update_results([first_run(other)], other, tmp_path)
    with pytest.raises(ConfigError, match="--set"):
        make_setup("small", "synthetic", {"run.epoch": "18"})


def test_values_that_rows_have_of_their_own_are_not_set_for_the_others() -> None:
    """Else a row would keep its name with another config."""
    require_shared_values([STUDIES["1c"], STUDIES["tal"]], ["run.epochs"])
    with pytest.raises(LabError, match=r"method\.assigner: rows have a value .* \(atss 'TAL'\); leave it out"):
        require_shared_values([STUDIES["tal"]], ["method.assigner"])
    with pytest.raises(LabError, match=r"method\.beta: .*atss 'beta 0', atss 'beta 1', atss 'beta 2' and 2 more"):
        require_shared_values([STUDIES["1c"]], ["run.epochs", "method.beta"])
    with pytest.raises(LabError, match=r"run\.seed: .*--seeds"):
        require_shared_values([ONE], ["run.seed"])
    require_shared_values(STUDIES.values(), ["distill.teacher"])
    with pytest.raises(LabError, match=r"distill\.teacher: is for the study ld alone"):
        require_shared_values([ONE], ["distill.teacher"])


def test_a_teacher_teaches_the_rows_of_its_study_alone() -> None:
    taught = make_setup("small", "synthetic", {"distill.teacher": "runs/large"})
    planned = plan_runs(list(STUDIES.values()), taught, [0])
    with_teacher = {(one.outcome.study, one.outcome.cell) for one in planned if one.config.distill.teacher}
    assert with_teacher == {("ld", "GFL with a teacher")}


def test_a_study_that_needs_a_teacher() -> None:
    plain = make_setup("small", "synthetic")
    with pytest.raises(LabError, match=r"study ld needs a value: --set distill\.teacher="):
        plan_runs([STUDIES["ld"]], plain, [0])
    said = io.StringIO()
    assert len(plan_runs([ONE, STUDIES["ld"]], plain, [0], console=Console(file=said, width=200))) == 2
    assert "study ld needs a value: --set distill.teacher=...; see docs/lab.md; it is left out" in said.getvalue()
    taught = make_setup("small", "synthetic", {"distill.teacher": "runs/large"})
    without, with_teacher = plan_runs([STUDIES["ld"]], taught, [0])
    assert without.config.distill.teacher is None
    assert with_teacher.config.distill.teacher == "runs/large"
    assert without.outcome.run != with_teacher.outcome.run


def first_run(setting: LabSetup) -> PlannedRun:
    return plan_runs([ONE], setting, [0])[0]


def test_a_real_run_stopped_after_an_epoch_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.training import loop

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    study = Study("1a", "", "", (ONE.cells[1],))
    assert run([study], whole, seeds=1)[0] == {}
    real: Any = vars(loop)["save_state"]

    def stop(*arguments: object) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        run([study], stopped, seeds=1)
    monkeypatch.setattr(loop, "save_state", real)
    assert "resuming after epoch 1 of 2" in run([study], stopped, seeds=1)[1]
    (one,), (other,) = (list((out / RUNS_FOLDER).iterdir()) for out in (whole, stopped))
    assert one.name == other.name
    assert (one / "last.safetensors").read_bytes() == (other / "last.safetensors").read_bytes()
    assert RunFolder(one).result.read_bytes() == RunFolder(other).result.read_bytes()

    # Stopped between its last epoch and its result, it is evaluated again, and no worse.
    result = RunFolder(one).result.read_bytes()
    RunFolder(one).result.unlink()
    run([study], whole, seeds=1)
    assert RunFolder(one).result.read_bytes() == result


def test_the_papers_budget_writes_configs_and_commands(tmp_path: Path) -> None:
    setting = LabSetup("paper", "some where/coco", "coco_r50_1x", read_config("coco_r50_1x"), "coco")
    planned = plan_runs([ONE, TWO], setting, range(2))
    file = write_commands(planned, setting, tmp_path / "lab")
    lines = [line for line in file.read_text().splitlines() if line.startswith("accelerate")]
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line)
        chosen = build_parser().parse_args(words[6:])
        assert chosen.data == ["some where/coco"]
        config = read_config(chosen.config)
        assert chosen.out.name == Path(chosen.config).stem
        assert config.run.epochs == 12
        assert config.model.options["box"] == "dirac"
    by_run = {one.outcome.run: one.config for one in planned}
    for name, config in by_run.items():
        assert read_config(tmp_path / "lab" / "configs" / f"{name}.toml") == config
    assert by_run[planned[0].outcome.run] == resolve(setting.config, ONE.cells[0])

    # The folders of the commands are those that the report gathers.
    leave_run(tmp_path / "lab" / RUNS_FOLDER / planned[0].outcome.run, 0.392)
    results = running.update_results(planned, setting, tmp_path / "lab")
    assert [o.ap for o in results.outcomes if o.seed == 0] == [0.392, None, 0.392, None]


NAMES = ("eval", "detect", "demo", "models", "import", "lab")


def test_settings_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="--data"):
        make_setup("paper", "synthetic")
    with pytest.raises(DataError, match="no such file"):
        make_setup("small", str(tmp_path / "nowhere"))
    assert make_setup("paper", str(tmp_path / "coco")).data_description == "coco"


def test_settings_of_bccd(shared: Path, runs: Runs, tmp_path: Path) -> None:
    setting = make_setup("small", str(shared / "data" / "bccd"))
    assert setting.config_name == "lab_files"
    assert setting.data_description == "bccd, 205 images, evaluated on 87 others"
    run([ONE], tmp_path, seeds=1, data=str(shared / "data" / "bccd"))
    assert len(runs.asked[0][1]) == 205
    assert str(shared) not in (tmp_path / "results.json").read_text()


def test_a_folder_of_a_run_holds_what_any_run_holds(tmp_path: Path) -> None:
    setting = make_setup("small", "synthetic")
    one = first_run(setting)
    data = load_lab_data(setting, Console(file=io.StringIO()))
    running.train_run(one, data.train(0), data.val, tmp_path, "synthetic", Console(file=io.StringIO()))
    folder = tmp_path / RUNS_FOLDER / one.outcome.run
    assert {"result.json", "config.toml", "run.json", "metrics.csv"} <= {file.name for file in folder.iterdir()}
    assert read_config(RunFolder(folder).config) == one.config
