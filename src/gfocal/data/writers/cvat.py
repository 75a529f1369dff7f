"""Writer of CVAT's xml, "CVAT for images 1.1"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
