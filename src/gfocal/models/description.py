"""The description of a detector, a json object from which the network is built again.

It has preset and options, names of the classes, input size, decoding, frozen parts and score thresholds. It may come
from an untrusted file: every value is checked for type and bounds before anything is built.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gfocal.data.preprocess import InputSettings
from gfocal.errors import GFocalError
from gfocal.models.detector import Detector, class_names
from gfocal.models.options import check_bounds, check_options, coerce, quote
from gfocal.models.precision import Bf16Check
from gfocal.models.stored_calibration import calibration_from_json, calibration_to_json
from gfocal.models.zoo import PRESETS
from gfocal.ops.decoding import DecodeSettings

FORMAT = "gfocal-1"
# Smallest and largest value of each number.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "mean": (-1e4, 1e5),
    "std": (1e-6, 1e5),
    "multiple": (32, 4096),
    "score_threshold": (0, 1),
    "nms_threshold": (0, 1),
    "per_level": (1, 1_000_000),
    "max_detections": (1, 1_000_000),
    "frozen_stages": (0, 64),
    "scores": (0, 1),
    "ap": (0, 1),
    "float32_ap": (0, 1),
    "num_images": (1, 10**12),
}
FROZEN = {"frozen_stages": int, "norm_eval": bool, "stem": bool, "norms": bool, "neck": bool}
MAX_HOW_LENGTH = 1000  # characters
MAX_PROVENANCE = 32  # keys, and texts of MAX_HOW_LENGTH
MAX_RENAMES = 10_000


def describe(model: Detector) -> dict[str, Any]:
    """The description of a model that its file has beside the weights."""
    from gfocal import __version__

    about = {
        "format": FORMAT,
        "version": __version__,
        "preset": model.built_from["preset"],
        "options": model.built_from["options"],
        "names": list(model.names),
        "input": asdict(model.input_settings),
        "decode": asdict(model.decode_settings),
        # so that further training freezes the same parts
        "frozen": model.backbone.freeze_settings() | {"neck": model.is_neck_frozen},
    }
    if model.has_folded_statistics:
        about["folded_statistics"] = True
    if model.class_thresholds is not None:
        about["thresholds"] = {"scores": list(model.class_thresholds), "how": model.thresholds_how}
    if model.provenance:
        about["provenance"] = dict(model.provenance)
    if model.renames:
        about["renames"] = dict(model.renames)
    if model.bf16_check is not None:
        about["bf16_check"] = asdict(model.bf16_check)
    if model.calibration is not None:
        about["calibration"] = calibration_to_json(model.calibration)
    return about


def check_description(about: Any) -> dict[str, Any]:
    """The description, if a detector can be built from it.

    Raises:
        ValueError: something is missing, or of the wrong type, or out of bounds.
    """
    if not isinstance(about, dict):
        raise ValueError("it is no table")
    for key, kind in (("preset", str), ("options", dict), ("names", list), ("input", dict), ("decode", dict)):
        if not isinstance(about.get(key), kind):
            raise ValueError(f"{key} is {'not what it should be' if key in about else 'missing'}")
    if about["preset"] not in PRESETS:
        raise ValueError(f"there is no preset {quote(about['preset'])}; there are {', '.join(PRESETS)}")
    check_options(PRESETS[about["preset"]], about["options"])
    if wrong := [name for name in about["names"] if not isinstance(name, str)]:
        raise ValueError(f"the name of a class is text, not {quote(wrong[0])}")
    class_names(len(about["names"]), about["names"])
    _settings(InputSettings, about, "input")
    _settings(DecodeSettings, about, "decode")
    _settings_of_types(FROZEN, about.get("frozen", {}), "frozen")
    if not isinstance(about.get("folded_statistics", False), bool):
        raise ValueError("folded_statistics is true or false")
    if "thresholds" in about:
        check_thresholds(about["thresholds"], len(about["names"]))
    _check_texts(about.get("provenance", {}), "provenance", MAX_PROVENANCE)
    _check_texts(about.get("renames", {}), "renames", MAX_RENAMES)
    if "bf16_check" in about:
        read_bf16_check(about["bf16_check"])
    if "calibration" in about:
        calibration_from_json(about["calibration"], len(about["names"]))
    return about


def build_from_description(about: Mapping[str, Any]) -> Detector:
    """The detector that a description is of, with random weights.

    Raises:
        ValueError: the description does not fit this version of gfocal, or is not one that gfocal wrote.
    """
    checked = check_description(dict(about))
    preset = PRESETS[checked["preset"]]
    try:
        model = preset(
            len(checked["names"]),
            names=checked["names"],
            pretrained=False,
            input_settings=InputSettings(**_settings(InputSettings, checked, "input")),
            **check_options(preset, checked["options"]),
        )
        model.has_folded_statistics = checked.get("folded_statistics", False)
        model.decode_settings = DecodeSettings(**_settings(DecodeSettings, checked, "decode"))
        if "thresholds" in checked:
            model.class_thresholds = tuple(float(score) for score in checked["thresholds"]["scores"])
            model.thresholds_how = checked["thresholds"]["how"]
        model.provenance = dict(checked.get("provenance", {}))
        model.renames = dict(checked.get("renames", {}))
        model.bf16_check = read_bf16_check(checked["bf16_check"]) if "bf16_check" in checked else None
        if "calibration" in checked:
            model.calibration = calibration_from_json(checked["calibration"], len(checked["names"]))
        if "frozen" in checked:
            frozen = dict(checked["frozen"])
            model.freeze_neck(frozen.pop("neck", False))
            model.backbone.freeze(**frozen)
    except GFocalError as error:  # a backbone that this timm does not have
        raise ValueError(str(error)) from error
    except TypeError as error:
        raise ValueError(f"it does not fit ({error})") from error
    return model


def build_without_weights(about: Mapping[str, Any]) -> Detector:
    """The detector that a description is of, its tensors on the meta device: no memory, and no random numbers.

    Raises:
        ValueError: as ``build_from_description``.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"), _Unfilled():
        return build_from_description(about)


