"""The metadata of an exported file: what it needs to be a detector again, and how it was verified."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gfocal.errors import ExportError
from gfocal.models.detector import Detector
from gfocal.models.nanodet import without_auxiliary
from gfocal.models.precision import current_calibration
from gfocal.models.stored_calibration import calibration_to_json
from gfocal_runtime.metadata import FORMAT, MAX_JSON, parse

SIZE_RULE = (
    "RGB, 0..255, resized so that the shorter side is short_side unless the longer one would exceed long_side (with "
    "stretch: to short_side x long_side), minus mean, divided by std, padded with 0 at the right and at the bottom "
    "to a multiple"
)


def describe_export(
    model: Detector, precision: str, has_nms: bool, opset: int | None, verification: Mapping[str, Any]
) -> dict[str, Any]:
    """The json object that a file has under the key ``gfocal``."""
    from gfocal import __version__

    model = without_auxiliary(model)
    coder = model.box_coder
    has_distribution = coder.has_distribution
    about: dict[str, Any] = {
        "format": FORMAT,
        "gfocal": __version__,
        "preset": model.built_from["preset"],
        "options": model.built_from["options"],
        "names": list(model.names),
        "input": asdict(model.input_settings)
        | {"rule": SIZE_RULE, "channels": "rgb", "range": [0, 255], "layout": "NCHW"},
        "decode": asdict(model.decode_settings),
        "thresholds": None
        if model.class_thresholds is None
        else {"scores": list(model.class_thresholds), "how": model.thresholds_how},
        "box_coder": {
            "kind": type(coder).__name__,
            "num_bins": int(getattr(coder, "n", 0)) + 1 if has_distribution else 0,
            "n": getattr(coder, "n", None),
            "delta": coder.delta,
            "strides": list(getattr(model.head, "level_strides", ())),
        },
        "nms": has_nms,
        "precision": precision,
        "opset": opset,
        "provenance": dict(model.provenance),
        "renames": dict(model.renames),
        "verification": dict(verification),
    }
    # Of the float32 model; a quantized network differs from it by what the verification says.
    if (calibration := current_calibration(model)) is not None:
        about["calibration"] = calibration_to_json(calibration)
    return about


def to_text(about: Mapping[str, Any], where: str) -> str:
    """The json text, which a reader of the file accepts. Raises ExportError for what none would."""
    text = json.dumps(about)
    try:
        parse(text, where)
    except ValueError as error:
        raise ExportError(f"{error} (of at most {MAX_JSON:,} characters)") from error
    return text
