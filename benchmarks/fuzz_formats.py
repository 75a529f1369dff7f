"""Generators of the files of labeling tools and benchmarks for ``fuzz_readers.py``: json and xml.

Most files are valid but for one or two changes, since a reader rejects very broken files early. Images have 40x30
pixels; lines of text and tables are in ``fuzz_lines.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fuzz_files import JSON_TOKENS
from fuzz_grammar import IMAGES, Raw, as_json, count_changes, mutate_bytes, mutate_tree, unexpected_value
from fuzz_markup import XML_HEADS, XML_TOKENS

LABELS = ("cat", "dog")
_MASK = (  # of a bitmap of Supervisely: a png, compressed
    "eJzrDPBz5+WS4mJgYOD19HAJAtIKQCzDwQYkfy5x2wykBDxdHEM4bs18a3jv//8XRxgdGcRmzGcAAk9XP5d1TglNAG0jEIE=",
    "iVBORw0KGgo=",
    "eJwDAAAAAAE=",
)


def box(rng: Random) -> list[float]:
    """Left, top, width and height of a box in an image of 40x30, valid in most cases."""
    x, y, w, h = (
        rng.choice((0, 3, 10.5, 30)),
        rng.choice((0, 4, 12.25)),
        rng.choice((1, 8, 9.5)),
        rng.choice((2, 9, 17)),
    )
    return [x, y, w, h] if rng.random() < 0.9 else [rng.choice((0, -3, 50, 1e-9, 1e9)) for _ in range(4)]


def _points(rng: Random) -> list[list[float]]:
    x, y, w, h = box(rng)
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]][: rng.choice((*[4] * 10, 3, 2, 1, 0))]


def _many(rng: Random, make: Callable[[Random], Any]) -> list[Any]:
    return [make(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3)))]


def json_of(make: Callable[[Random], Any], keys: tuple[str, ...] = ()) -> Callable[[Random], bytes]:
    """The generator of a json file whose valid tree ``make`` returns; values are copied to ``keys``."""

    def generate(rng: Random) -> bytes:
        tree = make(rng)
        for _ in range(count_changes(rng)):
            tree = mutate_tree(rng, tree, keys)
        return mutate_bytes(rng, as_json(rng, tree), JSON_TOKENS, 0.2)

    return generate


def _region(rng: Random) -> dict[str, Any]:
    x, y, w, h = box(rng)
    kind = rng.choice((*["rectangle", "polygon", "ellipse"] * 3, "brush", "keypoint"))
    geometry: dict[str, Any] = {"x": x, "y": y, "width": w, "height": h, "rotation": rng.choice((0, 0, 30, 90.5))}
    if kind == "polygon":
        geometry = {"points": _points(rng), "closed": True}
    elif kind == "ellipse":
        geometry = {"x": x, "y": y, "radiusX": w, "radiusY": h, "rotation": rng.choice((0, 45))}
    elif kind == "brush":
        geometry = {"format": "rle", "rle": [0, 1, 2]}
    region: dict[str, Any] = {
        "id": rng.choice(("a1", "b2", "c3")),
        "type": f"{kind}labels",
        "from_name": "label",
        "to_name": "image",
    }
    region |= {"original_width": 40, "original_height": 30, "image_rotation": rng.choice((0, 0, 0, 90))}
    return {**region, "value": {**geometry, f"{kind}labels": [rng.choice(LABELS)]}}


def _task_name(rng: Random) -> str:
    name = rng.choice(IMAGES)
    places = ("/data/upload/1/0a1b2c3d-{}", "/data/local-files/?d=images/{}", "s3://bucket/set/{}", "images/{}", "{}")
    return rng.choice((*places, "https://host/x/{}?a=b#c")).format(name)


def _annotation(rng: Random) -> dict[str, Any]:
    result = _many(rng, _region)
    if rng.random() < 0.15:
        result.append({"id": "a1", "type": "choices", "value": {"choices": ["crowd"]}, "from_name": "c"})
    own = {"id": 1, "result": result, "was_cancelled": rng.random() < 0.1, "ground_truth": rng.random() < 0.1}
    return {**own, "created_at": "2026-01-01T00:00:00Z", "completed_by": {"id": 1, "email": "a@b"}}


def _tasks(rng: Random) -> Any:
    def task(number: int) -> dict[str, Any]:
        data: dict[str, Any] = {"image": _task_name(rng)}
        if rng.random() < 0.1:
            data = {"images": ["images/a.png", "images/b.png"]}
        return {
            "id": number,
            "annotations": [_annotation(rng) for _ in range(rng.choice((1, 1, 1, 2, 0)))],
            "data": data,
        }

    return [task(number) for number in range(1, rng.choice((2, 3, 4)))]


def _tasks_min(rng: Random) -> Any:
    def record(number: int) -> dict[str, Any]:
        x, y, w, h = box(rng)
        one = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": [rng.choice(LABELS)]}
        more = {"label": [{**one, "original_width": 40, "original_height": 30}]} if rng.random() < 0.8 else {}
        return {"image": _task_name(rng), "id": number, **more, "annotator": 1, "annotation_id": number}

    return [record(number) for number in range(1, rng.choice((2, 3, 4)))]


def _stored_annotation(rng: Random) -> Any:
    return {**_annotation(rng), "task": {"id": rng.choice((1, 2, 3)), "data": {"image": _task_name(rng)}}}


def _labelme_shape(rng: Random) -> dict[str, Any]:
    odd = ("polygon", "circle", "mask", "rotation", "rectangle", "polygon", "point", "linestrip")
    kind = "rectangle" if rng.random() < 0.5 else rng.choice(odd)
    points = _points(rng)
    points = points[::2] if kind in ("rectangle", "circle", "mask") else points[:1] if kind == "point" else points
    own = {"label": rng.choice((*LABELS, "__ignore__", "_background_", 3)), "points": points, "shape_type": kind}
    group = rng.choice((None, None, 1, "g"))
    return {**own, "group_id": group, "flags": rng.choice(({}, {"difficult": True})), "mask": None}


def _labelme(rng: Random) -> Any:
    name = rng.choice((*IMAGES, "..\\images\\a.png", "../images/b.png", "C:\\x\\a.png"))
    shapes = [_labelme_shape(rng) for _ in range(rng.choice((0, 1, 2, 4)))]
    rest = {"imagePath": name, "imageData": None, "imageHeight": 30, "imageWidth": 40}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, **rest}


def via_region(rng: Random) -> dict[str, Any]:
    """A region of VIA."""
    x, y, w, h = box(rng)
    shapes: tuple[dict[str, Any], ...] = (
        {"name": "rect", "x": x, "y": y, "width": w, "height": h},
        {"name": "circle", "cx": x, "cy": y, "r": w},
        {"name": "ellipse", "cx": x, "cy": y, "rx": w, "ry": h, "theta": 0.5},
        {"name": "polygon", "all_points_x": [x, x + w, x], "all_points_y": [y, y, y + h]},
        {"name": "point", "cx": x, "cy": y},
    )
    value = rng.choice((*LABELS, {"cat": True}, {"cat": True, "dog": True}, "undefined"))
    attributes = {"Label" if rng.random() < 0.05 else "class": value}
    return {"shape_attributes": rng.choice((shapes[0], *shapes)), "region_attributes": attributes}


def _via(rng: Random) -> Any:
    images: dict[str, Any] = {}
    for name in IMAGES[: rng.choice((1, 2, 3))]:
        regions: Any = _many(rng, via_region)
        regions = {str(i): region for i, region in enumerate(regions)} if rng.random() < 0.1 else regions
        images[f"{name}123"] = {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}
    if rng.random() < 0.5:
        return images
    options = {"class": {"type": "dropdown", "options": {"cat": "Cat", "dog": rng.choice(("Dog", "Cat", ""))}}}
    attributes = {"region": options if rng.random() < 0.7 else {}, "file": {}}
    return {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": attributes}


def _createml(rng: Random) -> Any:
    def one(rng: Random) -> dict[str, Any]:
        keys = dict(zip(("x", "y", "width", "height"), box(rng), strict=True))
        return {"label": rng.choice(LABELS), "coordinates": keys}

    key = rng.choice(("image", "imagefilename"))
    return [{key: name, "annotations": _many(rng, one)} for name in IMAGES[: rng.choice((1, 2, 3))]]


def _fractions(rng: Random) -> list[float]:
    x, y, w, h = box(rng)
    return [x / 40, y / 30, w / 40, h / 30]


def _fiftyone(rng: Random) -> Any:
    def one(rng: Random) -> dict[str, Any]:
        label = rng.choice((0, 1, 1, "cat"))
        return {"label": label, "bounding_box": _fractions(rng), "attributes": {"iscrowd": rng.choice((0, 1))}}

    labels = {name.removesuffix(".png"): rng.choice((_many(rng, one), _many(rng, one), None)) for name in IMAGES}
    return {"classes": rng.choice((["cat", "dog"], ["cat", "dog"], None)), "labels": labels}


def _names_of_paths(rng: Random) -> Any:
    return {name.removesuffix(".png"): rng.choice((f"data/{name}", f"/home/x/{name}", name)) for name in IMAGES}


def _supervisely(rng: Random) -> Any:
    def one(rng: Random) -> dict[str, Any]:
        kind = rng.choice(("rectangle", "rectangle", "polygon", "line", "bitmap", "point", "oriented_bbox"))
        points = _points(rng)
        own: dict[str, Any] = {"points": {"exterior": points[::2] if kind == "rectangle" else points, "interior": []}}
        if kind == "bitmap":
            own = {"bitmap": {"data": rng.choice(_MASK), "origin": [1, 2]}}
        tags = [{"name": rng.choice(("crowd", "conf", "x")), "value": rng.choice((None, 0.5, "yes"))}]
        geometry = {**own, "angle": rng.choice((0, 0.5))} if kind == "oriented_bbox" else own
        return {"classTitle": rng.choice(LABELS), "geometryType": kind, **geometry, "tags": tags[: rng.randrange(2)]}

    return {"size": {"height": 30, "width": 40}, "tags": [], "objects": _many(rng, one), "description": ""}


def _supervisely_meta(rng: Random) -> Any:
    classes = [{"title": name, "shape": "rectangle", "color": "#112233", "id": i} for i, name in enumerate(LABELS)]
    return {"classes": classes, "tags": [{"name": "crowd", "value_type": "none"}], "projectType": "images"}


def _megadetector(rng: Random) -> Any:
    def one(rng: Random) -> dict[str, Any]:
        return {"category": rng.choice("1123"), "conf": rng.choice((0.9, 0.3, 0.1, 1)), "bbox": _fractions(rng)}

    images: list[Any] = [{"file": f"images/{name}", "detections": _many(rng, one)} for name in IMAGES]
    if rng.random() < 0.2:
        images[0] = {"file": "images/a.png", "failure": "Failure image access", "detections": None}
    info = {"format_version": "1.3", "detector_metadata": {"typical_detection_threshold": 0.2}}
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    return {"info": info, "detection_categories": categories, "images": images[: rng.choice((1, 2, 3))]}


def _bdd_label(rng: Random) -> dict[str, Any]:
    x, y, w, h = box(rng)
    own: dict[str, Any] = {"id": "1", "category": rng.choice(("car", "rider", "other vehicle", "lane/x"))}
    own["attributes"] = {"occluded": False, "crowd": rng.random() < 0.1}
    if rng.random() < 0.2:
        points = [[*pair, "L"] for pair in _points(rng)]
        return {**own, "poly2d": rng.choice(([{"vertices": _points(rng), "types": "LLLL"}], points, [points]))}
    return {**own, "box2d": {"x1": x, "y1": y, "x2": x + w, "y2": y + h}}


def _bdd100k(rng: Random) -> Any:
    frames = [{"name": name, "labels": _many(rng, _bdd_label), "timestamp": 0} for name in IMAGES]
    frames = frames[: rng.choice((1, 2, 3))]
    if rng.random() < 0.8:
        return frames
    inner = [{"name": "vehicle", "subcategories": [{"name": "car"}]}, {"name": "rider"}]
    return {"frames": frames, "config": {"categories": inner, "imageSize": {"height": 30, "width": 40}}}


def _bdd100k_image(rng: Random) -> Any:
    frames = [{"timestamp": 1, "objects": _many(rng, _bdd_label)}]
    return {"name": rng.choice(("a", "b", "a.png")), "frames": frames, "attributes": {"weather": "clear"}}


def _notes(rng: Random) -> Any:
    categories = [{"id": number, "name": name} for number, name in enumerate(LABELS)]
    return {"categories": categories, "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"}}


def xml_with_attributes(rng: Random, tree: Any, tag: str, depth: int = 0) -> str:
    """A tree as xml: numbers and text are attributes, dicts are elements, lists repeat them."""
    if depth > 90:
        return "<deep/>"
    if isinstance(tree, list):
        return "".join(xml_with_attributes(rng, value, tag, depth + 1) for value in tree)
    if not isinstance(tree, dict):
        return f"<{tag}>{_escape(rng, tree)}</{tag}>"
    inner, attributes = "", ""
    for key, value in tree.items():
        if isinstance(value, dict | list):
            inner += xml_with_attributes(rng, value, str(key), depth + 1)
        else:
            attributes += f' {key}="{_escape(rng, value)}"'
    return f"<{tag}{attributes}>{inner}</{tag}>"


def _escape(rng: Random, value: Any) -> str:
    text = "" if value is None else str(value)[:6000]
    if isinstance(value, Raw) or rng.random() < 0.1:
        return text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _shapes(rng: Random) -> dict[str, list[Any]]:
    x, y, w, h = box(rng)
    label = {"label": rng.choice(LABELS), "occluded": 0, "z_order": 0}
    edges = {"xtl": x, "ytl": y, "xbr": x + w, "ybr": y + h}
    found: dict[str, list[Any]] = {"box": [{**label, **edges, "rotation": rng.choice((0, 0, 30.5))}]}
    more: dict[str, dict[str, Any]] = {
        "polygon": {"points": ";".join(f"{a},{b}" for a, b in _points(rng))},
        "ellipse": {"cx": x, "cy": y, "rx": w, "ry": h},
        "mask": {
            "rle": rng.choice(("1, 3, 2, 2", "0,4", "3", "-1", "")),
            "left": 1,
            "top": 2,
            "width": 4,
            "height": 2,
        },
        "points": {"points": "1,2"},
        "tag": {},
    }
    kind = rng.choice(tuple(more))
    return found if rng.random() < 0.7 else {**found, kind: [{**label, **more[kind]}]}


def cvat(rng: Random) -> bytes:
    """CVAT's xml of images or of a video."""
    names = [{"name": name, "type": "any", "attributes": ""} for name in LABELS]
    task: dict[str, Any] = {"id": 1, "start_frame": 0, "stop_frame": 2, "labels": {"label": names}}
    tree: dict[str, Any] = {"version": "1.1"}
    if rng.random() < 0.65:
        images = [{"id": n, "name": name, "width": 40, "height": 30, **_shapes(rng)} for n, name in enumerate(IMAGES)]
        if rng.random() < 0.2:
            images = [image | {"subset": rng.choice(("train", "val", "odd", "../..", "/"))} for image in images]
            images[0]["name"] = rng.choice(("a.png", "outside.png"))
        tree |= {"image": images}
    else:
        task |= {"mode": "interpolation", "original_size": {"width": 40, "height": 30}, "frame_filter": "step=1"}
        shapes = [{"frame": n, "outside": int(n == 2), "keyframe": 1, **_shapes(rng)["box"][0]} for n in range(3)]
        tree |= {"track": [{"id": 0, "label": "cat", "box": shapes}]}
    tree = {"version": "1.1", "meta": {"task": task}, **tree}
    for _ in range(count_changes(rng)):
        changed = mutate_tree(rng, tree, ("image", "box", "name", "frame", "subset", "points", "rotation", "track"))
        tree = changed if isinstance(changed, dict) else {"x": changed}
    text = _with_elements(rng, tree)
    if rng.random() < 0.1:
        text = rng.choice(XML_HEADS) + text.replace("cat", rng.choice(("&a;", "&lol9;", "&#0;", "&x;")), 1)
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), XML_TOKENS, 0.2)


