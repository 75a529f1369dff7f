"""The studies: every cell is a config, says what it means, and stands beside the number the paper prints."""

from __future__ import annotations

from collections import defaultdict

import pytest

from gfocal.build import preset_options
from gfocal.config.config import ConfigError, read_config
from gfocal.lab.running import plan_runs, run_name
from gfocal.lab.setup import LabSetup, make_setup
from gfocal.lab.studies import COLUMNS, METRICS, STUDIES, Cell, Study, branch, gfl, joint, no_quality, resolve

OF_THE_PAPER = [study for study in STUDIES.values() if study.name not in ("vfl", "tal", "gflv2", "ld", "rare")]
CELLS = [(study, cell) for study in STUDIES.values() for cell in study.cells]
IDS = [f"{study.name}-{cell.column}-{cell.name}" for study, cell in CELLS]
BASES = ("lab_synthetic", "lab_files", "coco_r50_1x")


def cell_of(study: str, column: str, name: str) -> Cell:
    (found,) = [c for c in STUDIES[study].cells if (c.column, c.name) == (column, name)]
    return found


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("study", "cell"), CELLS, ids=IDS)
def test_every_cell_is_a_config(base: str, study: Study, cell: Cell) -> None:
    paper_size = base == "coco_r50_1x"
    config = resolve(read_config(base), cell, paper_size)
    preset_options(config.model)
    for key, value in (cell.changes | (cell.schedule if paper_size else {})).items():
        section, _, last = key.partition(".")
        part = getattr(config, section)
        found = part.options[last.partition(".")[2]] if last.startswith("options.") else getattr(part, last)
        assert found == value, key


def test_no_quality_is_a_choice_and_not_the_lack_of_one() -> None:
    base = read_config("lab_synthetic")
    assert resolve(base, Cell("atss", "none", no_quality("atss"))).method.quality == "none"
    assert base.method.quality is None


def test_names_are_unique_and_columns_known() -> None:
    assert (
        list(STUDIES)
        == [study.name for study in STUDIES.values()]
        == [
            *("1a", "1b", "1c", "2a", "2b", "2c", "3"),
            *("vfl", "tal", "gflv2", "ld", "rare"),
        ]
    )
    for study in STUDIES.values():
        places = [(cell.column, cell.name) for cell in study.cells]
        assert len(places) == len(set(places))
        assert set(study.columns) <= set(COLUMNS)
        for column in study.columns:
            configs = [str(cell.changes) for cell in study.cells if cell.column == column]
            assert len(configs) == len(set(configs)), "two rows of a column make the same choices"


@pytest.mark.parametrize(
    ("study", "column", "name", "numbers"),
    [
        ("1a", "fcos", "none", (37.8, 56.2, 40.8, 21.2, 42.1, 48.2)),
        ("1a", "fcos", "joint IoU (QFL)", (39.0, 57.8, 41.9, 22.0, 43.1, 51.0)),
        ("1a", "atss", "IoU-branch", (39.6, 57.6, 43.0, 23.3, 43.7, 51.2)),
        ("1a", "atss", "centerness-guided", (38.2, 56.2, 41.0, 21.5, 41.9, 49.7)),
        ("1b", "retinanet", "QFL", (36.4, 56.3, 39.1, 20.4, 40.0, 48.7)),
        ("1b", "ssd512", "as published", (29.4, 49.1, 30.6, 11.4, 34.1, 44.9)),
        ("1c", "atss", "beta 2.5", (39.7, 58.1, 42.7)),
        ("2a", "fcos", "General", (38.8, 56.6, 42.0, 22.5, 42.9, 49.8)),
        ("2a", "atss", "Gaussian", (39.3, 57.0, 42.4, 23.6, 42.9, 51.0)),
        ("2b", "atss", "n 14", (40.2, 58.3, 43.6, 23.3, 44.2, 52.2)),
        ("2c", "bins", "Delta 4", (39.8, 58.5, 42.8, 22.8, 43.4, 52.3)),
        ("3", "atss", "QFL and DFL", (40.2, 58.6, 43.4)),
        ("vfl", "atss", "FL, centerness-branch", (39.3,)),
        ("vfl", "atss", "VFL", (40.2,)),
        ("vfl", "foveabox", "FL", (36.3,)),
        ("vfl", "foveabox", "VFL", (37.2,)),
        ("vfl", "retinanet", "FL", (36.5,)),
        ("vfl", "retinanet", "VFL", (37.4,)),
    ],
)
def test_numbers_are_the_papers(study: str, column: str, name: str, numbers: tuple[float, ...]) -> None:
    paper = cell_of(study, column, name).paper
    assert paper is not None
    assert tuple(paper.values()) == numbers
    assert tuple(paper) == METRICS[: len(numbers)]


