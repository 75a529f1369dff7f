"""Mutations of annotation files, first of their structure, then of their bytes, and the values that they insert.

All functions depend only on the state of a ``random.Random``. Used by
``fuzz_readers.py`` and ``atheris_readers.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

IMAGES = ("a.png", "b.png", "c_jpg.rf.0a1b2c3d4e5f.png")  # beside the annotations, all of 40x30 pixels
SECRET = "secret-of-the-canary"  # content of a file outside the data folder, which no reader may show
CANARY, OUTSIDE = "canary", "outside.png"  # names of files above the data folder


class Raw(str):
    """Text that is written to a file without quotes and escapes."""


NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 0.5, -0.0, 1.5, 29.999, 1e308, -1e308, 1e-320, 3.5e38, 2**31, -(2**31), 2**63, -(2**63) - 1),
    *(2**64, 10**19, 10**308, 10**309, 10**400, -(10**400), 10**4200),
    *(float("nan"), float("inf"), float("-inf"), True, False, None, Raw("1" * 5000), Raw("1e999999"), Raw("-")),
)
WORDS = (
    *(
        "",
        " ",
        ".",
        "..",
        "a",
        "cat",
        "dog",
        "с\u0430t",
        "ｃａｔ",
        "cat\u200b",
        "cafe\u0301",
        "café",
        "\u202egpj.exe",
    ),
    *("\0", "a\0.png", "x\ny", "x\r\ny: z", "\x1b[31mred\x1b[0m", "\x9b2J", "\ud800", "a\udcff.png", "\U0001f638"),
    *("../outside.png", "../../outside.png", "images/../../outside.png", "/etc/passwd", "/dev/zero", "//a.png"),
    *("C:\\a.png", "..\\outside.png", "\\\\host\\share\\a.png", "a.png/", "./a.png", "a.png/../a.png", "~/a.png"),
    *("$HOME/a.png", "file:///etc/passwd", "http://127.0.0.1:9/a.png", "A.PNG", "a.png ", "nan", "inf", "1", "1_0"),
    *("%s%n{0}{x}", "[bold]x[/nothing]", "n" * 300, "d/" * 300 + "a.png", "w" * 9000, "<b>&amp;</b>", "]]>", '"'),
)
ODD: tuple[Any, ...] = (
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, 2, 3, 4],
    ["1", "2", "3", "4"],
    {"1": 1, "2": 2},
    "1234",
)


def unexpected_value(rng: Random) -> Any:
    """A value of an unexpected type or size."""
    value = rng.choice(rng.choice((NUMBERS, NUMBERS, WORDS, WORDS, ODD)))
    return deepcopy(value) if isinstance(value, (dict, list)) else value


def mutate_tree(rng: Random, tree: Any, keys: tuple[str, ...] = ()) -> Any:
    """A tree of dicts and lists with one random change; ``tree`` itself is changed or replaced."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(places) < 400:
        node = waiting.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            if isinstance(value, (dict, list)):
                waiting.append(value)
    if not places or rng.random() < 0.01:
        return unexpected_value(rng)
    node, key = rng.choice(places)
    way = rng.randrange(10)
    if way < 4:
        node[key] = unexpected_value(rng)
    elif way == 4:
        del node[key]
    elif way == 5:  # repeated, or copied to another key
        if isinstance(node, list):
            node.insert(rng.randrange(len(node) + 1), node[key])
        else:
            node[rng.choice(keys or WORDS)] = node[key]
    elif way == 6:  # swapped with another place
        other, other_key = rng.choice(places)
        if key in _keys(node) and other_key in _keys(other):
            first, second = _flat(node[key]), _flat(other[other_key])
            node[key], other[other_key] = second, first
    elif way == 7:
        value = node[key]
        many = [value] * (2 if isinstance(value, (dict, list)) else 30)
        node[key] = rng.choice(([value], {"0": value}, {key: value}, many, [[value]]))
    elif way == 8:
        value = node[key]
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        node[key] = rng.choice((str(value)[:300], f" {value}\n"[:300], -value if plain else [value], bool(value)))
    else:
        node[key] = make_nested(rng.choice((2, 3, 5, 30, 90)) if rng.random() < 0.9 else 400, rng)
    return tree


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def _flat(value: Any) -> Any:
    """A copy of a value, so that swapping does not create cycles."""
    try:
        return json.loads(json.dumps(value)) if isinstance(value, (dict, list)) else value
    except (ValueError, RecursionError):  # cyclic, or nested too deeply for json
        return None


def make_nested(depth: int, rng: Random) -> Any:
    """Nested lists or dicts."""
    value: Any = 1
    as_list = rng.random() < 0.5
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    return value


