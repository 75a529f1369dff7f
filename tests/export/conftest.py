"""Exported files of small detectors, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gfocal.models.detector import Detector

Exported = tuple[Detector, Path]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """A small detector of a preset, and its .onnx file in float32."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    from small import scenes, small, small_deformable

    from gfocal.export.export import ExportOptions, export_model

    folder, done = tmp_path_factory.mktemp("exported"), dict[str, Exported]()

    def get(preset: str) -> Exported:
        if preset not in done:
            model = small_deformable() if preset == "deformable" else small(preset)
            path = folder / f"{preset}.onnx"
            export_model(model, path, ExportOptions("onnx", images=scenes()))
            done[preset] = model, path
        return done[preset]

    return get
