"""Every preset exported to ONNX and compared with itself at several sizes and batches, with random weights.

    python benchmarks/export_presets.py [PRESET ...]

Prints a line for each: number of nodes and bytes, the largest differences of scores and box edges (px, clipped to the
input) over all sizes. Full presets of the paper take minutes each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import gfocal
from gfocal.export.network import ExportedNetwork
from gfocal.export.onnx_file import to_onnx
from gfocal.models.detector import Detector
from gfocal.models.zoo import PRESETS

SIDES = (1, 2, 3, 5, 13, 42)  # in units of the padding, of one side; the other is 2 or 3


def prepare(preset: str) -> Detector:
    """A preset with random weights, and statistics of BatchNorm of data, so that maps have the size of real ones."""
    torch.manual_seed(0)
    model = gfocal.create(preset, 80, pretrained=False)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    side = max(model.input_settings.multiple, 128)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        model.backbone(torch.randn(2, 3, side, side))
    return model.eval()


def differences(network: ExportedNetwork, session: onnxruntime.InferenceSession, unit: int) -> tuple[float, float]:
    """The largest difference of scores, and of box edges in pixels."""
    scores = boxes = 0.0
    sizes = [(1, 1)] if unit > 32 else [(side, 2 + i % 2)[:: 1 - 2 * (i % 2)] for i, side in enumerate(SIDES)]
    for i, (rows, columns) in enumerate(sizes):
        images = torch.randn(1 + i % 4 if rows * columns < 40 else 1, 3, rows * unit, columns * unit)
        with torch.inference_mode():
            wanted = dict(zip(network.output_names, (one.numpy() for one in network(images)), strict=True))
        found = dict(zip(network.output_names, session.run(None, {"images": images.numpy()}), strict=True))
        assert np.array_equal(found["points"], wanted["points"])
        scores = max(scores, float(np.abs(found["scores"] - wanted["scores"]).max()))
        limit = np.array([columns, rows] * 2) * unit
        boxes = max(boxes, float(np.abs(found["boxes"].clip(0, limit) - wanted["boxes"].clip(0, limit)).max()))
    return scores, boxes


def main() -> None:
    for preset in sys.argv[1:] or PRESETS:
        start = time.perf_counter()
        model = prepare(preset)
        network = ExportedNetwork(model).eval()
        graph = to_onnx(network, model.input_settings.multiple)
        onnx.checker.check_model(graph)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(graph.SerializeToString())
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            scores, boxes = differences(network, session, model.input_settings.multiple)
        print(
            f"{preset:24} {len(graph.graph.node):5} nodes {graph.ByteSize() / 1e6:6.1f} MB  scores {scores:.1e}  "
            f"boxes {boxes:.1e} px  {time.perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
