"""Our AP beside the paper's: mean and standard deviation over seeds, differences to the first row, agreement.

All numbers are AP in percent, as the paper prints them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gfocal.lab.results_json import Outcome, Results
from gfocal.lab.studies import Study

AGREES, NOISE, DISAGREES, FIRST_ROW, NOT_COMPARED = "agrees", "within noise", "disagrees", "first row", "–"
HIGHER, LOWER = "higher", "lower"  # of rows that no paper has


@dataclass(frozen=True)
class MeanOverSeeds:
    """A metric over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Arithmetic mean; None without values."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the sample (N - 1); None for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """One cell: our numbers and the paper's."""

    cell: str
    ours: Mapping[str, MeanOverSeeds]  # of the study's metrics
    paper: Mapping[str, float]  # those that the paper prints
    our_difference: float | None  # of AP, to the first row
    paper_difference: float | None
    verdict: str
    failed: str | None = None  # why a run has no result


@dataclass(frozen=True)
class Table:
    """One column of a study: rows, each compared with the first."""

    study: Study
    column: str
    rows: tuple[Row, ...]

    def count(self, verdict: str) -> int:
        """Number of rows with this verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def compare_with_paper(results: Results, studies: Iterable[Study]) -> list[Table]:
    """Every table of which at least one run was tried; rows without a run have no numbers."""
    found = []
    for study in studies:
        for column in study.columns:
            here = [o for o in results.outcomes if (o.study, o.column) == (study.name, column)]
            if any(outcome.ap is not None or outcome.failed for outcome in here):
                found.append(_make_table(study, column, here))
    return found


def _make_table(study: Study, column: str, outcomes: Sequence[Outcome]) -> Table:
    cells = [cell for cell in study.cells if cell.column == column]
    first_values: tuple[float, ...] = ()
    first_paper: float | None = None
    rows: list[Row] = []
    for number, cell in enumerate(cells):
        own = [outcome for outcome in outcomes if outcome.cell == cell.name]
        ours = {metric: _percent(own, metric) for metric in study.metrics}
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
                verdict(first_values, values, paper_difference) if number else FIRST_ROW,
                next((outcome.failed for outcome in own if outcome.failed), None),
            )
        )
    return Table(study, column, tuple(rows))


def _percent(outcomes: Sequence[Outcome], metric: str) -> MeanOverSeeds:
    values = [getattr(outcome, metric) for outcome in outcomes]
    return MeanOverSeeds(tuple(100 * value for value in values if value is not None))


def verdict(first: Sequence[float], other: Sequence[float], paper_difference: float | None) -> str:
    """Whether a difference of means has the same sign as the paper's; which sign it has, where the paper has none.

    ``first`` and ``other`` are AP over seeds. A difference of at most two pooled standard errors, or from fewer than
    two seeds, is within noise.
    """
    if not first or not other:
        return NOT_COMPARED
    if len(first) < 2 or len(other) < 2:
        return NOISE
    difference = statistics.fmean(other) - statistics.fmean(first)
    if abs(difference) <= 2 * pooled_standard_error(first, other):
        return NOISE
    if paper_difference is None:
        return HIGHER if difference > 0 else LOWER
    printed = round(paper_difference, 1)  # the paper prints one decimal; 0 has no sign
    return AGREES if printed and (difference > 0) == (printed > 0) else DISAGREES


def pooled_standard_error(one: Sequence[float], two: Sequence[float]) -> float:
    """Standard error of the difference of two means of equal variance, each of at least two values."""
    freedom = len(one) + len(two) - 2
    squares = (len(one) - 1) * statistics.variance(one) + (len(two) - 1) * statistics.variance(two)
    return math.sqrt(squares / freedom * (1 / len(one) + 1 / len(two)))
