"""The examples of docs/scale.md for Daft and Spark, as they stand there, beside ``DetectBatch`` alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import tiny_detector
from gfocal.inference.batches import DetectBatch
from gfocal.models.model_file import save_model

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray: pip install 'gfocal[ray]'")
parquet = pytest.importorskip("pyarrow.parquet")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("engine", ["daft", "pyspark"])
def test_the_example_of_the_docs_runs(engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine, reason=f"pip install {engine}")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    (code,) = (b for b in re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.S) if re.search(rf"\b{engine}\b", b))
    model = tiny_detector()
    model.class_thresholds = (0.0105, 0.0105)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    save_model(model, tmp_path / "runs" / "mine" / "best.safetensors")
    for number in range(6):
        Image.effect_noise((60, 40 + number), 60).convert("RGB").save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / name) for name in ("absent.png", *(f"{n}.png" for n in range(6)))]
    parquet.write_table(pyarrow.table({"id": list(range(7)), "path": paths}), tmp_path / "images.parquet")
    (tmp_path / "example.py").write_text(code)
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path, check=True, env=environment)
    found = sorted(parquet.read_table(tmp_path / "found").to_pylist(), key=lambda row: row["id"])
    expected = DetectBatch(model)({"id": list(range(7)), "path": paths})
    assert sum(map(len, expected["labels"])) > 6
    for name in ("id", "path", "boxes", "scores", "labels", "edge_std"):
        assert [row[name] for row in found] == expected[name], name
    for name in ("width", "height", "error"):  # Spark has no nulls
        assert [row[name] or None for row in found] == expected[name], name
