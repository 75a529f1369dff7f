"""Writer of CVAT's xml, "CVAT for images 1.1": datasets and detections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from gfocal.data.dataset import Sample
from gfocal.data.sidecar import Sidecar
from gfocal.data.writers.decimals import format_decimal
from gfocal.data.writers.placement import Placement, check_names
from gfocal.data.writers.written_objects import Storage, WrittenObject, describe_losses, split_objects, to_sidecar

IMAGES = "images"
ANNOTATIONS = "annotations.xml"
STORAGE = Storage("CVAT xml", lambda box, size: box, stores_ignored=True)
DIFFICULT = "difficult"  # the attribute of ignored regions

# Attributes of a detection: name, type and values. CVAT's numbers are whole, so the score is in percent, and the
# spread that boxes are filtered by is that of the widest edge, rounded up to pixels.
_SCORE = ("score_percent", "number", ("0", "100", "1"))
_SPREAD = (
    *((f"std_{side}", "text", ()) for side in ("left", "top", "right", "bottom")),
    ("largest_std", "number", ("0", "100000", "1")),
)


def write_cvat(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``annotations.xml``, with images below ``images/<split>/``, as CVAT exports a project.

    Splits are CVAT's subsets; names of images are relative to the folder of their subset. Ignored regions have the
    attribute ``difficult``, a checkbox of each label. Corners have the fewest
    digits that keep the float32. Returns what the file cannot store, and notes for the user.
    """
    check_names(placement.names, "CVAT xml")
    splits = split_objects(placement, STORAGE, IMAGES)
    with (folder / ANNOTATIONS).open("w", encoding="utf-8") as stream:
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        stream.write(_meta(placement.names, [split.name for split in splits]))
        for task, split in enumerate(splits):
            for number, (file, sample, objects) in enumerate(split.images):
                name = file.removeprefix(f"{IMAGES}/{split.name}/")
                given: dict[str, int | str] = {"id": number, "name": name, "subset": split.name, "task_id": task}
                stream.write(_image(given, sample, objects))
        stream.write("</annotations>\n")
    return to_sidecar(placement, splits), describe_losses(STORAGE, splits)


def _meta(names: Sequence[str], splits: Sequence[str]) -> str:
    """The description of the project: its classes and subsets."""
    subsets = escape("\n".join(splits))
    tasks = "".join(
        f"        <task>\n          <id>{task}</id>\n          <name>{escape(split)}</name>\n"
        f"          <mode>annotation</mode>\n          <subset>{escape(split)}</subset>\n        </task>\n"
        for task, split in enumerate(splits)
    )
    attribute = (
        f"            <attribute>\n              <name>{DIFFICULT}</name>\n              <mutable>False</mutable>\n"
        "              <input_type>checkbox</input_type>\n              <default_value>false</default_value>\n"
        "              <values>false</values>\n            </attribute>\n"
    )
    labels = "".join(
        f"        <label>\n          <name>{escape(name)}</name>\n          <type>rectangle</type>\n"
        f"          <attributes>\n{attribute}          </attributes>\n        </label>\n"
        for name in names
    )
    return (
        f"  <meta>\n    <project>\n      <name>gfocal</name>\n      <subsets>{subsets}</subsets>\n"
        f"      <tasks>\n{tasks}      </tasks>\n"
        f"      <labels>\n{labels}      </labels>\n    </project>\n  </meta>\n"
    )


def _image(given: dict[str, int | str], sample: Sample, objects: Sequence[WrittenObject]) -> str:
    assert sample.size is not None, "samples of files have a size"
    height, width = sample.size
    attributes = " ".join(f"{key}={quoteattr(str(value))}" for key, value in given.items())
    boxes = "".join(map(_box, objects))
    return f'  <image {attributes} width="{width}" height="{height}">\n{boxes}  </image>\n'


def _box(one: WrittenObject) -> str:
    edges = zip(("xtl", "ytl", "xbr", "ybr"), map(format_decimal, one.box), strict=True)
    corners = " ".join(f'{edge}="{value}"' for edge, value in edges)
    flag = f'      <attribute name="{DIFFICULT}">{str(one.is_ignored).lower()}</attribute>\n'
    given = f'label={quoteattr(one.name)} source="manual" occluded="0" {corners} z_order="0"'
    return f"    <box {given}>\n{flag}    </box>\n"


def describe_cvat_labels(names: Sequence[str], has_edges: bool) -> list[dict[str, Any]]:
    """The labels of a task for detections, as CVAT's editor of labels takes them under "Raw".

    A task has the attributes of its labels and no others, so it must be made with these.
    """
    attributes = [
        {
            "name": name,
            "mutable": False,
            "input_type": kind,
            "default_value": "0" if kind == "number" else "",
            "values": list(values) or [""],
        }
        for name, kind, values in (_SCORE, *(_SPREAD if has_edges else ()))
    ]
    return [{"name": name, "type": "rectangle", "attributes": attributes} for name in names]


def format_cvat_start(names: Sequence[str], has_edges: bool, num_images: int) -> str:
    """The beginning of a file of detections; after the images comes ``</annotations>``."""
    lines = []
    for label in describe_cvat_labels(names, has_edges):
        lines += ["      <label>", f"        <name>{escape(label['name'])}</name>", "        <type>rectangle</type>"]
        lines.append("        <attributes>")
        for one in label["attributes"]:
            lines.append("          <attribute>")
            lines += [f"            <{key}>{value}</{key}>" for key, value in one.items() if key != "values"]
            lines += ["            <values>" + "\n".join(one["values"]) + "</values>", "          </attribute>"]
        lines += ["        </attributes>", "      </label>"]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
        f"      <name>gfocal</name>\n      <size>{num_images}</size>\n      <mode>annotation</mode>\n"
        "      <labels>\n" + "".join(f"  {line}\n" for line in lines) + "      </labels>\n    </task>\n  </meta>\n"
    )


def format_cvat_image(record: Mapping[str, Any], names: Sequence[str], number: int, file: str) -> str:
    """The element of an image, with a box for each detection.

    ``record`` has ``size`` (height and width), ``labels``, ``boxes`` (xyxy in pixels), ``scores`` and optionally
    ``edge_std``; ``number`` is the place of the image in the task, from 0, and ``file`` its name there.
    """
    height, width = record["size"]
    lines = [f'  <image id="{number}" name={quoteattr(file)} width="{width}" height="{height}">']
    stds = record.get("edge_std") or [()] * len(record["labels"])
    for label, score, box, std in zip(record["labels"], record["scores"], record["boxes"], stds, strict=True):
        corners = " ".join(f'{edge}="{v!r}"' for edge, v in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True))
        given = f'label={quoteattr(names[label])} source="auto" occluded="0" {corners} z_order="0"'
        values = describe_cvat_values(score, std)
        attributes = [f'      <attribute name="{name}">{value}</attribute>' for name, value in values.items()]
        lines += [f"    <box {given}>", *attributes, "    </box>"]
    return "".join(f"{line}\n" for line in [*lines, "  </image>"])


def describe_cvat_values(score: float, std: Sequence[float]) -> dict[str, str]:
    """The attributes of a detection, by their names; ``std`` of left, top, right and bottom, or empty."""
    values = {_SCORE[0]: str(round(100 * score))}
    if len(std):
        spread = [f"{v:.2f}" for v in std] + [str(math.ceil(max(std)))]
        values |= {name: value for (name, *_), value in zip(_SPREAD, spread, strict=True)}
    return values
