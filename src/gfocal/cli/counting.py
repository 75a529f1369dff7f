"""What gfocal eval counts: detections of a file, the chosen classes, the limit of detections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gfocal.console import note
from gfocal.text import one_line, pluralize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from gfocal.data.dataset import ImageData
    from gfocal.evaluation.detections import ScoredDetections
    from gfocal.interop.coco_results import ImageResults
    from gfocal.models.exported import AnyDetector
    from gfocal.structures import Detections

    Found = Mapping[int, Detections | ScoredDetections | ImageResults]  # by image id


def rename_as_in_training(
    parts: Sequence[tuple[str, str | None]],
    model: AnyDetector | None,
    renames: Sequence[tuple[str, str]],
    console: Console,
) -> list[tuple[str, str]]:
    """The --rename of a command, and those of the model's training whose old names the data have, said in a note."""
    given = dict(renames)
    if model is None or any(path == "synthetic" for path, _ in parts):
        return list(renames)
    wanted = {old: new for old, new in model.renames.items() if old not in given and old not in model.names}
    if not wanted:
        return list(renames)
    from gfocal.data.discovery import read_data

    names = {name for path, split in parts for name in read_data(path, split).names}
    again = {old: new for old, new in wanted.items() if old in names}
    if again:
        listed = ", ".join(f"{old} to {new}" for old, new in again.items())
        note(console, f"classes of the data renamed as in the training of the model: {one_line(listed)}")
    return [*again.items(), *renames]


def read_detections(path: Path, data: ImageData, console: Console) -> tuple[ImageData, Found]:
    """Detections from COCO results, or as ``gfocal detect`` wrote them; and the data in the same coordinates."""
    if path.is_dir() or is_of_gfocal_detect(path):
        from gfocal.interop.own_results import read_own_results

        found, notes = read_own_results(path, data)
        for line in notes:
            note(console, line)
        return data, found
    data = data if data.files is None else data.files.before_scaling()
    return data, _read_coco_results(path, data, console)


def is_of_gfocal_detect(path: Path) -> bool:
    """Whether a json file begins as ``gfocal detect`` writes it; COCO results begin with a list."""
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b'{"info": {"description": "Detected by gfocal')


def _read_coco_results(path: Path, data: ImageData, console: Console) -> Found:
    """Raises DataError where some detections are of images that the data do not have."""
    from collections import Counter

    from gfocal.errors import DataError
    from gfocal.interop.coco_results import read_coco_results

    unknown: Counter[str] = Counter()
    detections = read_coco_results(path, data.category_ids, stated_ids(data)[0], unknown)
    if not unknown:
        return detections
    listed = ", ".join(list(unknown)[:10]) + ", ..." * (len(unknown) > 10)
    what = f"{path}: {pluralize(unknown.total(), 'detection')} of category ids that the data do not have ({listed})"
    if not detections or ("0" in unknown and min(data.category_ids) == 1):  # counted from another number
        ids = ", ".join(map(str, data.category_ids[:10])) + ", ..." * (len(data.category_ids) > 10)
        raise DataError(f"{what}; those of the data are {ids}: write the detections with these")
    note(console, f"{what}: left out, as pycocotools leaves them out")
    return detections


def stated_ids(data: ImageData) -> tuple[Mapping[int | str, int], Mapping[int, int | str]]:
    """Image ids as the annotation files state them -> those of the dataset, and the reverse."""
    from gfocal.data.stated import index_by_stated_id

    if data.files is None:
        return index_by_stated_id([data.sample(i).image_id for i in range(len(data))], None)
    return index_by_stated_id(data.files.table.image_ids.tolist(), data.files.table.stated)


def select_classes(
    texts: Sequence[str], data: ImageData, detections: Found, thresholds: tuple[float, ...] | None
) -> tuple[ImageData, Found, tuple[float, ...] | None]:
    """Data, detections and thresholds of the classes of --classes alone."""
    from gfocal.data.classes import map_classes
    from gfocal.data.views import ONE_CLASS, with_classes

    if data.names == ONE_CLASS:  # of a class-agnostic model: chosen before all classes became one
        return data, detections, thresholds
    assert data.files is not None, "synthetic images are refused before"
    chosen = map_classes(data.names, classes=texts)
    found = {image_id: one.relabel(chosen.new_labels, chosen.names) for image_id, one in detections.items()}
    if thresholds is not None:
        thresholds = tuple(thresholds[data.names.index(name)] for name in chosen.names)
    return with_classes(data.files, chosen.names), found, thresholds


def allow_detections(model: AnyDetector, max_detections: int) -> int | None:
    """Let a model give as many detections for an image; returns the number it gave before, if that was lower."""
    settings = model.decode_settings
    if max_detections <= settings.max_detections:
        return None
    per_level = max(settings.per_level, max_detections)
    model.decode_settings = replace(settings, max_detections=max_detections, per_level=per_level)
    return settings.max_detections


def explain_what_counts(
    data: ImageData, model: AnyDetector | None, own_limit: int | None, max_detections: int, console: Console
) -> None:
    """Say which ground truth could not count, and which counts although training drops it."""
    from gfocal.evaluation.detections import explain_limit

    limit = max_detections if model is None else model.decode_settings.max_detections
    if line := explain_limit(data, max(limit, 100), per_class=model is None):
        note(console, line)
    table = None if data.files is None else data.files.table
    if table is not None and table.stated is not None and len(table.stated.boxes) > len(table.boxes):
        dropped = len(table.stated.boxes) - len(table.boxes)
        note(
            console,
            f"{pluralize(dropped, 'box', 'boxes')} that training drops counted as ground truth, as in pycocotools",
        )
