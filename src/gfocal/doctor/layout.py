"""What of a detector decides its reach: strides, values of an edge, size of the input, and who learns which box."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gfocal.assigners.atss import assign_atss
from gfocal.criterion import Assign, Criterion
from gfocal.data.preparation import InputSettings
from gfocal.data.samples import ImageData
from gfocal.distributions import GeneralDistribution
from gfocal.doctor.reach import ReachResult, reach_of
from gfocal.models.detector import Detector
from gfocal.models.necks import STRIDES
from gfocal.points import Origin

ORIGINS: tuple[Origin, ...] = ("corner", "legacy", "centre")


@dataclass(frozen=True)
class Layout:
    """How the boxes of a picture are laid out over the points of a detector."""

    strides: tuple[int, ...]
    origin: Origin
    n: int
    delta: float
    input_settings: InputSettings
    assign: Assign = assign_atss
    can_be_finer: bool = False  # whether the preset offers a level of half the finest stride

    def reach(self, data: ImageData, most_pictures: int | None = None) -> ReachResult:
        """``reach_of`` with these numbers."""
        return reach_of(
            data,
            self.strides,
            self.n,
            self.delta,
            self.input_settings,
            origin=self.origin,
            assign=self.assign,
            most_pictures=most_pictures,
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
    distribution, strides = model.distribution, getattr(model.head, "level_strides", ())
    laying = getattr(model.head, "origin", getattr(model.head, "laying", None))
    origin = next((name for name in ORIGINS if name == laying), None)  # None for heads with anchors
    if not isinstance(distribution, GeneralDistribution) or origin is None or not strides:
        return None
    layout = Layout(
        tuple(strides),
        origin,
        distribution.n,
        distribution.delta,
        model.input_settings,
        getattr(criterion, "assign", assign_atss),
        can_be_finer=model.built_from["options"].get("finest") == STRIDES[0],
    )
    if short_sides is None:
        return layout
    size = replace(model.input_settings, short_side=min(short_sides[1], model.input_settings.long_side))
    return replace(layout, input_settings=size)
