"""Fonts for labels, and text that they can write: no class name becomes a row of empty boxes.

The font that comes with Pillow has the letters of English alone. For any other text, fonts of the system are
tried; where none has its letters, accents are left out, and a name of which no letter can be written becomes its
number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageFont

from gfocal.errors import DataError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Fonts with many scripts that systems come with, by the names of their files: Linux, Windows, macOS.
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf",
    "segoeui.ttf", "arial.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttf", "LeelawUI.ttf",
    "Arial Unicode.ttf", "Arial.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc",
)  # fmt: skip
NO_CHARACTER = "\U0010fffe"  # never assigned: every font shows its sign for what it lacks
# Letters that Unicode does not take apart into a letter and an accent.
PLAIN = str.maketrans({
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D",
    "ł": "l", "Ł": "L", "þ": "th", "Þ": "Th", "ı": "i", "×": "x", "–": "-", "—": "-", "‘": "'", "’": "'",
    "“": '"', "”": '"',
})  # fmt: skip


@dataclass(frozen=True)
class Lettered:
    """A line of text and its font, measured in pixels."""

    text: str
    font: Font
    width: float
    ascent: int
    descent: int

    @property
    def height(self) -> int:
        """Of the line, whatever letters it has."""
        return self.ascent + self.descent


@lru_cache(maxsize=64)
def load_font(size: int, font_path: str | None = None) -> Font:
    """The font of labels at a height in pixels; Pillow's own where no file is named."""
    return ImageFont.truetype(font_path, size) if font_path else ImageFont.load_default(size)


def check_font(font_path: str) -> None:
    """Raise DataError for a file that is no font."""
    try:
        load_font(16, font_path).getlength("a")
    except OSError as error:
        raise DataError(f"{font_path}: cannot be read as a font ({error}); name a .ttf, .otf or .ttc file") from error


@lru_cache(maxsize=8192)
def letter(text: str, size: int, font_path: str | None = None) -> Lettered:
    """A text in a font that has its characters; those that no font has are written without accents or left out.

    A line break in a class name would leave the label: any white space becomes one space.
    """
    text = " ".join(text.split())
    path = find_font(text, font_path)
    if not can_write(text, path):
        text = simplify(text, path)
    font = load_font(size, path)
    # A Pillow without FreeType has a bitmap font, which does not state its own height.
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (10, 2)
    return Lettered(text, font, font.getlength(text), ascent, descent)


def find_unwritable(names: Sequence[str], font_path: str | None = None) -> list[str]:
    """The class names that no font here can write, not even without accents: drawings show their numbers."""
    return [
        name for name in names if not can_write(name, path := find_font(name, font_path)) and not simplify(name, path)
    ]


def name_to_write(names: Sequence[str], label: int, font_path: str | None = None) -> str:
    """The name of a class; ``class 3`` where no font can write any letter of it."""
    name = " ".join(names[label].split())
    path = find_font(name, font_path)
    return name if can_write(name, path) or simplify(name, path) else f"class {label}"


@lru_cache(maxsize=1024)
def find_font(text: str, font_path: str | None = None) -> str | None:
    """The named font, or else the first one that has every character; Pillow's own (None) where none has."""
    if font_path or can_write(text, None):
        return font_path
    return next((path for path in SYSTEM_FONTS if is_installed(path) and can_write(text, path)), None)


@lru_cache(maxsize=64)
def is_installed(path: str) -> bool:
    """Whether Pillow finds a font file of this name."""
    try:
        load_font(16, path)
    except OSError:
        return False
    return True


def can_write(text: str, path: str | None) -> bool:
    """Whether a font has a glyph for every character."""
    return all(character in " \t\n" or has_glyph(character, path) for character in text)


@lru_cache(maxsize=8192)
def has_glyph(character: str, path: str | None) -> bool:
    """Whether a font shows a character in another way than one that no font has."""
    if path is None and " " <= character <= "~":
        return True
    font = load_font(16, path)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return False
    shown, missing = font.getmask(character), font.getmask(NO_CHARACTER)
    return shown.size != missing.size or bytes(shown) != bytes(missing)


def simplify(text: str, path: str | None) -> str:
    """The text without accents, and without what the font cannot write then; empty if no letter or digit is left."""
    plain = unicodedata.normalize("NFKD", text.translate(PLAIN))
    kept = " ".join("".join(c if has_glyph(c, path) else " " * (not unicodedata.combining(c)) for c in plain).split())
    return kept if any(c.isalnum() for c in kept) else ""
