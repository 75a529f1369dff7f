"""Importing a checkpoint of any known origin: which one it is, its tensors tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gfocal.errors import CheckpointImportError
from gfocal.interop.mmdet import Imported, import_content
from gfocal.interop.mmdet_checkpoint import read_checkpoint
from gfocal.interop.nanodet_checkpoint import import_nanodet, is_nanodet
from gfocal.ops.points import Origin


def import_any(
    path: str | Path,
    *,
    origin: Origin | None = None,
    caffe: bool | None = None,
    names: Sequence[str] | None = None,
    side: int | None = None,
) -> Imported:
    """A checkpoint of MMDetection, GFocal or NanoDet-Plus as a detector.

    Args:
        path: the file: of torch, or safetensors.
        origin: as ``gfocal.interop.mmdet.import_checkpoint`` has it.
        caffe: as there.
        names: of the classes, in the order of training; None: those in the file, or COCO's.
        side: of the input of a NanoDet-Plus, in pixels; None: by the file's name, else 416.

    Raises:
        CheckpointImportError: the file is missing, truncated, holds code, is of another detector, or a tensor of it
            is left over, missing or of another shape; or an argument does not go with it.
    """
    path = Path(path)
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    found = content.get("state_dict", content.get("model", content))
    state = (
        {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if is_nanodet(list(state)):
        if origin is not None or caffe is not None:
            raise CheckpointImportError(f"{path}: a NanoDet-Plus, for which neither points nor caffe can be chosen")
        return import_nanodet(state, path, side, names)
    if side is not None:
        raise CheckpointImportError(f"{path}: the size of the input can be chosen for NanoDet-Plus only")
    return import_content(content, path, origin, caffe, names)


def read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name; CheckpointImportError if there are none, or it is a model file."""
    from safetensors import safe_open

    if not path.is_file():
        raise CheckpointImportError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            if "gfocal" in (file.metadata() or {}):
                raise CheckpointImportError(f"{path}: is a model file of gfocal already; use it as it is")
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except CheckpointImportError:
        raise
    except Exception as error:
        raise CheckpointImportError(
            f"{path}: not readable as safetensors ({type(error).__name__}); is it truncated? Copy it again"
        ) from error
