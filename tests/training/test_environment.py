"""Deterministic operations while a run lasts, and a clear word about one that there is not."""

from __future__ import annotations

import os

import pytest
import torch

from gfocal.errors import NonDeterministicOperationError
from gfocal.training.environment import deterministic


def state() -> tuple[bool, bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def test_while_it_lasts_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = state()
    with deterministic(False):
        assert state() == before
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with deterministic(True):
        assert state() == (True, False, True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert state() == before


def test_an_operation_without_such_a_version_is_named() -> None:
    values = torch.zeros(3, requires_grad=True)
    fix = pytest.raises(NonDeterministicOperationError, match=r"run\.deterministic: put_ .*run\.cpu")
    with fix as caught, deterministic(True):
        values.detach().put_(torch.tensor([0, 0]), torch.ones(2))
    assert caught.value.__cause__ is not None
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size of tensor") as caught, deterministic(True):
        torch.zeros(2) + torch.zeros(3)
    assert not isinstance(caught.value, NonDeterministicOperationError)
