"""The page kit of all reports: one skeleton, one style, escaped text, images inside the file.

A page is one file that loads nothing, without scripts but for the viewer of an evaluation: charts are inline SVG,
images WebP data URIs. Untrusted text (names of classes, files and runs) goes through ``text``. Arguments are html
already, unless it says plain text.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from gfocal.atomic import atomic_write
from gfocal.text import printable

MAX_TEXT = 2000  # characters of one text


@dataclass(frozen=True)
class CaptionedImage:
    """An image of a report and the text below it."""

    image: Image.Image
    caption: str = ""


def text(value: object) -> str:
    """Untrusted text, escaped; control characters are shown as escapes, and the middle of an overlong text is cut."""
    return escape(printable(str(value), MAX_TEXT))


def write_page(
    path: str | os.PathLike[str], title: str, parts: Iterable[str], style: str = "", refresh: int = 0
) -> None:
    """Write a page to ``path``, whole or not at all; the folder must exist.

    ``title`` is plain text, ``style`` the CSS that only this page needs. ``refresh``: seconds after which a browser
    loads the page again; 0: never.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        + (f'<meta http-equiv="refresh" content="{refresh}">' if refresh else "")
        + f"<title>{text(title)}</title><style>{STYLE}{style}</style></head>\n<body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def header(title: str, lead: str = "", body: str = "") -> str:
    """Title and lead, both plain text, and what stands below them."""
    lead = f'<p class="lead">{text(lead)}</p>' if lead else ""
    return f"<header><h1>{text(title)}</h1>{lead}{body}</header>"


def section(heading: str, body: str, description: str = "") -> str:
    """A part of a page under a heading."""
    return f"<section><h2>{heading}</h2>{note(description)}{body}</section>"


def note(content: str) -> str:
    """A paragraph in small gray letters; nothing where there is nothing to say."""
    return f'<p class="note">{content}</p>' if content else ""


def tiles(numbers: Mapping[str, str], few: Collection[str] = ()) -> str:
    """Large numbers by their names, the first one largest; those named in ``few`` are gray."""
    boxes = (
        f"<div{' class=few' * (k in few)}><b>{v}</b><span>{k}{', few objects' * (k in few)}</span></div>"
        for k, v in numbers.items()
    )
    return f'<div class="numbers">{_join(boxes)}</div>'


def facts(values: Mapping[str, object]) -> str:
    """Names and values, both plain text."""
    return f"<dl>{_join(f'<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>' for k, v in values.items())}</dl>"


def figure(image: Image.Image, caption: str = "", *, longest: int = 1400, fast: bool = False) -> str:
    """An image, at most ``longest`` pixels wide or high, and its caption, which is plain text.

    ``fast`` takes a quarter of the time, for a page that is written again and again, and looks a little worse.
    """
    if max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=75 if fast else 90, method=0 if fast else 4)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}" '
        f'alt="{text(caption)}"><figcaption>{text(caption)}</figcaption></figure>'
    )


def gallery(figures: Iterable[str], kind: str = "") -> str:
    """Figures side by side; ``kind`` "wide" gives each more room."""
    return f'<div class="gallery {kind}">{_join(figures)}</div>'


def charts(drawings: Iterable[str]) -> str:
    """Charts side by side."""
    return f'<div class="charts">{_join(f"<div>{drawing}</div>" for drawing in drawings)}</div>'


