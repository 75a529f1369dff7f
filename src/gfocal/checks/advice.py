"""The smallest changes of a config after which a detector covers the boxes of a dataset.

Two problems are solved one after the other: boxes without an assigned point, by a larger input or a finer pyramid
level; then edges outside the regression range, by a larger n (``reg_max``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gfocal.checks.geometry import DetectorGeometry
from gfocal.checks.regression_range import TOLERATED, RegressionRangeResult, measure_regression_range
from gfocal.data.dataset import ImageData

N_STEP, MAX_N = 4, 64
# What is tried for unassigned boxes, cheapest first: a factor of the short side, and whether a finer level is added.
# An input costs time in proportion to its pixels; a level of half the finest stride 1.5 to 3 times, here 2.3.
ENLARGEMENTS = (
    (1.25, False),
    (1.5, False),
    (1.0, True),
    (1.25, True),
    (2.0, False),
    (1.5, True),
    (2.5, False),
    (3.0, False),
    (2.0, True),
    (2.5, True),
    (4.0, False),
)
SIDE_STEP = 16  # pixels
# Config keys that advice changes.
ADVISED = (
    "size.short_side",
    "size.long_side",
    "augment.short_sides",
    "model.options.n",
    "model.options.delta",
    "model.options.finest",
)
NETWORK = ("model.options.n", "model.options.delta", "model.options.finest")  # of these, those of the network
ENLARGING = ("size.short_side", "model.options.finest")  # of these, those that help unassigned boxes
MAX_IMAGES = 200  # measured for each enlargement


@dataclass(frozen=True)
class Advice:
    """Changes of a config that belong together, and the reason."""

    changes: dict[str, Any]  # keys as in ``gfocal train --set``
    why: str

    def as_options(self) -> str:
        """The changes as options of ``gfocal train``."""
        return " ".join(f"--set {key}={_format_value(value)}" for key, value in self.changes.items())

    def to_json(self) -> dict[str, Any]:
        """As ``gfocal check --json`` writes it."""
        return {"changes": self.changes, "why": self.why, "options": self.as_options()}


def advise(
    data: ImageData,
    geometry: DetectorGeometry,
    result: RegressionRangeResult,
    short_sides: tuple[int, int] | None = None,
) -> list[Advice]:
    """Advice on input size and levels where too many boxes are unassigned, then on n for that input.

    ``short_sides`` is the range of short sides of the config's augmentation, which grows with the input.
    """
    given: list[Advice] = []
    if result.unassigned_fraction > TOLERATED:
        found = _find_enlargement(data, geometry)
        if found is not None:
            enlarged, before, result = found
            given.append(_advise_enlargement(geometry, enlarged, before, result, short_sides))
    if result.clamped_fraction > TOLERATED:
        n, delta = find_smallest_range(result)
        changes: dict[str, Any] = {"model.options.n": n} if n != result.n else {}
        if delta != result.delta:
            changes["model.options.delta"] = delta
        if changes:
            why = (
                f"{'with that ' if given else ''}{result.clamped_fraction:.1%} of the edges are farther than "
                f"{result.n * result.delta:g} strides (n = reg_max = {result.n}), "
                f"{result.fraction_beyond(n * delta):.1%} farther than {n * delta:g}"
            )
            given.append(Advice(changes, why))
    return given


def advise_for_network(
    data: ImageData,
    geometry: DetectorGeometry,
    result: RegressionRangeResult,
    short_sides: tuple[int, int] | None,
    init_from: str | None,
) -> tuple[list[Advice], str]:
    """Advice that ``gfocal train --auto`` can take, and why there is none where the boxes call for some.

    The network of ``init_from`` stays as it is: advice on its regression range cannot be taken, and an input whose
    edges would then lie outside is no advice either.
    """
    given = advise(data, geometry, result, short_sides)
    if init_from is not None and any(set(NETWORK) & one.changes.keys() for one in given):
        reasons = "; but ".join(one.why for one in given)
        return [], f"{reasons}, and the network of {init_from} cannot be changed"
    if result.unassigned_fraction > TOLERATED and not any(set(ENLARGING) & one.changes.keys() for one in given):
        return given, explain_no_advice(result)
    return given, ""


def _advise_enlargement(
    geometry: DetectorGeometry,
    enlarged: DetectorGeometry,
    before: RegressionRangeResult,
    after: RegressionRangeResult,
    short_sides: tuple[int, int] | None,
) -> Advice:
    size = enlarged.input_settings
    changes: dict[str, Any] = {}
    means = []
    if size.short_side != before.short_side:
        factor = size.short_side / before.short_side
        changes |= {"size.short_side": size.short_side, "size.long_side": size.long_side}
        if short_sides is not None:
            changes["augment.short_sides"] = [round(side * factor) for side in short_sides]
        means.append(f"at {size.short_side} ({factor**2:.1f} times the pixels)")
    if enlarged.strides != geometry.strides:
        changes["model.options.finest"] = enlarged.strides[0]
        means.append(f"with a level of stride {enlarged.strides[0]} (1.5 to 3 times the time of a step)")
    why = (
        f"{before.unassigned_fraction:.1%} of the boxes are unassigned at {before.size_text}, "
        f"{after.unassigned_fraction:.1%} {' and '.join(means)}"
    )
    return Advice(changes, why)


def explain_no_advice(result: RegressionRangeResult) -> str:
    """Why there is no advice for unassigned boxes: nothing that was tried helps half of them."""
    return (
        f"{result.unassigned_fraction:.1%} of the boxes are unassigned at {result.size_text}; no "
        f"input up to {ENLARGEMENTS[-1][0]:g} times as large helps half of them; 'gfocal check --html' shows the "
        "worst. This detector does not suit boxes with such sides, or so many in one place"
    )


def find_smallest_range(result: RegressionRangeResult, tolerated: float = TOLERATED) -> tuple[int, float]:
    """The smallest n, in steps of four, with at most this fraction of clamped edges; delta doubles past n = 64."""
    delta = result.delta
    while True:
        for n in range(max(result.n, N_STEP), MAX_N + 1):
            if (n % N_STEP == 0 or n == result.n) and result.fraction_beyond(n * delta) <= tolerated:
                return n, delta
        delta *= 2


def _find_enlargement(
    data: ImageData, geometry: DetectorGeometry
) -> tuple[DetectorGeometry, RegressionRangeResult, RegressionRangeResult] | None:
    """The cheapest geometry with few unassigned boxes, else the best one if it helps half of them.

    With what is measured before and after.
    """
    before = measure_regression_range(data, geometry, MAX_IMAGES)
    short_side = geometry.input_settings.short_side
    tried = []
    for factor, with_level in ENLARGEMENTS:
        if with_level and not geometry.supports_finer_level:
            continue
        side = -(-round(short_side * factor) // SIDE_STEP) * SIDE_STEP if factor > 1 else short_side
        enlarged = geometry.with_short_side(side)
        if with_level:
            enlarged = enlarged.with_finer_level()
        after = measure_regression_range(data, enlarged, MAX_IMAGES)
        tried.append((enlarged, before, after))
        if after.unassigned_fraction <= TOLERATED:
            return tried[-1]
    least = min(after.unassigned_fraction for _, _, after in tried)
    best = next(one for one in tried if one[2].unassigned_fraction <= least + TOLERATED)
    return best if best[2].unassigned_fraction <= before.unassigned_fraction / 2 else None


def _format_value(value: Any) -> str:
    return f"'{value}'" if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