def _with_elements(rng: Random, tree: dict[str, Any]) -> str:
    meta = tree.pop("meta", "")
    text = xml_with_attributes(rng, tree, "annotations")
    start, _, end = text.partition(">")
    return f"{start}>{_elements(rng, meta, 'meta')}{end}"


def _elements(rng: Random, tree: Any, tag: str, depth: int = 0) -> str:
    if isinstance(tree, list) and depth < 90:
        return "".join(_elements(rng, value, tag, depth + 1) for value in tree)
    if isinstance(tree, dict) and depth < 90:
        return f"<{tag}>{''.join(_elements(rng, v, str(k), depth + 1) for k, v in tree.items())}</{tag}>"
    return f"<{tag}>{'' if isinstance(tree, dict | list) else _escape(rng, tree)}</{tag}>"


def label_config(rng: Random) -> bytes:
    """The labeling interface of Label Studio."""
    labels = [{"value": name, "background": "red"} for name in ("cat", "dog", unexpected_value(rng))][
        : rng.choice((2, 3))
    ]
    tree = {"Image": {"name": "image", "value": "$image"}, "RectangleLabels": {"name": "label", "Label": labels}}
    for _ in range(count_changes(rng)):
        changed = mutate_tree(rng, tree, ("value", "Label", "PolygonLabels"))
        tree = changed if isinstance(changed, dict) else {}
    text = rng.choice(("", "", "", *XML_HEADS)) + xml_with_attributes(rng, tree, "View")
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"), XML_TOKENS, 0.2)


