"""How numbers of an edge become boxes: round trips, masses that add up, and torchvision's box coder as a witness."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder as TorchvisionBoxCoder

from gfocal.ops.box_coders import AnchorDeltas, BoxCoder, DiracDistances, GaussianDistances, LogDistances
from gfocal.ops.boxes import boxes_from_distances
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import ATSS_ANCHORS, RETINANET_ANCHORS, make_anchor_points, make_points
from gfocal.structures import Points

ALL: tuple[BoxCoder, ...] = (
    DiracDistances(),
    DiracDistances(in_pixels=True),
    GaussianDistances(8, 0.5),
    AnchorDeltas(),
    AnchorDeltas((0.1, 0.1, 0.2, 0.2)),
    LogDistances(2.0),
    GeneralDistribution(8, 0.5),
)
POINTS = make_anchor_points([(6, 6), (3, 3)], [8, 16], RETINANET_ANCHORS)
seeds = st.integers(0, 10_000)


def random_boxes(seed: int, points: Points, largest: float = 300.0) -> Tensor:
    """A box around each point, whose sides are from 4 pixels on: a coded side is at least 16/1000 of its anchor's."""
    generator = torch.Generator().manual_seed(seed)
    ltrb = 2 + torch.rand(len(points.xy), 4, generator=generator) * largest / 2
    return boxes_from_distances(points.xy, ltrb)


@pytest.mark.parametrize("box_coder", ALL, ids=repr)
def test_the_protocol(box_coder: BoxCoder) -> None:
    logits = torch.randn(2, len(POINTS.xy), 4, box_coder.num_bins)
    index = torch.arange(len(POINTS.xy)).expand(2, -1)
    boxes = box_coder.boxes(logits, POINTS.select(index))
    assert boxes.shape == (2, len(POINTS.xy), 4)
    assert boxes.dtype == torch.float32
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    torch.testing.assert_close(box_coder.boxes(logits[1], POINTS), boxes[1])
    half = box_coder.boxes(logits.bfloat16(), POINTS.select(index))
    assert half.dtype == torch.float32
    probabilities = box_coder.probabilities(logits)
    assert probabilities.shape[:-1] == (2, len(POINTS.xy), 4)
    assert box_coder.has_distribution == isinstance(box_coder, GaussianDistances | GeneralDistribution)
    assert probabilities.shape[-1] == (9 if box_coder.has_distribution else 0)
    assert box_coder.delta == (0.5 if box_coder.has_distribution else 1.0)


@pytest.mark.parametrize("box_coder", ALL, ids=repr)
def test_wild_numbers_give_finite_boxes_and_gradients(box_coder: BoxCoder) -> None:
    logits = torch.tensor([-1e4, -50.0, 50.0, 1e4]).view(4, 1).expand(4, box_coder.num_bins).clone()
    logits.requires_grad_()
    boxes = box_coder.boxes(logits, POINTS.select(torch.tensor(0)))
    boxes.sum().backward()
    assert torch.isfinite(boxes).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(box_coder.probabilities(logits.detach())).all()


def test_where_a_dirac_edge_lies() -> None:
    points = make_points([(2, 2)], [16], "center")
    logits = torch.tensor([0.0, math.log(2), math.log(0.5), -30.0]).view(1, 4, 1).expand(4, 4, 1)
    x, y = points.xy[1].tolist()
    in_strides = DiracDistances().boxes(logits, points)[1]
    torch.testing.assert_close(in_strides, torch.tensor([x - 64, y - 128, x + 32, y]))
    in_pixels = DiracDistances(in_pixels=True).boxes(logits, points)[1]
    torch.testing.assert_close(in_pixels, torch.tensor([x - 1, y - 2, x + 0.5, y]))
    of_fovea = LogDistances(2.0).boxes(logits, points)[1]
    torch.testing.assert_close(of_fovea, torch.tensor([x - 32, y - 64, x + 16, y]))


@given(seed=seeds, stds=st.sampled_from([(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)]))
def test_anchor_deltas_round_trip(seed: int, stds: tuple[float, float, float, float]) -> None:
    coder = AnchorDeltas(stds)
    boxes = random_boxes(seed, POINTS)
    again = coder.boxes(coder.encode(boxes, POINTS).unsqueeze(-1), POINTS)
    torch.testing.assert_close(again, boxes, atol=1e-2, rtol=1e-4)


@given(seed=seeds, stds=st.sampled_from([(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)]))
def test_anchor_deltas_equal_torchvisions(seed: int, stds: tuple[float, float, float, float]) -> None:
    ours = AnchorDeltas(stds)
    theirs = TorchvisionBoxCoder(tuple(1 / std for std in stds), bbox_xform_clip=math.log(1000 / 16))
    assert POINTS.anchors is not None
    boxes = random_boxes(seed, POINTS)
    deltas = ours.encode(boxes, POINTS)
    torch.testing.assert_close(deltas, theirs.encode_single(boxes, POINTS.anchors), atol=1e-4, rtol=1e-4)
    generator = torch.Generator().manual_seed(seed)
    wild = 4 * torch.randn(len(boxes), 4, generator=generator)
    wild[:, 2:].clamp_(min=-2)  # torchvision does not limit how much a box shrinks
    torch.testing.assert_close(
        ours.boxes(wild.unsqueeze(-1), POINTS), theirs.decode_single(wild, POINTS.anchors), atol=0.05, rtol=1e-4
    )


