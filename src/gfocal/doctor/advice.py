"""From reach to changes of a recipe: the smallest ones after which the boxes of a data set can be learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gfocal.data.samples import ImageData
from gfocal.doctor.layout import Layout
from gfocal.doctor.reach import ReachResult

FEW = 0.01  # share of edges beyond reach, or of boxes that no point learns, from which on something is advised
STEP_OF_N, MOST_N = 4, 64
LARGER = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # times the short side
STEP_OF_SIDE = 16
ADVISED = ("size.short_side", "size.long_side", "augment.short_sides", "model.options.n", "model.options.delta")
LOOKED_AT = 200  # pictures, for each size that is tried


@dataclass(frozen=True)
class Advice:
    """Changes of a recipe that belong together, and why."""

    changes: dict[str, Any]  # keys as in ``gfocal train --set``
    why: str

    def as_options(self) -> str:
        """The changes as options of ``gfocal train``."""
        return " ".join(f"--set {key}={_value(value)}" for key, value in self.changes.items())

    def to_json(self) -> dict[str, Any]:
        """As ``gfocal check --json`` writes it."""
        return {"changes": self.changes, "why": self.why, "options": self.as_options()}


def advise(
    data: ImageData, layout: Layout, result: ReachResult, short_sides: tuple[int, int] | None = None
) -> list[Advice]:
    """A larger input where too many boxes have no point, then enough values per edge at that size.

    ``short_sides`` is the recipe's own range of augmentation, which grows with the input.
    """
    given: list[Advice] = []
    if result.unplaced_share > FEW:
        found = _larger(data, layout)
        if found is not None:
            layout, before, result = found
            size = layout.input_settings
            changes: dict[str, Any] = {"size.short_side": size.short_side, "size.long_side": size.long_side}
            factor = size.short_side / before.short_side
            if short_sides is not None:
                changes["augment.short_sides"] = [round(side * factor) for side in short_sides]
            why = (
                f"{before.unplaced_share:.1%} of the boxes are learned by no point at a short side of "
                f"{before.short_side}, {result.unplaced_share:.1%} at {size.short_side} "
                f"({factor**2:.1f} times the pixels)"
            )
            given.append(Advice(changes, why))
    if result.share > FEW:
        n, delta = least_values(result)
        changes = {"model.options.n": n} if n != result.n else {}
        if delta != result.delta:
            changes["model.options.delta"] = delta
        if changes:
            why = (
                f"{result.share:.1%} of the edges lie beyond {result.n * result.delta:g} strides, "
                f"{result.share_beyond(n * delta):.1%} beyond {n * delta:g}"
            )
            given.append(Advice(changes, why))
    return given


def least_values(result: ReachResult, most: float = FEW) -> tuple[int, float]:
    """The smallest n, in steps of four, with at most this share of edges beyond reach; delta grows past n = 64."""
    delta = result.delta
    while True:
        for n in range(max(result.n, STEP_OF_N), MOST_N + 1):
            if (n % STEP_OF_N == 0 or n == result.n) and result.share_beyond(n * delta) <= most:
                return n, delta
        delta *= 2


def _larger(data: ImageData, layout: Layout) -> tuple[Layout, ReachResult, ReachResult] | None:
    """The smallest input at which few boxes lack a point, else the best if it helps half of them."""
    now = layout.reach(data, LOOKED_AT)
    short_side = layout.input_settings.short_side
    tried = []
    for factor in LARGER:
        side = -(-round(short_side * factor) // STEP_OF_SIDE) * STEP_OF_SIDE
        there = layout.at(side)
        result = there.reach(data, LOOKED_AT)
        tried.append((there, now, result))
        if result.unplaced_share <= FEW:
            return tried[-1]
    best = min(tried, key=lambda one: one[2].unplaced_share)
    return best if best[2].unplaced_share <= now.unplaced_share / 2 else None


def _value(value: Any) -> str:
    return f"'{value}'" if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def with_layout(layout: Layout, changes: dict[str, Any]) -> Layout:
    """The layout after changes that ``advise`` gave."""
    size = layout.input_settings
    short_side, long_side = changes.get("size.short_side"), changes.get("size.long_side")
    if short_side and long_side:
        size = replace(size, short_side=short_side, long_side=long_side)
    n, delta = changes.get("model.options.n", layout.n), changes.get("model.options.delta", layout.delta)
    return replace(layout, n=n, delta=delta, input_settings=size)
