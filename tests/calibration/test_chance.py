"""By how much a coverage may be off by chance: against the law itself, and against images drawn anew."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from calibrations import calibration
from gfocal.calibration.chance import Chance, beta_binomial, chance_of_coverage, design_effect, range_of
from gfocal.structures.calibration import Calibration, keep_order_statistics


def of_errors(errors: Tensor) -> Calibration:
    """A calibration from the largest error of each box alone."""
    statistics = keep_order_statistics(errors)
    return replace(calibration(), boxes=statistics, edges=(statistics,) * 4, boxes_of_class={})


def measured(covered: Tensor, image: Tensor, made: Calibration, coverage: float = 0.9) -> Chance:
    labels = torch.zeros(len(covered), dtype=torch.int64)
    return chance_of_coverage(covered.unsqueeze(1).expand(-1, 4), image, labels, made, coverage, "box")


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 30))
def test_beta_binomial_is_the_ratio_of_counts(total: int, a: int, b: int):
    # For whole numbers: ways in which the k-th of m new boxes fall among n = a + b - 1 others (Polya's urn).
    law = beta_binomial(total, float(a), float(b))
    for k in range(total + 1):
        ways = math.comb(a + k - 1, k) * math.comb(b + total - k - 1, total - k)
        assert float(law[k]) == pytest.approx(ways / math.comb(a + b + total - 1, total), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(9, 5), (126, 63), (20, 400), (2000, 63)])
def test_of_one_group_the_range_is_exactly_that_of_the_law(n: int, m: int):
    statistics = keep_order_statistics(torch.arange(1, n + 1).double())
    rank = math.ceil((n + 1) * 0.9)
    assert statistics.rank(0.9) == rank
    below = beta_binomial(m, rank, n + 1 - rank).cumsum(0)
    low, high = range_of(Counter({statistics: m}), 0.9)
    assert float(below[low]) >= 0.025
    assert low == 0 or float(below[low - 1]) < 0.025
    assert float(below[high]) >= 0.975
    assert float(below[high - 1]) < 0.975


def test_the_case_of_63_boxes_and_126():
    # The mean of Beta(115, 12) is 0.906, the deviation of the share sqrt(0.906 x 0.094 (1 / 63 + 1 / 128)) = 0.045.
    made = of_errors(torch.arange(1, 127).double())
    image = torch.arange(63)
    for number, verdict in ((49, "below"), (50, "below"), (51, "within"), (61, "within"), (62, "within")):
        assert measured(torch.arange(63) < number, image, made).verdict == verdict, number
    one = measured(torch.arange(63) < 49, image, made)
    assert (one.low, one.high, one.design_effect) == (51 / 63, 62 / 63, 1.0)
    assert one.describe() == "fewer than chance explains (81% to 98%)"


def test_more_boxes_here_or_in_the_calibration_narrow_the_range():
    def width(n: int, m: int) -> float:
        low, high = range_of(Counter({keep_order_statistics(torch.arange(1, n + 1).double()): m}), 0.9)
        return (high - low) / m

    assert width(100, 100) > width(1000, 100) > width(10_000, 10_000)
    assert width(100, 100_000) == pytest.approx(2 * 1.96 * math.sqrt(0.9 * 0.1 / 102), rel=0.05)  # calibration alone
    assert width(100_000, 100) == pytest.approx(2 * 1.96 * math.sqrt(0.9 * 0.1 / 100), rel=0.1)  # binomial


def test_boxes_of_classes_with_few_calibrated_ones_vary_more():
    few, many = (keep_order_statistics(torch.arange(1, n + 1).double()) for n in (100, 10_000))
    made = replace(of_errors(torch.arange(1, 10_101).double()), boxes_of_class={0: many, 1: few})
    covered, image = torch.ones(2000, 4, dtype=torch.bool), torch.arange(2000)
    low = []
    for label in (0, 1):
        labels = torch.full((2000,), label)
        low.append(chance_of_coverage(covered, image, labels, made, 0.9, "box").low)
    assert low[0] == pytest.approx(0.9 - 1.96 * math.sqrt(0.09 * (1 / 2000 + 1 / 10_000)), abs=0.003)
    assert low[1] < 0.9 - 1.7 * math.sqrt(0.09 / 100)
    mixed = chance_of_coverage(covered, image, torch.arange(2000) % 2, made, 0.9, "box").low
    assert low[1] < mixed < low[0]


def test_design_effect_of_images_whose_boxes_are_all_alike_is_their_number():
    image = torch.arange(400).repeat_interleave(5)
    alike = (torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.9).double().repeat_interleave(5)
    assert design_effect(alike, image, 2000) == pytest.approx(5, rel=0.02)
    alone = (torch.rand(2000, generator=torch.Generator().manual_seed(0)) < 0.9).double()
    assert design_effect(alone, image, 2000) == pytest.approx(1, abs=0.12)
    assert design_effect(alone, torch.arange(2000), 2000) == 1
    assert design_effect(alone, torch.zeros(2000).long(), 2000) == 1  # one image: it cannot be measured
    assert design_effect(torch.ones(2000).double(), image, 2000) == 1


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000), st.sampled_from([0.5, 0.9]))
@settings(max_examples=60)
def test_a_range_is_within_0_and_1_and_says_what_lies_in_it(boxes: int, images: int, seed: int, coverage: float):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, images, (boxes,), generator=generator)
    covered = torch.rand(boxes, generator=generator) < torch.rand(1, generator=generator)
    one = measured(covered, image, of_errors(torch.arange(1, 20).double()), coverage)
    assert 0 <= one.low <= one.high <= 1
    assert one.design_effect >= 1
    share = float(covered.double().mean())
    assert one.verdict == ("below" if share < one.low - 1e-9 else "above" if share > one.high + 1e-9 else "within")


def draw(num_images: int, per_image: int, alike: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Errors of boxes (N, 4) of which a share of the variance is common to an image, and the image of each."""
    common = torch.randn(num_images, 1, 1, generator=generator)
    own = torch.randn(num_images, per_image, 4, generator=generator)
    errors = (alike**0.5 * common + (1 - alike) ** 0.5 * own).abs().double().flatten(0, 1)
    return errors, torch.arange(num_images).repeat_interleave(per_image)


@pytest.mark.parametrize("alike", [0.0, 0.5])
@pytest.mark.parametrize("guarantee", ["box", "edge"])
def test_images_like_those_of_the_calibration_are_rarely_called_others(alike: float, guarantee: str):
    generator, outside, runs = torch.Generator().manual_seed(0), 0, 300
    for _ in range(runs):
        errors, _ = draw(25, 6, alike, generator)
        sides = tuple(keep_order_statistics(errors[:, side]) for side in range(4))
        made = replace(of_errors(errors.amax(1)), edges=sides)
        new, image = draw(20, 4, alike, generator)
        labels = torch.zeros(len(new), dtype=torch.int64)
        covered = new <= made.factors(labels, 0.9, guarantee)
        one = chance_of_coverage(covered, image, labels, made, 0.9, guarantee)
        outside += one.verdict != "within"
    assert outside / runs < 0.09  # 5 % are by chance


@pytest.mark.parametrize(("larger", "verdict"), [(2.0, "below"), (0.4, "above")])
def test_images_of_another_kind_are_called_so(larger: float, verdict: str):
    generator = torch.Generator().manual_seed(0)
    errors, _ = draw(100, 4, 0.3, generator)
    new, image = draw(50, 4, 0.3, generator)
    made = of_errors(errors.amax(1))
    assert measured(larger * new.amax(1) <= made.boxes.quantile(0.9), image, made).verdict == verdict
