"""Generators of the annotation files for ``fuzz_readers.py``: from a ``random.Random`` to the bytes of a file.

Most files are valid but for one or two changes, since a reader rejects very broken files early.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fuzz_grammar import IMAGES, WORDS, as_json, count_changes, mutate_bytes, mutate_tree, unexpected_value
from fuzz_markup import corners, voc, yolo_yaml

PATHS = tuple(word for word in WORDS if len(word) < 400)


def coco(rng: Random) -> bytes:
    """A COCO json: plain, Roboflow's, with crowd regions, with ids that are strings."""
    variant = rng.randrange(4)
    ids: Any = [1, 2, 3] if variant != 3 else ["a", "b", "c"]
    images: list[Any] = [
        {"id": key, "file_name": name, "width": 40, "height": 30} for key, name in zip(ids, IMAGES, strict=True)
    ]
    categories: list[Any] = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]
    annotations: list[Any] = [
        {"id": n, "image_id": rng.choice(ids), "category_id": rng.choice((1, 3)), "bbox": _box(rng), "iscrowd": 0}
        for n in range(1, rng.choice((1, 3, 6)))
    ]
    tree: Any = {"images": images, "annotations": annotations, "categories": categories}
    if variant == 1:
        categories.insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
        tree = {"info": {"year": "2026", "version": "1"}, "licenses": [{"id": 1, "url": "", "name": "CC"}], **tree}
        for entry in images:
            entry |= {
                "license": 1,
                "date_captured": "2026-01-01T00:00:00+00:00",
                "extra": {"name": entry["file_name"]},
            }
        for entry in annotations:
            entry |= {"area": rng.choice((1, 0.5, 320, unexpected_value(rng))), "segmentation": []}
    if variant == 2:
        for entry in annotations:
            entry |= {"iscrowd": 1, "area": 12.5, "segmentation": {"counts": [3, 4, 5], "size": [30, 40]}}
    if rng.random() < 0.02:
        tree["annotations"] = [dict(annotations[0]) if annotations else {} for _ in range(rng.choice((50, 500)))]
    for _ in range(count_changes(rng)):
        tree = mutate_tree(rng, tree, _COCO_KEYS)
    if rng.random() < 0.01:
        opened = rng.choice((b"[", b'{"a":', b"[{}, "))
        return b'{"images": [], "annotations": ' + opened * rng.choice((900, 1100, 20000)) + b"1"
    return mutate_bytes(rng, as_json(rng, tree), JSON_TOKENS)


_COCO_KEYS = ("id", "image_id", "category_id", "bbox", "iscrowd", "area", "file_name", "name", "images", "width")
JSON_TOKENS = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"null",
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"\\ud800",
        b"\\u0000",
        b"\0",
    ),
    *(b'"id": 1, ', b'"bbox": [], ', b'"image_id": [[1]], ', b"/*x*/", b"'", b"\xff", b"\xed\xa0\x80", b"9" * 4400),
)


def _box(rng: Random) -> list[float]:
    if rng.random() < 0.1:
        return [odd for _ in range(rng.choice((3, 4, 4, 5))) if (odd := unexpected_value(rng)) is not None]
    return [rng.choice((0, 5, 10.5)), rng.choice((0, 4, 29)), rng.choice((0, 8, 40, 1e-9)), rng.choice((1, 9.25, 30))]


def yolo_labels(rng: Random) -> bytes:
    """A label file: boxes, polygons, line ends of all kinds."""
    lines = []
    for _ in range(rng.choice((0, 1, 2, 5))):
        count = rng.choice((4, 4, 4, 4, 4, 6, 8, 10, 5, 3, 0))
        numbers = [rng.choice(("0", "1", "0.5", "0.25", "0.125", f"{rng.random():.6f}")) for _ in range(count)]
        words = [rng.choice(("0", "1", "1", "0.0", "2")), *numbers]
        for _ in range(count_changes(rng) // 2):
            words[rng.randrange(len(words))] = str(unexpected_value(rng))[:600]
        lines.append(rng.choice((" ", " ", " ", "\t", "  ", ",", "\u00a0")).join(words))
    if rng.random() < 0.01:
        lines *= 300
    text = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\u2028", "\x0b", "\n\n")).join(lines)
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), TEXT_TOKENS)


TEXT_TOKENS = (
    *(b" ", b"\n", b"\0", b"nan", b"inf", b"-", b"1e400", b"1_0", b"0x1", b"\xd9\xa1", b"\xff", b"\x1a", b"\x1b[2J"),
    *(b"1" * 5000, b"../outside.png", b"a.png", b"# x", b"\xe2\x80\xa9", b",", b";", b'"', b"\r"),
)


