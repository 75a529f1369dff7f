"""The lab's report, as one self-contained page and as markdown: a pure function of results.json."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from gfocal.atomic import atomic_write
from gfocal.lab.paper_comparison import AGREES, DISAGREES, NOISE, Measured, Row, Table, tables
from gfocal.lab.results_json import Outcome, Results
from gfocal.lab.studies import COLUMNS, STUDIES
from gfocal.reports.demo import STYLE, image_tag

REPORT_FILE = "report.html"
FIGURES_FOLDER = "figures"
TITLE = "The paper's studies, made again"
HEADINGS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "small",
    "ap_medium": "medium",
    "ap_large": "large",
}
HOW_TO_READ = (
    "Each number is our mean over the seeds ± their standard deviation, and beside it what the paper printed for "
    "COCO with a ResNet-50. The data differ, so the levels do: what can be compared are the differences to the "
    "first row of a table. A row agrees or disagrees when our difference of AP is more than two pooled standard "
    "errors, with at least two seeds; all else is inside the noise. The paper gives one run each, and no spread."
)
DIRECTION = 7  # which column of a table
COLORS_OF_VERDICTS = "".join(
    f".{verdict} :nth-child({DIRECTION}){{color:var(--{color});font-weight:600}}"
    for verdict, color in ((AGREES, "c2"), (DISAGREES, "c1"))
)


def write_page(path: Path, results: Results, figures: Sequence[Path] = ()) -> None:
    """Write the page to ``path``, whole or not at all, with PNG figures inside it."""
    parts = [f"<header><h1>{escape(TITLE)}</h1>", f'<p class="lead">{escape(setting_sentence(results))}</p>']
    parts += [f'<p class="note">{escape(HOW_TO_READ)}</p></header>']
    for number, group in _by_study(tables(results, STUDIES.values())):
        study = STUDIES[number]
        body = "".join(f"<h3>{escape(COLUMNS[t.column])}</h3>{_html_table(t)}" for t in group)
        note = f'<p class="note">{escape(f"Paper: {study.paper_section}. {study.note}")}</p>'
        parts.append(f"<section><h2>{escape(_heading(number))}</h2>{note}{body}</section>")
    images = []
    for figure in figures:
        with Image.open(figure) as image:
            images.append(image_tag(image, figure.stem.replace("_", " ")))
    if images:
        parts.append(f'<section><h2>Figures</h2><div class="gallery">{"".join(images)}</div></section>')
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(TITLE)}</title><style>{STYLE}{COLORS_OF_VERDICTS}</style></head>\n<body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def write_markdown(path: Path, results: Results, figures: Sequence[Path] = ()) -> None:
    """Write the report as markdown, whole or not at all; figures are linked from where ``path`` lies."""
    lines = [f"# {TITLE}", "", "Written by `gfocal lab report`; see `gfocal lab --help`.", ""]
    lines += [setting_sentence(results), "", HOW_TO_READ, ""]
    for number, group in _by_study(tables(results, STUDIES.values())):
        study = STUDIES[number]
        lines += [f"## {_heading(number)}", "", f"Paper: {study.paper_section}. {study.note}".rstrip(), ""]
        for table in group:
            lines += [f"### {COLUMNS[table.column]}", ""]
            head = headings(table)
            lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
            lines += [f"| {' | '.join(texts(table, row))} |" for row in table.rows]
            lines += ["", closing_sentence(table), ""]
    if figures:
        lines += ["## Figures", ""]
        for figure in figures:
            link = os.path.relpath(figure, path.resolve().parent).replace(os.sep, "/")
            lines += [f"![{figure.stem.replace('_', ' ')}]({link})", ""]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def setting_sentence(results: Results) -> str:
    """What was run on what, in plain words."""
    done = [outcome for outcome in results.outcomes if outcome.ap is not None]
    about = results.setting
    sentences = [
        f"Config {about.get('config')}: {about.get('epochs')} epochs in batches of {about.get('batch_size')}, input "
        f"{about.get('input')} pixels, network: {about.get('network')}. Data: {about.get('data')}."
    ]
    if not done:
        return f"{sentences[0]} No run is done yet."
    seeds = {outcome.seed for outcome in done}
    runs = {outcome.run: outcome for outcome in done}
    minutes = statistics.median(outcome.seconds or 0.0 for outcome in runs.values()) / 60
    sentences.append(
        f"{len(runs)} runs with {len(seeds)} seed{'s' * (len(seeds) > 1)}, {minutes:.1f} minutes of training each "
        f"(median), on {_all('device', runs.values())} with {_all('threads', runs.values())} threads; "
        f"gfocal {_all('gfocal', runs.values())}, torch {_all('torch', runs.values())}."
    )
    return " ".join(sentences)


def headings(table: Table) -> list[str]:
    """Column heads of a table: first AP, by which rows are compared, then the other metrics."""
    others = [f"{HEADINGS[metric]} / paper" for metric in table.study.metrics if metric != "ap"]
    return ["", "seeds", "AP", "paper", "to first row", "paper", "direction", *others]


def texts(table: Table, row: Row) -> list[str]:
    """A row as it is printed."""
    pairs = {m: (_measured(row.ours[m]), _plain(row.paper.get(m))) for m in table.study.metrics}
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


def closing_sentence(table: Table) -> str:
    """How many rows agree."""
    compared = sum(table.count(verdict) for verdict in (AGREES, NOISE, DISAGREES))
    counts = ", ".join(f"{verdict} {table.count(verdict)}" for verdict in (AGREES, NOISE, DISAGREES))
    return f"{compared} row{'s' * (compared != 1)} compared with the first: {counts}."


def _by_study(found: Sequence[Table]) -> list[tuple[str, list[Table]]]:
    numbers = list(dict.fromkeys(table.study.name for table in found))
    return [(number, [table for table in found if table.study.name == number]) for number in numbers]


def _heading(number: str) -> str:
    return f"Table {number}: {STUDIES[number].title}"


def _html_table(table: Table) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in headings(table))
    lines = []
    for row in table.rows:
        name, *cells = map(escape, texts(table, row))
        shown = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr class="{row.verdict.replace(" ", "-")}"><th scope=row>{name}</th>{shown}</tr>')
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll">{body}</div><p class="note">{escape(closing_sentence(table))}</p>'


def _all(name: str, outcomes: Iterable[Outcome]) -> str:
    return ", ".join(sorted({str(getattr(outcome, name)) for outcome in outcomes}))


def _measured(number: Measured) -> str:
    if number.mean is None:
        return "–"
    return f"{number.mean:.1f}" + ("" if number.spread is None else f" ± {number.spread:.1f}")


def _plain(number: float | None) -> str:
    return "–" if number is None else f"{number:.1f}"


def _signed(number: float | None) -> str:
    return "" if number is None else f"{number:+.1f}"
