"""What a review of annotations leaves for their correction: a table, json, images for CVAT and Label Studio."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from gfocal.atomic import atomic_write
from gfocal.checks.findings import Box
from gfocal.checks.label_review import LabelReview, describe_suspect
from gfocal.checks.suspects import SIDES, SUSPECT_KINDS, Suspect
from gfocal.data.convert import convert
from gfocal.data.dataset import FileData
from gfocal.data.paths import split_name
from gfocal.data.writers import cvat, label_studio
from gfocal.data.writers.written_objects import WrittenObject

ExportFormat = Literal["cvat", "label-studio"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
SCHEMA = 1  # of the json; grows when a key is removed or changes its meaning
TABLE, JSON = "suspects.csv", "suspects.json"
ATTRIBUTE = "review"  # of a box in CVAT
TAG = "gfocal review"  # model_version in Label Studio
WHOLE_AS = "train"  # split of exports of data without splits

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = (
    *("filename", "width", "height", "class", *_CORNERS),
    *("kind", "rank", "evidence", "score", "split", "box", "text"),
    *("suggested_class", *(f"suggested_{corner}" for corner in _CORNERS)),
    *(f"z_{side}" for side in SIDES),
)


def write_table(review: LabelReview, path: Path) -> None:
    """A row for each suspect: kind by kind, ranked.

    Class and corners are those of the annotation, as in any CSV table; of a missing box they are what was found.
    ``box`` is the number of the annotation in its image.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for entry in _entries(review):
            suggested = entry["suggested_box"] or ("",) * 4
            writer.writerow(
                (
                    *(entry["file"], entry["width"], entry["height"], entry["class"], *entry["box"]),
                    *(entry[key] for key in ("kind", "rank", "evidence", "score", "split")),
                    *("" if entry["annotation"] is None else entry["annotation"], entry["text"]),
                    *(entry["suggested_class"] or "", *suggested),
                    *(entry["z"] or ("",) * 4),
                )
            )


