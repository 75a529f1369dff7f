"""The report of a lab, as one self-contained page and as markdown, written from results.json alone."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from gfocal.atomic import atomic_write
from gfocal.lab.paper_comparison import (
    AGREES,
    DISAGREES,
    HIGHER,
    LOWER,
    NOISE,
    MeanOverSeeds,
    Row,
    Table,
    compare_with_paper,
)
from gfocal.lab.results_json import Outcome, Results
from gfocal.lab.studies import COLUMNS, STUDIES
from gfocal.reports import html
from gfocal.reports.html import cell
from gfocal.text import pluralize

REPORT_FILE = "report.html"
FIGURES_FOLDER = "figures"
TITLE = "The paper's ablation studies, reproduced"
METRIC_NAMES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}
HOW_TO_READ = (
    "Each number is the mean over our seeds ± their standard deviation, beside what the paper prints for COCO with a "
    "ResNet-50. The data differ, and so do the levels of AP: what can be compared are the differences to the first "
    "row of a table. A row agrees or disagrees with the paper if its difference of AP exceeds two pooled standard "
    "errors, with at least two seeds; otherwise it is within noise. A row that no paper has is higher or lower. The "
    "paper prints one run each, without deviation."
)
AGREEMENT = 7  # number of the column, from 1
STYLE = "".join(
    f".{verdict} :nth-child({AGREEMENT}){{color:var(--{color});font-weight:600}}"
    for verdict, color in ((AGREES, "c2"), (DISAGREES, "c1"))
)


def write_lab_page(path: Path, results: Results, figures: Sequence[Path] = ()) -> None:
    """Write the page to ``path``, whole or not at all, with PNG figures inside it."""
    parts = [html.header(TITLE, describe_runs(results), html.note(html.text(HOW_TO_READ)))]
    for name, group in _group_by_study(compare_with_paper(results, STUDIES.values())):
        study = STUDIES[name]
        body = "".join(f"<h3>{html.text(COLUMNS[table.column])}</h3>{_html_table(table)}" for table in group)
        source = html.text(f"Paper: {study.paper_section}. {study.note}")
        parts.append(html.section(html.text(_heading(name)), body, source))
    images = []
    for figure in figures:
        with Image.open(figure) as image:
            images.append(html.figure(image, figure.stem.replace("_", " ")))
    if images:
        parts.append(html.section("Figures", html.gallery(images, "wide")))
    html.write_page(path, TITLE, parts, STYLE)


def write_markdown(path: Path, results: Results, figures: Sequence[Path] = ()) -> None:
    """Write the report as markdown, whole or not at all; figures are linked relative to ``path``."""
    lines = [f"# {TITLE}", "", "Written by `gfocal lab report`; see `gfocal lab --help`.", ""]
    lines += [describe_runs(results), "", HOW_TO_READ, ""]
    for name, group in _group_by_study(compare_with_paper(results, STUDIES.values())):
        study = STUDIES[name]
        lines += [f"## {_heading(name)}", "", f"Paper: {study.paper_section}. {study.note}".rstrip(), ""]
        for table in group:
            lines += [f"### {COLUMNS[table.column]}", ""]
            head = column_heads(table)
            lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
            lines += [f"| {' | '.join(row_cells(table, row))} |" for row in table.rows]
            lines += ["", count_verdicts(table), ""]
    if figures:
        lines += ["## Figures", ""]
        for figure in figures:
            link = os.path.relpath(figure, path.resolve().parent).replace(os.sep, "/")
            lines += [f"![{figure.stem.replace('_', ' ')}]({link})", ""]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def describe_runs(results: Results) -> str:
    """Config, data, number of runs, time and versions, in two sentences."""
    done = [outcome for outcome in results.outcomes if outcome.ap is not None]
    setup = results.setup
    sentences = [
        f"Config {setup.get('config')}: {setup.get('epochs')} epochs in batches of {setup.get('batch_size')}, input "
        f"{setup.get('input')} pixels, network: {setup.get('network')}. Data: {setup.get('data')}."
    ]
    if changes := setup.get("changes"):
        sentences[0] += f" Changed in it: {changes}."
    if not done:
        return f"{sentences[0]} No run has finished yet."
    seeds = {outcome.seed for outcome in done}
    runs = {outcome.run: outcome for outcome in done}
    minutes = statistics.median(outcome.seconds or 0.0 for outcome in runs.values()) / 60
    sentences.append(
        f"{pluralize(len(runs), 'run')} with {pluralize(len(seeds), 'seed')}, {minutes:.1f} minutes of training each "
        f"(median), on {_values_of('device', runs.values())} with {_values_of('threads', runs.values())} threads; "
        f"gfocal {_values_of('gfocal', runs.values())}, torch {_values_of('torch', runs.values())}."
    )
    return " ".join(sentences)


def column_heads(table: Table) -> list[str]:
    """The head of each column: first AP, by which rows are compared, then the other metrics."""
    others = [f"{METRIC_NAMES[metric]} / paper" for metric in table.study.metrics if metric != "ap"]
    return ["", "seeds", "AP", "paper", "to first row", "paper", "agreement", *others]


def row_cells(table: Table, row: Row) -> list[str]:
    """The cells of a row as text."""
    pairs = {m: (_with_std(row.ours[m]), _plain(row.paper.get(m))) for m in table.study.metrics}
    verdict = f"{row.verdict} (failed: {row.failed})" if row.failed else row.verdict
    return [
        row.cell,
        str(len(row.ours["ap"].values)),
        *pairs.pop("ap"),
        _signed(row.our_difference),
        _signed(row.paper_difference),
        verdict.replace("|", "/"),
        *map(" / ".join, pairs.values()),
    ]


def count_verdicts(table: Table) -> str:
    """How many rows agree with the paper, or are higher or lower where it has none, in a sentence."""
    found: tuple[str, ...] = (
        (AGREES, NOISE, DISAGREES) if any(row.paper for row in table.rows) else (HIGHER, NOISE, LOWER)
    )
    found += tuple(one for one in (HIGHER, LOWER) if one not in found and table.count(one))
    compared = sum(table.count(verdict) for verdict in found)
    counts = ", ".join(f"{verdict} {table.count(verdict)}" for verdict in found)
    return f"{pluralize(compared, 'row')} compared with the first: {counts}."


def _group_by_study(found: Sequence[Table]) -> list[tuple[str, list[Table]]]:
    names = list(dict.fromkeys(table.study.name for table in found))
    return [(name, [table for table in found if table.study.name == name]) for name in names]


def _heading(name: str) -> str:
    number = f"Table {name}: " if name[0].isdigit() else ""  # only the paper's own have one
    return f"{number}{STUDIES[name].title}"


def _html_table(table: Table) -> str:
    rows = []
    for row in table.rows:
        name, *values = map(html.text, row_cells(table, row))
        rows.append([name, *map(cell, values)])
    kinds = [row.verdict.replace(" ", "-") for row in table.rows]
    return html.table(column_heads(table), rows, row_kinds=kinds) + html.note(html.text(count_verdicts(table)))


def _values_of(name: str, outcomes: Iterable[Outcome]) -> str:
    return ", ".join(sorted({str(getattr(outcome, name)) for outcome in outcomes}))


def _with_std(number: MeanOverSeeds) -> str:
    if number.mean is None:
        return "–"
    return f"{number.mean:.1f}" + ("" if number.std is None else f" ± {number.std:.1f}")


def _plain(number: float | None) -> str:
    return "–" if number is None else f"{number:.1f}"


def _signed(number: float | None) -> str:
    return "" if number is None else f"{number:+.1f}"
