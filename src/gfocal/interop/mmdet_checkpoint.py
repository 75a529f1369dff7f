"""Reading a checkpoint of MMDetection: tensors by their plain names, and its metadata."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.data.coco_names import COCO_NAMES
from gfocal.errors import CheckpointImportError
from gfocal.text import pluralize

WRAPPERS = ("module.", "ema_model.", "model.", "detector.")
# MMDetection keeps the teacher of a distillation out of its state dict; copies of its class need not.
TEACHERS = ("teacher_model.", "teacher.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain values only, never a pickled object."""
    if not path.is_file():
        raise CheckpointImportError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol
            with _stand_ins():
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"the object {found[1]}" if found else "an object that is no tensor"
        raise CheckpointImportError(
            f"{path}: not a file of tensors and plain values: it holds {what}, which could run code when "
            "loaded, and was not loaded. Fix: in the environment that wrote it, save "
            "{'state_dict': checkpoint['state_dict'], 'meta': {'CLASSES': names, 'mmdet_version': "
            "checkpoint['meta']['mmdet_version']}} as a new file (docs/from-mmdetection.md has it whole)"
        ) from error
    except Exception as error:
        raise CheckpointImportError(
            f"{path}: not readable as a checkpoint ({type(error).__name__}); is it truncated? Copy it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointImportError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


@contextmanager
def _stand_ins() -> Iterator[None]:
    """While a file is read, empty classes stand in for those of Lightning that its checkpoints name.

    Up to version 1.4 the state of a callback was saved under the callback's class, as NanoDet's checkpoints of 2021
    may have it. Nothing of Lightning is imported.
    """
    stand_in = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
    allowed = getattr(torch.serialization, "safe_globals", None)  # torch 2.5 and later
    if allowed is None:
        torch.serialization.add_safe_globals([stand_in])
        yield
    else:
        with allowed([stand_in]):
            yield


def plain_names(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by their names without wrappers, and notes on those that are no weights of the network.

    Where a file has an average of the weights beside the weights, MMDetection saves the average under the plain names
    and the weights as ``ema_...``: the plain names are used.
    """
    items = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    of_teacher = [key for key in items if key.removeprefix("module.").startswith(TEACHERS)]
    items = {key: value for key, value in items.items() if key not in set(of_teacher)}
    for wrapper in WRAPPERS:
        if items and sum(key.startswith(f"{wrapper}backbone.") for key in items):
            inside = {key[len(wrapper) :]: value for key, value in items.items() if key.startswith(wrapper)}
            outside = [key for key in items if not key.startswith(wrapper)]
            items = inside | {key: items[key] for key in outside if key not in inside}
    left_out = []
    if of_teacher:
        left_out.append(
            f"{of_teacher[0]}, ... ({pluralize(len(of_teacher), 'tensor')}): the teacher of a distillation, which "
            "detection does not need"
        )
    result = {}
    for key, value in items.items():
        if key.startswith("ema_") or key in ("steps", "n_averaged"):
            left_out.append(f"{key}: the other half of a weight average")
        elif key.startswith("data_preprocessor."):
            left_out.append(f"{key}: normalization, which the preset defines")
        else:
            result[current_name(key)] = value
    return result, left_out


def current_name(key: str) -> str:
    """The name of a tensor of MMDetection 1.x in later versions."""
    # The first deformable convolutions kept their offsets beside the convolution.
    key = key.replace(".conv2_offset.", ".conv2.conv_offset.")
    return re.sub(r"^bbox_head\.(?:fcos|fovea)_(cls|reg|centerness)\.", r"bbox_head.conv_\1.", key)


def config_text(meta: Mapping[str, Any]) -> str:
    """The text of the config that a checkpoint was trained with; empty where the metadata hold none."""
    found = meta.get("cfg", meta.get("config"))
    return found if isinstance(found, str) else ""


def class_names(
    meta: Mapping[str, Any], num_classes: int, path: Path, given: Sequence[str] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, ``given`` or from a checkpoint's metadata, and notes on where they came from.

    Raises CheckpointImportError where there are more or fewer than the head has classes, or one occurs twice.
    """
    if given is not None:
        if len(given) != num_classes or len(set(given)) != len(given):
            raise CheckpointImportError(
                f"{path}: its head has {num_classes} classes, but {len(given)} names are given, of which "
                f"{len(set(given))} are different: give one for each class, in the order of training"
            )
        return tuple(given), ("class names: as given",)
    dataset = meta.get("dataset_meta")
    found = meta.get("CLASSES")
    if found is None and isinstance(dataset, Mapping):
        found = dataset.get("classes", dataset.get("CLASSES"))
    if isinstance(found, str):
        found = (found,)
    if isinstance(found, list | tuple):
        names = tuple(str(name) for name in found)
        if len(names) != num_classes:
            raise CheckpointImportError(
                f"{path}: its head has {num_classes} classes, but its metadata names {len(names)} "
                f"({', '.join(names[:3])}{', ...' * (len(names) > 3)}), which are those of other data; give the "
                f"{num_classes} names in the order of training: --names A,B,... or --names FILE with one on each line"
            )
        if len(set(names)) < len(names):
            raise CheckpointImportError(f"{path}: its metadata names a class twice; give other names with --names")
        return names, ("class names: from the file",)
    if num_classes == len(COCO_NAMES):
        return COCO_NAMES, ("class names: the file has none; 80 classes are assumed to be COCO's",)
    return tuple(f"class{i}" for i in range(num_classes)), ("class names: the file has none",)