def test_the_paper_prints_all_but_joint_centerness() -> None:
    for study, cell in CELLS:
        assert (cell.paper is None) == (cell.name == "joint centerness") or study not in OF_THE_PAPER
        assert len(cell.printed.split()) in (0, len(study.metrics))
    for column in ("bins", "range"):
        assert [c.printed for c in STUDIES["2c"].cells if c.column == column] == [
            c.printed for c in STUDIES["2c"].cells if c.column == "bins"
        ]


def test_rows_of_the_paper_that_are_one_run_are_one_run_here() -> None:
    setting = LabSetup("paper", "coco", "coco_r50_1x", read_config("coco_r50_1x"), "coco")
    names: dict[tuple[str, str, str], str] = {}
    for one in plan_runs(STUDIES.values(), setting, [0]):
        outcome = one.outcome
        names[outcome.study, outcome.column, outcome.cell] = outcome.run
    same = [
        [("1a", "atss", "centerness-branch"), ("2a", "atss", "Dirac"), ("3", "atss", "neither")],
        [("1a", "atss", "joint IoU (QFL)"), ("1b", "atss", "QFL"), ("1c", "atss", "beta 2"), ("3", "atss", "QFL")],
        [("3", "atss", "QFL"), ("vfl", "atss", "QFL")],
        [("3", "atss", "QFL and DFL"), ("tal", "atss", "ATSS")],
        [("2a", "atss", "General, DFL"), ("3", "atss", "DFL")],
        [("2b", "atss", "n 16"), ("2c", "bins", "Delta 1"), ("2c", "range", "Delta 1"), ("3", "atss", "QFL and DFL")],
        [("1a", "fcos", "centerness-branch"), ("1b", "fcos", "centerness-branch"), ("2a", "fcos", "Dirac")],
        [("1a", "fcos", "joint IoU (QFL)"), ("1b", "fcos", "QFL")],
        [("1a", "atss", "centerness-branch"), ("1b", "atss", "centerness-branch")],
    ]
    for places in same:
        assert len({names[place] for place in places}) == 1, places

    # Rows that share a run print the same number of the paper.
    printed = defaultdict(set)
    for study, cell in CELLS:
        if cell.paper is not None and study in OF_THE_PAPER:
            printed[names[study.name, cell.column, cell.name]].add(tuple(cell.paper.values())[:3])
    assert all(len(numbers) == 1 for numbers in printed.values())
    assert len(printed) < len(names) - 8


def test_slow_cells_are_left_out_of_a_small_lab_unless_asked_for() -> None:
    small = make_setup("small", "synthetic")
    paper = LabSetup("paper", "coco", "coco_r50_1x", read_config("coco_r50_1x"), "coco")
    study = STUDIES["1b"]
    assert len(plan_runs([study], small, [0])) == 8
    epochs = small.config.run.epochs
    assert [one.config.run.epochs for one in plan_runs([study], small, [0], "ssd512")] == [epochs, epochs]
    assert [one.config.run.epochs for one in plan_runs([study], paper, [0])] == [12] * 4 + [120] * 2 + [12] * 4


def test_both_readings_of_table_2c() -> None:
    options = {
        column: [
            (cell.changes["model.options.n"], cell.changes["model.options.delta"])
            for cell in STUDIES["2c"].cells
            if cell.column == column
        ]
        for column in ("bins", "range")
    }
    assert options["bins"] == [(16, 0.5), (16, 1.0), (16, 2.0), (16, 4.0)]
    assert all(n * delta == 16 for n, delta in options["range"])
    assert [delta for _, delta in options["range"]] == [0.5, 1.0, 2.0, 4.0]


def test_a_run_is_named_for_all_that_decides_it() -> None:
    base = read_config("lab_synthetic")
    config = resolve(base, Cell("atss", "", joint("atss")))
    name = run_name(config, "data", 0)
    assert name.startswith("atss_r50_fpn-")
    assert name == run_name(resolve(base, Cell("other", "row", joint("atss"))), "data", 0)
    others = [
        run_name(resolve(base, Cell("atss", "", joint("atss", beta=1.0))), "data", 0),
        run_name(resolve(base, Cell("atss", "", branch("atss", "iou"))), "data", 0),
        run_name(resolve(base, Cell("atss", "", gfl(n=16))), "data", 0),
        run_name(resolve(base, Cell("atss", "", gfl(n=14))), "data", 0),
        run_name(config, "other data", 0),
        run_name(config, "data", 1),
    ]
    assert len({name, *others}) == 7


def test_a_cell_with_a_wrong_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="bta"):
        resolve(read_config("lab_synthetic"), Cell("atss", "typo", {"method.bta": 2.0}))
