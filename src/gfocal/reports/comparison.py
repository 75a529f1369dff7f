"""The page of ``gfocal compare``: results, differences, spread over seeds and training curves of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gfocal.evaluation.bootstrap import ap_intervals
from gfocal.reports import html
from gfocal.reports.demo import series_of
from gfocal.reports.html import cell
from gfocal.reports.runs import (
    METRICS,
    ComparedRun,
    RunDifference,
    SeedSpread,
    ap_differences,
    config_differences,
    describe_selection,
    environment_differences,
    have_same_evaluation_data,
    seed_spreads,
)
from gfocal.text import pluralize
from gfocal.training.pace import format_duration
from gfocal.visualize.charts import COLORS, curve_svg


def write_comparison_page(path: Path, runs: Sequence[ComparedRun]) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist."""
    title = f"{pluralize(len(runs), 'run')} compared"
    parts = [html.header(title)]
    if not have_same_evaluation_data(runs):
        parts.append('<p class="warn">These runs were evaluated on different data: their AP is not comparable.</p>')
    selection = html.note(html.text(describe_selection(runs)))
    parts.append(html.section("Results", results_table(runs) + selection, RESULTS))
    if differences := ap_differences(runs):
        parts.append(html.section("Differences from the first run", difference_table(runs, differences), DIFFERENCES))
    if configs := config_differences(runs):
        parts.append(html.section("Config differences", _differences_table(configs)))
    elif len(runs) > 1:
        parts.append(html.section("Config differences", html.note("None.")))
    if environments := environment_differences(runs):
        parts.append(html.section("Environment and data differences", _differences_table(environments)))
    if spreads := seed_spreads(runs):
        parts.append(html.section("Spread over seeds", spread_table(spreads), SPREAD))
    charts = training_curves(runs)
    curves = html.charts(charts) if charts else html.note("No run has finished an epoch yet.")
    parts.append(html.section("Training curves", curves, CURVES * (len(runs) > len(COLORS))))
    if any(run.class_ap for run in runs):
        parts.append(html.section("AP per class", class_table(runs), CLASSES))
    html.write_page(path, title, parts, STYLE)


def results_table(runs: Sequence[ComparedRun]) -> str:
    """A row for each run: best AP, state, time, version."""
    best_ap = max((run.best.get("ap", 0.0) for run in runs), default=0.0)
    rows = []
    for k, run in enumerate(runs):
        best = run.best
        values = [html.decimal(best.get(name)) for name in METRICS]
        interval = None if run.matches is None else ap_intervals(run.matches).ap
        if best and best["ap"] == best_ap:
            values[0] = f"<b>{values[0]}</b>"
        values.insert(1, "–" if interval is None else f"{interval.low:.3f} – {interval.high:.3f}")
        values += [html.decimal(best.get("epoch"), 0), run.state, format_duration(run.seconds)]
        values.append(html.text(run.about.get("gfocal", "–")))
        rows.append([f"{_badge(k)} {html.text(run.name)}", *map(cell, values)])
    return html.table(["Run", "AP", "95 % interval", "AP50", "AP75", "Epoch", "State", "Time", "gfocal"], rows)


def difference_table(runs: Sequence[ComparedRun], differences: Sequence[RunDifference]) -> str:
    """How much higher AP and AP50 are than those of the first run, with their intervals."""
    rows = []
    for one in differences:
        found = one.difference
        texts = [
            f"{value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
            for value, interval in ((found.ap, found.ap_interval), (found.ap50, found.ap50_interval))
        ]
        texts.append("clear" if found.is_clear else "may be chance")
        rows.append([f"{_badge(one.index)} {html.text(runs[one.index].name)}", *map(cell, texts)])
    return html.table(["Run", "AP (95 % interval)", "AP50 (95 % interval)", ""], rows)


def spread_table(spreads: Sequence[SeedSpread]) -> str:
    """Mean and standard deviation of each group of runs."""
    rows = [
        [
            "".join(map(_badge, one.indices)),
            *(cell(f"{one.mean[name]:.3f} ± {one.std[name]:.3f}") for name in METRICS),
        ]
        for one in spreads
    ]
    return html.table(["Runs", "AP", "AP50", "AP75"], rows)


def training_curves(runs: Sequence[ComparedRun]) -> list[str]:
    """Charts of loss, AP and learning rate of all runs over epochs."""
    charts = []
    for column, title in (("loss", "Loss"), ("ap", "Average precision"), ("lr", "Learning rate")):
        series = {str(k + 1): series_of(run.rows, "epoch", column) for k, run in enumerate(runs)}
        if any(series.values()):
            charts.append(curve_svg(series, title=title, x_label="epoch"))
    return charts


def class_table(runs: Sequence[ComparedRun]) -> str:
    """AP of every class in every run, as a number and as a bar."""
    names = dict.fromkeys(name for run in runs for name in run.class_ap)
    rows = [[html.text(name), *(_meter(k, run.class_ap.get(name)) for k, run in enumerate(runs))] for name in names]
    return html.table(["Class", *map(_badge, range(len(runs)))], rows)


def _differences_table(values: Mapping[str, Sequence[str]]) -> str:
    """Each key with its values, and before a value the runs that have it."""
    rows = []
    for key, of_runs in values.items():
        parts = []
        for value in dict.fromkeys(of_runs):
            badges = "".join(_badge(k) for k, other in enumerate(of_runs) if other == value)
            parts.append(f"<span>{badges}{html.text(value)}</span>")
        rows.append([f"<code>{html.text(key)}</code>", cell("".join(parts))])
    return html.table(["", ""], rows, "words differences")


def _badge(k: int) -> str:
    return f'<i class="run" style="background:{_color(k)}">{k + 1}</i>'


def _color(k: int) -> str:
    return f"var(--c{k % len(COLORS)},{COLORS[k % len(COLORS)]})"


def _meter(k: int, value: float | None) -> str:
    if value is None:
        return cell("–")
    fill = f'<i style="width:{100 * value:.1f}%;background:{_color(k)}"></i>'
    return cell(f'<span class="meter">{fill}</span>{value:.3f}')


RESULTS = (
    "AP, AP50 and AP75 of the evaluation with the best AP; the highest AP is bold. The interval of AP is how far it "
    "may lie off because the validation images are few."
)
DIFFERENCES = (
    "Of the best AP, by a paired bootstrap: both runs on the same resampled images. Clear: the interval does not "
    "hold 0, so that these images alone do not explain the difference. Another seed of the training is another "
    "matter, see the spread over seeds."
)
SPREAD = "Mean and standard deviation over runs that differ in their seed alone. A smaller difference may be chance."
CURVES = "Colors repeat after six runs."
CLASSES = "AP at the evaluation with the best AP; of runs by an older gfocal at the last one."

STYLE = """
.run{display:inline-block;min-width:20px;height:20px;padding:0 4px;margin-right:4px;border-radius:10px;
color:var(--card);font:600 12px/20px system-ui,sans-serif;text-align:center}
thead .run{margin-right:0}
.differences thead{display:none}
.differences td span{display:inline-block;margin:2px 22px 2px 0}
.differences th{white-space:nowrap!important}
.meter{display:inline-block;width:72px;height:10px;border-radius:5px;background:var(--grid);margin-right:8px}
.meter i{display:block;height:10px;border-radius:5px;min-width:1px}
.warn{border-left:4px solid var(--c1);padding:8px 14px;background:var(--card)}
code{font-size:.9em}
"""
