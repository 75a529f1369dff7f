"""The report from made-up results: what agrees, what is noise, what disagrees, and how it is reported."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.errors import LabError
from gfocal.lab.paper_comparison import (
    AGREES,
    DISAGREES,
    FIRST_ROW,
    HIGHER,
    LOWER,
    NOISE,
    NOT_COMPARED,
    Table,
    compare_with_paper,
    pooled_standard_error,
    verdict,
)
from gfocal.lab.report import AGREEMENT, column_heads, count_verdicts, describe_runs, write_lab_page, write_markdown
from gfocal.lab.results_json import Outcome, Results, merge_plan, read_results, write_results
from gfocal.lab.studies import STUDIES

SETUP = {
    "budget": "small",
    "config": "lab_synthetic",
    "data": "500 new synthetic images per epoch",
    "input": "160 x 160",
    "network": "channels 64",
    "epochs": 9,
    "batch_size": 8,
}
PARTS = {  # AP over three seeds
    "neither": (0.50, 0.51, 0.52),
    "QFL": (0.55, 0.56, 0.57),  # the paper: better
    "DFL": (0.51, 0.51, 0.53),  # within the noise
    "QFL and DFL": (0.40, 0.41, 0.42),  # against the paper
}


def outcome(study: str, column: str, cell: str, seed: int, ap: float | None, failed: str | None = None) -> Outcome:
    if ap is None:
        return Outcome(study, column, cell, seed, f"{cell}-seed{seed}", failed=failed)
    return Outcome(
        *(study, column, cell, seed, f"{cell}-seed{seed}"),
        *(ap, ap + 0.2, ap + 0.03, ap - 0.2, ap, None),
        **{"seconds": 90.0, "epochs": 9, "threads": 2, "device": "cpu", "gfocal": "0.1.0", "torch": "2.9"},
    )


def made_up() -> Results:
    rows = [outcome("3", "atss", cell, seed, ap) for cell, aps in PARTS.items() for seed, ap in enumerate(aps)]
    return Results(SETUP, tuple(rows))


def only(results: Results) -> Table:
    (table,) = compare_with_paper(results, STUDIES.values())
    return table


def test_verdicts_of_a_table() -> None:
    table = only(made_up())
    assert [row.cell for row in table.rows] == list(PARTS)
    assert [row.verdict for row in table.rows] == [FIRST_ROW, AGREES, NOISE, DISAGREES]
    assert [row.paper_difference for row in table.rows] == [None, *map(pytest.approx, (0.7, 0.3, 1.0))]
    assert [row.our_difference for row in table.rows] == [
        None,
        *map(pytest.approx, (5.0, 2 / 3, -10.0)),
    ]
    first = table.rows[0].ours["ap"]
    assert (first.mean, first.std) == (pytest.approx(51.0), pytest.approx(1.0))
    sentence = count_verdicts(table)
    assert sentence == "3 rows compared with the first: agrees 1, within noise 1, disagrees 1."


def test_the_line_of_the_noise() -> None:
    one = (50.0, 51.0, 52.0)
    error = pooled_standard_error(one, one)
    assert error == pytest.approx((2 / 3) ** 0.5)
    assert verdict(one, [v + 1.9 * error for v in one], 1.0) == NOISE
    assert verdict(one, [v + 2.1 * error for v in one], 1.0) == AGREES
    assert verdict(one, [v + 2.1 * error for v in one], -1.0) == DISAGREES
    assert verdict(one, [v - 2.1 * error for v in one], -1.0) == AGREES
    assert verdict(one, [v - 2.1 * error for v in one], 0.0) == DISAGREES  # the paper sees no difference
    assert pooled_standard_error((1.0, 3.0), (1.0, 1.0, 1.0, 1.0)) == pytest.approx((2 / 4 * (1 / 2 + 1 / 4)) ** 0.5)


def test_few_seeds_are_noise_and_what_is_missing_is_not_compared() -> None:
    assert verdict((50.0,), (60.0,), 1.0) == NOISE
    assert verdict((50.0, 50.1), (60.0,), 1.0) == NOISE
    assert verdict((50.0, 50.1), (), 1.0) == NOT_COMPARED
    assert verdict((), (60.0, 60.1), 1.0) == NOT_COMPARED
    assert verdict((50.0, 50.1), (), None) == NOT_COMPARED


def test_without_a_papers_number_the_sign_of_the_difference_is_said() -> None:
    assert verdict((50.0, 50.1), (60.0, 60.1), None) == HIGHER
    assert verdict((60.0, 60.1), (50.0, 50.1), None) == LOWER
    assert verdict((50.0, 50.1), (50.1, 50.2), None) == verdict((50.0,), (60.0,), None) == NOISE
    assert verdict((50.0, 50.0), (50.0, 50.0), 1.0) == NOISE


def test_a_study_that_no_paper_has() -> None:
    aps = {"GFL": (0.25, 0.26), "warm-up of beta": (0.35, 0.36), "equal box weights": (0.26, 0.25)}
    rows = [outcome("rare", "atss", cell, seed, ap) for cell, of in aps.items() for seed, ap in enumerate(of)]
    (table,) = compare_with_paper(Results(SETUP, tuple(rows)), STUDIES.values())
    assert {row.cell: row.verdict for row in table.rows} == {
        "GFL": FIRST_ROW,
        "warm-up of beta, equal box weights": NOT_COMPARED,  # not run
        "warm-up of beta": HIGHER,
        "equal box weights": NOISE,
        "edges begin at 3 strides": NOT_COMPARED,
        "all three": NOT_COMPARED,
    }
    assert column_heads(table)[-2:] == ["AP50 / paper", "AP75 / paper"]
    assert count_verdicts(table) == "2 rows compared with the first: higher 1, within noise 1, lower 0."


values = st.lists(st.floats(0, 100), min_size=2, max_size=5)


@given(one=values, two=values, paper=st.floats(0.1, 5))
def test_swapping_the_paper_swaps_the_verdict(one: list[float], two: list[float], paper: float) -> None:
    swapped = {AGREES: DISAGREES, DISAGREES: AGREES, NOISE: NOISE}
    assert verdict(one, two, -paper) == swapped[verdict(one, two, paper)]
    assert verdict(two, one, paper) == verdict(one, two, -paper)


def test_each_column_has_its_own_first_row() -> None:
    rows = [
        outcome("1b", column, cell, seed, ap + 0.01 * seed)
        for column, (without, qfl) in {"retinanet": (0.4, 0.5), "fcos": (0.6, 0.5)}.items()
        for cell, ap in zip([c.name for c in STUDIES["1b"].cells if c.column == column], (without, qfl), strict=True)
        for seed in range(2)
    ]
    found = {table.column: table for table in compare_with_paper(Results(SETUP, tuple(rows)), STUDIES.values())}
    assert set(found) == {"retinanet", "fcos"}
    assert [row.verdict for row in found["retinanet"].rows] == [FIRST_ROW, AGREES]
    assert [row.verdict for row in found["fcos"].rows] == [FIRST_ROW, DISAGREES]


def test_a_row_without_a_number_of_the_paper() -> None:
    rows = [
        outcome("1a", "atss", cell, seed, 0.5 + 0.01 * seed)
        for cell in ("none", "joint centerness")
        for seed in (0, 1)
    ]
    by_cell = {row.cell: row for row in only(Results(SETUP, tuple(rows))).rows}
    assert by_cell["joint centerness"].verdict == NOISE
    assert by_cell["joint centerness"].paper_difference is None
    assert by_cell["IoU-branch"].ours["ap"].mean is None


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.cells: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.opened.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.opened and self.opened[-1] in ("td", "th"):
            self.cells.append(data)


def test_page_and_markdown_agree(tmp_path: Path) -> None:
    figure = tmp_path / "figures" / "qfl_curves.png"
    figure.parent.mkdir()
    Image.new("RGB", (40, 30), "red").save(figure)
    write_lab_page(tmp_path / "report.html", made_up(), [figure])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = Text()
    text.feed(page)
    assert not text.opened
    assert all(source.startswith("data:image/") for source in text.sources)
    assert len(text.sources) == 1
    assert "<script" not in page

    (tmp_path / "docs").mkdir()
    write_markdown(tmp_path / "docs" / "lab.md", made_up(), [figure])
    markdown = (tmp_path / "docs" / "lab.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    qfl = next(line for line in lines if line[0] == "QFL")
    assert qfl == [
        *("QFL", "3", "56.0 ± 1.0", "39.9", "+5.0", "+0.7", AGREES),
        *("76.0 ± 1.0 / 58.5", "59.0 ± 1.0 / 43.0"),
    ]
    for cell in qfl:
        assert cell in text.cells
    assert "](../figures/qfl_curves.png)" in markdown
    assert column_heads(only(made_up()))[AGREEMENT - 1] == "agreement"
    assert f'<tr class="{AGREES}">' in page
    for text_of in (count_verdicts(only(made_up())), "Table 3: QFL and DFL, separately and combined"):
        assert text_of in markdown
        assert re.sub("'", "&#x27;", text_of) in page
    columns = {line.count("|") for line in markdown.splitlines() if line.startswith("|")}
    assert len(columns) == 1, "every line of a table has as many cells as its head"


def test_setting_sentence() -> None:
    sentence = describe_runs(made_up())
    for part in (
        "lab_synthetic",
        "9 epochs",
        "160 x 160",
        "500 new synthetic images",
        "12 runs with 3 seeds",
        "1.5 minutes",
    ):
        assert part in sentence
    for part in ("2 threads", "cpu", "gfocal 0.1.0", "torch 2.9"):
        assert part in sentence
    assert "No run has finished" in describe_runs(Results(SETUP))


def test_failures_are_reported_and_escaped(tmp_path: Path) -> None:
    rows = (outcome("3", "atss", "QFL", 0, None, "ValueError: <b>|no"),)
    write_lab_page(tmp_path / "report.html", Results(SETUP, rows))
    assert "&lt;b&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")
    write_markdown(tmp_path / "report.md", Results(SETUP, rows))
    (line,) = [
        x for x in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines() if x.startswith("| QFL |")
    ]
    assert line.count("|") == 10


def test_results_survive_being_written(tmp_path: Path) -> None:
    results = made_up()
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert len((tmp_path / "results.json").read_text().splitlines()) == 12 + 6 - 1
    assert read_results(tmp_path / "nowhere") is None
    empty = Results(SETUP)
    write_results(tmp_path, empty)
    assert read_results(tmp_path) == empty


@pytest.mark.parametrize("content", ["", "[]", '{"setup": {}}', '{"setup": {}, "rows": [{"study": "3"}]}'])
def test_damaged_results_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(LabError, match=r"results\.json"):
        read_results(tmp_path)


def test_a_row_whose_run_is_another_now_loses_its_numbers() -> None:
    results = made_up()
    old = results.outcomes[0]
    same = Outcome(*old.key, run=old.run)
    other = Outcome(*old.key, run="another")
    assert merge_plan(results, [same]) == results
    assert merge_plan(results, [other]).outcomes[0] == other
