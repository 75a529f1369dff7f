"""The checks of the proofs hold, and fail for a loss that is not the paper's."""

import pytest
import torch

from gfocal.lab import theory
from gfocal.lab.theory import Check, check_theory, minimize


@pytest.mark.parametrize("seed", [0, 1])
def test_appendices_b_and_c_hold(seed):
    checks = check_theory(1000, seed)
    assert len(checks) == 7
    failed = [str(check) for check in checks if not check.holds]
    assert not failed


def test_a_check_tells_how_far_it_is_off():
    assert str(Check("it", 10, 1e-3, 1e-6)).startswith("FAILS")
    assert not Check("it", 10, float("nan"), 1e-6).holds


def test_golden_section_finds_minima_in_the_middle_and_at_the_ends():
    places = torch.tensor([0.0, 0.25, 1 / 3, 1.0], dtype=torch.float64)
    assert (minimize(lambda p: (p - places).abs(), 4) - places).abs().max() < 1e-11


def test_a_signed_distance_is_no_gfl(monkeypatch):
    def signed(log_left, log_right, y, y_left=0.0, y_right=1.0, beta=2.0):
        distance = y - (y_left * log_left.exp() + y_right * log_right.exp())  # without the absolute value
        return distance**beta * -((y_right - y) * log_left + (y - y_left) * log_right)

    monkeypatch.setattr(theory, "generalized_focal_loss", signed)
    assert not all(check.holds for check in check_theory(300))


def test_another_normalization_is_no_gfl(monkeypatch):
    real = theory.quality_focal_loss
    monkeypatch.setattr(theory, "quality_focal_loss", lambda x, y, beta: 1.001 * real(x, y, beta))
    failed = [check.name for check in check_theory(300) if not check.holds]
    assert failed == ["C: QFL is GFL with y_l = 0, y_r = 1"]
