"""gfocal's model file: weights in safetensors, and in its metadata a description that builds the network.

``load_model`` reads all of a file, ``read_description`` none of its tensors. A file is given by its path, by the
folder of a run, or by ``hf://owner/name`` on the Hugging Face hub, from which it is downloaded once. It may come from
anybody: its sizes are compared with those of the network that it describes before any memory is taken for them.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gfocal.atomic import atomic_write
from gfocal.errors import HubError, ModelFileError
from gfocal.models.description import (
    FORMAT,
    build_from_description,
    build_without_weights,
    check_description,
    describe,
)
from gfocal.models.detector import Detector
from gfocal.models.names import HUB_SCHEME, require_model
from gfocal.models.options import quote
from gfocal.models.precision import Bf16Check
from gfocal.models.stored_calibration import calibration_to_json
from gfocal.run_folder import RunFolder
from gfocal.structures.calibration import Calibration
from gfocal.text import one_line

MAX_HEADER = 2**25  # bytes of a file's description and its table of tensors
NUMBERS = ("F32", "F16", "BF16", "F64", "I64")  # types of tensors; integers are counts of batches
HUB_FILE = "model.safetensors"


def save_model(model: Detector, path: str | Path) -> None:
    """Write a model file atomically: afterwards the new file is complete, or the old one unchanged."""
    from safetensors.torch import save

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = save(state, metadata={"gfocal": json.dumps(describe(model))})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)  # not save_file: a full disk is an OSError here, as for every other file


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Detector:
    """Build the network that a model file describes, with its weights, ready to detect.

    Args:
        path: a model file; the folder of a run: then its ``best.safetensors``, else ``last.safetensors``; or
            ``hf://owner/name``, a model on the Hugging Face hub.
        device: where to put it.

    Raises:
        ModelFileError: there is no such file, or it is no gfocal model, or it is damaged.
    """
    path = find_model_file(path)
    with _open(path) as file:
        about = _parse_description(file.metadata(), path)
        try:
            model = build_without_weights(about)
            _check_tensors(file, model, path)
            model = _with_weights(model, about, file)
        except ValueError as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(_describe_misfit(path, about, error)) from error
    return model.eval().to(device)


def read_description(path: str | Path) -> dict[str, Any]:
    """The description in a model file, read without its tensors; argument and errors as those of ``load_model``."""
    path = find_model_file(path)
    with _open(path) as file:
        return _parse_description(file.metadata(), path)


def store_thresholds(path: str | Path, scores: Sequence[float], how: str = "") -> Path:
    """Write a score threshold for each class into a model file, replacing any in it; returns the file.

    Only the description changes: the weights are copied byte for byte. The file is complete or as before.

    Args:
        path: a model file or the folder of a run, as for ``load_model``, but not on the hub.
        scores: a threshold in 0..1 for each class, by label.
        how: how they were chosen, in a line.

    Raises:
        ModelFileError: no such file, no gfocal model, or thresholds that do not fit its classes.
    """
    path = find_local_file(path)
    about = read_description(path)
    about["thresholds"] = {"scores": [float(score) for score in scores], "how": how}
    return _replace_description(path, about)


def store_nms(path: str | Path, iou: float, class_agnostic: bool) -> Path:
    """Write the settings of non-maximum suppression into a model file, replacing those in it; returns the file.

    Only the description changes, as in ``store_thresholds``, which has the same errors.

    Args:
        path: a model file or the folder of a run, as for ``load_model``, but not on the hub.
        iou: in 0..1; boxes that overlap by more are one object.
        class_agnostic: whether that holds for boxes of different classes too.
    """
    path = find_local_file(path)
    about = read_description(path)
    about["decode"] = about["decode"] | {"nms_threshold": float(iou), "class_agnostic_nms": class_agnostic}
    return _replace_description(path, about)


def store_bf16_check(path: str | Path, check: Bf16Check | None) -> Path:
    """Write what computing in bf16 costs into a model file, or remove it (None); returns the file.

    Only the description changes, as in ``store_thresholds``, which has the same errors.
    """
    path = find_local_file(path)
    about = read_description(path)
    about.pop("bf16_check", None)
    return _replace_description(path, about if check is None else about | {"bf16_check": asdict(check)})


def store_calibration(path: str | Path, calibration: Calibration | None) -> Path:
    """Write a calibration into a model file, replacing any in it, or remove it (None); returns the file.

    Only the description changes, as in ``store_thresholds``, which has the same errors.
    """
    path = find_local_file(path)
    about = read_description(path)
    about.pop("calibration", None)
    more = {} if calibration is None else {"calibration": calibration_to_json(calibration)}
    return _replace_description(path, about | more)


def _replace_description(path: Path, about: dict[str, Any]) -> Path:
    try:
        check_description(about)
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error
    with atomic_write(path) as temporary, path.open("rb") as old, temporary.open("wb") as new:
        # safetensors: the length of the header as 8 bytes, the header as json, then the tensors.
        header = json.loads(old.read(struct.unpack("<Q", old.read(8))[0]))
        header["__metadata__"]["gfocal"] = json.dumps(about)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        new.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(old, new)
    return path


def find_model_file(path: str | Path) -> Path:
    """The model file of a path: the file itself, the best or last of a run's folder, or a download from the hub."""
    if str(path).startswith(HUB_SCHEME):
        return download_model(str(path))
    require_model(path)
    path = Path(path)
    if not path.exists():  # a name of published weights, which are downloaded elsewhere
        raise ModelFileError(f"{path}: no such file or folder")
    return RunFolder(path).model_files[0] if path.is_dir() else path


