"""Uncertainty of images: most where a score is a coin toss, more with wide edges, a sum over objects."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibrations import NUM_BINS, calibration, detections
from gfocal.inference.uncertainty import LEAST_SCORE, edge_uncertainty, image_uncertainty, score_uncertainty
from gfocal.structures import Detections


def found(scores: list[float], std: float = 1.0) -> Detections:
    """Detections of one box; their distributions have about this deviation in bins."""
    boxes = torch.tensor([[10.0, 10, 60, 40]]).expand(len(scores), 4)
    edges = (-((torch.arange(NUM_BINS) - 4.0) ** 2) / (2 * std**2)).softmax(-1).expand(len(scores), 4, NUM_BINS)
    return detections(boxes, torch.tensor(scores), torch.zeros(len(scores)), edges)


def test_a_score_of_a_half_is_the_most_uncertain() -> None:
    values = score_uncertainty(found([0.5, 0.3, 0.7, 0.1, 0.99])).tolist()
    assert values[0] == pytest.approx(1)
    assert values[1] == pytest.approx(values[2], abs=1e-6)
    assert values[0] > values[1] > values[3] > values[4] > 0


@given(st.floats(0.2, 1.5), st.floats(1.05, 2))
def test_wider_edges_are_more_uncertain(std: float, factor: float) -> None:
    narrow, wide = (edge_uncertainty(found([0.8], value)) for value in (std, std * factor))
    assert 0 < narrow < wide <= 0.8 + 1e-6


def test_an_edge_counts_as_much_as_there_is_an_object_and_relative_to_the_box() -> None:
    one = found([0.8, 0.4])
    values = edge_uncertainty(one)
    assert float(values[0]) == pytest.approx(2 * float(values[1]), rel=1e-5)
    larger = replace(one, boxes=one.boxes * 2, bin_sizes=one.bin_sizes * 2)  # the image at twice the size
    assert torch.allclose(edge_uncertainty(larger), values)


@given(st.lists(st.floats(0.0, 1.0), max_size=6), st.lists(st.floats(0.0, 1.0), max_size=6))
def test_an_image_has_the_sum_of_its_objects(some: list[float], others: list[float]) -> None:
    parts = [sum(image_uncertainty(found(scores))) for scores in (some, others)]
    assert sum(image_uncertainty(found(some + others))) == pytest.approx(sum(parts), abs=1e-6)


def test_noise_and_images_without_objects_count_nothing() -> None:
    assert image_uncertainty(found([])) == (0, 0)
    assert image_uncertainty(found([LEAST_SCORE / 2] * 5)) == (0, 0)


def test_detectors_without_distributions_have_scores_alone() -> None:
    one = found([0.5])
    bare = replace(one, edges=torch.zeros(1, 4, 0))
    assert image_uncertainty(bare) == (image_uncertainty(one)[0], 0)


def test_a_calibrated_model_counts_by_its_probabilities_and_errors() -> None:
    one = found([0.5, 0.9])
    calibrated = replace(one, calibration=calibration())
    p = calibrated.calibrated_scores("precision").double()
    assert torch.allclose(score_uncertainty(calibrated), -(p * p.log2() + (1 - p) * (1 - p).log2()))
    assert not torch.allclose(edge_uncertainty(calibrated), edge_uncertainty(one))
