"""Ours beside the paper's: means and spreads over seeds, differences to a table's first row, and whether they agree.

All numbers are AP of 100, as the paper prints them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gfocal.lab.results_json import Outcome, Results
from gfocal.lab.studies import Study

AGREES, NOISE, DISAGREES, REFERENCE, UNKNOWN = "agrees", "inside the noise", "disagrees", "first row", "–"


@dataclass(frozen=True)
class Measured:
    """A number over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Arithmetic mean; None of nothing."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, with n - 1; None of fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """One cell, ours and the paper's."""

    cell: str
    ours: Mapping[str, Measured]  # of the study's metrics
    paper: Mapping[str, float]  # those that the paper prints
    our_difference: float | None  # of AP, to the first row
    paper_difference: float | None
    verdict: str
    failed: str | None = None  # why a seed gave nothing


@dataclass(frozen=True)
class Table:
    """One column of a study: rows that are compared with the first of them."""

    study: Study
    column: str
    rows: tuple[Row, ...]

    def count(self, verdict: str) -> int:
        """Number of rows with that verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def tables(results: Results, studies: Iterable[Study]) -> list[Table]:
    """Every table of which anything was tried; cells that were not are rows without numbers."""
    found = []
    for study in studies:
        for column in study.columns:
            here = [o for o in results.outcomes if (o.study, o.column) == (study.name, column)]
            if any(outcome.ap is not None or outcome.failed for outcome in here):
                found.append(_table(study, column, here))
    return found


def _table(study: Study, column: str, outcomes: Sequence[Outcome]) -> Table:
    cells = [cell for cell in study.cells if cell.column == column]
    first_values: tuple[float, ...] = ()
    first_paper: float | None = None
    rows: list[Row] = []
    for number, cell in enumerate(cells):
        own = [outcome for outcome in outcomes if outcome.cell == cell.name]
        ours = {metric: _measured(own, metric) for metric in study.metrics}
        values, paper = ours["ap"].values, cell.paper or {}
        if number == 0:
            first_values, first_paper = values, paper.get("ap")
        our_difference = paper_difference = None
        if number and values and first_values:
            our_difference = statistics.fmean(values) - statistics.fmean(first_values)
        if number and "ap" in paper and first_paper is not None:
            paper_difference = paper["ap"] - first_paper
        rows.append(
            Row(
                cell.name,
                ours,
                paper,
                our_difference,
                paper_difference,
                verdict(first_values, values, paper_difference) if number else REFERENCE,
                next((outcome.failed for outcome in own if outcome.failed), None),
            )
        )
    return Table(study, column, tuple(rows))


def _measured(outcomes: Sequence[Outcome], metric: str) -> Measured:
    values = [getattr(outcome, metric) for outcome in outcomes]
    return Measured(tuple(100 * value for value in values if value is not None))


def verdict(first: Sequence[float], other: Sequence[float], paper_difference: float | None) -> str:
    """Whether a difference of means has the direction that the paper's has.

    ``first`` and ``other`` are AP over seeds. A difference below two pooled standard errors, or of fewer than two
    seeds, is inside the noise, whatever the paper says.
    """
    if paper_difference is None or not first or not other:
        return UNKNOWN
    if len(first) < 2 or len(other) < 2:
        return NOISE
    difference = statistics.fmean(other) - statistics.fmean(first)
    if abs(difference) <= 2 * pooled_standard_error(first, other):
        return NOISE
    printed = round(paper_difference, 1)  # the paper prints one decimal; what is 0 there has no direction
    return AGREES if printed and (difference > 0) == (printed > 0) else DISAGREES


def pooled_standard_error(one: Sequence[float], two: Sequence[float]) -> float:
    """Standard error of the difference of two means whose values are taken to spread alike; two values each."""
    freedom = len(one) + len(two) - 2
    squares = (len(one) - 1) * statistics.variance(one) + (len(two) - 1) * statistics.variance(two)
    return math.sqrt(squares / freedom * (1 / len(one) + 1 / len(two)))
