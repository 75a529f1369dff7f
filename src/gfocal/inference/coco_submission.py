"""Results for COCO's test-dev server: a json named as the server expects, in a zip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from gfocal.atomic import atomic_write
from gfocal.console import fail, progress_bar, say
from gfocal.data.coco_names import COCO_NAMES
from gfocal.data.images import read_pixels
from gfocal.errors import DataError
from gfocal.interop.coco_results import write_coco_results
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import ImageBatch, predict, stack_inputs
from gfocal.structures import Detections
from gfocal.text import pluralize

RESULTS = "detections_test-dev2017_gfocal_results"


def write_submission(
    model: AnyDetector,
    info: Path,
    folders: Sequence[str],
    out: Path,
    console: Console,
    precision: Precision = "auto",
    compiled: bool = False,
) -> int:
    """Detect in the images that an image info file lists; returns how many could not be read.

    Args:
        model: a detector of COCO's 80 classes, in their order.
        info: ``image_info_test-dev2017.json``, or an instances file.
        folders: one folder, which holds the images.
        out: folder for the json and the zip.
        console: for messages.
        precision: number format of the network, see ``gfocal.models.precision``.
        compiled: compile the network first.

    Raises:
        DataError: the info file, the folder or the model's classes are not what the server expects, or no image
            could be read.
    """
    if len(folders) != 1 or not Path(folders[0]).is_dir():
        raise DataError(f"{', '.join(folders)}: with --submission, IMAGE is the one folder of the images")
    images, category_ids = read_info(info, model)
    found: dict[int, Detections] = {}
    with progress_bar(console, "detecting", len(images)) as bar:
        batches = read_batches(images, Path(folders[0]), model, console)
        for batch, detections in predict(model, batches, None, precision, compiled):
            found.update(zip(batch.keys, detections, strict=True))
            bar.advance(1)
    if not found:
        raise DataError(
            f"{folders[0]}: none of the {pluralize(len(images), 'image')} that {info} lists could be read, so no zip "
            "was written; name the folder in which they lie"
        )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{RESULTS}.json"
    count = write_coco_results(path, found, category_ids)
    with (
        atomic_write(path.with_suffix(".zip")) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.write(path, path.name)
    say(console, f"{pluralize(count, 'detection')} in {pluralize(len(found), 'image')}: {path.with_suffix('.zip')}")
    return len({image_id for image_id, _ in images}) - len(found)


def read_batches(
    images: Sequence[tuple[int, str]], folder: Path, model: AnyDetector, console: Console
) -> Iterator[ImageBatch[int]]:
    """Each image that can be read as a batch of its own, with its id; the others are reported."""
    for image_id, name in images:
        try:
            image = read_pixels(folder / name, value_range=model.input_settings.value_range)
        except DataError as error:
            fail(console, error)
            continue
        yield stack_inputs([image_id], [image], model.input_settings)


def read_info(info: Path, model: AnyDetector) -> tuple[list[tuple[int, str]], tuple[int, ...]]:
    """Ids and file names of the images, and the category ids of the model's classes."""
    try:
        content = json.loads(info.read_text(encoding="utf-8"))
        images = [(int(image["id"]), str(image["file_name"])) for image in content["images"]]
        ids = {str(category["name"]): int(category["id"]) for category in content["categories"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{info}: not an image info file of COCO ({type(error).__name__}: {error}); fetch "
            "image_info_test2017.zip from cocodataset.org and name image_info_test-dev2017.json in it"
        ) from error
    missing = [name for name in model.names if name not in ids]
    if missing:
        hint = "" if set(model.names) == set(COCO_NAMES) else "; the server takes COCO's 80 classes"
        raise DataError(f"{info}: names no class {missing[0]!r} of the model{hint}")
    return images, tuple(ids[name] for name in model.names)
