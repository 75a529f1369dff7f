"""What ``gfocal detect`` imports: each module that is not needed costs every user a part of a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gfocal.models.model_file import save_model
from gfocal.models.zoo import create

# What it must not import, beyond what torch imports itself.
UNNEEDED = (
    "torchvision",  # networks, datasets and transforms; the one operator that is needed lies in a library
    "timm",  # backbones of other presets
    "accelerate",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.utils.data",  # of training and evaluation
    "torch.testing",  # activation checkpointing
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "huggingface_hub",
    "onnxruntime",
    "openvino",
    "rich.progress",
    "rich.traceback",
    "gfocal.training",
    "gfocal.criteria",
    "gfocal.evaluation",
    "gfocal.reports",
    "gfocal.visualize.charts",
)
PROGRAM = """
import sys
import torch
at_first = set(sys.modules)
from gfocal.cli.main import main
code = main(sys.argv[1:])
print(" ".join(sorted(set(sys.modules) - at_first)))
sys.exit(code)
"""


@pytest.mark.parametrize("drawn", [True, False])
def test_detection_imports_what_it_needs_alone(tmp_path: Path, drawn: bool) -> None:
    torch.manual_seed(0)
    save_model(create("nanodet_plus_m", 3, pretrained=False, channels=32), tmp_path / "nano.safetensors")
    Image.new("RGB", (90, 60), "red").save(tmp_path / "red.jpg")
    command = [sys.executable, "-c", PROGRAM, "detect", "nano.safetensors", "red.jpg", "--out", "out"]
    command += ["--score-threshold", "0.001"] if drawn else ["--no-images"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "detections.json").is_file()
    assert (tmp_path / "out" / "red.jpg").is_file() == drawn
    imported = set(done.stdout.split())
    assert "gfocal.inference.stages" in imported
    assert not imported.intersection(UNNEEDED)
