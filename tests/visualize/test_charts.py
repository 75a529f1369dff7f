"""Curves and bars as SVG: points in order, nothing outside the chart, text escaped, any values."""

import math
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.visualize import bars_svg, curve_svg, edge_panel_svg

K = 17
NAN = float("nan")


class Shapes(HTMLParser):
    """Every tag with its attributes, and all text, of a piece of SVG."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def test_a_curve_has_its_points_in_order_within_the_chart():
    chart = Shapes(curve_svg({"a": [(2, 1.0), (0, 3.0), (1, NAN), (3, math.inf)], "b": [(0, 0.5)]}, title="Loss"))
    first, second = ([tuple(map(float, p.split(","))) for p in c["points"].split()] for c in chart.of("polyline"))
    assert len(first) == 2
    assert len(second) == 1
    assert first[0][0] < first[1][0]
    assert first[0][1] < first[1][1]  # 3 stands higher than 1
    assert all(0 <= x <= 400 and 0 <= y <= 270 for x, y in first + second)
    assert {"Loss", "a", "b"} <= set(chart.text)


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(0, NAN)]}])
def test_a_chart_without_values_says_so(series):
    assert "no values yet" in Shapes(curve_svg(series)).text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12)), min_size=1, max_size=20))
def test_any_finite_values_make_a_chart(points):
    chart = Shapes(curve_svg({"a": points}))
    pairs = [p.split(",") for p in chart.of("polyline")[0]["points"].split()]
    assert all(-0.1 <= float(x) <= 400.1 and -0.1 <= float(y) <= 270.1 for x, y in pairs)
    assert len(chart.of("line")) < 12


def test_small_ticks_keep_their_digits():
    chart = Shapes(curve_svg({"lr": [(0, 0.0), (1, 0.001)]}))
    assert {"0", "2.5e-4", "5e-4", "7.5e-4", "0.001"} <= set(chart.text)


def test_a_long_curve_is_thinned_to_means():
    chart = Shapes(curve_svg({"a": [(x, x % 2) for x in range(10_000)]}, y_range=(0, 1)))
    heights = {p.split(",")[1] for p in chart.of("polyline")[0]["points"].split()}
    assert len(chart.of("polyline")[0]["points"].split()) == 400
    assert len(heights) <= 3  # every stretch has about as many zeros as ones


def test_bars_are_as_tall_as_their_values_and_text_is_escaped():
    chart = Shapes(source := bars_svg([0.2, 0.0, 0.8], [0.4, 0.4, 0.2], title="<b>&"))
    heights = [float(bar["height"]) for bar in chart.of("rect")]
    assert heights == pytest.approx([48, 48, 24, 24, 96], abs=0.2)
    assert "<b>" not in source
    assert "".join(chart.text).startswith("<b>&")


def test_the_panel_writes_deviations_in_pixels_and_shows_the_held_bins():
    learned = [[0.0] * K for _ in range(4)]
    for row in learned:
        row[4] = row[6] = 0.5
    true = [None, None, [0.0] * 5 + [1.0] + [0.0] * 11, None]
    chart = Shapes(edge_panel_svg(learned, true, bin_sizes=[8, 8, 4, 8]))
    text = [t for t in chart.text if t.strip()]
    assert text.count("±8.0 px") == 3
    assert "±4.0 px, ground truth ±0.0" in text
    assert len(chart.of("rect")) == 9
    assert "128" not in text  # the last bin holds nothing
