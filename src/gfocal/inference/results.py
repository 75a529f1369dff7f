"""Results of a run: the record of an image, and a journal written as COCO, YOLO, VOC, CSV or for labeling tools."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from gfocal.atomic import atomic_write
from gfocal.data.writers.csv import format_csv_header, format_csv_rows
from gfocal.data.writers.voc import format_voc_xml
from gfocal.data.writers.yolo import format_yolo_text
from gfocal.inference.intervals import describe_intervals
from gfocal.inference.journal import Record, read_end, read_records
from gfocal.inference.labeling import TOOLS, Order, WrittenTool, write_tool
from gfocal.ops.boxes import iou
from gfocal.structures import Detections
from gfocal.text import pluralize
from gfocal.visualize.viewer.viewer_page import ViewerFile, ViewerSettings, WrittenViewer, write_viewer

Format = Literal["coco", "yolo", "voc", "csv", "cvat", "label-studio", "fiftyone"]
FORMATS: tuple[str, ...] = get_args(Format)

JSON_FILE, CSV_FILE, YOLO_FOLDER, VOC_FOLDER = "detections.json", "detections.csv", "labels", "Annotations"
INFO = (
    "Detected by gfocal. Category ids are those of 'categories', numbered from 1 in the model's order, not those of "
    "its training data. bbox is x, y, width, height, and edge_std is left, top, right, bottom, in pixels of the "
    "image file."
)
INFO_CALIBRATED = (
    " The model is calibrated: edge_std is the standard deviation of the edge's error; edge_interval has the lowest "
    "and highest x or y of left, top, right, bottom, and all four edges of an object lie within theirs with the "
    "probability 'coverage' of the run; calibrated_score is the IoU to be expected, 0 for a false positive."
)


def describe_threshold(threshold: float | tuple[float, ...]) -> str:
    """The threshold as the last line of a run states it."""
    if isinstance(threshold, float):
        return f"scores above {threshold:g} (--score-threshold)"
    return (
        f"scores above the model's own threshold of each class, {min(threshold):.2f} to {max(threshold):.2f} "
        "(--score-threshold for another)"
    )


@dataclass(frozen=True)
class WrittenResults:
    """What ``write_results`` has written; as text the last line of a run."""

    num_images: int
    num_objects: int
    paths: tuple[Path, ...]
    num_failed: int  # files that could not be read, and arguments that named none
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{pluralize(self.num_objects, 'object')} in {pluralize(self.num_images, 'image')}"
        text += f", {self.num_failed:,} failed" if self.num_failed else ""
        return f"{text}: {', '.join(map(str, self.paths))}"


@dataclass(frozen=True)
class ViewerOfRun:
    """The viewer of a run, whose records have what it shows of each image as ``viewer``."""

    file: ViewerFile
    settings: ViewerSettings


def explain_nothing(best_score: float, threshold: float | Sequence[float]) -> str:
    """Why no image has a detection: the best score of all, the threshold, and how to lower it."""
    if isinstance(threshold, float):
        limit = f"the threshold, {threshold:g}"
    else:
        limit = f"the model's own threshold of each class, {min(threshold):.2f} to {max(threshold):.2f}"
    if not best_score:
        return f"nothing found: no score comes near {limit}; --score-threshold 0.01 shows whatever there is"
    lower = math.floor((best_score - 1e-6) * 20) / 20  # a score must exceed it
    return (
        f"nothing found: the best score is {best_score:.3f}, not above {limit}; --score-threshold {lower:g} lowers it"
    )


def make_record(
    index: int,
    file: str,
    name: str,
    image: str | None,
    detections: Detections,
    best_score: float = 0.0,
    coverage: float | None = None,
    uncertainty: float | None = None,
) -> Record:
    """An image as a line of a journal.

    Args:
        index: of the image in the list of all.
        file: as the user named it.
        name: of the files that are written for it, without suffix; unique.
        image: file name of the drawn image; None where none was drawn.
        detections: in pixels of the image file.
        best_score: also below the threshold, which is kept where there is no detection; 0: unknown.
        coverage: of the intervals of edges, for detections of a calibrated model; None: no intervals.
        uncertainty: of the image, see ``gfocal.inference.uncertainty``; None: unknown.
    """
    record: Record = {"index": index, "file": file, "name": name, "size": list(detections.size), "image": image}
    record |= record_detections(detections, coverage)
    if uncertainty is not None:
        record["uncertainty"] = round(uncertainty, 6)
    if not record["labels"]:
        record["best_score"] = float(f"{best_score:.7g}")
    return record


def record_detections(detections: Detections, coverage: float | None = None) -> Record:
    """The part of a line that has the detections: labels, scores, boxes and what is known of their edges."""
    is_calibrated = detections.calibration is not None
    return record_columns(
        labels=detections.labels.tolist(),
        scores=detections.scores.tolist(),
        boxes=detections.boxes.double().tolist(),
        edge_std=detections.edge_std.double().tolist() if detections.edges.shape[-1] else None,
        calibrated_scores=detections.calibrated_scores().tolist() if is_calibrated else None,
        edge_intervals=None
        if coverage is None or not is_calibrated
        else detections.edge_interval(coverage).double().tolist(),
    )


def record_columns(
    labels: list[int],
    scores: list[float],
    boxes: list[list[float]],
    edge_std: list[list[float]] | None = None,
    calibrated_scores: list[float] | None = None,
    edge_intervals: list[list[list[float]]] | None = None,
) -> Record:
    """``record_detections`` of lists, rounded to what the numbers are worth; without those that are None."""
    record: Record = {"labels": labels, "scores": [float(f"{score:.7g}") for score in scores]}
    record["boxes"] = [[round(v, 4) for v in box] for box in boxes]
    if edge_std is not None:
        record["edge_std"] = [[round(v, 4) for v in std] for std in edge_std]
    if calibrated_scores is not None:
        record["calibrated_scores"] = [float(f"{v:.7g}") for v in calibrated_scores]
    if edge_intervals is not None:
        record["edge_intervals"] = [[[round(v, 4) for v in pair] for pair in one] for one in edge_intervals]
    return record


def _records(journal: Path) -> Iterator[Record]:
    """The images of a journal."""
    return (record for record, _ in read_records(journal))


def write_results(
    journal: Path,
    folder: Path,
    formats: Sequence[str],
    header: Mapping[str, Any],
    viewer: ViewerOfRun | None = None,
    order: Order = "uncertainty",
) -> WrittenResults:
    """Write the formats into a folder, and a viewer; memory holds the record of one image at a time.

    ``header`` of the run (see ``gfocal.inference.resume.run_header``) becomes part of the COCO json; ``order`` is
    that of the images of a labeling tool. COCO and CSV files and the viewer are written atomically, the files of YOLO
    and VOC one by one.
    """
    images = objects = limited = 0
    best_score = 0.0
    twice = []
    most = math.inf if "tiles" in header else header.get("max_detections", math.inf)  # else it is that of a tile
    for record in _records(journal):
        images += 1
        objects += len(record["labels"])
        limited += len(record["labels"]) >= most
        best_score = max(best_score, record.get("best_score", 0.0))
        if not header.get("class_agnostic_nms", True):
            twice.append(count_named_twice(record, header["nms_iou"]))
    written = [_write_format(kind, journal, folder, header, order) for kind in formats]
    paths, tool_notes = [one.path for one in written], [text for one in written for text in one.notes]
    pages = [] if viewer is None else [_write_viewer(journal, viewer)]
    paths += [page.path for page in pages]
    failed = (read_end(journal) or {}).get("failed", 0)
    notes = [] if objects or not images else [explain_nothing(best_score, header["score_threshold"])]
    notes += tool_notes + [text for page in pages if (text := page.describe_missing()) is not None]
    if limited:
        notes.append(
            f"{pluralize(limited, 'image')} with {pluralize(int(most), 'box', 'boxes')}, the most that this model "
            "gives for an image; there may be more objects: --max-detections N finds them"
        )
    if count := sum(twice):
        where = pluralize(sum(map(bool, twice)), "image")
        notes.append(
            f"{pluralize(count, 'box', 'boxes')} in {where} nearly where a better one of another class is: one "
            "object with two names? --class-agnostic-nms keeps the better name"
        )
    if (intervals := describe_intervals(_records(journal), header)) is not None:
        notes.append(intervals)
    return WrittenResults(images, objects, tuple(paths), failed, tuple(notes))


def _write_format(kind: str, journal: Path, folder: Path, header: Mapping[str, Any], order: Order) -> WrittenTool:
    names = header["names"]
    if kind in TOOLS:
        return write_tool(kind, journal, folder / kind, header, order)
    if kind == "coco":
        path = folder / JSON_FILE
        _write_json(journal, path, header)
    elif kind == "csv":
        path = folder / CSV_FILE
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            calibrated = "calibration" in header
            file.write(format_csv_header(calibrated))
            file.writelines(format_csv_rows(record, names, calibrated) for record in _records(journal))
    elif kind == "yolo":
        path = folder / YOLO_FOLDER
        _write_each(journal, path, ".txt", lambda record: format_yolo_text(record))
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    else:
        assert kind == "voc", kind
        path = folder / VOC_FOLDER
        _write_each(journal, path, ".xml", lambda record: format_voc_xml(record, names))
    return WrittenTool(path, [])


def _write_viewer(journal: Path, viewer: ViewerOfRun) -> WrittenViewer:
    packed = (record["viewer"] for record in _records(journal))
    return write_viewer(viewer.file.path, viewer.settings, packed, viewer.file.max_bytes)


def count_named_twice(record: Record, iou_threshold: float) -> int:
    """How many detections of an image overlap a better one of another class by more than an IoU."""
    if len(set(record["labels"])) < 2:
        return 0
    boxes, labels = torch.tensor(record["boxes"]), torch.tensor(record["labels"])  # best first
    same_place = iou(boxes[:, None], boxes[None]) > iou_threshold
    return int((same_place & (labels[:, None] != labels)).triu(1).any(0).sum())


def _write_each(journal: Path, folder: Path, suffix: str, text: Callable[[Record], str]) -> None:
    folder.mkdir(exist_ok=True)
    for record in _records(journal):
        (folder / f"{record['name']}{suffix}").write_text(text(record), encoding="utf-8", errors="surrogateescape")


def _write_json(journal: Path, path: Path, header: Mapping[str, Any]) -> None:
    """COCO's layout, a record on a line. Images come first, so the annotations wait in a file of their own."""
    content = {"description": INFO + INFO_CALIBRATED * ("calibration" in header), "run": dict(header)}
    with atomic_write(path) as temporary:
        rest = temporary.with_suffix(".rest")
        try:
            with temporary.open("w", encoding="utf-8") as file, rest.open("w", encoding="utf-8") as waiting:
                file.write(f'{{"info": {json.dumps(content)},\n"images": [')
                number = 0
                for image_id, record in enumerate(_records(journal), 1):
                    file.write((",\n" if image_id > 1 else "\n") + json.dumps(_image(record, image_id)))
                    for annotation in coco_annotations(record, image_id, number + 1):
                        waiting.write((",\n" if number else "\n") + json.dumps(annotation))
                        number += 1
                categories = [{"id": i + 1, "name": name} for i, name in enumerate(header["names"])]
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
    """Annotations in COCO's layout, with the score and what the record has of edges and calibrated scores."""
    for i, (label, score, box) in enumerate(zip(record["labels"], record["scores"], record["boxes"], strict=True)):
        width, height = box[2] - box[0], box[3] - box[1]
        annotation = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [round(v, 2) for v in (box[0], box[1], width, height)],
            "area": round(width * height, 2),
            "iscrowd": 0,
            "score": round(score, 5),
        }
        if "edge_std" in record:
            annotation["edge_std"] = [round(v, 2) for v in record["edge_std"][i]]
        if "edge_intervals" in record:
            annotation["edge_interval"] = [[round(v, 2) for v in pair] for pair in record["edge_intervals"][i]]
        if "calibrated_scores" in record:
            annotation["calibrated_score"] = round(record["calibrated_scores"][i], 5)
        yield annotation
