"""What an untrusted file may say about itself."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal_runtime.metadata import ExportedFileError, parse

GOOD: dict[str, Any] = {
    "format": "gfocal-export-1",
    "names": ["cat", "dog"],
    "input": {
        "mean": [1, 2, 3],
        "std": [1, 2, 3],
        "short_side": 320,
        "long_side": 512,
        "multiple": 32,
        "antialias": True,
        "stretch": False,
    },
    "decode": {
        "score_threshold": 0.05,
        "per_level": 1000,
        "nms_threshold": 0.6,
        "max_detections": 100,
        "softmax": False,
        "class_agnostic_nms": False,
    },
    "thresholds": {"scores": [0.3, 0.4]},
    "box_coder": {"num_bins": 17, "delta": 1.0},
    "nms": False,
    "precision": "float32",
}


def test_good_metadata() -> None:
    metadata = parse(json.dumps(GOOD), "a.onnx")
    assert metadata.names == ("cat", "dog")
    assert metadata.thresholds == (0.3, 0.4)
    assert metadata.input.long_side == 512
    assert metadata.decode.nms_threshold == 0.6


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "gfocal-export-2"),
        ("names", []),
        ("names", ["a" * 2000]),
        ("names", "cat"),
        ("input.mean", [1, 2]),
        ("input.std", [0, 1, 1]),
        ("input.std", [float("nan"), 1, 1]),
        ("input.short_side", 10**9),
        ("input.short_side", True),
        ("input.long_side", 10),
        ("input.multiple", 33),
        ("input.stretch", 1),
        ("decode.nms_threshold", 2),
        ("decode.max_detections", 0),
        ("decode.per_level", 10**400),
        ("thresholds.scores", [0.1]),
        ("thresholds.scores", [0.1, -1]),
        ("box_coder.num_bins", 10**6),
        ("box_coder.delta", 0),
        ("nms", None),
        ("precision", "int4"),
        ("input", None),
    ],
)
def test_values_out_of_bounds_are_refused(path: str, value: Any) -> None:
    about = json.loads(json.dumps(GOOD))
    place = about
    *folders, key = path.split(".")
    for folder in folders:
        place = place[folder]
    place[key] = value
    with pytest.raises(ExportedFileError, match=r"^a\.onnx: "):
        parse(json.dumps(about), "a.onnx")


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "[" * 100_000, '"gfocal"', "x" * 5_000_000])
def test_what_is_no_metadata(text: str | None) -> None:
    with pytest.raises(ExportedFileError, match=r"^a\.onnx: "):
        parse(text, "a.onnx")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, *GOOD["input"]]), inner),
    )
)
def test_anything_else_is_one_error(value: Any) -> None:
    about = {**GOOD, **value} if isinstance(value, dict) else value
    with contextlib.suppress(ExportedFileError):
        parse(json.dumps(about), "a.onnx")
