"""The decoding in numpy gives the detections of gfocal's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.export.network import decode_boxes, edge_logits
from gfocal.ops.box_coders import BoxCoder, DiracDistances, GaussianDistances, LogDistances
from gfocal.ops.decoding import DecodeSettings, decode
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import make_points
from gfocal.structures import HeadOutputs
from gfocal_runtime.decoding import decode_image
from gfocal_runtime.metadata import DecodeRule, InputRule, Metadata

CODERS: list[BoxCoder] = [GeneralDistribution(7, 0.5), GaussianDistances(8), DiracDistances(), LogDistances()]


@given(
    st.sampled_from(CODERS),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    st.sampled_from([1, 3, 40]),
    st.sampled_from([2, 1000]),
)
@settings(max_examples=60)
def test_equals_gfocal(
    coder: BoxCoder, seed: int, has_quality: bool, agnostic: bool, threshold: float, most: int, per_level: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = make_points([(6, 8), (3, 4)], (8, 16))
    number = len(points.xy)
    cls_logits = torch.randn(1, number, 3, generator=generator)
    box_logits = torch.randn(1, number, 4, coder.num_bins, generator=generator)
    quality = torch.randn(1, number, generator=generator) if has_quality else None
    rule = DecodeSettings(threshold, per_level, 0.5, most, False, agnostic)
    outputs = HeadOutputs(cls_logits, box_logits, points, quality)
    [wanted] = decode(outputs, coder, torch.tensor([[46, 60]]), torch.tensor([[93, 121]]), "abc", rule)
    arrays = {
        "boxes": decode_boxes(coder, box_logits, points).numpy(),
        "scores": cls_logits.sigmoid().numpy(),
        "points": torch.cat((points.xy, points.strides[:, None]), 1).numpy(),
    }
    if quality is not None:
        arrays["quality"] = quality.sigmoid().numpy()
    bins = 0
    if coder.has_distribution:
        arrays["edge_logits"] = edge_logits(coder, box_logits).numpy()
        bins = arrays["edge_logits"].shape[-1]
    own = DecodeRule(threshold, per_level, 0.5, most, False, agnostic)
    inputs = InputRule((0, 0, 0), (1, 1, 1), 64, 64, 32, True, False)
    metadata = Metadata(("a", "b", "c"), inputs, own, None, bins, coder.delta, False, "float32", {})
    found = decode_image(arrays, 0, (46, 60), (93, 121), metadata, own)
    assert len(found.boxes) == len(wanted)
    np.testing.assert_allclose(found.scores, wanted.scores.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.boxes, wanted.boxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.edges, wanted.edges.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.points, wanted.points.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.bin_sizes, wanted.bin_sizes.numpy(), rtol=1e-5)
    assert found.labels.tolist() == wanted.labels.tolist()


def test_the_sum_is_one_for_a_gaussian_far_away() -> None:
    logits = edge_logits(GaussianDistances(8), torch.tensor([[[[9.0, -9.0]] * 4]]))
    assert logits.isfinite().all()
    assert logits.softmax(-1).sum().item() == pytest.approx(4)
