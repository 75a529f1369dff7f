"""Writer of Label Studio json: tasks with their annotations, or detections as predictions, to import."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from gfocal.data.dataset import Sample
from gfocal.data.sidecar import Corners, Sidecar
from gfocal.data.writers.decimals import to_share
from gfocal.data.writers.placement import Placement, check_names
from gfocal.data.writers.rows import write_rows
from gfocal.data.writers.written_objects import Storage, WrittenObject, describe_losses, split_objects, to_sidecar

IMAGES = "images"
CONFIG = "label_config.xml"
_FROM, _TO, _FLAG = "label", "image", "flag"  # names of the tags in the labeling interface
_DIFFICULT = "difficult"


def write_label_studio(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``<split>.json``, a task for each image below ``images/``, and the labeling interface.

    Boxes are percent of the image; ignored regions have the choice ``difficult``. An image without objects has an
    annotation without regions. Images are named as local files (``/data/local-files/?d=images/...``): Label Studio
    finds them with this folder as ``LOCAL_FILES_DOCUMENT_ROOT``. Returns what the files cannot store, and notes for
    the user.
    """
    check_names(placement.names, "Label Studio")
    splits = split_objects(placement, STORAGE, IMAGES)
    for split in splits:
        tasks = (_task(file, sample, objects) for file, sample, objects in split.images)
        with (folder / f"{split.name}.json").open("w", encoding="utf-8") as stream:
            stream.write("[")
            write_rows(stream, tasks)
            stream.write("]\n")
    has_flag = any(one.is_ignored for split in splits for *_, objects in split.images for one in objects)
    (folder / CONFIG).write_text(format_interface(placement.names, has_flag), encoding="utf-8")
    return to_sidecar(placement, splits), describe_losses(STORAGE, splits)


def _percent(box: Corners, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """x, y, width and height in percent."""
    x1, y1, x2, y2 = box
    (x, width), (y, height) = to_share(x1, x2, size[1], 100.0), to_share(y1, y2, size[0], 100.0)
    return x, y, width, height


def _as_read(box: Corners, size: tuple[int, int]) -> Corners:
    x, y, width, height = _percent(box, size)
    return x / 100, y / 100, (x + width) / 100, (y + height) / 100


STORAGE = Storage("Label Studio", _as_read, is_relative=True, stores_ignored=True)


def _task(file: str, sample: Sample, objects: Sequence[WrittenObject]) -> dict[str, Any]:
    assert sample.size is not None, "samples of files have a size"
    regions = [item for number, one in enumerate(objects) for item in format_region(file, number, sample.size, one)]
    return {
        "id": sample.image_id,
        "data": {_TO: local_file(file)},
        "annotations": [{"result": regions, "was_cancelled": False, "ground_truth": False}],
    }


def local_file(file: str) -> str:
    """How a task names an image, by its path below the folder that Label Studio serves."""
    return f"/data/local-files/?d={quote(file)}"


def format_region(file: str, number: int, size: tuple[int, int], one: WrittenObject) -> list[dict[str, Any]]:
    """The items of a region: its box, and for an ignored region the choice that says so."""
    x, y, width, height = _percent(one.box, size)
    item = {
        "id": hashlib.sha256(f"{file} {number}".encode()).hexdigest()[:10],
        "to_name": _TO,
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
    }
    shape = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    box = {"type": "rectanglelabels", "from_name": _FROM, "value": shape | {"rectanglelabels": [one.name]}}
    choice = {"type": "choices", "from_name": _FLAG, "value": shape | {"choices": [_DIFFICULT]}}
    return [item | box, item | choice] if one.is_ignored else [item | box]


def format_prediction(
    file: str, record: Mapping[str, Any], names: Sequence[str], model: str, digits: int = 7
) -> dict[str, Any]:
    """The detections of an image as a prediction, whose score is the mean of theirs.

    A region keeps the spread of its edges in its ``meta``, of which Label Studio shows the text.

    Args:
        file: of the image; decides the ids of regions.
        record: has ``size`` (height and width), ``labels``, ``boxes`` (xyxy in pixels), ``scores`` and optionally
            ``edge_std``, ``edge_intervals`` and ``calibrated_scores``.
        names: of the classes.
        model: named as the author.
        digits: of scores.
    """
    result = []
    for number, (label, score, box) in enumerate(
        zip(record["labels"], record["scores"], record["boxes"], strict=True)
    ):
        (region,) = format_region(file, number, tuple(record["size"]), WrittenObject(names[label], tuple(box), False))
        region["score"] = round(score, digits)
        if "edge_std" in record:
            std = record["edge_std"][number]
            text = f"edges left, top, right, bottom: ± {', '.join(f'{v:.1f}' for v in std)} px"
            region["meta"] = {"text": [text], "edge_std": std}
        for key, name in (("edge_intervals", "edge_interval"), ("calibrated_scores", "calibrated_score")):
            if key in record:
                region.setdefault("meta", {})[name] = record[key][number]
        result.append(region)
    score = fmean(region["score"] for region in result) if result else 0.0
    return {"model_version": model, "score": round(score, 4), "result": result}


def format_interface(names: Sequence[str], has_flag: bool = False) -> str:
    """The project's labeling interface, with a choice for ignored regions if there are any."""
    choices = [
        f'  <Choices name="{_FLAG}" toName="{_TO}" perRegion="true" choice="multiple">',
        f'    <Choice value="{_DIFFICULT}"/>',
        "  </Choices>",
    ]
    lines = [
        "<View>",
        f'  <Image name="{_TO}" value="${_TO}"/>',
        f'  <RectangleLabels name="{_FROM}" toName="{_TO}">',
        *(f"    <Label value={quoteattr(name)}/>" for name in names),
        "  </RectangleLabels>",
        *(choices if has_flag else ()),
        "</View>",
    ]
    return "".join(f"{line}\n" for line in lines)
