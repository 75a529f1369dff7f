"""Curves and bar charts as inline SVG: crisp at any size, readable in light and dark, no scripts.

Colors come from CSS variables with defaults (``--c0`` ... ``--c5``, ``--grid``, ``--ground-truth``), so that
a chart is complete on its own and follows the style of the page around it. Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Series = Sequence[tuple[float, float]]

COLORS = ("#2f6fde", "#e0662a", "#1c9a6c", "#9a4fd0", "#c9a100", "#d1437f")
GRAY = "#8a929c"
MAX_POINTS = 400
FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif"


def curve_svg(
    series: Mapping[str, Series],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_ticks: Mapping[float, str] | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
    dashed: Sequence[str] = (),
    width: int = 400,
    height: int = 270,
) -> str:
    """Named curves of (x, y) points in one chart, with a legend.

    Points that are not finite are left out; the curve connects their neighbors. A curve of more than 400 points is
    drawn as 400 means of successive points. A chart without points says so. ``x_ticks`` are positions and their
    labels; ``marks`` gives a curve a dot at one of its points, instead of one at the end of every curve; ``dashed``
    are the names of reference curves, drawn thin and gray.
    """
    curves = {name: _thin([p for p in points if _finite(p)]) for name, points in series.items()}
    curves = {name: points for name, points in curves.items() if points}
    left, right = 58, width - 14
    legend = _legend(list(curves), left, right)
    more = 18 * max((row for row, _ in legend), default=0)
    height += more
    top, bottom = (58 if title else 34) + more, height - 40
    out = [_open(width, height, title or y_label)]
    if title:
        out.append(_text(left, 18, title, size=14, weight=600))
    if not curves:
        out.append(_text((left + right) / 2, (top + bottom) / 2, "no values yet", anchor="middle"))
        return "".join(out) + "</svg>"
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    y_ticks = _ticks(*(y_range or _spread(min(0.0, min(ys)), max(ys))))
    area = _PlotArea(
        left, right, top, bottom, x_range or _spread(min(xs), max(xs)), y_range or (y_ticks[0], y_ticks[-1])
    )
    ticks = x_ticks or {tick: _number(tick) for tick in _ticks(*area.x_range)}
    out += _grid_and_ticks(area, ticks, y_ticks)
    out.append(_text((left + right) / 2, height - 6, x_label, anchor="middle"))
    out.append(_text(left, 12, "" if title else y_label))
    colors = {name: f"var(--c{k % len(COLORS)},{COLORS[k % len(COLORS)]})" for k, name in enumerate(series)}
    for (name, points), (row, x) in zip(curves.items(), legend, strict=True):
        dot = points[-1] if marks is None else marks.get(name)
        color = f"var(--axis,{GRAY})" if name in dashed else colors[name]
        out += _curve(area, points, dot, color, "1.4;stroke-dasharray:5 4" if name in dashed else "2.2")
        y = top - more - 18 + 18 * row
        out.append(f'<circle cx="{x + 5:.1f}" cy="{y}" r="4.5" style="fill:{color}"/>')
        out.append(_text(x + 14, y + 4, name))
    return "".join(out) + "</svg>"


@dataclass(frozen=True)
class _PlotArea:
    """The area of a chart that curves are drawn in, and the values at its ends."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Values as a position in the chart; y is clamped to the area."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        height = (self.bottom - self.top) * min(max(up, 0.0), 1.0)
        return self.left + (self.right - self.left) * across, self.bottom - height


def _grid_and_ticks(area: _PlotArea, x_ticks: Mapping[float, str], y_ticks: Sequence[float]) -> list[str]:
    x0, y0 = area.x_range[0], area.y_range[0]
    out = []
    for tick in y_ticks:
        y = area.place(x0, tick)[1]
        out.append(f'<line x1="{area.left}" x2="{area.right}" y1="{y:.1f}" y2="{y:.1f}" {_stroke("--grid", GRAY)}/>')
        out.append(_text(area.left - 8, y + 4, _number(tick), anchor="end"))
    for tick, text in x_ticks.items():
        if x0 <= tick <= area.x_range[1]:
            out.append(_text(area.place(tick, y0)[0], area.bottom + 16, text, anchor="middle"))
    return out


def _curve(
    area: _PlotArea, points: Series, dot: tuple[float, float] | None, color: str, stroke_width: str
) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (area.place(*point) for point in points))
    out = [
        f'<polyline points="{path}" style="fill:none;stroke:{color};stroke-width:{stroke_width};'
        'stroke-linejoin:round;stroke-linecap:round"/>'
    ]
    if dot is not None:
        x, y = area.place(*dot)
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" style="fill:{color}"/>')
    return out


def bars_svg(
    values: Sequence[float],
    ground_truth: Sequence[float] | None = None,
    *,
    title: str = "",
    note: str = "",
    x_label: str = "",
    labels: Sequence[str] = (),
    width: int = 240,
    height: int = 180,
) -> str:
    """Bars from zero; the ground truth, if given, as wider pale bars behind them.

    ``labels`` are written below the bars, as many as fit. All values are at least 0.
    """
    out = [_open(width, height, title)]
    out.append(_bars(values, ground_truth, title, note, x_label, labels, width, height))
    return "".join(out) + "</svg>"


