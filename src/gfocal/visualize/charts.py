"""Curves and bar charts as inline SVG: crisp at any size, readable in light and dark, no scripts.

Colors come from CSS variables with defaults (``--c0`` ... ``--c5``, ``--grid``, ``--ground_truth``), so that a
chart is whole on its own and follows the page it stands in. Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

Series = Sequence[tuple[float, float]]

COLORS = ("#2f6fde", "#e0662a", "#1c9a6c", "#9a4fd0", "#c9a100", "#d1437f")
GRAY = "#8a929c"
MOST_POINTS = 400
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

    Points that are not finite are left out, which breaks no curve. A curve of more than 400 points is
    drawn as the means of 400 stretches. Without any point the chart says so. ``x_ticks`` are places and what to
    write there; ``marks`` names one point of a curve that gets a dot, which else stands at the end of each;
    ``dashed`` names the curves to compare with, drawn thin and gray.
    """
    kept = {name: _thin([p for p in points if _finite(p)]) for name, points in series.items()}
    kept = {name: points for name, points in kept.items() if points}
    places = {name: k for k, name in enumerate(series)}  # a curve keeps its color where another has no points
    left, right = 58, width - 14
    legend = _legend(list(kept), left, right)
    more = 18 * max((row for row, _ in legend), default=0)
    height += more
    top, bottom = (58 if title else 34) + more, height - 40
    out = [_open(width, height, title or y_label)]
    if title:
        out.append(_text(left, 18, title, size=14, weight=600))
    if not kept:
        out.append(_text((left + right) / 2, (top + bottom) / 2, "no values yet", anchor="middle"))
        return "".join(out) + "</svg>"
    xs = [x for points in kept.values() for x, _ in points]
    ys = [y for points in kept.values() for _, y in points]
    x0, x1 = x_range or _spread(min(xs), max(xs))
    y_ticks = _ticks(*(y_range or _spread(min(0.0, min(ys)), max(ys))))
    y0, y1 = y_range or (y_ticks[0], y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return left + (right - left) * across, bottom - (bottom - top) * min(max(up, 0.0), 1.0)

    for tick in y_ticks:
        y = place(x0, tick)[1]
        out.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" {_stroke("--grid", GRAY)}/>')
        out.append(_text(left - 8, y + 4, _number(tick), anchor="end"))
    for tick, text in (x_ticks or {tick: _number(tick) for tick in _ticks(x0, x1)}).items():
        if x0 <= tick <= x1:
            out.append(_text(place(tick, y0)[0], bottom + 16, text, anchor="middle"))
    out.append(_text((left + right) / 2, height - 6, x_label, anchor="middle"))
    out.append(_text(left, 12, "" if title else y_label))
    for (name, points), (row, x) in zip(kept.items(), legend, strict=True):
        k = places[name]
        color = f"var(--c{k % len(COLORS)},{COLORS[k % len(COLORS)]})"
        pen = "2.2"
        if name in dashed:
            color, pen = f"var(--axis,{GRAY})", "1.4;stroke-dasharray:5 4"
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(*p) for p in points))
        out.append(
            f'<polyline points="{path}" style="fill:none;stroke:{color};stroke-width:{pen};'
            'stroke-linejoin:round;stroke-linecap:round"/>'
        )
        if marks is None or name in marks:
            dot_x, dot_y = place(*(points[-1] if marks is None else marks[name]))
            out.append(f'<circle cx="{dot_x:.1f}" cy="{dot_y:.1f}" r="3.2" style="fill:{color}"/>')
        y = top - more - 18 + 18 * row
        out.append(f'<circle cx="{x + 5:.1f}" cy="{y}" r="4.5" style="fill:{color}"/>')
        out.append(_text(x + 14, y + 4, name))
    return "".join(out) + "</svg>"


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
    """Bars from zero, with the true values as wider pale bars behind them if given.

    ``labels`` stand under the bars, as many as there is room for. All values are at least 0.
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
    """Charts of the four edges, left to bottom: the learned distribution, the true one behind it.

    ``probabilities`` are 4 rows of K numbers; a row of ``ground_truth`` may be None. ``bin_sizes`` gives the pixels
    per bin of each edge: with it the axes count pixels and the standard deviations are in pixels. Only the
    stretch of bins that holds something is drawn. ``columns=4`` with a width of 880 puts all in one row.
    """
    assert len(probabilities) == 4, "an object has four edges"
    out = [_open(width, height, "learned and true distribution of the four edges")]
    wide, tall = width / columns, height / -(-4 // columns)
    for side, name in enumerate(("left", "top", "right", "bottom")):
        learned = probabilities[side]
        true = ground_truth[side] if ground_truth is not None else None
        step, unit = (bin_sizes[side], "px") if bin_sizes is not None else (1.0, "bins")
        note = f"±{_std(learned) * step:.1f} {unit}"
        if true is not None:
            note += f", true ±{_std(true) * step:.1f}"
        first, last = _stretch(learned, true)
        labels = [_number(round(k * step, 1)) for k in range(first, last)]
        shown = true[first:last] if true is not None else None
        x, y = side % columns * wide, side // columns * tall
        chart = _bars(learned[first:last], shown, name, note, f"{unit} from the point", labels, wide, tall)
        out.append(f'<g transform="translate({x:.1f} {y:.1f})">{chart}</g>')
    return "".join(out) + "</svg>"


def _stretch(learned: Sequence[float], true: Sequence[float] | None) -> tuple[int, int]:
    """From the first to behind the last bin with more than 0.5 %, and one more to either side, 7 at least."""
    rows = [learned] if true is None else [learned, true]
    held = [k for row in rows for k, mass in enumerate(row) if mass > 0.005] or [0]
    first, last = min(held) - 1, max(held) + 2
    lacking = max(0, 7 - (last - first))
    first, last = first - lacking // 2, last + lacking - lacking // 2
    return max(0, first), min(len(learned), last)


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
        (ground_truth or (), 0.96, f"var(--ground truth,{GRAY});opacity:.45"),
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
    """About how wide a text of 12 px is."""
    return 6.6 * len(text)


def _legend(names: Sequence[str], left: float, right: float) -> list[tuple[int, float]]:
    """Row and left end of each name, in as many rows as they need."""
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
    if len(points) <= MOST_POINTS:
        return points
    ends = [round(k * len(points) / MOST_POINTS) for k in range(MOST_POINTS + 1)]
    parts = [points[a:b] for a, b in pairwise(ends)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def _spread(low: float, high: float) -> tuple[float, float]:
    """Two ends that differ, whatever the values."""
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
    """A tick without needless digits."""
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
