"""The losses of whole points against the un-reduced ones with a dense target: values, gradients, corner cases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from device_waits import waits
from gfocal.losses import focal_loss, quality_focal_loss, varifocal_loss
from gfocal.losses.sparse import (
    CHUNK,
    sparse_focal_loss,
    sparse_quality_focal_loss,
    sparse_varifocal_loss,
    sparse_warming_quality_focal_loss,
)

BETAS = (0.0, 0.5, 1.0, 2.0, 2.5, 4.0)


def scene(
    seed: int, num_points: int = 7, num_classes: int = 3, spread: float = 4.0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of two images, slots of which several name a point, labels, and a quality for one slot of a point."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_points, num_classes, generator=generator, dtype=torch.float64) * spread
    slots = torch.randint(0, num_points, (2, 9), generator=generator)
    labels = torch.randint(0, num_classes, (2, 9), generator=generator)
    quality = torch.rand(2, 9, generator=generator)
    first = torch.tensor([[s not in row[:i] for i, s in enumerate(row)] for row in slots.tolist()])
    quality = torch.where(first & (torch.rand(2, 9, generator=generator) < 0.7), quality, 0.0)
    return logits.to(dtype).requires_grad_(), slots, labels, quality


def dense(slots: Tensor, labels: Tensor, values: Tensor, logits: Tensor) -> Tensor:
    """The target of every point and class. (B, P, C)"""
    target = torch.zeros_like(logits, dtype=values.dtype)
    for i, (of_image, classes) in enumerate(zip(slots.tolist(), labels.tolist(), strict=True)):
        for slot, label, value in zip(of_image, classes, values[i], strict=True):
            target[i, slot, label] += value
    return target


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(BETAS), st.sampled_from([0.3, 4.0, 15.0]))
def test_qfl_equals_that_of_a_dense_target(seed: int, beta: float, spread: float) -> None:
    logits, slots, labels, quality = scene(seed, spread=spread)
    want = quality_focal_loss(logits, dense(slots, labels, quality, logits), beta).sum(-1)
    got = sparse_quality_focal_loss(logits, slots, labels, quality, beta)
    weight = torch.rand(got.shape, dtype=got.dtype)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    for one, other in zip(
        torch.autograd.grad((got * weight).sum(), logits),
        torch.autograd.grad((want * weight).sum(), logits),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(BETAS), st.sampled_from([None, 0.25, 0.5, 1.0]))
def test_fl_equals_that_of_a_dense_target(seed: int, gamma: float, alpha: float | None) -> None:
    logits, slots, labels, quality = scene(seed)
    positive = quality > 0
    want = focal_loss(logits, dense(slots, labels, positive.double(), logits), gamma, alpha).sum(-1)
    got = sparse_focal_loss(logits, slots, labels, positive, gamma, alpha)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    for one, other in zip(
        torch.autograd.grad(got.sum(), logits), torch.autograd.grad(want.sum(), logits), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(BETAS), st.sampled_from([0.25, 0.75, 1.0]))
def test_vfl_equals_that_of_a_dense_target(seed: int, gamma: float, alpha: float) -> None:
    logits, slots, labels, quality = scene(seed)
    want = varifocal_loss(logits, dense(slots, labels, quality, logits), gamma, alpha).sum(-1)
    got = sparse_varifocal_loss(logits, slots, labels, quality, gamma, alpha)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    (one,), (other,) = (torch.autograd.grad(loss.sum(), logits) for loss in (got, want))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gamma", BETAS)
def test_the_gradient_of_vfl_is_that_of_differences(gamma: float) -> None:
    logits, slots, labels, quality = scene(1)
    assert torch.autograd.gradcheck(lambda x: sparse_varifocal_loss(x, slots, labels, quality, gamma), logits)


@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_is_that_of_differences(beta: float) -> None:
    logits, slots, labels, quality = scene(1)
    assert torch.autograd.gradcheck(lambda x: sparse_quality_focal_loss(x, slots, labels, quality, beta), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, slots, labels, quality = scene(2, dtype=dtype)
    full = logits.detach().float().requires_grad_()
    got = sparse_quality_focal_loss(logits, slots, labels, quality)
    want = sparse_quality_focal_loss(full, slots, labels, quality)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)
    (gradient,) = torch.autograd.grad(got.sum(), logits)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, torch.autograd.grad(want.sum(), full)[0].to(dtype))


def test_it_is_the_same_over_several_parts() -> None:
    """More points than are computed at once, the last part shorter."""
    logits, slots, labels, quality = scene(3, CHUNK // 40 + 11, 40, dtype=torch.float32)
    got = sparse_quality_focal_loss(logits, slots, labels, quality)
    want = quality_focal_loss(logits, dense(slots, labels, quality, logits)).sum(-1)
    torch.testing.assert_close(got, want)
    (one,), (other,) = (torch.autograd.grad(loss.sum(), logits) for loss in (got, want))
    torch.testing.assert_close(one, other)


def test_a_graph_that_is_kept_gives_the_same_twice_and_gradients_add_up() -> None:
    logits, slots, labels, quality = scene(4)
    loss = sparse_quality_focal_loss(logits, slots, labels, quality).sum()
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (twice,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    torch.testing.assert_close(twice, 3 * once)
    loss.backward(retain_graph=True)
    loss.backward()
    torch.testing.assert_close(logits.grad, 2 * once)


@pytest.mark.parametrize("value", [-80.0, -30.0, 30.0, 80.0])
def test_far_logits_give_finite_numbers(value: float) -> None:
    logits = torch.full((1, 4, 3), value, requires_grad=True)
    for beta in BETAS:
        loss = sparse_quality_focal_loss(
            logits, torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[0.6]]), beta
        )
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


def test_maps_laid_out_otherwise_and_no_points() -> None:
    logits, slots, labels, quality = scene(5)
    turned = logits.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    (one,), (other,) = (
        torch.autograd.grad(sparse_quality_focal_loss(x, slots, labels, quality).sum(), x) for x in (logits, turned)
    )
    assert torch.equal(one, other)


def test_exponents_below_zero_are_refused() -> None:
    logits, slots, labels, quality = scene(6)
    with pytest.raises(ValueError, match="beta"):
        sparse_quality_focal_loss(logits, slots, labels, quality, -1)
    with pytest.raises(ValueError, match="gamma"):
        sparse_focal_loss(logits, slots, labels, quality > 0, -1)
    with pytest.raises(ValueError, match="gamma"):
        sparse_varifocal_loss(logits, slots, labels, quality, -1)


def test_nothing_waits_and_it_compiles_into_one_graph() -> None:
    logits, slots, labels, quality = scene(7, dtype=torch.float32)

    def loss(x: Tensor) -> Tensor:
        return sparse_quality_focal_loss(x, slots, labels, quality).sum()

    assert not waits(lambda: torch.autograd.grad(loss(logits), logits))
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits), loss(logits))
    (one,), (other,) = (torch.autograd.grad(f(logits), logits) for f in (compiled, loss))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("unmodulated", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_the_factor_of_positives_alone_is_taken_to_one(beta: float, unmodulated: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    slots, labels = torch.tensor([[0, 4], [5, 2]]), torch.tensor([[2, 0], [1, 1]])
    quality = torch.tensor([[0.8, 0.1], [0.4, 0.0]], dtype=torch.float64)
    dense = torch.zeros(2, 6, 3, dtype=torch.float64)
    dense[torch.arange(2).unsqueeze(1), slots, labels] = quality
    modulated, plain = (quality_focal_loss(logits, dense, power) for power in (beta, 0.0))
    wanted = torch.where(dense > 0, modulated.lerp(plain, unmodulated), modulated).sum(-1)
    found = sparse_warming_quality_focal_loss(logits, slots, labels, quality, beta, unmodulated)
    torch.testing.assert_close(found, wanted)
    ours, theirs = (torch.autograd.grad(loss.square().sum(), logits)[0] for loss in (found, wanted))
    torch.testing.assert_close(ours, theirs)


def test_how_far_the_factor_is_taken_to_one_is_a_share() -> None:
    nothing = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"unmodulated lies in 0\.\.1, not 1\.5"):
        sparse_warming_quality_focal_loss(torch.zeros(1, 1, 1), nothing, nothing, torch.zeros(1, 1), 2.0, 1.5)
