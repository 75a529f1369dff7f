"""Results of a run for labeling tools: CVAT, Label Studio and FiftyOne, what needs a look first.

Each tool gets a folder with links to the images and the detections, with their scores and the spread of each edge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gfocal.atomic import atomic_write
from gfocal.data.writers import cvat, fiftyone, label_studio
from gfocal.data.writers.placement import check_names, link, make_writable
from gfocal.data.writers.rows import write_rows
from gfocal.inference.journal import Record, read_records
from gfocal.inference.uncertainty import record_uncertainty
from gfocal.text import pluralize

Tool = Literal["cvat", "label-studio", "fiftyone"]
Order = Literal["uncertainty", "files"]
TOOLS: Mapping[str, str] = {"cvat": "CVAT", "label-studio": "Label Studio", "fiftyone": "FiftyOne"}

CVAT_LABELS, CVAT_IMAGES, TASKS = "labels.json", "images.txt", "tasks.json"


class Placed(NamedTuple):
    """An image of a run in the folder of a tool."""

    record: Record
    file: str  # its name below the folder of images
    uncertainty: float


class _Entry(NamedTuple):
    uncertainty: float
    start: int  # of its line in the journal
    file: str


class WrittenTool(NamedTuple):
    """The file to import, and notes for the user."""

    path: Path
    notes: list[str]


def check_tools(names: Sequence[str], formats: Sequence[str]) -> None:
    """Raise DataError for classes that a labeling tool among the formats cannot store."""
    for kind in formats:
        if kind in TOOLS:
            check_names(names, TOOLS[kind])


def write_tool(kind: str, journal: Path, folder: Path, header: Mapping[str, Any], order: Order) -> WrittenTool:
    """Write the images of a journal for a tool of ``TOOLS``; memory holds a number for each, and one record.

    Args:
        kind: key of ``TOOLS``.
        journal: of the run.
        folder: of the tool; existing files of the same names are replaced.
        header: of the run, see ``gfocal.inference.resume.run_header``.
        order: of the images; ``"uncertainty"``: the most uncertain first, by the number of ``gfocal select``.
    """
    home = fiftyone.IMAGES if kind == "fiftyone" else label_studio.IMAGES
    entries, num_missing = _place_images(journal, folder / home)
    if order == "uncertainty":
        entries.sort(key=lambda entry: -entry.uncertainty)  # stable: equal ones stay in the order of the files
    images, names = _read(journal, entries), header["names"]
    if kind == "cvat":
        path = _write_cvat(images, folder, names, len(entries), _has_edges(journal))
    elif kind == "label-studio":
        path = _write_label_studio(images, folder, names, f"gfocal {header['model']}")
    else:
        path = _write_fiftyone(images, folder, names)
    notes = []
    if num_missing:
        notes.append(
            f"{pluralize(num_missing, 'image')} not on this machine: {path} names them, {folder / home} lacks them"
        )
    return WrittenTool(path, notes)


def _place_images(journal: Path, home: Path) -> tuple[list[_Entry], int]:
    """Link the images of a journal into a folder; returns their lines, and how many are no files."""
    home.mkdir(parents=True, exist_ok=True)
    entries, taken, num_missing, start = [], set(), 0, _length_of_header(journal)
    for record, end in read_records(journal):
        source = Path(record["file"])
        stem, number = make_writable(record["name"]), 1
        name = stem
        while name.casefold() in taken:  # by the letters that cannot be written
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        file = name + "".join(c for c in source.suffix if c.isprintable())
        if source.is_file():
            (home / file).unlink(missing_ok=True)
            link(source, home / file)
        else:
            num_missing += 1
        entries.append(_Entry(record_uncertainty(record), start, file))
        start = end
    return entries, num_missing


def _length_of_header(journal: Path) -> int:
    with journal.open("rb") as stream:
        return len(stream.readline())


def _has_edges(journal: Path) -> bool:
    """Whether a run has the spread of edges: all of its records, or none."""
    return any("edge_std" in record for record, _ in islice(read_records(journal), 1))


def _read(journal: Path, entries: Sequence[_Entry]) -> Iterator[Placed]:
    """The images in the order of the entries."""
    with journal.open("rb") as stream:
        for entry in entries:
            stream.seek(entry.start)
            yield Placed(json.loads(stream.readline()), entry.file, entry.uncertainty)


def _write_cvat(
    images: Iterator[Placed], folder: Path, names: Sequence[str], num_images: int, has_edges: bool
) -> Path:
    """annotations.xml; the labels of a task for it; and the images in their order."""
    path = folder / cvat.ANNOTATIONS
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8") as stream,
        atomic_write(folder / CVAT_IMAGES) as temporary_list,
        temporary_list.open("w", encoding="utf-8") as listed,
    ):
        stream.write(cvat.format_cvat_start(names, has_edges, num_images))
        for number, image in enumerate(images):
            stream.write(cvat.format_cvat_image(image.record, names, number, image.file))
            listed.write(f"{cvat.IMAGES}/{image.file}\n")
        stream.write("</annotations>\n")
    with atomic_write(folder / CVAT_LABELS) as temporary:
        text = json.dumps(cvat.describe_cvat_labels(names, has_edges), indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def _write_label_studio(images: Iterator[Placed], folder: Path, names: Sequence[str], model: str) -> Path:
    """tasks.json, with predictions; and the labeling interface."""
    path = folder / TASKS
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("[")
        write_rows(stream, (_task(rank, image, names, model) for rank, image in enumerate(images, 1)))
        stream.write("]\n")
    with atomic_write(folder / label_studio.CONFIG) as temporary:
        temporary.write_text(label_studio.format_interface(names), encoding="utf-8")
    return path


def _task(rank: int, image: Placed, names: Sequence[str], model: str) -> dict[str, Any]:
    file, source = f"{label_studio.IMAGES}/{image.file}", image.record["file"]
    # Label Studio opens addresses itself.
    shown = source if source.startswith(("http://", "https://", "s3://", "gs://")) else label_studio.local_file(file)
    data = {"image": shown, "rank": rank, "uncertainty": round(image.uncertainty, 3)}
    prediction = label_studio.format_prediction(file, image.record, names, model)
    return {"data": data, "annotations": [], "predictions": [prediction]}


def _write_fiftyone(images: Iterator[Placed], folder: Path, names: Sequence[str]) -> Path:
    """labels.json, which is named by file names without suffix."""
    path = folder / fiftyone.LABELS
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(f'{{"classes": {json.dumps(list(names))},\n"labels": {{')
        for number, image in enumerate(images):
            found = fiftyone.fiftyone_detections(image.record, names, image.uncertainty)
            key = json.dumps(str(Path(image.file).with_suffix("")))
            stream.write((",\n" if number else "\n") + f"{key}: {json.dumps(found)}")
        stream.write("}}\n")
    return path