def test_a_coded_side_grows_and_shrinks_within_limits() -> None:
    points = make_anchor_points([(1, 1)], [8], ATSS_ANCHORS)
    for number, side in ((1e3, 64 * 1000 / 16), (-1e3, 64 * 16 / 1000)):
        box = AnchorDeltas().boxes(torch.tensor([[[0.0], [0.0], [number], [number]]]), points)[0]
        torch.testing.assert_close(box[2:] - box[:2], torch.full((2,), side))


def test_zeros_code_the_anchor_itself() -> None:
    coder = AnchorDeltas((0.1, 0.1, 0.2, 0.2))
    boxes = coder.boxes(torch.zeros(len(POINTS.xy), 4, 1), POINTS)
    assert POINTS.anchors is not None
    torch.testing.assert_close(boxes, POINTS.anchors)
    assert coder.encode(POINTS.anchors, POINTS).abs().max().item() < 1e-5


@given(seed=seeds, base=st.sampled_from([1.0, 2.0, 4.0]))
def test_log_distances_round_trip_within_their_range(seed: int, base: float) -> None:
    coder = LogDistances(base)
    points = make_points([(6, 6), (3, 3)], [8, 16], "center")
    generator = torch.Generator().manual_seed(seed)
    distances = 1 / 15 + torch.rand(len(points.xy), 4, generator=generator) * 15  # base sides
    boxes = boxes_from_distances(points.xy, distances * base * points.strides.unsqueeze(-1))
    again = coder.boxes(coder.encode(boxes, points).unsqueeze(-1), points)
    torch.testing.assert_close(again, boxes, atol=1e-2, rtol=1e-4)


def test_log_distances_of_a_far_or_outer_edge_are_those_of_the_limit() -> None:
    points = make_points([(1, 1)], [8], "center")  # at (4, 4), base side 16
    numbers = LogDistances(2.0).encode(torch.tensor([[4.0, 10, 1e4, 4 + 16]]), points)[0]
    want = [-math.log(16), -math.log(16), math.log(16), 0.0]
    torch.testing.assert_close(numbers, torch.tensor(want))


floats = st.floats(-30, 30)


@given(mean=floats, log_variance=floats, n=st.integers(1, 20), delta=st.sampled_from([0.25, 1.0, 3.0]))
def test_the_masses_of_a_gaussian_sum_to_one(mean: float, log_variance: float, n: int, delta: float) -> None:
    gaussian = GaussianDistances(n, delta)
    masses = gaussian.probabilities(torch.tensor([mean, log_variance]))
    assert masses.shape == (n + 1,)
    assert masses.min().item() >= 0
    assert masses.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_masses_of_a_gaussian_have_its_mean_and_variance() -> None:
    """A narrow law well within the grid: the mean is kept, the variance grows by that of a bin, delta^2 / 12."""
    gaussian = GaussianDistances(80, 0.25)
    mean, variance = 8.3, 2.25
    logits = torch.tensor([math.log(mean / 4), math.log(variance)])
    grid = GeneralDistribution(80, 0.25)
    masses = gaussian.probabilities(logits)
    assert grid.expectation(masses).item() == pytest.approx(mean, abs=1e-3)
    assert grid.variance(masses).item() == pytest.approx(variance + 0.25**2 / 12, abs=1e-2)
    assert gaussian.mean(logits).item() == pytest.approx(mean)
    assert gaussian.log_variance(logits).exp().item() == pytest.approx(variance)
    points = make_points([(1, 1)], [8])
    box = gaussian.boxes(logits.expand(1, 4, 2), points)[0]
    torch.testing.assert_close(box, 8 * mean * torch.tensor([-1.0, -1, 1, 1]))


def test_a_general_box_is_at_the_expectation_times_the_stride() -> None:
    general = GeneralDistribution(4, 0.5)
    points = make_points([(1, 1)], [16])
    y = torch.tensor([[0.0, 0.7, 1.3, 2.0]])
    logits = general.two_hot(y).clamp(min=1e-30).log()
    torch.testing.assert_close(general.boxes(logits, points), 16 * y * torch.tensor([-1.0, -1, 1, 1]))


def test_deltas_without_anchors_are_a_mistake_of_the_programmer() -> None:
    with pytest.raises(AssertionError, match="coded from anchors"):
        AnchorDeltas().boxes(torch.zeros(1, 4, 1), make_points([(1, 1)], [8]))
