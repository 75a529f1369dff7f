"""Bands of one standard deviation: that of the labels, without what two bins add to it."""

import pytest
import torch

from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Detections
from gfocal.visualize.bands import shade, std_bands, std_of_labels

BINS = GeneralDistribution(n=16)


def limit(labels: torch.Tensor) -> torch.Tensor:
    """What DFL converges to for these labels."""
    return BINS.two_hot(labels).mean(0)


def detections(edges: torch.Tensor, box: tuple[float, ...] = (40, 50, 120, 150), bin_size: float = 4.0) -> Detections:
    boxes = torch.tensor([box])
    return Detections(
        boxes=boxes,
        scores=torch.tensor([0.9]),
        labels=torch.tensor([0]),
        edges=edges,
        points=(boxes[:, :2] + boxes[:, 2:]) / 2,
        bin_sizes=torch.full((1, 4), bin_size),
        names=("a",),
        size=(200, 200),
    )


@pytest.mark.parametrize("where", [5.0, 5.2, 5.5, 5.9])
def test_a_sharp_edge_between_two_bins_is_sharp(where: float):
    assert std_of_labels(limit(torch.full((1,), where))).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("std", [0.4, 0.6, 1.0, 2.0])
def test_the_deviation_of_normal_labels_wherever_their_mean_lies(std: float):
    noise = torch.linspace(0.0005, 0.9995, 1000).mul(2).sub(1).erfinv() * 2**0.5
    for mean in (8.0, 8.25, 8.5, 8.8):
        assert std_of_labels(limit(mean + std * noise)).item() == pytest.approx(std, rel=0.06)


def test_any_distribution_has_no_more_than_its_own_deviation():
    edges = torch.randn(200, 4, 17, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
    std = std_of_labels(edges)
    assert std.isfinite().all()
    assert (std >= 0).all()
    assert (std <= BINS.variance(edges).sqrt() + 1e-5).all()
    assert (std**2 >= BINS.variance(edges) - 0.2501).all()


def test_bands_are_one_deviation_to_either_side():
    noise = torch.linspace(0.0005, 0.9995, 1000).mul(2).sub(1).erfinv() * 2**0.5
    found = detections(limit(10.0 + noise).expand(1, 4, 17))
    left, top, right, bottom = (band[1] for band in std_bands(found))
    assert left == pytest.approx((40 - 4, 50, 40 + 4, 150), abs=0.1)
    assert top == pytest.approx((40, 50 - 4, 120, 50 + 4), abs=0.1)
    assert right == pytest.approx((120 - 4, 50, 120 + 4, 150), abs=0.1)
    assert bottom == pytest.approx((40, 150 - 4, 120, 150 + 4), abs=0.1)


def test_bands_of_a_narrow_box_end_at_its_center():
    found = detections(torch.full((1, 4, 17), 1 / 17), (40, 50, 46, 150))
    left, _, right, _ = (band[1] for band in std_bands(found))
    assert left[2] == right[0] == 43
    assert left[0] < 40 - 15


def test_a_sharp_edge_has_no_band():
    from PIL import Image

    found = detections(limit(torch.full((1,), 10.5)).expand(1, 4, 17))
    gray = Image.new("RGB", (200, 200), (128, 128, 128))
    assert shade(gray, std_bands(found), [(255, 0, 0)]).getcolors() == [(200 * 200, (128, 128, 128))]
