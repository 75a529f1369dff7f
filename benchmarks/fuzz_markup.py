"""Generators of yaml and xml files for ``fuzz_readers.py``, with the special features of these languages."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz_grammar import Raw, as_xml, as_yaml, count_changes, mutate_bytes, mutate_tree


def yolo_yaml(rng: Random) -> bytes:
    """A data.yaml: names as list or map, splits as folder, list or text file; as Roboflow or Ultralytics write it."""
    names: Any = rng.choice((["cat", "dog"], {0: "cat", 1: "dog"}))
    names = names if isinstance(names, list) else dict(names)
    folder = rng.choice(("train/images", "../train/images", ["train/images"], "./train/images", "train.txt", "."))
    tree: Any = {"names": names, "nc": 2, "train": folder, "val": "../valid/images"}
    if rng.random() < 0.3:
        tree |= {
            "path": rng.choice((".", "../data", "", "data", "/", "../../../../../..")),
            "roboflow": {"workspace": "w", "version": 1},
        }
    if rng.random() < 0.15:
        place = rng.choice((names, names, tree))
        raw = Raw(rng.choice(_YAML_VALUES))
        key: Any = rng.choice(list(range(len(place))) if isinstance(place, list) else list(place))
        place[key] = raw
    for _ in range(count_changes(rng)):
        tree = mutate_tree(rng, tree, ("names", "nc", "train", "val", "test", "path", "download"))
    text = as_yaml(tree)
    if rng.random() < 0.06:
        text = rng.choice(_YAML_HEADS) + text
    if rng.random() < 0.03:
        text = _bomb(rng, text)
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), _YAML_TOKENS, 0.25)


_YAML_VALUES = (
    *("&x [1, *x]", "*nothing", "!!python/object/apply:os.system ['touch ../canary']", "!!python/name:os.system"),
    *(
        "!!python/object/new:os.system ['touch ../canary']",
        "!!binary AAEC",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!int x",
    ),
    *("2026-99-99", "2026-01-01", "1:30:30", "0x" + "f" * 5000, "0o777", ".nan", ".inf", "-.INF", "1" * 5000, "~"),
    *(
        "!!float 'x'",
        "!!timestamp x",
        "!!pairs [a: 1]",
        "!x y",
        "? [1, 2]\n: 3",
        "| \n   x",
        "1:" * 2600 + "1",
        "@",
        "`",
    ),
    *(
        "=",
        "<<",
        "!!merge <<",
        "{<<: [{a: 1}, {b: 2}]}",
        "!!str 1",
        "!!null x",
        "!!bool x",
        "yes",
        "no",
        "on",
        "null",
    ),
)
_YAML_HEADS = (
    *(
        "%YAML 9.9\n---\n",
        "%TAG ! tag:x,2000:\n---\n",
        "---\n---\n",
        "- x\n",
        "\t",
        "...\n",
        "? {a: b}\n: c\n",
        "[1]: x\n",
    ),
    *(
        "{a: b}: c\n",
        "!!python/object:x.Y\n",
        "&root\n",
        "<<: {names: [a]}\n",
        "<<: 3\n",
        "\ufeff",
        "1: 2\nnull: 3\n",
    ),
)
_YAML_TOKENS = (
    *(
        b":",
        b"- ",
        b"&a ",
        b"*a",
        b"!!",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\t",
        b"#",
        b"|",
        b">",
        b"%",
        b"@",
        b"\0",
        b"'",
        b'"',
    ),
    *(b"<<: *a\n", b"? ", b"---\n", b"\xff", b"\x85", b"\xe2\x80\xa8", b"nc: 2\n", b"names: [x]\n", b"train: .\n"),
)


def _bomb(rng: Random, text: str) -> str:
    """A yaml whose aliases expand exponentially."""
    depth, width = rng.choice((3, 9, 30)), rng.choice((2, 9))
    if rng.random() < 0.5:
        lines = ["z0: &z0 {a: 1}"]
        lines += [f"z{n}: &z{n} {{<<: [{', '.join([f'*z{n - 1}'] * width)}]}}" for n in range(1, depth)]
    else:
        lines = ["z0: &z0 [lol]"]
        lines += [f"z{n}: &z{n} [{', '.join([f'*z{n - 1}'] * width)}]" for n in range(1, depth)]
    use = rng.choice(("names: [*z{0}]", "train: *z{0}", "path: *z{0}", "nc: *z{0}", "val: [*z{0}]", "x: *z{0}"))
    return "\n".join(lines) + "\n" + text + "\n" + use.format(f"{depth - 1}") + "\n"


def voc(rng: Random) -> bytes:
    """A VOC xml: as written by LabelImg and Roboflow, mutated, with entities, encodings and namespaces."""
    objects = [
        {
            "name": rng.choice(("cat", "dog")),
            "pose": "Unspecified",
            "truncated": 0,
            "difficult": rng.choice((0, 1)),
            "bndbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), corners(rng), strict=True)),
        }
        for _ in range(rng.choice((0, 1, 2, 4)))
    ]
    size = {"width": 40, "height": 30, "depth": 3}
    tree: Any = {
        "folder": "x",
        "filename": rng.choice(("a.png", "", "c.rf.0a1b.png")),
        "size": size,
        "object": objects,
    }
    for _ in range(count_changes(rng)):
        tree = mutate_tree(rng, tree, ("object", "bndbox", "name", "xmin", "size", "width", "filename", "part"))
    text = as_xml(rng, tree, "annotation" if rng.random() < 0.98 else rng.choice(("x:annotation", "a", "object")))
    if rng.random() < 0.15:
        text = rng.choice(XML_HEADS) + text
        text = text.replace("cat", rng.choice(("cat", "&a;", "&x;", "&#0;", "&#x1F638;", "&#xD800;", "&lol9;")), 1)
    if rng.random() < 0.005:
        text = f"<annotation>{'<object>' * rng.choice((50, 2000, 50000))}</annotation>"
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), XML_TOKENS)


def corners(rng: Random) -> list[Any]:
    """Corners of a box, valid in half of the cases."""
    return [0, 1, 20, 30] if rng.random() < 0.5 else [rng.choice((0, 1, 5.5, 39, 41, -3, 30)) for _ in range(4)]


_LOL = "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10))
XML_HEADS = (
    *(
        f'<?xml version="1.0" encoding="{e}"?>'
        for e in ("utf-8", "UTF-16", "ascii", "cp037", "utf-7", "big5", "x", "")
    ),
    *(
        '<?xml version="1.1"?>',
        "<?php x ?>",
        "<!-- -- -->",
        '<!DOCTYPE annotation SYSTEM "file:///etc/passwd">',
        "\ufeff",
    ),
    '<!DOCTYPE annotation [<!ENTITY a SYSTEM "../secret.txt"><!ENTITY x "y">]>',
    f'<!DOCTYPE annotation [<!ENTITY lol0 "lol">{_LOL}]>',
    '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;]>',
    '<!DOCTYPE a [<!ATTLIST annotation x CDATA "' + "y" * 3000 + '">]>',
    '<!DOCTYPE a [<!ELEMENT annotation ANY><!NOTATION n SYSTEM "n">]>',
)
XML_TOKENS = (
    *(
        b"<",
        b">",
        b"&",
        b"&amp;",
        b"&lt;",
        b"</object>",
        b"<object>",
        b"<name>",
        b"]]>",
        b"<![CDATA[",
        b"<!--",
        b"-->",
    ),
    *(b"<?x y?>", b"\0", b"\xff", b"\x1b", b"xmlns='u'", b" a='1' a='2'", b"&#1;", b"<x/>", b"\xed\xa0\x80", b"NaN"),
    *(b"<xi:include href='../secret.txt'/>", b"<bndbox><xmin>1</xmin></bndbox>", b"inf", b"1e400"),
)
