"""Before the first step: no run that would teach many edges a wrong value in silence."""

from __future__ import annotations

from rich.console import Console

from gfocal.data.samples import FileData, ImageData
from gfocal.doctor.advice import FEW, least_values
from gfocal.doctor.layout import Layout
from gfocal.doctor.reach import ReachResult

LOOKED_AT = 500  # pictures
LOOKED_AT_DRAWN = 100  # of scenes that are drawn for it


class ClampedEdges(ValueError):  # noqa: N818
    """Too many edges of the training data lie beyond what the detector can say."""


def refuse_clamped(
    layout: Layout | None, data: ImageData, most_clamped: float, console: Console, data_name: str = ""
) -> ReachResult | None:
    """Tell the share of edges beyond reach where there are some.

    Returns what was found, None for a detector without reach. Raises ClampedEdges when they are more than
    ``most_clamped`` of all: DFL would teach them the last value of the distribution, and boxes would stay too small.
    """
    if layout is None:
        return None
    result = layout.reach(data, looked_at(data))
    if result.share > most_clamped:
        n, delta = least_values(result)
        options = f"--set model.options.n={n}"
        options += f" --set model.options.delta={delta:g}" if delta != result.delta else ""
        where = f"{data_name}: " if data_name else ""
        raise ClampedEdges(
            f"{where}{told(result)}, more than run.most_clamped = {most_clamped:g} allows: DFL would teach them its "
            f"last value, and these boxes would stay too small. Give --auto, or {options}; "
            "--set run.most_clamped=1 trains all the same"
        )
    if result.unplaced_share > FEW:
        console.print(
            f"note: {percent(result.unplaced_share)} of the boxes are learned by no point at a short side of "
            f"{result.short_side}, and will hardly be found: 'gfocal check' shows them, --auto takes its advice",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if result.share > 0:
        console.print(f"note: {told(result)}", markup=False, highlight=False, soft_wrap=True)
    return result


def looked_at(data: ImageData) -> int:
    """How many pictures tell enough before a run, in a second or two."""
    return LOOKED_AT if isinstance(data, FileData) else LOOKED_AT_DRAWN


def told(result: ReachResult) -> str:
    """The shares in one sentence: overall, then of each level that has such edges."""
    levels = [
        f"{percent(level.share)} at stride {level.stride} (reach {level.reach:g} pixels)"
        for level in result.levels
        if level.edges_beyond
    ]
    return (
        f"{percent(result.share)} of the edges to learn lie beyond reach (n = {result.n}, delta = {result.delta:g}, "
        f"short side {result.short_side}): {', '.join(levels) or 'on no level'}"
    )


def percent(share: float) -> str:
    """A share as people read it; what is there is never 0."""
    if not share:
        return "0%"
    return f"{share:.2%}" if share >= 0.0001 else "under 0.01%"
