"""What was found, from the journals of all shards into files: COCO json, YOLO text, VOC xml, CSV."""

# FOLDED detecting.scores: Which scores count: those that the user says, else those stored with the model, else one for all.
from __future__ import annotations

import heapq
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gfocal.atomic import atomic_write
from gfocal.data.writers.csv import found_header, found_rows
from gfocal.data.writers.voc import found_xml
from gfocal.data.writers.yolo import found_text
from gfocal.inference.journal import Record, end_of, records
from gfocal.models.detector import Detector
from gfocal.structures import Detections
from gfocal.text import counted

Format = Literal["coco", "yolo", "voc", "csv"]
FORMATS: tuple[str, ...] = get_args(Format)

JSON_FILE, CSV_FILE, YOLO_FOLDER, VOC_FOLDER = "detections.json", "detections.csv", "labels", "Annotations"
INFO = (
    "Found by gfocal. Category ids are those of 'categories', numbered from 1 in the model's order, and not those of "
    "its training data. bbox is x, y, width, height, and edge_std is left, top, right, bottom, in pixels of the file."
)


@dataclass(frozen=True)
class Written:
    """What came out."""

    images: int
    objects: int
    places: tuple[Path, ...]
    failed: int  # files that could not be read, and words that named none
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f"{counted(self.objects, 'object')} in {counted(self.images, 'image')}"
        told += f", {self.failed:,} failed" if self.failed else ""
        return f"{told}: {', '.join(map(str, self.places))}"


def record_of(index: int, file: str, name: str, image: str | None, detections: Detections) -> Record:
    """The line of a journal about one image.

    Args:
        index: place of the image in the list of all.
        file: as the user named it.
        name: of the files that are written for it, without ending; no other image's.
        image: name of the drawn image, where one was drawn.
        detections: in pixels of the file.
    """
    record: Record = {"index": index, "file": file, "name": name, "size": list(detections.size), "image": image}
    record["labels"] = detections.labels.tolist()
    record["scores"] = [float(f"{score:.7g}") for score in detections.scores.tolist()]
    record["boxes"] = [[round(v, 4) for v in box] for box in detections.boxes.double().tolist()]
    if detections.edges.shape[-1]:
        record["edge_std"] = [[round(v, 4) for v in std] for std in detections.edge_std.double().tolist()]
    return record


def merged(journals: Sequence[Path]) -> Iterator[Record]:
    """The images of all journals, in the order of the list of all where there are several."""
    if len(journals) == 1:
        yield from (record for record, _ in records(journals[0]))
        return
    streams = [(record for record, _ in records(journal)) for journal in journals]
    yield from heapq.merge(*streams, key=lambda record: record["index"])


def write_results(
    journals: Sequence[Path],
    names: Sequence[str],
    folder: Path,
    formats: Sequence[str],
    run: Mapping[str, Any],
) -> Written:
    """Write the formats into a folder; memory holds one image at a time.

    ``run`` says what made them (see ``starting.header_of``); the json keeps it. Every file is whole or as before;
    those of YOLO and VOC, one to an image, come one after the other.
    """
    images = objects = limited = 0
    most = run.get("max_detections", math.inf)
    for record in merged(journals):
        images += 1
        objects += len(record["labels"])
        limited += len(record["labels"]) >= most
    places = []
    for kind in formats:
        if kind == "coco":
            _write_json(journals, names, folder / JSON_FILE, run)
            places.append(folder / JSON_FILE)
        elif kind == "csv":
            with atomic_write(folder / CSV_FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.write(found_header())
                file.writelines(found_rows(record, names) for record in merged(journals))
            places.append(folder / CSV_FILE)
        elif kind == "yolo":
            _write_each(journals, folder / YOLO_FOLDER, ".txt", lambda record: found_text(record))
            (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            places.append(folder / YOLO_FOLDER)
        elif kind == "voc":
            _write_each(journals, folder / VOC_FOLDER, ".xml", lambda record: found_xml(record, names))
            places.append(folder / VOC_FOLDER)
    failed = sum((end_of(journal) or {}).get("failed", 0) for journal in journals)
    notes = []
    if limited:
        notes.append(
            f"{counted(limited, 'image')} gave {counted(most, 'box', 'boxes')}, as many as this model gives at "
            "most, and may hold more objects"
        )
    return Written(images, objects, tuple(places), failed, tuple(notes))


def _write_each(journals: Sequence[Path], folder: Path, ending: str, text: Callable[[Record], str]) -> None:
    folder.mkdir(exist_ok=True)
    for record in merged(journals):
        (folder / f"{record['name']}{ending}").write_text(text(record), encoding="utf-8", errors="surrogateescape")


def _write_json(journals: Sequence[Path], names: Sequence[str], path: Path, run: Mapping[str, Any]) -> None:
    """COCO's layout, a record on a line. Images come first, so the annotations wait in a file of their own."""
    content = {"description": INFO, "run": dict(run)}
    with atomic_write(path) as temporary:
        rest = temporary.with_suffix(".rest")
        try:
            with temporary.open("w", encoding="utf-8") as file, rest.open("w", encoding="utf-8") as waiting:
                file.write(f'{{"info": {json.dumps(content)},\n"images": [')
                number = 0
                for image_id, record in enumerate(merged(journals), 1):
                    file.write((",\n" if image_id > 1 else "\n") + json.dumps(_image(record, image_id)))
                    for annotation in coco_annotations(record, image_id, number + 1):
                        waiting.write((",\n" if number else "\n") + json.dumps(annotation))
                        number += 1
                categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
                file.write(f'],\n"categories": {json.dumps(categories)},\n"annotations": [')
            with temporary.open("ab") as whole, rest.open("rb") as part:
                shutil.copyfileobj(part, whole)
                whole.write(b"]}\n")
        finally:
            rest.unlink(missing_ok=True)


def _image(record: Record, image_id: int) -> dict[str, Any]:
    height, width = record["size"]
    image = {"id": image_id, "file_name": record["file"], "height": height, "width": width}
    return image | ({} if record["image"] is None else {"image": record["image"]})


def coco_annotations(record: Record, image_id: int, first_id: int) -> Iterator[dict[str, Any]]:
    """Annotations in COCO's layout, with score and, where they are known, edge deviations."""
    stds = record.get("edge_std") or [None] * len(record["labels"])
    rows = zip(record["labels"], record["scores"], record["boxes"], stds, strict=True)
    for number, (label, score, box, std) in enumerate(rows, first_id):
        width, height = box[2] - box[0], box[3] - box[1]
        annotation = {
            "id": number,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [round(v, 2) for v in (box[0], box[1], width, height)],
            "area": round(width * height, 2),
            "iscrowd": 0,
            "score": round(score, 5),
        }
        yield annotation if std is None else annotation | {"edge_std": [round(v, 2) for v in std]}


SCORE = 0.3  # least score, where neither the user nor the model says another


def score_threshold_of(model: Detector, score: float | None) -> float | tuple[float, ...]:
    """The score that detections must exceed: one for all classes, or the model's own of each."""
    own = model.class_thresholds
    if score is None and own is not None:
        return tuple(own)
    return SCORE if score is None else float(score)


def told_of_scores(threshold: float | tuple[float, ...]) -> str:
    """That, in words."""
    if isinstance(threshold, float):
        return f"scores above {threshold:g} (--score-threshold)"
    least, most = min(threshold), max(threshold)
    return f"scores above the model's own threshold of each class, {least:.2f} to {most:.2f} (--score-threshold for another)"
