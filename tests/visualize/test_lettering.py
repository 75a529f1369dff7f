"""Class names in any script are written, simplified or numbered, and never drawn as empty boxes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.errors import DataError
from gfocal.visualize import lettering
from gfocal.visualize.lettering import (
    can_write,
    check_font,
    find_unwritable,
    has_glyph,
    letter,
    load_font,
    name_to_write,
)

NEVER = "\U000f0000"  # of the private use area: no font of a system has it


@pytest.fixture
def _only_pillow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())
    for cached in (lettering.find_font, lettering.letter):
        cached.cache_clear()
    yield
    for cached in (lettering.find_font, lettering.letter):
        cached.cache_clear()


def test_a_missing_glyph_is_noticed():
    assert all(has_glyph(chr(code), None) for code in range(33, 127))
    assert has_glyph("±", None)  # written at every edge
    assert not has_glyph("\u4eba", None)
    assert not has_glyph(NEVER, None)


@pytest.mark.usefixtures("_only_pillow")
@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Käse, groß", "Kase, gross"),
        ("łódź", "lodz"),
        ("\u4eba person", "person"),
        ("two\nlines\tand more", "two lines and more"),
    ],
)
def test_without_a_font_accents_are_left_out(name: str, written: str):
    assert letter(name, 14).text == written
    assert find_unwritable([name]) == []
    assert letter(name_to_write([name], 0), 14).text == written


@pytest.mark.usefixtures("_only_pillow")
def test_a_name_that_no_font_has_becomes_its_number():
    names = ["dog", "\u4eba\u7269", "\u0447\u0430\u0439"]
    assert find_unwritable(names) == names[1:]
    assert [name_to_write(names, k) for k in range(3)] == ["dog", "class 1", "class 2"]
    assert name_to_write(["..."], 0) == "..."


def test_fonts_of_the_system_write_what_pillows_cannot():
    if not lettering.is_installed("DejaVuSans.ttf"):
        pytest.skip("needs the font DejaVu Sans")
    line = letter("\u0447\u0430\u0448\u043a\u0430 0.90", 14)
    assert line.text == "\u0447\u0430\u0448\u043a\u0430 0.90"
    assert line.font.getname()[0] != load_font(14).getname()[0]
    assert letter("cup 0.90", 14).font.getname() == load_font(14).getname()


@given(st.text(max_size=30))
def test_whatever_is_written_has_glyphs(text: str):
    line = letter(text, 12)
    path = lettering.find_font(" ".join(text.split()))
    assert can_write(line.text, path)
    assert line.width >= 0


def test_a_file_that_is_no_font_is_refused(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", tmp_path / "none.ttf"):
        with pytest.raises(DataError, match=r"cannot be read as a font .*; name a \.ttf"):
            check_font(str(path))
