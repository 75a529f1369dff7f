"""Which images of a pool to label: uncertain ones that differ from each other and from those labeled already.

N images of the pool, M labeled ones, D features. Pure functions of arrays: no model, no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Strategy = Literal["both", "uncertainty", "diversity"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
Floats = npt.NDArray[np.float32]

LEAST_WEIGHT = 1e-3  # of an image where nothing is found, relative to the mean uncertainty
BLOCK = 64  # labeled images that are compared at once
SAME = 2e-3  # distance; nearer images are copies
LEAST_STD = 0.02  # of a feature, relative to the largest: what varies less is noise


@dataclass(frozen=True)
class Choice:
    """The images that were chosen, in the order of the choice; each array has n entries."""

    indices: npt.NDArray[np.int64]  # of the pool
    # Distance of each, when it was chosen, to the nearest labeled or earlier chosen image, 0..2; inf for the first
    # of all, which has none.
    distances: Floats
    nearest: npt.NDArray[np.int64]  # that image: i of the pool as i, j of the labeled as -2 - j, none as -1


def choose(
    uncertainty: npt.ArrayLike,
    features: npt.ArrayLike,
    number: int,
    strategy: Strategy = "both",
    labeled: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Choice:
    """Choose ``number`` images of a pool, or all if it has fewer.

    Greedy: each time the image of the largest gain. The gain of ``uncertainty`` is the uncertainty; of ``diversity``
    the distance to the nearest image that is labeled or chosen (farthest-first traversal: Gonzalez 1985; for active
    learning Sener and Savarese 2018, "core-set"); of ``both`` their product. A copy of a labeled or chosen image has
    distance 0, and with these two is chosen last.

    Args:
        uncertainty: (N,) at least 0.
        features: (N, D) in any scale; distances are between standardized features of length 1.
        number: of images to choose.
        strategy: see above.
        labeled: (M, D) features of the images that are labeled already.
        seed: of the first image where nothing else decides, and of ties.

    Returns:
        Indices, distances and nearest images. The first k of a choice are the choice of k images.

    Raises:
        ValueError: an unknown strategy, a negative number, or arrays whose shapes do not fit or that are not finite.
    """
    doubt, pool, known = _check(uncertainty, features, number, strategy, labeled)
    count = len(pool)
    order = np.random.default_rng(seed).permutation(count)  # of equal gains the first in this order
    doubt, pool = doubt[order], pool[order]
    pool, known = standardize(pool, known)
    weight = _weights(doubt, strategy)
    distance, nearest = _distances_to(pool, known)
    is_left = np.ones(count, dtype=bool)
    chosen, distances, nearests = [], [], []
    for _ in range(min(number, count)):
        gain = weight if strategy == "uncertainty" else weight * np.minimum(distance, 2.0)
        best = int(np.argmax(np.where(is_left, gain, -1.0)))
        chosen.append(order[best])
        distances.append(distance[best])
        nearests.append(order[nearest[best]] if nearest[best] >= 0 else nearest[best])
        is_left[best] = False
        from_best = _distance(pool @ pool[best])
        is_nearer = from_best < distance
        distance = np.where(is_nearer, from_best, distance)
        nearest = np.where(is_nearer, best, nearest)
    return Choice(
        np.array(chosen, dtype=np.int64), np.array(distances, dtype=np.float32), np.array(nearests, dtype=np.int64)
    )


def standardize(pool: Floats, labeled: Floats) -> tuple[Floats, Floats]:
    """Features of mean 0 and deviation 1 over all images, scaled to length 1. (N, D), (M, D) -> the same shapes"""
    if not len(pool) + len(labeled):
        return pool, labeled
    both = np.concatenate([pool, labeled])
    std = both.std(0)
    both -= both.mean(0)
    both /= np.maximum(std, max(LEAST_STD * float(std.max(initial=0)), 1e-12))
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    return both[: len(pool)], both[len(pool) :]


def _check(
    uncertainty: npt.ArrayLike, features: npt.ArrayLike, number: int, strategy: str, labeled: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.float64], Floats, Floats]:
    doubt = np.asarray(uncertainty, dtype=np.float64)
    pool = np.asarray(features, dtype=np.float32)
    known: Floats = np.asarray(np.zeros((0, pool.shape[-1])) if labeled is None else labeled, dtype=np.float32)
    if strategy not in STRATEGIES:
        raise ValueError(f"a strategy is one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if number < 0:
        raise ValueError(f"number must be at least 0, not {number}")
    if pool.ndim != 2 or doubt.shape != pool.shape[:1] or known.ndim != 2 or known.shape[1] != pool.shape[1]:
        raise ValueError(f"shapes do not fit: uncertainty {doubt.shape}, features {pool.shape}, {known.shape}")
    if not (np.isfinite(doubt).all() and np.isfinite(pool).all() and np.isfinite(known).all()) or (doubt < 0).any():
        raise ValueError("uncertainty and features must be finite, and uncertainty at least 0")
    return doubt, pool, known


def _weights(doubt: npt.NDArray[np.float64], strategy: str) -> npt.NDArray[np.float64]:
    """By what the distance of each image counts; for ``uncertainty`` its gain itself."""
    if strategy == "uncertainty":
        return doubt
    if strategy == "diversity" or not doubt.any():
        return np.ones(len(doubt))
    return doubt + LEAST_WEIGHT * doubt.mean()  # where nothing is found, distance decides


def _distances_to(pool: Floats, known: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Distance of each image to the nearest labeled one, and which one that is, as in ``Choice``."""
    distance = np.full(len(pool), np.inf, dtype=np.float32)
    nearest = np.full(len(pool), -1, dtype=np.int64)
    for start in range(0, len(known), BLOCK):
        cosines = pool @ known[start : start + BLOCK].T  # (N, BLOCK)
        number = cosines.argmax(1)
        to_nearest = _distance(np.take_along_axis(cosines, number[:, None], 1)[:, 0])
        is_nearer = to_nearest < distance
        distance = np.where(is_nearer, to_nearest, distance)
        nearest = np.where(is_nearer, -2 - start - number, nearest)
    return distance, nearest


def _distance(cosines: Floats) -> Floats:
    """Of vectors of length 1, 0..2; exactly 0 for copies, which rounding would keep a little apart."""
    distance: Floats = np.sqrt(np.maximum(2 - 2 * cosines, 0))
    distance[distance < SAME] = 0
    return distance
