"""From reach to changes of a config: the smallest ones after which the boxes of a dataset can be learned."""

# FOLDED doctor.layout: What of a detector decides its reach: strides, values of an edge, size of the input, and who learns which box.
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gfocal.assigners.atss import assign_atss
from gfocal.checks.reach import ReachResult, reach_of
from gfocal.criteria.gfl import Assign, Criterion
from gfocal.data.dataset import ImageData
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector
from gfocal.models.necks import STRIDES
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import Origin

FEW = 0.01  # share of edges beyond reach, or of boxes that no point learns, from which on something is advised
STEP_OF_N, MOST_N = 4, 64
# What is tried for boxes without a point: times the short side, and whether with a further level, cheapest first. An
# input costs its pixels; a level of half the finest stride 1.5 to 3 times the time, taken for 2.3.
LARGER = (
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
STEP_OF_SIDE = 16
ADVISED = (
    "size.short_side",
    "size.long_side",
    "augment.short_sides",
    "model.options.n",
    "model.options.delta",
    "model.options.finest",
)
LOOKED_AT = 200  # images, for each size that is tried


@dataclass(frozen=True)
class Advice:
    """Changes of a config that belong together, and why."""

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
    """A larger input or a further level where too many boxes have no point, then enough values per edge there.

    ``short_sides`` is the config's own range of augmentation, which grows with the input.
    """
    given: list[Advice] = []
    if result.unplaced_share > FEW:
        found = _larger(data, layout)
        if found is not None:
            wider, before, result = found
            size = wider.input_settings
            changes: dict[str, Any] = {}
            told = []
            if size.short_side != before.short_side:
                factor = size.short_side / before.short_side
                changes |= {"size.short_side": size.short_side, "size.long_side": size.long_side}
                if short_sides is not None:
                    changes["augment.short_sides"] = [round(side * factor) for side in short_sides]
                told.append(f"at {size.short_side} ({factor**2:.1f} times the pixels)")
            if wider.strides != layout.strides:
                changes["model.options.finest"] = wider.strides[0]
                told.append(f"with a level of stride {wider.strides[0]} (1.5 to 3 times the time of a step)")
            why = (
                f"{before.unplaced_share:.1%} of the boxes are learned by no point at a short side of "
                f"{before.short_side}, {result.unplaced_share:.1%} {' and '.join(told)}"
            )
            given.append(Advice(changes, why))
    if result.share > FEW:
        n, delta = least_values(result)
        changes = {"model.options.n": n} if n != result.n else {}
        if delta != result.delta:
            changes["model.options.delta"] = delta
        if changes:
            why = (
                f"{'with that ' if given else ''}{result.share:.1%} of the edges lie beyond "
                f"{result.n * result.delta:g} strides, "
                f"{result.share_beyond(n * delta):.1%} beyond {n * delta:g}"
            )
            given.append(Advice(changes, why))
    return given


def none_helps(result: ReachResult) -> str:
    """What is to be said of boxes without a point where nothing that was tried helps half of them."""
    return (
        f"{result.unplaced_share:.1%} of the boxes are learned by no point at a short side of {result.short_side}; "
        f"no input up to {LARGER[-1][0]:g} times as large helps half of them; 'gfocal check --html' shows the worst. "
        "Boxes of such sides, or so many in one place, are not for this detector"
    )


def least_values(result: ReachResult, most: float = FEW) -> tuple[int, float]:
    """The smallest n, in steps of four, with at most this share of edges beyond reach; delta grows past n = 64."""
    delta = result.delta
    while True:
        for n in range(max(result.n, STEP_OF_N), MOST_N + 1):
            if (n % STEP_OF_N == 0 or n == result.n) and result.share_beyond(n * delta) <= most:
                return n, delta
        delta *= 2


def _larger(data: ImageData, layout: Layout) -> tuple[Layout, ReachResult, ReachResult] | None:
    """The cheapest layout with which few boxes lack a point, else the best if it helps half of them."""
    now = layout.reach(data, LOOKED_AT)
    short_side = layout.input_settings.short_side
    tried = []
    for factor, with_level in LARGER:
        if with_level and not layout.can_be_finer:
            continue
        side = -(-round(short_side * factor) // STEP_OF_SIDE) * STEP_OF_SIDE if factor > 1 else short_side
        there = layout.at(side)
        if with_level:
            there = there.finer()
        result = there.reach(data, LOOKED_AT)
        tried.append((there, now, result))
        if result.unplaced_share <= FEW:
            return tried[-1]
    least = min(one[2].unplaced_share for one in tried)
    nearly_best = next(one for one in tried if one[2].unplaced_share <= least + FEW)
    return nearly_best if nearly_best[2].unplaced_share <= now.unplaced_share / 2 else None


def _value(value: Any) -> str:
    return f"'{value}'" if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


ORIGINS: tuple[Origin, ...] = ("corner", "legacy", "center")


@dataclass(frozen=True)
class Layout:
    """How the boxes of an image are laid out over the points of a detector."""

    strides: tuple[int, ...]
    origin: Origin
    n: int
    delta: float
    input_settings: InputSettings
    assign: Assign = assign_atss
    can_be_finer: bool = False  # whether the preset offers a level of half the finest stride

    def reach(self, data: ImageData, most_images: int | None = None) -> ReachResult:
        """``reach_of`` with these numbers."""
        return reach_of(
            data,
            self.strides,
            self.n,
            self.delta,
            self.input_settings,
            origin=self.origin,
            assign=self.assign,
            most_images=most_images,
        )

    def at(self, short_side: int) -> Layout:
        """The same with a larger or smaller input of the same ratio."""
        size = self.input_settings
        long_side = max(round(size.long_side * short_side / size.short_side), short_side)
        return replace(self, input_settings=replace(size, short_side=short_side, long_side=long_side))

    def finer(self) -> Layout:
        """The same with a further level of half the finest stride."""
        return replace(self, strides=(self.strides[0] // 2, *self.strides), can_be_finer=False)


def layout_of(model: Detector, criterion: Criterion, short_sides: tuple[int, int] | None = None) -> Layout | None:
    """The layout of a detector as ``criterion`` teaches it; None where edges have no reach that could be too short.

    ``short_sides`` is the range that augmentation draws the short side from: the largest counts, at which edges are
    furthest and small boxes largest.
    """
    box_coder, strides = model.box_coder, getattr(model.head, "level_strides", ())
    laying = getattr(model.head, "origin", getattr(model.head, "laying", None))
    origin = next((name for name in ORIGINS if name == laying), None)  # None for heads with anchors
    if not isinstance(box_coder, GeneralDistribution) or origin is None or not strides:
        return None
    layout = Layout(
        tuple(strides),
        origin,
        box_coder.n,
        box_coder.delta,
        model.input_settings,
        getattr(criterion, "assign", assign_atss),
        can_be_finer=model.built_from["options"].get("finest") == STRIDES[0],
    )
    if short_sides is None:
        return layout
    size = replace(model.input_settings, short_side=min(short_sides[1], model.input_settings.long_side))
    return replace(layout, input_settings=size)
