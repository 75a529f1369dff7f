"""Runs side by side: what differs, what came of them, and a page that says it all by itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.config.config import Config, with_changes, write_config
from gfocal.errors import CompareError
from gfocal.evaluation.bootstrap import MatchTable, write_matches
from gfocal.reports.comparison import write_comparison_page
from gfocal.reports.runs import (
    ap_differences,
    config_differences,
    environment_differences,
    have_same_evaluation_data,
    read_runs,
    seed_spreads,
    short_names,
)
from gfocal.training.pace import format_duration

CLASSES = {
    "cat": {"ap": 0.5, "ap50": 0.75, "num_ground_truth": 4},
    "<b>owl": {"ap": None, "ap50": None, "num_ground_truth": 0},
}


def made(folder: Path, aps: list[float | None], finished: bool = True, about: Any = None, **changes: Any) -> Path:
    """The folder of a run with these AP after its epochs; None: not evaluated."""
    folder.mkdir(parents=True)
    config = with_changes(Config(), {"run.epochs": 4} | {key.replace("__", "."): v for key, v in changes.items()})
    (folder / "config.toml").write_text(write_config(config))
    lines = ["epoch,seconds,lr,loss,ap,ap50,ap75"]
    for epoch, ap in enumerate(aps, 1):
        evaluation = ",," if ap is None else f"{ap},{ap + 0.25},{ap / 2}"
        lines.append(f"{epoch},{epoch * 30.5},0.01,{1 / epoch},{evaluation}")
    if aps:
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    facts = {"gfocal": "0.1.0", "data": "photos", "val_images": 9, "classes": ["cat", "owl"]} | (about or {})
    (folder / "run.json").write_text(json.dumps(facts))
    if finished:
        (folder / "result.json").write_text(json.dumps({"ap": aps[-1], "per_class": CLASSES}))
    return folder


def test_one_run(tmp_path: Path) -> None:
    (run,) = read_runs([made(tmp_path / "a", [None, 0.5, None, 0.25])])
    assert (run.name, run.epochs, run.is_finished, run.state) == ("a", 4, True, "4 epochs")
    assert run.best == {"epoch": 2, "ap": 0.5, "ap50": 0.75, "ap75": 0.25}
    assert run.seconds == 122
    assert run.class_ap == {"cat": 0.5, "<b>owl": None}
    assert run.settings["run.epochs"] == 4


@pytest.mark.parametrize(
    ("aps", "finished", "state"),
    [
        ([0.1, 0.2], False, "2 of 4 epochs, unfinished"),
        ([], False, "0 of 4 epochs, unfinished"),
        ([0.3, 0.2], True, "2 of 4 epochs, stopped early"),
        ([None] * 4, False, "4 epochs"),  # without validation there is no result
    ],
)
def test_how_far_a_run_is(tmp_path: Path, aps: list[float | None], finished: bool, state: str) -> None:
    (run,) = read_runs([made(tmp_path / "a", aps, finished)])
    assert run.state == state
    assert run.is_finished == ("unfinished" not in state)
    assert bool(run.best) == any(aps)


def test_only_what_differs(tmp_path: Path) -> None:
    runs = read_runs(
        [
            made(tmp_path / "a", [0.1]),
            made(tmp_path / "b", [0.1], optimizer__lr=0.5, model__options={"n": 8}),
            made(tmp_path / "c", [0.1], about={"torch": "2.9"}, optimizer__lr=0.5),
        ]
    )
    assert config_differences(runs) == {"optimizer.lr": ["0.01", "0.5", "0.5"], "model.options.n": ["–", "8", "–"]}
    assert environment_differences(runs) == {"torch": ["–", "–", '"2.9"']}
    assert config_differences(runs[:1]) == {}


def test_a_config_of_an_older_gfocal_and_options_by_default(tmp_path: Path) -> None:
    new = made(tmp_path / "a", [0.1], about={"model": {"options": {"n": 8, "delta": 1.0}}}, model__options={"n": 8})
    old = made(tmp_path / "b", [0.1], about={"model": {"options": {"n": 8, "delta": 1.0}}})
    (old / "config.toml").write_text("[run]\nepochs = 4\nold_key = 3\n")
    assert config_differences(read_runs([new, old])) == {"run.old_key": ["–", "3"]}


def matched(folder: Path, found: float, images: int = 60) -> None:
    """The matches of an evaluation in which this share of the objects, one an image, is found."""
    image = np.arange(images)
    hits = np.random.default_rng(1).random(images) < found
    none = np.zeros(images, dtype=np.int64)
    bits = np.where(hits, 2**10 - 1, 0).astype(np.uint16)
    table = MatchTable(("cat", "owl"), image, image, none, image, none, bits, np.zeros(images, dtype=np.uint16))
    write_matches(folder / "matches.npz", table)


def test_differences_are_paired_over_the_same_images(tmp_path: Path) -> None:
    folders = [made(tmp_path / name, [0.1]) for name in ("first", "better", "same", "older", "others")]
    for folder, found, images in zip(folders[:3], (0.5, 0.8, 0.5), (60, 60, 60), strict=True):
        matched(folder, found, images)
    matched(folders[4], 0.9, 50)
    runs = read_runs(folders)
    better, same = ap_differences(runs)
    assert (better.index, same.index) == (1, 2)
    assert better.difference.is_clear
    assert re.fullmatch(r"AP \+0\.\d+, 95 % interval \+0\.\d+ to \+0\.\d+", better.describe())
    assert same.describe() == "AP +0.000, 95 % interval +0.000 to +0.000: may be chance"
    assert ap_differences(list(reversed(runs))) == []
    write_comparison_page(tmp_path / "page.html", runs)
    text = (tmp_path / "page.html").read_text()
    assert "Differences from the first run" in text
    assert text.count("may be chance") == 1
    assert "95 % interval" in text
    (folders[1] / "matches.npz").write_bytes(b"damaged")
    with pytest.raises(CompareError, match="better: its files are damaged"):
        read_runs(folders)


def test_spread_over_seeds_alone(tmp_path: Path) -> None:
    folders = [
        made(tmp_path / "a", [0.2, 0.1], run__seed=0, run__epochs=2),
        made(tmp_path / "b", [0.4], run__seed=1, optimizer__lr=0.5),
        made(tmp_path / "c", [0.4], run__seed=1, run__epochs=2),
        made(tmp_path / "d", [0.9], run__seed=2, run__epochs=2, finished=False),
        made(tmp_path / "e", [0.6, 0.5], run__seed=3, run__epochs=2, about={"val_images": 8}),
        made(tmp_path / "f", [0.6], run__seed=7, run__epochs=2),
    ]
    (one,) = seed_spreads(read_runs(folders))
    assert one.indices == (0, 2, 5)
    assert one.mean["ap"] == pytest.approx(0.4)
    assert one.std["ap"] == pytest.approx(0.2)  # of a sample
    assert one.mean["ap50"] == pytest.approx(0.65)


def test_the_same_seed_twice_says_nothing_of_chance(tmp_path: Path) -> None:
    assert seed_spreads(read_runs([made(tmp_path / "a", [0.2]), made(tmp_path / "b", [0.4])])) == []


def test_other_data_make_another_test(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a", [0.1]), made(tmp_path / "b", [0.1], about={"val_images": 10})
    assert not have_same_evaluation_data(read_runs([a, b]))
    c = made(tmp_path / "c", [0.1], about={"torch": "9"})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "config.toml").write_text(write_config(Config()))
    assert have_same_evaluation_data(read_runs([a, c, tmp_path / "d"]))


def test_names_are_short_and_tell_runs_apart(tmp_path: Path) -> None:
    assert short_names([Path("/x/runs/a"), Path("/x/runs/b/")]) == ["a", "b"]
    assert short_names([Path("/x/1/seed0"), Path("/x/2/seed0")]) == ["1/seed0", "2/seed0"]
    folder = made(tmp_path / "a", [0.1])
    assert [run.name for run in read_runs([folder, tmp_path / "." / "a"])] == ["a"]


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("config.toml", None, "holds no run"),
        ("config.toml", "[run", "damaged"),
        ("run.json", "{", "damaged"),
        ("result.json", "[1", "damaged"),
        ("run.json", "[1]", "damaged"),
    ],
)
def test_folders_that_cannot_be_read(tmp_path: Path, file: str, text: str | None, why: str, run: Any) -> None:
    folder = made(tmp_path / "a", [0.1])
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(CompareError, match=f"{folder}.*{why}"):
        read_runs([folder])
    code, _, err = run("compare", folder)
    assert code == 2
    assert err.count("\n") == 1


class Page(HTMLParser):
    """Tags that are opened and not closed, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "circle", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page(tmp_path: Path) -> None:
    folders = [
        made(tmp_path / "a", [0.1, 0.2, 0.3, 0.25], run__seed=0),
        made(tmp_path / "b<i>", [0.1, 0.2, 0.3, 0.35], run__seed=1),
        made(tmp_path / "c", [None], finished=False, optimizer__lr=0.5),
        made(tmp_path / "d", [], finished=False),
    ]
    runs = read_runs(folders)
    write_comparison_page(tmp_path / "page.html", runs)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    for text in ("4 runs compared", "b<i>", "<b>owl", "1 of 4 epochs, unfinished", "0 of 4 epochs, unfinished"):
        assert text in page.text, text
    for text in ("0.350", "2.0 min", "optimizer.lr", "0.325 ± 0.035", "0.500", "Average precision", "Loss"):
        assert text in page.text, text
    assert "<b>0.350</b>" in html
    assert "<b>0.300</b>" not in html
    assert "different data" not in page.text
    assert "augment.flip" not in page.text
    loss = html[html.index("Loss</text>") :].partition("</svg>")[0]
    assert loss.count("<polyline") == 3
    assert [color in loss for color in ("--c0", "--c1", "--c2", "--c3")] == [True, True, True, False]
    ap = html[html.index("Average precision</text>") :].partition("</svg>")[0]
    assert ap.count("<polyline") == 2