def details(summary: str, body: str) -> str:
    """What is shown after a click on ``summary``."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "", row_kinds: Sequence[str] = ()) -> str:
    """A table: the first of each row is its heading, the others are cells, made by ``cell``, ``number`` or ``bar``.

    Numbers are aligned to the right; a table of ``kind`` "words" is aligned to the left. ``row_kinds`` are the
    classes of the rows, for the style of a page.
    """
    top = _join(f"<th scope=col>{name}</th>" for name in head)
    starts = [f'<tr class="{row_kind}">' for row_kind in row_kinds] or ["<tr>"] * len(rows)
    body = _join(
        f"{start}<th scope=row>{heading}</th>{_join(cells)}</tr>"
        for start, (heading, *cells) in zip(starts, rows, strict=True)
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def cell(content: str, kind: str = "") -> str:
    """A cell of a table."""
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def number(value: float | int | None, digits: int = 3) -> str:
    """A cell with a number; a dash for None."""
    return cell(decimal(value, digits))


def decimal(value: float | int | None, digits: int = 3) -> str:
    """A whole number with separators, any other with fixed digits, a dash for None and for NaN."""
    if value is None or value != value:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def bar(share: float | None) -> str:
    """A cell with a bar of this share (0 to 1) of its width; empty for None."""
    return cell("" if share is None else f'<i style="width:{100 * min(max(share, 0.0), 1.0):.1f}%"></i>', "bar")


def legend_key(kind: str, name: str) -> str:
    """An entry of a legend: a swatch of the style ``.key .kind``, and what it stands for."""
    return f'<span class="key"><i class="{kind}"></i>{name}</span> '


def _join(parts: Iterable[str]) -> str:
    return "".join(parts)


STYLE = """
:root{--bg:#fbfbf9;--card:#fff;--ink:#1f2328;--soft:#5b636d;--line:#e3e4e0;--grid:#e6e7e3;--axis:#9aa1aa;
--c0:#2f6fde;--c1:#e0662a;--c2:#1c9a6c;--c3:#9a4fd0;--c4:#b08c00;--c5:#d1437f;--ground-truth:#8a929c}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--ink:#e8eaed;--soft:#a3abb5;
--line:#30363e;--grid:#2d333b;--axis:#6b7480;--c0:#6ea4ff;--c1:#ff9a63;--c2:#4fd1a0;--c3:#c693f5;--c4:#e6c542;
--c5:#ff86b5;--ground-truth:#a9b2bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1180px;margin:0 auto;padding:clamp(16px,4vw,48px)}
h1{font-size:clamp(1.7rem,5vw,2.6rem);line-height:1.15;letter-spacing:-.02em;margin:0 0 .4em;
overflow-wrap:anywhere}
h2{font-size:1.35rem;letter-spacing:-.01em;margin:0 0 .3em}
h3{font-size:1.05rem;margin:1.2em 0 .3em}
section{margin-top:clamp(32px,5vw,56px)}
.lead{font-size:1.1rem;max-width:68ch;color:var(--soft);margin:0 0 1.4em;overflow-wrap:anywhere}
.note{color:var(--soft);font-size:.92rem;max-width:80ch;margin:.3em 0 1em}
.soft{color:var(--soft);font-size:.88rem}
.numbers+.note{margin-top:.8em}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px;align-items:stretch}
.numbers div{display:flex;flex-direction:column;justify-content:flex-end;
background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.numbers b{display:block;font-size:2rem;line-height:1.1;font-variant-numeric:tabular-nums}
.numbers div:first-child b{font-size:2.6rem;color:var(--c0);line-height:.95}
.few,.few th,.few td,.numbers .few b{color:var(--soft)!important;opacity:.75}
.numbers span{color:var(--soft);font-size:.85rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:16px}
.gallery.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,500px),1fr))}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:16px}
.charts>div,article,figure{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:0}
.charts>div{padding:14px}
.charts+.scroll{margin-top:16px}
figure{overflow:hidden}
figure img{display:block;width:100%;height:auto}
figcaption{padding:10px 14px;font-size:.88rem;color:var(--soft);overflow-wrap:anywhere}
figcaption:empty{display:none}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child{text-align:left;font-weight:500;white-space:normal;overflow-wrap:anywhere;min-width:7em}
thead th{color:var(--soft);font-size:.85rem;font-weight:500}
.words th,.words td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.bar{width:40%;min-width:90px}
.bar i{display:block;height:10px;border-radius:5px;background:var(--c0);min-width:1px}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:2px 24px;margin:0}
dl div{display:flex;justify-content:space-between;gap:12px;border-bottom:1px solid var(--line);padding:7px 0}
dt{color:var(--soft)}dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:0}
details{margin-top:16px}summary{cursor:pointer;color:var(--soft);margin-bottom:12px}
.key{white-space:nowrap;font-weight:600}
.key i{display:inline-block;width:12px;height:12px;border-radius:3px;vertical-align:-1px;margin:0 5px 0 2px}
@media print{section,figure,article{break-inside:avoid}}
"""
