"""The page kit: images inside the page, untrusted text escaped, cells of tables."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from gfocal.reports import html

EVIL = '<script>alert("1")</script>'


def test_an_image_is_embedded_and_scaled_down() -> None:
    tag = html.figure(Image.new("RGB", (3000, 1000), (10, 200, 30)), 'a "b"', longest=300)
    data = tag.split("base64,")[1].split('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (300, 100)
        assert image.getpixel((50, 50)) == pytest.approx((10, 200, 30), abs=6)
    assert 'alt="a &quot;b&quot;"' in tag


def test_the_callers_image_keeps_its_size() -> None:
    image = Image.new("RGB", (3000, 10))
    html.figure(image)
    assert image.size == (3000, 10)


def test_text_is_escaped_and_control_characters_are_shown() -> None:
    assert html.text(EVIL) == "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"
    assert html.text("a\u202eb\x1b") == "a\\u202eb\\x1b"
    assert len(html.text("x" * 10_000)) < 3000
    assert EVIL not in html.header(EVIL, EVIL) + html.facts({EVIL: EVIL})


def test_a_page_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    html.write_page(path, EVIL, ["<p>first</p>", ""])
    assert EVIL not in path.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        html.write_page(path, "t", [None, 1])  # type: ignore[list-item]
    assert "first" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("value", "content"), [(None, "–"), (float("nan"), "–"), (1432, "1,432"), (0.25, "0.250"), (0, "0")]
)
def test_numbers_in_cells(value: float | None, content: str) -> None:
    assert html.number(value) == f"<td>{content}</td>"


def test_bars_stay_in_their_cells() -> None:
    assert "width:100.0%" in html.bar(1.5)
    assert "width:0.0%" in html.bar(-1.0)
    assert "<i" not in html.bar(None)