def test_a_curve_keeps_the_color_of_its_run(tmp_path: Path) -> None:
    runs = read_runs([made(tmp_path / "a", [None], finished=False), made(tmp_path / "b", [0.5])])
    write_comparison_page(tmp_path / "page.html", runs)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    ap = html[html.index("Average precision</text>") :].partition("</svg>")[0]
    assert "--c1" in ap
    assert "--c0" not in ap


def test_the_page_of_runs_on_other_data_says_so(tmp_path: Path) -> None:
    folders = [made(tmp_path / "a", [0.1]), made(tmp_path / "b", [0.1], about={"data": "others"})]
    write_comparison_page(tmp_path / "page.html", read_runs(folders))
    text = Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "evaluated on different data" in text
    assert "None." in text


def test_on_the_command_line(tmp_path: Path, run: Any) -> None:
    folders = [
        made(tmp_path / "a", [0.1, 0.2, 0.3, 0.25], run__seed=0),
        made(tmp_path / "[b]", [0.1, 0.2, 0.3, 0.35], run__seed=1),
        made(tmp_path / "c", [0.4], finished=False, optimizer__lr=0.5),
    ]
    code, out, err = run("compare", *folders, "--out", tmp_path / "deep" / "page.html")
    assert code == 0
    assert (tmp_path / "deep" / "page.html").is_file()
    assert "page: " in err
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.split()}
    assert lines["2"].startswith("2 [b] 0.350 0.600 0.175 4 2.0 min 4 epochs")
    assert lines["3"].startswith("3 c 0.400 0.650 0.200 1 30 s 1 of 4 epochs, unfinished"[:40])
    assert lines["optimizer.lr"] == "optimizer.lr 0.01 (1 2), 0.5 (3)"
    assert lines["run.seed"] == "run.seed 0 (1 3), 1 (2)"
    assert "1 2 differ only in the seed: AP 0.325 ± 0.035" in out
    assert "augment" not in out
    code, _, err = run("compare", *folders, "--out", tmp_path)
    assert code == 2
    assert "is a folder" in err


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "–"), (12.4, "12 s"), (150, "2.5 min"), (5999, "100.0 min"), (9000, "2.5 h")]
)
def test_durations(seconds: float | None, words: str) -> None:
    assert format_duration(seconds) == words