def find_local_file(path: str | Path) -> Path:
    """``find_model_file`` for a file to be changed; ModelFileError for a model on the hub."""
    if str(path).startswith(HUB_SCHEME):
        raise ModelFileError(f"{path}: settings are stored in a file on this machine; download the model first")
    return find_model_file(path)


def download_model(address: str) -> Path:
    """The local file of a model on the hub, downloaded unless it is in the cache.

    ``address`` is ``hf://owner/name``, or ``hf://owner/name@revision``; the repository holds a gfocal model
    file named ``model.safetensors``.
    """
    found = re.fullmatch(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", address)
    if found is None:
        raise HubError(f"{address}: an address on the hub is hf://owner/name or hf://owner/name@revision")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(hf_hub_download(found[1], HUB_FILE, revision=found[2]))
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"{address}: not on this machine, and the hub cannot be reached; download {HUB_FILE} from the "
            "repository elsewhere and give its path"
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"{address}: the repository holds no {HUB_FILE}, so it is no gfocal model") from error
    except HFValidationError as error:
        raise HubError(f"{address}: no address on the hub ({error})") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HubError(f"{address}: cannot be fetched ({reason}); is the name right, and is it public?") from error


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A safetensors file opened to read; ModelFileError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        if path.suffix.lower() != ".safetensors":
            raise ModelFileError(
                f"{path}: not a gfocal model file; give the run's folder or a .safetensors file "
                "(gfocal import makes one of a checkpoint of MMDetection)"
            ) from error
        raise ModelFileError(f"{path}: not readable as safetensors ({error}); was it copied completely?") from error


def _check_header(path: Path) -> None:
    """OSError if the header of a safetensors file is longer than any that gfocal writes."""
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) == 8 and (length := struct.unpack("<Q", start)[0]) > MAX_HEADER:
        raise OSError(f"a header of {length:,} bytes is longer than {MAX_HEADER:,}")


def _parse_description(metadata: dict[str, str] | None, path: Path) -> dict[str, Any]:
    if metadata is None or "gfocal" not in metadata:
        raise ModelFileError(f"{path}: a safetensors file, but not one that gfocal wrote")
    try:
        about = json.loads(metadata["gfocal"])
        written = about.get("format")
    except (ValueError, AttributeError) as error:
        raise ModelFileError(f"{path}: its description is damaged ({error})") from error
    except RecursionError as error:
        raise ModelFileError(f"{path}: its description is damaged (it is nested too deeply)") from error
    if written != FORMAT:
        raise ModelFileError(
            f"{path}: its format is {quote(written)}, this gfocal reads {FORMAT!r}; install a newer gfocal"
        )
    try:
        return check_description(about)
    except ValueError as error:
        raise ModelFileError(_describe_misfit(path, about, error)) from error


def _describe_misfit(path: Path, about: dict[str, Any], error: ValueError) -> str:
    version = about.get("version")
    return f"{path}: was written by gfocal {quote(version)}, whose description does not fit this one ({error})"


def _with_weights(model: Detector, about: dict[str, Any], file: Any) -> Detector:
    """A model without weights, with those of its file: random ones would take longer than reading these."""
    wanted = model.state_dict()
    # Copied: a tensor of safetensors may be a view of the file, which others may overwrite.
    state = {key: file.get_tensor(key).to(value.dtype, copy=True) for key, value in wanted.items()}
    model.load_state_dict(state, assign=True)
    if not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return model
    model = build_from_description(about)  # which has tensors of its own that no file stores
    model.load_state_dict(state)
    return model


def _check_tensors(file: Any, model: Detector, path: Path) -> None:
    """ModelFileError unless a file has the tensors of the network that it describes, in numbers that fit."""
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
    wrong = [key for key, shape in wanted.items() if key not in found or tuple(found[key].get_shape()) != shape]
    wrong += [key for key in found if key not in wanted]
    if wrong:
        raise ModelFileError(
            f"{path}: {len(wrong)} tensors do not fit {model.built_from['preset']}, the first is {one_line(wrong[0])}"
        )
    for key, tensor in found.items():
        if (kind := tensor.get_dtype()) not in NUMBERS:
            raise ModelFileError(f"{path}: {one_line(key)} holds {quote(kind)}; a model has {', '.join(NUMBERS)}")
