"""Every kind of preset as an onnx file: the same numbers at any size, and the same detections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small import OPTIONS, scenes
from timm.layers import Conv2dSame
from torch import nn

import gfocal
from gfocal.export.network import ExportedNetwork, pad_by_numbers
from gfocal.models.detector import Detector
from gfocal.models.fused_layers import is_tensorflow_padded
from gfocal.models.predict import detect
from gfocal.structures import Detections

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

SLOW = ("nanodet_plus_m", "ssd512_vgg16")
KINDS = [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in (*OPTIONS, "deformable")]
# Batch, height and width in units of 32: sides from 32 to 1344 pixels, levels of one cell and of odd numbers of them.
SIZES = [(1, 1, 1), (4, 2, 1), (1, 42, 1), (2, 3, 13), (3, 5, 4), (1, 1, 37)]
Get = Callable[[str], tuple[Detector, Path]]


@pytest.mark.parametrize("kind", KINDS)
def test_any_size_gives_the_numbers_of_the_model(kind: str, exported: Get) -> None:
    model, path = exported(kind)
    network = ExportedNetwork(model)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == network.output_names
    unit = model.input_settings.multiple
    for batch, rows, columns in [(1, 1, 1)] if unit > 32 else SIZES:
        images = torch.randn(batch, 3, unit * rows, unit * columns)
        with torch.inference_mode():
            wanted = dict(zip(network.output_names, network(images), strict=True))
        found = dict(zip(network.output_names, session.run(None, {"images": images.numpy()}), strict=True))
        assert np.array_equal(found["points"], wanted["points"].numpy())
        for outputs in (found, wanted):
            outputs["boxes"] = outputs["boxes"].clip(0, max(images.shape[2:]))  # random weights make huge ones
        for name, tolerance in (("boxes", 1e-2), ("scores", 1e-4), ("quality", 1e-4)):
            if name in wanted:
                np.testing.assert_allclose(found[name], wanted[name].numpy(), rtol=1e-5, atol=tolerance)
        if "edge_logits" in wanted:
            edges = torch.from_numpy(found["edge_logits"]).softmax(-1)
            probabilities = wanted["edge_logits"].softmax(-1)
            assert (edges - probabilities).abs().max() < 1e-3


def assert_same(found: Detections, wanted: Detections, least: float = 0.95) -> None:
    """Nearly all have a counterpart: same class, box within 1e-2 px, score within 1e-4, the same edges.

    Of random weights some scores and overlaps are so nearly equal that rounding decides which box is dropped.
    """
    near = (found.boxes.unsqueeze(1) - wanted.boxes).abs().amax(-1) < 1e-2
    near &= (found.scores.unsqueeze(1) - wanted.scores).abs() < 1e-4
    near &= found.labels.unsqueeze(1) == wanted.labels
    assert len(wanted) > 0
    for one, other in ((near, wanted), (near.T, found)):
        assert one.any(1).double().mean() >= least, (len(found), len(other))
    rows = near.any(1)
    found, wanted = found.select(rows), wanted.select(near[rows].double().argmax(1))
    assert found.edges.shape == wanted.edges.shape
    assert torch.allclose(found.edge_std, wanted.edge_std, atol=1e-2, equal_nan=True)
    assert torch.allclose(found.bin_sizes, wanted.bin_sizes)
    assert (found.names, found.size) == (wanted.names, wanted.size)


# Random weights of the two that are left out give one score to hundreds of points, of which any may be chosen.
@pytest.mark.parametrize("kind", [kind for kind in (*OPTIONS, "deformable") if kind not in SLOW])
def test_the_file_detects_as_the_model(kind: str, exported: Get) -> None:
    model, path = exported(kind)
    loaded = gfocal.load(path)
    assert loaded.names == model.names
    assert loaded.decode_settings == model.decode_settings
    assert loaded.input_settings == model.input_settings
    assert loaded.box_coder.has_distribution == model.box_coder.has_distribution
    images = scenes()
    for batch_size in (1, 3):
        found = loaded.detect(images, score_threshold=0.2, batch_size=batch_size)
        wanted = detect(model, images, score_threshold=0.2, batch_size=batch_size, precision="float32")
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)


def test_the_graph_says_its_opset_and_nothing_of_this_machine(exported: Get) -> None:
    _, path = exported("gfl_light_fpn")
    graph = onnx.load(str(path))
    onnx.checker.check_model(graph, full_check=True)
    assert {one.domain: one.version for one in graph.opset_import}[""] == 20
    assert b"/gfocal/" not in path.read_bytes()
    assert b".py" not in path.read_bytes()


def test_padding_of_tensorflow_becomes_numbers() -> None:
    """That of the light preset has it: formulas of sizes, nested from layer to layer, took minutes to export."""
    model = gfocal.create("gfl_light_fpn", 3, pretrained=False, channels=32, num_convs=1).eval()
    network = ExportedNetwork(model)
    assert any(is_tensorflow_padded(layer) for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert not any(is_tensorflow_padded(layer) for layer in network.modules() if isinstance(layer, nn.Conv2d))
    images = torch.randn(2, 3, 96, 160)
    with torch.inference_mode():
        found = dict(zip(network.output_names, network(images), strict=True))
        wanted = model(images)
    assert torch.allclose(found["scores"], wanted.cls_logits.sigmoid(), atol=1e-6)
    assert torch.allclose(found["edge_logits"], wanted.box_logits, atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_by_numbers_is_that_of_tensorflow(kernel: int, stride: int) -> None:
    conv = Conv2dSame(4, 4, kernel, stride, groups=2)
    images = torch.randn(1, 4, 32, 64)
    with torch.inference_mode():
        assert torch.equal(pad_by_numbers(conv)(images), conv(images))