_SHAPE_KEYS = ("points", "label", "name", "x", "value", "result", "data", "image", "id", "type")
JSON_GENERATORS: dict[str, Callable[[Random], bytes]] = {
    "label studio": json_of(_tasks, _SHAPE_KEYS),
    "label studio min": json_of(_tasks_min, _SHAPE_KEYS),
    "label studio files": json_of(_stored_annotation, (*_SHAPE_KEYS, "task")),
    "label studio config": label_config,
    "label studio notes": json_of(_notes, ("id", "name", "categories")),
    "cvat": cvat,
    "labelme": json_of(_labelme, (*_SHAPE_KEYS, "group_id", "shape_type", "imagePath", "shapes")),
    "via json": json_of(_via, ("class", "filename", "regions", "region_attributes", "shape_attributes", "options")),
    "createml": json_of(_createml, ("label", "coordinates", "annotations", "image", "x")),
    "fiftyone": json_of(_fiftyone, ("a", "label", "bounding_box", "classes", "labels")),
    "fiftyone paths": json_of(_names_of_paths, ("a", "b", "x")),
    "supervisely": json_of(_supervisely, ("points", "exterior", "bitmap", "geometryType", "classTitle", "tags")),
    "supervisely meta": json_of(_supervisely_meta, ("title", "id", "classes")),
    "megadetector": json_of(_megadetector, ("file", "bbox", "conf", "category", "detections", "1", "images")),
    "bdd100k": json_of(_bdd100k, ("name", "labels", "box2d", "poly2d", "category", "size", "rle", "vertices")),
    "bdd100k images": json_of(_bdd100k_image, ("name", "frames", "objects", "box2d", "poly2d")),
}
