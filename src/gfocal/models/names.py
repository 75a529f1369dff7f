"""What may be named as a model; asked before torch is imported, so that a typo is answered at once."""

from __future__ import annotations

import re
from pathlib import Path

from gfocal.data.paths import no_such_path
from gfocal.errors import ModelFileError
from gfocal.models.published import PUBLISHED
from gfocal.run_folder import RunFolder
from gfocal.text import similar

HUB_SCHEME = "hf://"
_NAME = re.compile(r"[A-Za-z0-9]+(?:[_.-][A-Za-z0-9]+)+")  # what may be a name with a typo


def require_model(model: str | Path) -> None:
    """Raise ModelFileError if there is no such file, no model in the folder, and no published weights of this name.

    A model on the hub is not looked for.
    """
    text, path = str(model), Path(model)
    if text.startswith(HUB_SCHEME) or (text in PUBLISHED and not path.exists()):
        return
    if path.is_dir():
        run = RunFolder(path)
        continuation = (
            "continue it with 'gfocal train --resume'" if run.has_state else "start again with 'gfocal train'"
        )
        if not run.model_files and (run.has_state or run.description.is_file()):
            raise ModelFileError(
                f"{path}: a run whose first epoch is not finished, so that there is no model yet; wait for it, or "
                f"{continuation}"
            )
        if not run.model_files:
            raise ModelFileError(
                f"{path}: holds neither best.safetensors nor last.safetensors; is it a run's folder?"
            )
        return
    if path.is_file():
        return
    if near := similar(text, PUBLISHED, 3) if _NAME.fullmatch(text) else []:
        raise ModelFileError(
            f"{text}: no such file or folder, and no published weights of this name; did you mean "
            f"{' or '.join(near)}? ('gfocal models' lists all)"
        )
    raise ModelFileError(no_such_path(model))