def edge_panel_svg(
    probabilities: Sequence[Sequence[float]],
    ground_truth: Sequence[Sequence[float] | None] | None = None,
    *,
    bin_sizes: Sequence[float] | None = None,
    columns: int = 2,
    width: int = 440,
    height: int = 380,
) -> str:
    """Charts of the four edges, left to bottom: the predicted distribution, the ground truth behind it.

    ``probabilities`` are 4 rows of K numbers; a row of ``ground_truth`` may be None. ``bin_sizes`` gives the pixels
    per bin of each edge: with it the axes count pixels and the standard deviations are in pixels. Only the
    range of bins that is not empty is drawn. ``columns=4`` with a width of 880 puts all in one row.
    """
    assert len(probabilities) == 4, "an object has four edges"
    out = [_open(width, height, "predicted distribution of the four edges")]
    wide, tall = width / columns, height / -(-4 // columns)
    for side, name in enumerate(("left", "top", "right", "bottom")):
        predicted = probabilities[side]
        true = ground_truth[side] if ground_truth is not None else None
        step, unit = (bin_sizes[side], "px") if bin_sizes is not None else (1.0, "bins")
        note = f"±{_std(predicted) * step:.1f} {unit}"
        if true is not None:
            note += f", ground truth ±{_std(true) * step:.1f}"
        first, last = _bin_range(predicted, true)
        labels = [_number(round(k * step, 1)) for k in range(first, last)]
        shown = true[first:last] if true is not None else None
        x, y = side % columns * wide, side // columns * tall
        chart = _bars(predicted[first:last], shown, name, note, f"{unit} from the point", labels, wide, tall)
        out.append(f'<g transform="translate({x:.1f} {y:.1f})">{chart}</g>')
    return "".join(out) + "</svg>"


def _bin_range(predicted: Sequence[float], true: Sequence[float] | None) -> tuple[int, int]:
    """Start and stop: the bins with more than 0.5 % and one more to either side, 7 at least."""
    rows = [predicted] if true is None else [predicted, true]
    held = [k for row in rows for k, mass in enumerate(row) if mass > 0.005] or [0]
    first, last = min(held) - 1, max(held) + 2
    lacking = max(0, 7 - (last - first))
    first, last = first - lacking // 2, last + lacking - lacking // 2
    return max(0, first), min(len(predicted), last)


def _bars(
    values: Sequence[float],
    ground_truth: Sequence[float] | None,
    title: str,
    note: str,
    x_label: str,
    labels: Sequence[str],
    width: float,
    height: float,
) -> str:
    left, right, top, bottom = 10.0, width - 10, 44.0, height - 40
    peak = max([*values, *(ground_truth or ()), 1e-9])
    step = (right - left) / max(1, len(values))
    out = [_text(left, 16, title, size=13, weight=600), _text(left, 33, note)]
    layers = (
        (ground_truth or (), 0.96, f"var(--ground-truth,{GRAY});opacity:.45"),
        (values, 0.6, f"var(--c0,{COLORS[0]})"),
    )
    for row, share, fill in layers:
        share = 0.84 if ground_truth is None else share
        for k, value in enumerate(row):
            tall = (bottom - top) * value / peak
            if tall >= 0.3:
                at = left + step * (k + (1 - share) / 2)
                out.append(
                    f'<rect x="{at:.1f}" y="{bottom - tall:.1f}" width="{step * share:.1f}" '
                    f'height="{tall:.1f}" rx="1" style="fill:{fill}"/>'
                )
    out.append(f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{bottom}" y2="{bottom}" {_stroke("--axis", GRAY)}/>')
    widest = max((_width(text) for text in labels), default=0.0)
    every = max(1, math.ceil((widest + 6) / step))
    for k in range(0, len(labels), every):
        out.append(_text(left + step * (k + 0.5), bottom + 14, labels[k], size=11, anchor="middle"))
    out.append(_text((left + right) / 2, height - 5, x_label, size=11, anchor="middle"))
    return "".join(out)


def _open(width: int, height: int, name: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(name)}" style="width:100%;max-width:{1.4 * width:.0f}px;height:auto;{FONT}">'
    )


def _text(x: float, y: float, text: str, *, size: float = 12.5, weight: int = 400, anchor: str = "start") -> str:
    if not text:
        return ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'style="font-size:{size}px;font-weight:{weight};fill:currentColor">{escape(text)}</text>'
    )


def _stroke(variable: str, default: str) -> str:
    return f'style="stroke:var({variable},{default});stroke-width:1"'


def _width(text: str) -> float:
    """Approximate width of a text of 12 px."""
    return 6.6 * len(text)


def _legend(names: Sequence[str], left: float, right: float) -> list[tuple[int, float]]:
    """Row and left end of each name, in as many rows as needed."""
    places, row, x = [], 0, left
    for name in names:
        wide = 14 + _width(name)
        if x + wide > right and x > left:
            row, x = row + 1, left
        places.append((row, x))
        x += wide + 18
    return places


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    points = sorted(points)
    if len(points) <= MAX_POINTS:
        return points
    ends = [round(k * len(points) / MAX_POINTS) for k in range(MAX_POINTS + 1)]
    parts = [points[a:b] for a, b in pairwise(ends)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def _spread(low: float, high: float) -> tuple[float, float]:
    """A range of nonzero length that contains both values."""
    if high > low:
        return low, high
    room = abs(low) / 2 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose a range."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _number(value: float) -> str:
    """The label of a tick, without trailing zeros."""
    if abs(value) < 1e-12:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _std(masses: Sequence[float]) -> float:
    total = sum(masses) or 1.0
    mean = sum(k * mass for k, mass in enumerate(masses)) / total
    return math.sqrt(max(0.0, sum(mass * (k - mean) ** 2 for k, mass in enumerate(masses)) / total))