class _Unfilled(TorchFunctionMode):
    """A context in which tensors are not initialized.

    On the meta device there is nothing to fill, but torch 2.14 would import its compiler to do so, a second's work.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of a function of torch; of one that initializes a tensor the tensor as it is."""
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def tensor_shapes(about: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the detector that a description is of; errors of ``build_without_weights``."""
    return {key: tuple(value.shape) for key, value in build_without_weights(about).state_dict().items()}


def check_thresholds(thresholds: Any, num_classes: int) -> None:
    """ValueError unless there is a score threshold in 0..1 for each class, and a line on how they were chosen."""
    if not isinstance(thresholds, dict) or not isinstance(thresholds.get("scores"), list):
        raise ValueError("thresholds is not what it should be")
    scores, how = thresholds["scores"], thresholds.get("how")
    if len(scores) != num_classes:
        raise ValueError(f"{len(scores)} thresholds for {num_classes} classes")
    for score in scores:
        try:
            check_bounds(coerce(score, float), *BOUNDS["scores"])
        except ValueError as error:
            raise ValueError(f"a threshold is a score in 0..1, not {quote(score)}") from error
    if not isinstance(how, str) or len(how) > MAX_HOW_LENGTH:
        raise ValueError(f"thresholds.how is no text of at most {MAX_HOW_LENGTH:,} characters")


def read_bf16_check(table: Any) -> Bf16Check:
    """What computing in bf16 was found to cost; ValueError for a table of anything else."""
    values = _settings_of_types(typing.get_type_hints(Bf16Check), table, "bf16_check")
    if missing := [field.name for field in fields(Bf16Check) if field.name not in values]:
        raise ValueError(f"bf16_check.{missing[0]} is missing")
    if len(values["data"]) > MAX_HOW_LENGTH:
        raise ValueError(f"bf16_check.data is no text of at most {MAX_HOW_LENGTH:,} characters")
    return Bf16Check(**values)


def _check_texts(table: Any, name: str, most: int) -> None:
    """ValueError unless it is a small table of texts."""
    if not isinstance(table, dict) or len(table) > most:
        raise ValueError(f"{name} is no table of at most {most:,} texts")
    if any(not isinstance(text, str) or len(text) > MAX_HOW_LENGTH for text in [*table, *table.values()]):
        raise ValueError(f"{name} has a value that is no text of at most {MAX_HOW_LENGTH:,} characters")


def _settings(kind: type[InputSettings | DecodeSettings], about: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The values of ``about[key]``, in the types of the fields of ``kind``."""
    hints = typing.get_type_hints(kind)
    values = _settings_of_types({field.name: hints[field.name] for field in fields(kind)}, about[key], key)
    try:
        kind(**values)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    return values


def _settings_of_types(hints: Mapping[str, Any], values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{where} is no table")
    checked = {}
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{where} has an unknown key {quote(key)}")
        try:
            checked[key] = coerce(value, hints[key])
            if key in BOUNDS:
                for number in checked[key] if isinstance(checked[key], tuple) else (checked[key],):
                    check_bounds(number, *BOUNDS[key])
        except ValueError as error:
            raise ValueError(f"{where}.{key} {error}") from error
    return checked
