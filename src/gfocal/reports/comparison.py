"""The page that compares runs: one html file without scripts, and nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from gfocal.atomic import atomic_write
from gfocal.reports.demo import STYLE, series_of
from gfocal.reports.runs import (
    FIGURES,
    ComparedRun,
    Spread,
    differing_circumstances,
    differing_settings,
    duration,
    is_same_test,
    spreads,
)
from gfocal.text import counted
from gfocal.visualize.charts import COLORS, curve_svg

Row = Sequence[str]


def write_comparison(path: Path, runs: Sequence[ComparedRun]) -> None:
    """Write the page, whole or not at all; the folder must exist."""
    parts = [
        f"<header><h1>{counted(len(runs), 'run')} compared</h1>",
        "</header>",
    ]
    if not is_same_test(runs):
        parts.append('<p class="warn">These runs were evaluated on different data: their AP is not comparable.</p>')
    parts.append(_section("What came of them", results_table(runs), RESULTS_NOTE))
    if settings := differing_settings(runs):
        parts.append(_section("Where their configs differ", _values_table(settings)))
    elif len(runs) > 1:
        parts.append(_section("Where their configs differ", '<p class="note">Nowhere.</p>'))
    if circumstances := differing_circumstances(runs):
        parts.append(_section("Where else they differ", _values_table(circumstances)))
    if found := spreads(runs):
        parts.append(_section("Other seeds, the same config", spread_table(found), SPREAD_NOTE))
    parts.append(
        _section(
            "How they learned", f'<div class="charts">{curves(runs)}</div>', CURVES_NOTE * (len(runs) > len(COLORS))
        )
    )
    if any(run.class_ap for run in runs):
        parts.append(_section("Class by class", class_table(runs), CLASS_NOTE))
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{counted(len(runs), 'run')} compared</title><style>{STYLE}{MORE_STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def results_table(runs: Sequence[ComparedRun]) -> str:
    """A line for each run: how far it is, its best AP, time, version."""
    most = max((run.best.get("ap", 0.0) for run in runs), default=0.0)
    lines = []
    for k, run in enumerate(runs):
        best = run.best
        cells = [f"{best[name]:.3f}" if best else "–" for name in FIGURES]
        if best and best["ap"] == most:
            cells[0] = f"<b>{cells[0]}</b>"
        cells += [f"{best['epoch']:.0f}" if best else "–", escape(run.state), duration(run.seconds)]
        cells.append(escape(str(run.about.get("gfocal", "–"))))
        lines.append([f"{_badge(k)} {escape(run.name)}", *cells])
    return _table(["Run", "AP", "AP50", "AP75", "at epoch", "state", "time", "gfocal"], lines)


def spread_table(found: Sequence[Spread]) -> str:
    """Mean and standard deviation of each group."""
    lines = [
        ["".join(map(_badge, one.places)), *(f"{one.mean[name]:.3f} ± {one.std[name]:.3f}" for name in FIGURES)]
        for one in found
    ]
    return _table(["Runs", "AP", "AP50", "AP75"], lines)


def curves(runs: Sequence[ComparedRun]) -> str:
    """Loss, AP and learning rate of all runs over epochs."""
    charts = []
    for column, heading in (("loss", "Loss"), ("ap", "Average precision"), ("lr", "Learning rate")):
        series = {str(k + 1): series_of(run.rows, "epoch", column) for k, run in enumerate(runs)}
        if any(series.values()):
            charts.append(f"<div>{curve_svg(series, title=heading, x_label='epoch')}</div>")
    return "".join(charts) or '<p class="note">No run has finished an epoch yet.</p>'


def class_table(runs: Sequence[ComparedRun]) -> str:
    """AP of every class in every run, as a number and as a bar."""
    names = dict.fromkeys(name for run in runs for name in run.class_ap)
    lines = []
    for name in names:
        cells = [_bar(k, run.class_ap.get(name)) for k, run in enumerate(runs)]
        lines.append([escape(name), *cells])
    return _table(["Class", *map(_badge, range(len(runs)))], lines)


def _values_table(values: dict[str, list[str]]) -> str:
    """Each key with its values, and before a value the runs that have it."""
    lines = []
    for key, of_runs in values.items():
        parts = []
        for value in dict.fromkeys(of_runs):
            badges = "".join(_badge(k) for k, other in enumerate(of_runs) if other == value)
            parts.append(f"<span>{badges}{escape(value)}</span>")
        lines.append([f"<code>{escape(key)}</code>", "".join(parts)])
    return f'<div class="values">{_table(["", ""], lines)}</div>'


def _badge(k: int) -> str:
    return f'<i class="run" style="background:{_color(k)}">{k + 1}</i>'


def _color(k: int) -> str:
    return f"var(--c{k % len(COLORS)},{COLORS[k % len(COLORS)]})"


def _bar(k: int, value: float | None) -> str:
    if value is None:
        return "–"
    return f'<span class="meter"><i style="width:{100 * value:.1f}%;background:{_color(k)}"></i></span>{value:.3f}'


def _table(head: Row, lines: Sequence[Row]) -> str:
    """Cells are html already."""
    heads = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    rows = "".join(
        f"<tr><th scope=row>{cells[0]}</th>{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>"
        for cells in lines
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _section(heading: str, body: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{body}</section>"


RESULTS_NOTE = "AP, AP50 and AP75 are those of the evaluation with the best AP; the best run's is bold."
SPREAD_NOTE = "Mean and standard deviation over runs that differ in their seed alone. A gap no larger may be chance."
CURVES_NOTE = "Colors come again after six runs."
CLASS_NOTE = "AP at the last evaluation, which need not be the best one. A run that goes on has none yet."

MORE_STYLE = """
.run{display:inline-block;min-width:20px;height:20px;padding:0 4px;margin-right:4px;border-radius:10px;
color:var(--card);font:600 12px/20px system-ui,sans-serif;text-align:center}
thead .run{margin-right:0}
.values thead{display:none}
.values td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.values td span{display:inline-block;margin:2px 22px 2px 0}
.values th{white-space:nowrap!important}
.meter{display:inline-block;width:72px;height:10px;border-radius:5px;background:var(--grid);margin-right:8px}
.meter i{display:block;height:10px;border-radius:5px;min-width:1px}
.warn{border-left:4px solid var(--c1);padding:8px 14px;background:var(--card)}
code{font-size:.9em}
"""