def write_json(review: LabelReview, path: Path) -> None:
    """All suspects with their evidence, and what was reviewed."""
    content = {
        "schema": SCHEMA,
        "model": review.model,
        "images": review.ranking.num_images,
        "boxes": review.ranking.num_boxes,
        "images_left_out": review.num_left_out,
        "counts": {kind: len(review.reported[kind]) for kind in SUSPECT_KINDS},
        "suspects": list(_entries(review)),
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _entries(review: LabelReview) -> Iterator[dict[str, Any]]:
    names = review.data.names
    for kind in SUSPECT_KINDS:
        for rank, one in enumerate(review.reported[kind], 1):
            sample = review.data.samples[one.image]
            assert sample.size is not None, "samples of files have a size"
            yield {
                "kind": kind,
                "rank": rank,
                "file": str(sample.path),
                "split": review.split_of[one.image],
                "width": sample.size[1],
                "height": sample.size[0],
                "annotation": None if one.annotation is None else one.annotation + 1,
                "class": names[one.label],
                "box": _rounded(one.box),
                "evidence": round(one.evidence, 4),
                "score": round(one.score, 4),
                "suggested_class": None if one.suggested_label is None else names[one.suggested_label],
                "detected_box": None if one.detected_box is None else _rounded(one.detected_box),
                "suggested_box": None if one.suggested_box is None else _rounded(one.suggested_box),
                "z": None if one.z is None else [round(value, 2) for value in one.z],
                "spread": None if one.spread is None else [round(value, 2) for value in one.spread],
                "text": describe_suspect(one, names),
            }


def _rounded(box: Box) -> list[float]:
    return [round(value, 2) for value in box]


def export_review(review: LabelReview, kind: ExportFormat, folder: Path) -> list[str]:
    """The images with suspects, linked, and their annotations for a labeling tool; returns notes for the user.

    Label Studio: the annotations as they are, what the review would change as predictions. CVAT has no predictions: a
    box with a suspect has its text in the attribute "review", and boxes that are probably missing are added with it.

    Raises:
        DataError: the folder is not empty, or the format cannot store a class name or the names of the splits.
    """
    by_split: dict[str, list[int]] = {}
    by_image: dict[int, list[Suspect]] = {}
    for one in review.all_reported():
        by_image.setdefault(one.image, []).append(one)
    for image in sorted(by_image):
        by_split.setdefault(review.split_of[image], []).append(image)
    if len(by_split) == 1 and not split_name(next(iter(by_split))):
        by_split = {WHOLE_AS: next(iter(by_split.values()))}
    parts = {split.replace(":", "_"): review.data.select(images) for split, images in by_split.items()}
    order = dict(zip(parts, by_split.values(), strict=True))
    notes = convert(parts, kind, folder, images="link")
    if kind == "cvat":
        _add_to_cvat(review, folder / cvat.ANNOTATIONS, order, parts, by_image)
    else:
        for split, images in order.items():
            _add_predictions(review, folder / f"{split}.json", images, parts[split], by_image)
    return notes


def _add_predictions(
    review: LabelReview, file: Path, images: list[int], data: FileData, by_image: dict[int, list[Suspect]]
) -> None:
    """Add a prediction to each task of a file: what the suspects of its image suggest."""
    image_of = {data.samples[k].image_id: image for k, image in enumerate(images)}
    best = {kind: max(len(review.reported[kind]), 1) for kind in SUSPECT_KINDS}
    rank = {id(one): k for kind in SUSPECT_KINDS for k, one in enumerate(review.reported[kind])}
    tasks = json.loads(file.read_text(encoding="utf-8"))
    for task in tasks:
        suspects = by_image[image_of[task["id"]]]
        sample = review.data.samples[image_of[task["id"]]]
        assert sample.size is not None, "samples of files have a size"
        boxes = [item for item in task["annotations"][0]["result"] if item["type"] == "rectanglelabels"]
        for one in suspects:
            if one.annotation is not None:
                meta = boxes[one.annotation].setdefault("meta", {"text": []})
                meta["text"].append(f"{one.kind}: {describe_suspect(one, review.data.names)}")
        regions = [_region(one, number, sample.size, review) for number, one in enumerate(suspects)]
        # So that a project sorted by the score of predictions shows the most suspicious images first.
        score = max(1 - rank[id(one)] / best[one.kind] for one in suspects)
        result = [region for region in regions if region is not None]
        task["predictions"] = [{"model_version": TAG, "score": round(score, 4), "result": result}]
    with atomic_write(file) as temporary:
        rows = ",\n".join(json.dumps(task) for task in tasks)
        temporary.write_text(f"[\n{rows}]\n", encoding="utf-8")


def _region(one: Suspect, number: int, size: tuple[int, int], review: LabelReview) -> dict[str, Any] | None:
    """What a suspect suggests, as a region; None where that is to remove a box."""
    if one.kind == "suspect-extra-box":
        return None
    names = review.data.names
    name = names[one.label if one.suggested_label is None else one.suggested_label]
    suggested = WrittenObject(name, one.suggested_box or one.box, False)
    (region,) = label_studio.format_region(f"{TAG} {one.image}", number, size, suggested)
    return region | {
        "score": round(one.score, 4),
        "meta": {"text": [f"{one.kind}: {describe_suspect(one, names)}"]},
    }


def _add_to_cvat(
    review: LabelReview,
    file: Path,
    order: dict[str, list[int]],
    parts: dict[str, FileData],
    by_image: dict[int, list[Suspect]],
) -> None:
    """Add the attribute to each label and box of a file that gfocal wrote, and the boxes that are missing."""
    tree = ET.parse(file)
    for attributes in tree.iter("attributes"):
        attributes.append(_attribute_of_labels())
    entries: dict[str, list[ET.Element]] = {}
    for entry in tree.iter("image"):
        entries.setdefault(entry.get("subset", ""), []).append(entry)
    for split, images in order.items():
        for entry, image in zip(entries[split], images, strict=True):
            boxes = entry.findall("box")
            for one in by_image[image]:
                if one.annotation is None:
                    place = ET.SubElement(entry, "box", _given(one, review.data.names))
                else:
                    place = boxes[one.annotation]
                text = f"{one.kind}: {describe_suspect(one, review.data.names)}"
                known = place.find(f"attribute[@name='{ATTRIBUTE}']")
                if known is None:
                    known = ET.SubElement(place, "attribute", name=ATTRIBUTE)
                known.text = f"{known.text}; {text}" if known.text else text
    with atomic_write(file) as temporary:
        ET.indent(tree)
        tree.write(temporary, encoding="utf-8", xml_declaration=True)


def _given(one: Suspect, names: tuple[str, ...]) -> dict[str, str]:
    edges = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{value:.2f}" for value in one.box), strict=True))
    return {"label": names[one.label], "source": "auto", "occluded": "0", **edges, "z_order": "0"}


def _attribute_of_labels() -> ET.Element:
    """The description of the attribute, for a project to be made with."""
    described = ET.Element("attribute")
    values = {"name": ATTRIBUTE, "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
    for key, value in values.items():
        ET.SubElement(described, key).text = value
    return described