def count_changes(rng: Random) -> int:
    """A random number of changes: mostly one or two, sometimes none."""
    return rng.choice((0, 1, 1, 1, 2, 2, 3, 5))


def mutate_bytes(rng: Random, content: bytes, tokens: tuple[bytes, ...], chance: float = 0.35) -> bytes:
    """Content with random changes of its bytes, mostly none."""
    while rng.random() < chance:
        content = _BYTE_MUTATIONS[rng.randrange(len(_BYTE_MUTATIONS))](rng, content, tokens)
    return content


def _at(rng: Random, content: bytes) -> int:
    return rng.randrange(len(content) + 1)


def _flip(rng: Random, content: bytes, _: object) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), rng.choice((1, 1, 2, 8)))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(rng: Random, content: bytes, tokens: tuple[bytes, ...]) -> bytes:
    at = _at(rng, content)
    return content[:at] + rng.choice(tokens) * rng.choice((1, 1, 1, 2, 40)) + content[at:]


def _cut(rng: Random, content: bytes, _: object) -> bytes:
    at, size = _at(rng, content), rng.choice((1, 2, 5, 20, 100))
    return content[:at] + content[at + size :]


def _repeat(rng: Random, content: bytes, _: object) -> bytes:
    at, size = _at(rng, content), rng.choice((1, 5, 20, 100))
    return content[:at] + content[at : at + size] * rng.choice((2, 3, 30)) + content[at + size :]


def _end(rng: Random, content: bytes, _: object) -> bytes:
    return content[: _at(rng, content)]


def _noise(rng: Random, content: bytes, _: object) -> bytes:
    at = _at(rng, content)
    return content[:at] + rng.randbytes(rng.choice((1, 3, 10))) + content[at:]


def _encoded(rng: Random, content: bytes, _: object) -> bytes:
    text = content.decode("utf-8", errors="replace")
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp500")), "replace")


def _marked(rng: Random, content: bytes, _: object) -> bytes:
    return (
        rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"\xef\xbb\xbf" * 2, b"\x1f\x8b\x08")) + content
    )


_BYTE_MUTATIONS: tuple[Callable[[Random, bytes, Any], bytes], ...] = (
    *(_flip, _insert, _insert, _insert, _cut, _cut, _repeat, _repeat, _end, _noise, _encoded, _marked),
)


# json, yaml and xml of one tree


def as_json(rng: Random, tree: Any) -> bytes:
    """A tree as json; numbers that Python cannot write are inserted as text."""
    raws: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw) or (isinstance(value, int) and abs(value) > 2**64):
            raws.append(value if isinstance(value, str) else str(value))
            return f"<{len(raws) - 1}>RAW"
        if isinstance(value, dict):
            return {str(k): marked(v) for k, v in value.items()}
        return [marked(v) for v in value] if isinstance(value, list) else value

    try:
        text = json.dumps(marked(tree), ensure_ascii=rng.random() < 0.7, indent=1 if rng.random() < 0.03 else None)
    except RecursionError:  # nested too deeply for json
        text = '{"images": ' + "[" * 3000
    for number, raw in enumerate(raws):
        text = text.replace(f'"<{number}>RAW"', raw)
    return text.encode("utf-8", "surrogatepass")


def as_yaml(tree: Any, indent: str = "") -> str:
    """A tree as yaml in block style, faster than by PyYAML."""
    if len(indent) > 120:
        return " x"
    if isinstance(tree, Raw):
        return f" {tree}"
    if isinstance(tree, dict) and tree:
        inner = indent + "  "
        keys = [k if isinstance(k, Raw) or str(k).isidentifier() else json.dumps(k) for k in tree]
        return "".join(f"\n{indent}{k}:{as_yaml(v, inner)}" for k, v in zip(keys, tree.values(), strict=True))
    if isinstance(tree, list) and tree:
        return "".join(f"\n{indent}-{as_yaml(v, indent + '  ')}" for v in tree)
    return f" {json.dumps(tree) if not isinstance(tree, int) else tree}"


def as_xml(rng: Random, tree: Any, tag: str = "annotation", depth: int = 0) -> str:
    """A tree as xml elements: keys are tags, lists repeat them, the rest is text."""
    if isinstance(tree, (list, dict)) and depth >= 100:
        return "<deep/>"
    if isinstance(tree, list):
        return "".join(as_xml(rng, value, tag, depth + 1) for value in tree)
    if isinstance(tree, dict):
        text = "".join(as_xml(rng, value, str(key), depth + 1) for key, value in tree.items())
    else:
        text = "" if tree is None else str(tree)[:6000]
        if not isinstance(tree, Raw) and rng.random() < 0.8:
            text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<{tag}>{text}</{tag}>"