def image_list(rng: Random) -> bytes:
    """A list of images, for YOLO's splits and VOC's ImageSets."""
    good = ("train/images/a.png", "./train/images/b.png", "images/a.png", "a", "b 1", "c -1", "a.png", "a.xml", "")
    lines = [rng.choice(good) if rng.random() < 0.7 else str(rng.choice(PATHS)) for _ in range(rng.choice((1, 3, 9)))]
    text = rng.choice(("\n", "\n", "\r\n", "\r", "\u2028")).join(lines)
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), TEXT_TOKENS)


_CSV_HEADS = (
    *("filename,width,height,class,xmin,ymin,xmax,ymax", "ImageFile,LabelName,XMin,YMin,XMax,YMax,IsGroupOf"),
    *(
        "image_id,file,label,x,y,w,h,area,crowd,split",
        "path,x,y,width,height,name",
        "a,b,c,d,e,f",
        "",
        "x1,x1,x1,file",
    ),
)
_CSV_CELLS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("file", "filename", "path", "ImageFile"), (*IMAGES, *IMAGES, "./a.png")),
    **dict.fromkeys(("class", "label", "name", "LabelName"), ("cat", "dog", "dog", "bird")),
    **dict.fromkeys(("split",), ("train", "train", "valid", "test", "")),
    **dict.fromkeys(("image_id", "IsGroupOf", "crowd"), (0, 0, 0, 1, 1.0, "true")),
}


def csv(rng: Random) -> bytes:
    """A table with a box in each row, as in Roboflow's TensorFlow export, or with other columns."""
    head = rng.choice(_CSV_HEADS[:4] if rng.random() < 0.95 else _CSV_HEADS).split(",")
    rows: list[Any] = [list(head)] if rng.random() < 0.95 else []
    for _ in range(rng.choice((0, 1, 3, 6))):
        box = [1, 2.5, 20, 30] if rng.random() < 0.8 else corners(rng)
        numbers = iter([*([40, 30] if head == _CSV_HEADS[0].split(",") else []), *box, 5, 5, 5])
        rows.append([rng.choice(_CSV_CELLS[what]) if what in _CSV_CELLS else next(numbers) for what in head])
    for _ in range(count_changes(rng)):
        tree = mutate_tree(rng, rows)
        rows = tree if isinstance(tree, list) else [[tree]]
    comma = "," if rng.random() < 0.9 else rng.choice(";\t|")
    lines = [comma.join(_cell(rng, c) for c in row) if isinstance(row, list) else str(row)[:6000] for row in rows]
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines)
    if rng.random() < 0.005:
        text += "\n" + '"' + "x" * 200_000
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), (*TEXT_TOKENS, b'""', b'",', b"class", b"label"))


def _cell(rng: Random, value: Any) -> str:
    text = str(value)[:6000]
    return '"' + text.replace('"', '""') + '"' if rng.random() < 0.1 or ("," in text and rng.random() < 0.7) else text


def sidecar(rng: Random) -> bytes:
    """gfocal.json, which any dataset may contain."""
    line = {"text": "1 0.5 0.5 0.25 0.5", "area": 12.5, "box": [0.375, 0.25, 0.625, 0.75]}
    region = {"at": 0, "class": 1, "box": [0, 0, 0.5, 0.5], "area": 3.0}
    entries = {
        "train/images/a.png": {"id": 7, "size": [60, 80], "lines": {"1": line}, "ignored": [region]},
        "train/images/b.png": {"id": 3},
        "a": {"id": 8, "size": [30, 40]},
        "b": {"id": 1},
    }
    tree: Any = {
        "about": "x",
        "names": ["cat", "dog"],
        "category_ids": [1, 5],
        "splits": {rng.choice(("train", "val", "", "odd")): entries},
        "renamed": {"train/images/a.png": "x.png"},
    }
    for _ in range(count_changes(rng)):
        tree = mutate_tree(
            rng, tree, ("id", "size", "lines", "ignored", "text", "box", "train", "names", "category_ids")
        )
    return mutate_bytes(rng, as_json(rng, tree), JSON_TOKENS)


GENERATORS: dict[str, Callable[[Random], bytes]] = {
    "coco json": coco,
    "yolo labels": yolo_labels,
    "yolo yaml": yolo_yaml,
    "yolo list": image_list,
    "voc xml": voc,
    "voc list": image_list,
    "gfocal.json of yolo": sidecar,
    "gfocal.json of voc": sidecar,
    "csv": csv,
}
