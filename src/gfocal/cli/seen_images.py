"""Which images of a command the model was trained on, by the digests that its run keeps (training_images.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.cli.held_out import run_folder_of
from gfocal.console import warn
from gfocal.text import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.data.dataset import ImageData
    from gfocal.models.exported import AnyDetector


@dataclass(frozen=True)
class RunImages:
    """How many images of a dataset the run of a model had."""

    trained: int  # that it was trained on; those that it held out are not among them
    selected_on: int  # that its best epoch was chosen by


def count_run_images(model: str, data: ImageData) -> RunImages | None:
    """How many of these images the run of a model had.

    None where that is unknown: for a model without its run, a run of a gfocal that kept no digests, and synthetic
    images.

    Raises:
        DataError: training_images.json is damaged.
    """
    from gfocal.data.identity import digest_images

    if data.files is None or (trained := read_trained_images(model)) is None:
        return None
    selected_on = read_trained_images(model, "selected_on") or set()
    digests = [digest for digest in digest_images(data) if digest is not None]
    return RunImages(sum(one in trained for one in digests), sum(one in selected_on for one in digests))


def warn_of_calibration_images(model: AnyDetector, data: ImageData, console: Console) -> None:
    """Warn where a model was calibrated on images of a dataset; of files of an older gfocal nothing is known."""
    from gfocal.data.identity import digest_images
    from gfocal.inference.intervals import usable_calibration

    calibration = usable_calibration(model)
    if calibration is None or not calibration.images or data.files is None:
        return
    known = set(calibration.images)
    if not (count := sum(digest in known for digest in digest_images(data))):
        return
    many = "all" if count == len(data) else f"{count:,}"
    warn(
        console,
        f"the model was calibrated on {many} of these {pluralize(len(data), 'image')}: what its intervals cover and "
        "how far its scores are off is no measure of new images",
    )


def read_trained_images(model: str, key: str = "digests") -> set[str] | None:
    """The digests of the images that the run of a model was trained on; None where that is unknown.

    With the key ``selected_on`` those by which its best epoch was chosen.

    Raises:
        DataError: training_images.json is damaged.
    """
    from gfocal.errors import DataError
    from gfocal.run_folder import RunFolder

    file = RunFolder(run_folder_of(model)).training_images
    if not Path(model).exists() or not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return set(content["digests"] if key == "digests" else content.get(key, ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: not as gfocal wrote it; restore it, or remove it") from error


def describe_seen_images(seen: int | None, total: int) -> str:
    """What it means for the numbers that ``seen`` of ``total`` images were trained on; empty where none were."""
    if not seen:
        return ""
    if seen == total:
        return (
            f"the model was trained on all of these {pluralize(total, 'image')}: the numbers say how well it fits "
            "them, not how good it is on new images"
        )
    return (
        f"the model was trained on {seen:,} of these {pluralize(total, 'image')}: AP and all other numbers are "
        "better than on new images; evaluate images that it has not seen, or split the data and train again"
    )
