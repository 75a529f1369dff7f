"""What is answered before torch is imported, which takes seconds: files, models and configs that are not there.

Nothing that this file imports may import torch; a test looks. ``import_torch`` does when it is called.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.console import say
from gfocal.errors import DataError
from gfocal.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE_MODEL = "nanodet_plus_m_416_coco"  # of published weights, the smallest download


def require_data(paths: Sequence[str]) -> None:
    """Raise DataError for a dataset that is not there."""
    from gfocal.data.paths import no_such_path

    for path in paths:
        if path != "synthetic" and not Path(path).is_file() and not Path(path).is_dir():  # a pipe would never end
            raise DataError(no_such_path(path))


def require_images(arguments: Sequence[str], lists: Sequence[Path] = ()) -> None:
    """Raise DataError if none of the images that are named is there; those of lists are not looked for."""
    from gfocal.data.paths import no_such_path
    from gfocal.inference.sources import STANDARD_INPUT, reason_against

    if lists or any(text == STANDARD_INPUT or text.startswith("@") for text in arguments):
        return
    reasons = [reason_against(text) for text in arguments]
    if all(reasons):
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        is_absent = not reason_against(arguments[0], of_absent=False)
        raise DataError(f"{no_such_path(arguments[0]) if is_absent else reasons[0]}{more}")


def require_model_and_images(
    model: str | None, arguments: Sequence[str], lists: Sequence[Path], command: str = "detect"
) -> None:
    """Raise DataError or ModelFileError if the model of a command, or all of its images, are not there."""
    from gfocal.data.paths import is_image
    from gfocal.inference.sources import reason_against
    from gfocal.models.names import require_model

    if model is not None and (is_image(Path(model)) or reason_against(model, of_absent=False)):
        raise DataError(
            f"{model}: is no model; name a MODEL before the images: gfocal {command} MODEL IMAGE..., for instance "
            f"gfocal {command} {EXAMPLE_MODEL} {model}"
        )
    if model is None or not (arguments or lists):
        raise DataError(f"name a MODEL and images: gfocal {command} MODEL IMAGE...")
    require_model(model)
    require_images(arguments, lists)


def find_detections(model: str) -> Path | None:
    """The detections that are given in place of a model; None for a model.

    They are a json file of any program, or a folder that ``gfocal detect --out`` named: its detections.json, else its
    YOLO text files, which have classes.txt beside them.
    """
    path = Path(model)
    if model.lower().endswith(".json"):
        return path
    if not path.is_dir() or RunFolder(path).model_files:
        return None
    if (path / "detections.json").is_file():
        return path / "detections.json"
    folder = path / "labels" if (path / "labels").is_dir() else path
    has_classes = any((home / "classes.txt").is_file() for home in (folder, folder.parent))
    return folder if has_classes and next(folder.glob("*.txt"), None) is not None else None


def say_beginning(text: str, console: Console) -> None:
    """Say what a command begins with, and import torch, while otherwise nothing would be printed."""
    if "torch" not in sys.modules:
        say(console, text)
        import_torch()


def import_torch() -> None:
    """Import torch with garbage collection off, which would look through all that is imported, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if was_enabled:
            gc.enable()
    gc.freeze()  # what was imported stays to the end
