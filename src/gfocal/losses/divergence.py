"""The divergence of two edge distributions, by which a student learns from a teacher (Zheng et al. 2022)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gfocal.losses.numerics import at_least_float32


def edge_divergence(
    logits: Float[Tensor, "*shape bins"], teacher_logits: Float[Tensor, "*shape bins"], temperature: float = 10.0
) -> Float[Tensor, "*shape"]:
    """``T^2 KL(q || p) = T^2 sum_i q_i log(q_i / p_i)``, p = softmax(logits / T), q = softmax(teacher_logits / T).

    T flattens both distributions, so that the bins beside the mode count too; T^2 keeps the size of the gradient
    (Hinton et al. 2015). For large T this is half the squared difference of the logits about their means, over n + 1.

    Args:
        logits: (..., n + 1) of the student, any float dtype; the arithmetic is float32 at least.
        teacher_logits: (..., n + 1); no gradient flows to them.
        temperature: T > 0.

    Returns:
        (...) float32 at least, 0 or more (but for rounding), 0 where both distributions are the same.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be more than 0, not {temperature}")
    log_p = (at_least_float32(logits) / temperature).log_softmax(-1)
    log_q = (at_least_float32(teacher_logits.detach()) / temperature).log_softmax(-1)
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(-1)
