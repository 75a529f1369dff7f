"""Generators of label files, lists and tables of tools and benchmarks for ``fuzz_readers.py``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from fuzz_files import TEXT_TOKENS
from fuzz_formats import LABELS, box, via_region
from fuzz_grammar import IMAGES, as_json, count_changes, mutate_bytes, mutate_tree, unexpected_value

Cells = list[Any]


def lines_of(make: Callable[[Random], list[Cells]], separator: str = " ") -> Callable[[Random], bytes]:
    """The generator of a text file whose valid lines of cells ``make`` returns."""

    def generate(rng: Random) -> bytes:
        rows = make(rng)
        for _ in range(count_changes(rng) if rows and rng.random() < 0.7 else 0):
            row = rng.choice(rows)
            way = rng.randrange(8)
            if way == 0:
                rows.remove(row)
            elif way == 1:
                rows.insert(rng.randrange(len(rows) + 1), list(row))
            elif way == 2 and row:
                del row[rng.randrange(len(row))]
            elif row:
                row[rng.randrange(len(row))] = unexpected_value(rng)
            if not rows:
                break
        ends = rng.choice(("\n", "\n", "\n", "\n", "\r\n", "\r", "\u2028", "\n\n"))
        text = ends.join(separator.join(_cell(cell, separator) for cell in row) for row in rows)
        return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), TEXT_TOKENS, 0.25)

    return generate


def _cell(value: Any, separator: str) -> str:
    text = str(value)[:6000]
    if separator != "," or not {",", '"', "\n"} & set(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def _corners(rng: Random) -> Cells:
    x, y, w, h = box(rng)
    return [x, y, x + w, y + h]


def _rows(rng: Random, make: Callable[[Random], Cells], counts: Iterable[int] = (0, 1, 2, 3)) -> list[Cells]:
    return [make(rng) for _ in range(rng.choice(tuple(counts)))]


def _darknet(rng: Random) -> list[Cells]:
    def row(rng: Random) -> Cells:
        x, y, w, h = box(rng)
        numbers = [(x + w / 2) / 40, (y + h / 2) / 30, w / 40, h / 30]
        more = rng.choice(([], [], [], [0.5, 0.5, 2], [0.1, 0.2], [0.5]))
        return [rng.choice((0, 1, 1, 2)), *(f"{value:.6f}" for value in numbers), *more]

    return _rows(rng, row)


def _darknet_data(rng: Random) -> list[Cells]:
    rows: list[Cells] = [
        ["classes", 2],
        ["train", "data/train.txt"],
        ["names", "data/obj.names"],
        ["backup", "backup/"],
    ]
    return rows + [["valid", "data/valid.txt"]] * rng.randrange(2)


def _darknet_list(rng: Random) -> list[Cells]:
    return [[f"data/obj_train_data/{name}"] for name in IMAGES]


def _names(rng: Random) -> list[Cells]:
    return [[name] for name in LABELS]


def _kitti(rng: Random) -> list[Cells]:
    def row(rng: Random) -> Cells:
        pose = [1.5, 1.6, 3.9, 0, 1, 10, 0.1, *rng.choice(([], [], [0.9]))]
        return [rng.choice(("Car", "Car", "Van", "DontCare")), 0.0, rng.choice((0, 3)), -1.5, *_corners(rng), *pose]

    return _rows(rng, row, (1, 2, 3, 0))


def _visdrone(rng: Random) -> list[Cells]:
    def row(rng: Random) -> Cells:
        return [*map(int, box(rng)), rng.choice((1, 1, 0)), rng.choice((1, 4, 4, 0, 11)), 0, rng.choice((0, 2))]

    return _rows(rng, row, (1, 2, 3, 0))


def _widerface(rng: Random) -> list[Cells]:
    rows: list[Cells] = []
    for name in IMAGES[: rng.choice((1, 2, 3))]:
        count = rng.choice((0, 1, 2))
        faces: list[Cells] = [[*map(int, box(rng)), 0, 0, 0, rng.choice((0, 0, 1)), 0, 0] for _ in range(count)]
        rows += [[f"0--Parade/{name}"], [count], *(faces or [[0] * 10])]
    return rows


def _mot(rng: Random) -> list[Cells]:
    def row(rng: Random) -> Cells:
        more = rng.choice(([1, 1.0], [7, 0.5], [3, 1], [-1, -1, -1], []))
        return [rng.choice((1, 1, 2, 3)), rng.choice((1, 2)), *box(rng), rng.choice((1, 1, 0)), *more]

    return _rows(rng, row, (1, 2, 4))


def _seqinfo(rng: Random) -> list[Cells]:
    size: list[Cells] = [["imWidth", 40], ["imHeight", 30], ["imExt", ".png"]]
    return [["[Sequence]"], ["name", "s"], ["imDir", "img1"], ["frameRate", 30], ["seqLength", 3], *size]


_OPEN_IMAGES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction"


def _openimages(rng: Random) -> list[Cells]:
    def row(rng: Random) -> Cells:
        x1, y1, x2, y2 = _corners(rng)
        own = [rng.choice("ab"), "xclick", rng.choice(("/m/cat", "/m/dog", "/m/x")), 1]
        return [*own, x1 / 40, x2 / 40, y1 / 30, y2 / 30, 0, 0, rng.choice((0, 0, 1)), 0]

    return [_OPEN_IMAGES.split(","), *_rows(rng, row, (1, 2, 4))]


def _descriptions(rng: Random) -> list[Cells]:
    return [["/m/cat", "Cat"], ["/m/dog", rng.choice(("Dog", "Cat", ""))], ["/m/x", "X, y"]]


def _via_table(rng: Random) -> list[Cells]:
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    rows: list[Cells] = [head.split(",")]
    for name in IMAGES[: rng.choice((1, 2, 3))]:
        regions = [via_region(rng) for _ in range(rng.choice((0, 1, 2)))]
        for number, region in enumerate(regions):
            for _ in range(count_changes(rng) // 2):
                region = changed if isinstance(changed := mutate_tree(rng, region), dict) else {}
            cells = [_dump(region.get(key)) for key in ("shape_attributes", "region_attributes")]
            rows.append([name, 123, "{}", len(regions), number, *cells])
        rows += [[name, 123, "{}", 0, 0, "{}", "{}"]] * (not regions)
    return rows


def _dump(value: Any) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "[" * 3000


def _kaggle(rng: Random) -> list[Cells]:
    """Tables with several numbers in a cell."""
    way = rng.randrange(4)
    names = IMAGES if rng.random() < 0.5 else ("a", "b")
    if way == 0:
        head = ["image_id", "width", "height", rng.choice(("bbox", "bbox", "bbox_xywh", "bbox_xyxy")), "source"]
        return [head, *([rng.choice(names), 40, 30, _quad(rng), "x"] for _ in range(3))]
    if way == 1:
        objects = [dict(zip(("x", "y", "width", "height"), box(rng), strict=True)) for _ in range(rng.randrange(3))]
        cells = [rng.choice((str(objects), json.dumps(objects), "[]", str([box(rng)]))) for _ in range(3)]
        return [["image_id", "annotations"], *([name, cell] for name, cell in zip(IMAGES, cells, strict=True))]
    if way == 2:
        groups = [" ".join(map(str, ["cat", 1, *_corners(rng)])) for _ in range(rng.randrange(3))]
        groups = groups or [rng.choice(("14 1 0 0 1 1", "", "nan", "none 1 0 0 1 1"))]
        return [["image_id", "PredictionString"], [rng.choice(names), " ".join(groups)], ["b", "1.0 3 4 5 6"]]
    head = ["patientId", "x", "y", "width", "height", "Target"]
    return [head, *([rng.choice(names), *rng.choice((box(rng), [""] * 4)), rng.choice((1, 0))] for _ in range(3))]


def _quad(rng: Random) -> str:
    numbers = [str(value) for value in (box(rng) if rng.random() < 0.7 else _corners(rng))]
    return rng.choice(("[{}]", "({})", "{}", "{{{}}}")).format(rng.choice((", ", " ", ";")).join(numbers))


def crowdhuman(rng: Random) -> bytes:
    """Lines of json."""
    lines = []
    for name in IMAGES:
        objects = [
            {"tag": rng.choice(("person", "mask")), "fbox": box(rng), "vbox": box(rng), "hbox": box(rng)}
            | {"extra": rng.choice(({}, {"ignore": 1})), "head_attr": {"ignore": 0}}
            for _ in range(rng.choice((0, 1, 2)))
        ]
        tree: Any = {"ID": name.removesuffix(".png"), "gtboxes": objects}
        for _ in range(count_changes(rng) // 2):
            tree = mutate_tree(rng, tree, ("ID", "gtboxes", "tag", "fbox", "extra"))
        lines.append(as_json(rng, tree))
    return mutate_bytes(rng, rng.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(lines), TEXT_TOKENS, 0.2)


LINE_GENERATORS: dict[str, Callable[[Random], bytes]] = {
    "label studio yolo": lines_of(_darknet),
    "darknet labels": lines_of(_darknet),
    "darknet data": lines_of(_darknet_data, " = "),
    "darknet list": lines_of(_darknet_list),
    "darknet names": lines_of(_names),
    "via csv": lines_of(_via_table, ","),
    "kitti": lines_of(_kitti),
    "visdrone": lines_of(_visdrone, ","),
    "crowdhuman": crowdhuman,
    "widerface": lines_of(_widerface),
    "mot": lines_of(_mot, ","),
    "mot seqinfo": lines_of(_seqinfo, "="),
    "openimages": lines_of(_openimages, ","),
    "openimages names": lines_of(_descriptions, ","),
    "kaggle table": lines_of(_kaggle, ","),
}
