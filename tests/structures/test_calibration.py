"""Laws of what a calibration promises, and of the intervals, boxes, scores and covariances of detections."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from calibrations import SIZE, calibration, detections, scenes
from gfocal.structures import Detections
from gfocal.structures.calibration import (
    FEATURES,
    SMALLEST_STD,
    Calibration,
    OrderStatistics,
    ScoreCurve,
    SpreadRule,
    edge_features,
    keep_order_statistics,
    least_count,
)

COVERAGES = st.one_of(st.floats(0.01, 0.995), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 1 / 3, 2 / 3]))


def coverage_of_next(statistics: OrderStatistics, coverage: float) -> float:
    """The probability that the next of n + 1 exchangeable errors is covered, where the n errors are 1 ... n.

    All places among them are as probable: it lies at j + 1/2, j = 0 ... n.
    """
    limit = statistics.quantile(coverage)
    return sum(j + 0.5 <= limit for j in range(statistics.count + 1)) / (statistics.count + 1)


@given(st.integers(1, 400), COVERAGES)
def test_coverage_of_the_next_box_is_at_least_what_is_promised_and_hardly_more(count: int, coverage: float):
    assume(count >= least_count(coverage))
    share = coverage_of_next(keep_order_statistics(range(1, count + 1)), coverage)
    assert coverage - 1e-9 <= share <= coverage + 1 / (count + 1) + 1e-9


@given(st.integers(30, 3000), st.integers(20, 60), COVERAGES)
def test_order_statistics_that_are_left_out_cost_no_coverage(count: int, most: int, coverage: float):
    assume(count >= least_count(coverage))
    statistics = keep_order_statistics(range(1, count + 1), most)
    assert len(statistics.ranks) <= max(most, 2)
    assert coverage_of_next(statistics, coverage) >= coverage - 1e-9


@pytest.mark.parametrize("count", [2000, 2001, 5000, 100_000, 1_000_000])
@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_order_statistics_that_are_left_out_cost_little_width(count: int, coverage: float):
    statistics = keep_order_statistics(torch.arange(1, count + 1))
    assert statistics.count == count
    assert len(statistics.ranks) <= 2000
    assert 0 <= statistics.quantile(coverage) - math.ceil((count + 1) * coverage - 1e-9) <= 0.004 * count


def test_mean_coverage_over_many_draws():
    generator = torch.Generator().manual_seed(0)
    for count, coverage in ((9, 0.9), (20, 0.9), (30, 0.5)):
        errors = torch.rand(3000, count + 1, generator=generator).exp()
        limits = [keep_order_statistics(row).quantile(coverage) for row in errors[:, :-1]]
        share = float((errors[:, -1] <= torch.tensor(limits, dtype=torch.float64)).double().mean())
        assert coverage - 0.02 < share < coverage + 1 / (count + 1) + 0.02


@pytest.mark.parametrize(
    ("coverage", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999), (2 / 3, 2)]
)
def test_the_least_number_of_boxes(coverage: float, least: int):
    assert least_count(coverage) == least
    assert keep_order_statistics(range(least)).quantile(coverage) == least - 1
    with pytest.raises(ValueError, match=f"needs at least {least:,} boxes, and the calibration had {least - 1:,}"):
        keep_order_statistics(range(least - 1)).quantile(coverage)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_no_coverage(coverage: float):
    with pytest.raises(ValueError, match="between 0 and 1"):
        least_count(coverage)


def test_what_two_bins_add_to_a_sharp_edge_is_taken_off():
    shares = torch.linspace(0, 1, 21)
    edges = torch.zeros(21, 4, 9)
    edges[:, :, 4], edges[:, :, 5] = (1 - shares).unsqueeze(1), shares.unsqueeze(1)
    found = detections(torch.tensor([[10.0, 10.0, 60.0, 60.0]]).expand(21, 4), torch.ones(21), torch.zeros(21), edges)
    features = edge_features(found.edges, found.bin_sizes, found.boxes, found.scores)
    excess = features[..., FEATURES.index("excess_std")].exp() / 4
    assert torch.allclose(excess, torch.full_like(excess, SMALLEST_STD), rtol=1e-3)
    raw = features[..., FEATURES.index("raw_std")].exp() / 4
    assert torch.allclose(raw[10], torch.full((4,), 0.5).double())


def calibrated(found: Detections | None = None, how: Calibration | None = None) -> Detections:
    found = scenes(1)[1][0] if found is None else found
    return replace(found, calibration=how or calibration())


def test_the_standard_rule_keeps_the_scale():
    assert sum(SpreadRule().weights[:4]) == pytest.approx(1)
    found = calibrated()
    factor = 7.0
    larger = replace(
        found,
        boxes=found.boxes * factor,
        points=found.points * factor,
        bin_sizes=found.bin_sizes * factor,
        size=(SIZE[0] * 7, SIZE[1] * 7),
    )
    assert torch.allclose(larger.edge_std, factor * found.edge_std, rtol=1e-5)
    assert torch.allclose(larger.edge_interval(), factor * found.edge_interval(), rtol=1e-4, atol=1e-3)
    assert torch.allclose(larger.edge_covariance(), factor**2 * found.edge_covariance(), rtol=1e-4)


@given(COVERAGES, COVERAGES)
def test_intervals_contain_the_edge_and_grow_with_coverage(one: float, other: float):
    less, more = sorted((one, other))
    found = calibrated()
    for guarantee in ("box", "edge"):
        inside, around = found.edge_interval(less, guarantee), found.edge_interval(more, guarantee)
        assert (inside[..., 0] <= found.boxes.clamp(0, SIZE[0]) + 1e-4).all()
        assert (inside[..., 1] >= found.boxes.clamp(0, SIZE[0]) - 1e-4).all()
        assert (around[..., 0] <= inside[..., 0]).all()
        assert (around[..., 1] >= inside[..., 1]).all()


@given(COVERAGES)
def test_inner_boxes_lie_in_boxes_in_outer_boxes(coverage: float):
    found = calibrated()
    inner, outer, boxes = found.inner_boxes(coverage), found.outer_boxes(coverage), found.boxes
    assert (outer[:, :2] <= inner[:, :2] + 1e-4).all()
    assert (inner[:, 2:] <= outer[:, 2:] + 1e-4).all()
    assert (inner[:, :2] <= inner[:, 2:]).all()
    assert (outer[:, :2] <= boxes[:, :2].clamp(min=0)).all()
    interval = found.edge_interval(coverage)
    assert torch.equal(outer[:, :2], interval[:, :2, 0])
    assert torch.equal(outer[:, 2:], interval[:, 2:, 1])


def test_intervals_of_opposite_edges_that_meet_leave_an_inner_box_without_area():
    small = detections(torch.tensor([[100.0, 100.0, 101.0, 300.0]]), torch.tensor([0.9]), torch.tensor([0]))
    inner = calibrated(small).inner_boxes(0.9)[0].tolist()
    assert inner[0] == inner[2] == pytest.approx(100.5, abs=0.1)
    assert inner[1] < inner[3]


def test_intervals_end_at_the_border_of_the_image():
    at_border = detections(
        torch.tensor([[0.0, 0.0, 400.0, 157.0]]), torch.tensor([0.5]), torch.tensor([0]), size=(160, 400)
    )
    interval = calibrated(at_border).edge_interval(0.99)[0]
    assert interval[0, 0] == interval[1, 0] == 0
    assert interval[2, 1] == 400
    assert interval[3, 1] == 160
    assert (interval[:, 1] > interval[:, 0]).all()


def test_intervals_of_an_edge_alone_are_narrower():
    one, all_four = (calibrated().edge_interval(0.9, guarantee) for guarantee in ("edge", "box"))
    assert (one[..., 1] - one[..., 0] <= all_four[..., 1] - all_four[..., 0] + 1e-5).all()
    with pytest.raises(ValueError, match="'box' or an 'edge'"):
        calibrated().edge_interval(0.9, "four")  # type: ignore[arg-type]


def test_too_much_coverage_says_how_many_boxes_it_needs():
    with pytest.raises(
        ValueError, match=r"a coverage of 0\.999 needs at least 999 boxes, and the calibration had 300"
    ):
        calibrated().edge_interval(0.999)


def test_classes_have_guarantees_of_their_own_or_that_of_the_others():
    how = calibration(count=100)
    labels = torch.tensor([0, 1, 1, 0])
    factors = how.factors(labels, 0.9, "box")[:, 0]
    assert torch.allclose(factors, factors[0] * torch.tensor([1.0, 2.0, 2.0, 1.0]).double())
    others = replace(how, boxes_of_class={0: how.boxes_of_class[0], -1: how.boxes_of_class[1]})
    assert torch.equal(others.factors(labels, 0.9, "box")[:, 0], factors)
    unseen = replace(how, boxes_of_class={0: how.boxes_of_class[1]})
    assert unseen.factors(labels, 0.9, "box")[1, 0] == how.boxes.quantile(0.9)
    # Where one class has too few boxes for the coverage all have one guarantee: the classes with a guarantee of their
    # own do not cover for it.
    few = replace(how, boxes_of_class={0: how.boxes_of_class[0], 1: keep_order_statistics(range(50))})
    assert few.factors(labels, 0.99, "box")[:, 0].tolist() == [how.boxes.quantile(0.99)] * 4
    assert how.factors(torch.zeros(0, dtype=torch.int64), 0.9, "box").shape == (0, 4)


def test_without_calibration_there_is_a_word_on_it():
    found = detections(torch.tensor([[1.0, 1.0, 9.0, 9.0]]), torch.tensor([0.9]), torch.tensor([0]))
    for ask in (
        found.edge_interval,
        found.outer_boxes,
        found.inner_boxes,
        found.calibrated_scores,
        found.edge_covariance,
    ):
        with pytest.raises(ValueError, match="gfocal calibrate MODEL DATA"):
            ask()
    assert torch.equal(found.edge_std, found.distribution_std)


def test_scores_by_the_curve_of_their_class():
    low, high = ScoreCurve((0.0, 1.0), (0.0, 0.5)), ScoreCurve((0.0, 1.0), (0.5, 1.0))
    how = replace(calibration(), iou_curves={-1: low, 1: high}, precision_curves={-1: high})
    found = calibrated(detections(torch.rand(3, 4), torch.tensor([0.8, 0.8, 0.4]), torch.tensor([0, 1, 1])), how)
    assert found.calibrated_scores().tolist() == pytest.approx([0.4, 0.9, 0.7])
    assert found.calibrated_scores("precision").tolist() == pytest.approx([0.9, 0.9, 0.7])
    with pytest.raises(ValueError, match="'iou' or 'precision'"):
        found.calibrated_scores("odds")  # type: ignore[arg-type]


def test_covariance_is_symmetric_positive_and_that_of_edge_std():
    found = calibrated()
    covariance = found.edge_covariance()
    assert torch.equal(covariance, covariance.mT)
    assert (torch.linalg.eigvalsh(covariance.double()) > 0).all()
    assert torch.allclose(covariance.diagonal(dim1=1, dim2=2).sqrt(), found.edge_std, rtol=1e-5)
    assert covariance.shape == (len(found), 4, 4)


def test_classes_that_become_others():
    how = replace(calibration(num_classes=3), score_threshold=(0.5, 0.3, 0.4))
    swapped = how.relabel([1, -1, 0])
    assert swapped.score_threshold == (0.4, 0.5)
    assert swapped.boxes_of_class == {1: how.boxes_of_class[0], 0: how.boxes_of_class[2]}
    assert swapped.iou_curves.keys() == {-1, 0, 1}
    merged = how.relabel([0, 0, 1])
    assert merged.score_threshold == (0.3, 0.4)
    assert merged.boxes_of_class == {}  # the two are another class than either
    assert merged.iou_curves.keys() == {-1, 1}
    # Classes without guarantees of their own are among the others before and after.
    others = replace(how, boxes_of_class={2: how.boxes_of_class[2], -1: how.boxes_of_class[0]}).relabel([0, 0, 1])
    assert others.boxes_of_class == {1: how.boxes_of_class[2], -1: how.boxes_of_class[0]}
    assert how.relabel([0, 1, 2]) == how


def test_relabeled_detections_have_the_intervals_of_before():
    found = calibrated()
    swapped = found.relabel([1, 0], ("b", "a"))
    assert torch.equal(swapped.edge_interval(0.9), found.edge_interval(0.9))
    only = found.relabel([-1, 0], ("b",))
    assert torch.equal(only.edge_interval(0.9), found.edge_interval(0.9)[found.labels == 1])


def test_parts_of_detections_keep_the_calibration():
    found = calibrated()
    assert found[:3].calibration is found.above(0.7).calibration is found.to("cpu").calibration is found.calibration
    assert torch.equal(found[:3].edge_interval(), found.edge_interval()[:3])
    none = found[:0]
    assert none.edge_interval().shape == (0, 4, 2)
    assert none.outer_boxes().shape == none.inner_boxes().shape == (0, 4)
    assert none.calibrated_scores().shape == (0,)
    assert none.edge_covariance().shape == (0, 4, 4)
    assert list(none) == []


def test_single_detections_have_the_numbers_of_all():
    found = calibrated()
    stds = found.edge_std.tolist()
    for i, one in enumerate(found):
        assert one.edge_std == pytest.approx(tuple(stds[i]))
        assert found[i].edge_std == pytest.approx(tuple(stds[i]))


def test_boxes_without_area_and_half_precision():
    flat = detections(torch.tensor([[5.0, 5.0, 5.0, 5.0]]), torch.tensor([1.0]), torch.tensor([0]))
    half = replace(flat, edges=flat.edges.bfloat16(), scores=flat.scores.bfloat16())
    for found in (calibrated(flat), calibrated(half)):
        assert found.edge_std.isfinite().all()
        assert (found.edge_std > 0).all()
        assert found.edge_interval().dtype == found.edge_std.dtype == torch.float32


def test_many_detections_are_quick():
    boxes = torch.rand(100_000, 4) * 100
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.randint(0, 2, (100_000,))
    found = calibrated(detections(boxes, torch.rand(100_000), labels))
    start = time.process_time()
    found.edge_interval(0.9)
    found.calibrated_scores()
    found.edge_covariance()
    assert time.process_time() - start < 3
