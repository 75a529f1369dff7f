"""What a run says of the intervals that it writes: their median width, and what they promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median_low
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrations import calibration
from conftest import tiny_detector
from gfocal.cli import DONE
from gfocal.inference.intervals import describe_intervals
from gfocal.models.model_file import save_model, store_calibration
from gfocal.models.precision import digest_weights

CALIBRATED = {"calibration": "digest", "coverage": 0.9}


def record(*widths: float) -> dict[str, Any]:
    """An image with one object, whose edges have intervals of these widths."""
    return {"edge_intervals": [[[10.0, 10.0 + width] for width in widths]]}


@given(st.lists(st.lists(st.integers(0, 5000), min_size=4, max_size=4), min_size=1, max_size=6))
def test_the_width_is_the_median_of_all_edges(tenths: list[list[int]]):
    line = describe_intervals([record(*(width / 10 for width in one)) for one in tenths], CALIBRATED)
    wanted = median_low(width for one in tenths for width in one) / 10
    assert line is not None
    assert line.startswith(
        f"intervals of edges: {wanted:.1f} pixels wide (median); they promise all four edges of 90% of the objects"
    )


@pytest.mark.parametrize("header", [{}, CALIBRATED])
def test_nothing_is_said_of_no_intervals(header: dict[str, Any]):
    assert describe_intervals([{"labels": []}], header) is None


def test_too_few_boxes_for_intervals_are_said():
    line = describe_intervals([], CALIBRATED | {"coverage": None})
    assert line == (
        "no intervals of edges: the model was calibrated on fewer than the 9 boxes that 90% need; --coverage asks "
        "for less"
    )


def test_of_a_video_it_is_said_too(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra video: pip install 'gfocal[video]'")
    from videos import LOW, MILLISECOND, make_video

    detector = tiny_detector()
    file = tmp_path / "model.safetensors"
    save_model(detector, file)
    store_calibration(file, calibration(digest_weights(detector)))
    clip = make_video(tmp_path / "clip.mkv", [0, 40], MILLISECOND)
    code, _, err = run("detect", file, clip, "--out", tmp_path / "out", *LOW)
    assert code == DONE, err
    assert "note: intervals of edges: " in err
    assert "pixels wide (median); they promise all four edges of 90% of the objects found" in " ".join(err.split())
