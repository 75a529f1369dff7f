"""The choice: as many distinct images as asked for, reproducible, uncertain, apart from each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.selection.choice import STRATEGIES, choose, standardize

ANY = st.sampled_from(STRATEGIES)
SEED = st.integers(0, 1000)


def pool(seed: int, count: int, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Uncertainty and features of images; some have no object."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=count) * (rng.random(count) < 0.8), rng.normal(size=(count, size)).astype(np.float32)


@given(ANY, SEED, st.integers(0, 30), st.integers(0, 40), st.integers(0, 3))
def test_as_many_distinct_images_as_asked_for(
    strategy: str, seed: int, count: int, number: int, num_labeled: int
) -> None:
    doubt, features = pool(seed, count + num_labeled)
    known = features[count:]
    chosen = choose(doubt[:count], features[:count], number, strategy, known, seed)
    assert len(chosen.indices) == len(chosen.distances) == len(chosen.nearest) == min(number, count)
    assert len(set(chosen.indices.tolist())) == len(chosen.indices)
    assert all(0 <= i < count for i in chosen.indices.tolist())
    again = choose(doubt[:count], features[:count], number, strategy, known, seed)
    assert (again.indices == chosen.indices).all()
    assert (again.distances == chosen.distances).all()


@given(ANY, SEED, st.integers(1, 30), st.integers(0, 30), st.integers(0, 30))
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(
    strategy: str, seed: int, count: int, few: int, more: int
) -> None:
    doubt, features = pool(seed, count)
    few, more = sorted((few, more))
    whole = choose(doubt, features, more, strategy, seed=seed).indices
    assert choose(doubt, features, few, strategy, seed=seed).indices.tolist() == whole[:few].tolist()


@given(SEED, st.integers(1, 30), st.integers(1, 30))
def test_uncertainty_alone_takes_the_most_uncertain(seed: int, count: int, number: int) -> None:
    doubt, features = pool(seed, count)
    chosen = choose(doubt, features, number, "uncertainty", seed=seed).indices
    assert doubt[chosen].tolist() == sorted(doubt, reverse=True)[:number]


@given(SEED, st.integers(2, 8), st.integers(2, 4), st.sampled_from(["both", "diversity"]), st.booleans())
def test_copies_are_chosen_last(seed: int, num_kinds: int, copies: int, strategy: str, is_labeled: bool) -> None:
    doubt, kinds = pool(seed, num_kinds)
    kind = np.tile(np.arange(num_kinds), copies)
    doubt = np.random.default_rng(seed).exponential(size=len(kind))
    noise = 1e-5 * np.random.default_rng(seed).normal(size=(len(kind), kinds.shape[1]))
    known = kinds[:1] if is_labeled else None
    chosen = choose(doubt, kinds[kind] + noise, len(kind), strategy, known, seed)
    others = num_kinds - is_labeled
    first = kind[chosen.indices[:others]].tolist()
    assert len(set(first)) == others
    assert not (is_labeled and 0 in first)
    assert (chosen.distances[others:] == 0).all()


@given(SEED, st.integers(2, 30), st.integers(0, 3))
def test_diversity_goes_to_the_farthest_image_and_gets_nearer(seed: int, count: int, num_labeled: int) -> None:
    doubt, features = pool(seed, count + num_labeled)
    chosen = choose(doubt[:count], features[:count], count, "diversity", features[count:], seed)
    assert (np.diff(chosen.distances[1:]) <= 1e-5).all()
    if num_labeled:
        assert chosen.distances[0] >= chosen.distances.max() - 1e-5


@given(ANY, SEED, st.integers(1, 20), st.integers(0, 3))
def test_distances_are_to_the_nearest_of_those_before(strategy: str, seed: int, count: int, num_labeled: int) -> None:
    doubt, features = pool(seed, count + num_labeled)
    own, known = standardize(features[:count], features[count:])
    chosen = choose(doubt[:count], features[:count], count, strategy, features[count:], seed)
    before = {-2 - i: row for i, row in enumerate(known)}
    for i, distance, nearest in zip(chosen.indices, chosen.distances, chosen.nearest, strict=True):
        if not before:
            assert (distance, nearest) == (np.inf, -1)
        else:
            to_each = {key: float(np.linalg.norm(own[i] - row)) for key, row in before.items()}
            assert distance == pytest.approx(min(to_each.values()), abs=3e-3)
            assert to_each[int(nearest)] == pytest.approx(min(to_each.values()), abs=3e-3)
        before[int(i)] = own[i]


def test_both_prefers_the_uncertain_of_two_equally_far_and_the_far_of_two_equally_uncertain() -> None:
    features = [[1.0, 0], [1, 0.05], [0, 1], [-1, 0], [0, -1]]
    chosen = choose([5, 4.9, 1, 3, 1], features, 2, seed=0).indices.tolist()
    assert chosen == [0, 3]  # not 1, which is like 0


def test_where_nothing_is_found_distance_decides() -> None:
    doubt, features = pool(3, 20)
    nothing = choose(np.zeros(20), features, 20, seed=4)
    assert nothing.indices.tolist() == choose(doubt, features, 20, "diversity", seed=4).indices.tolist()
    few = choose(np.eye(1, 20)[0], features, 3, seed=4)
    assert few.indices[0] == 0
    assert (few.distances[1:] > 1).all()


def test_features_of_one_value_decide_nothing() -> None:
    chosen = choose(np.arange(5.0), np.ones((5, 3)), 3, seed=0)
    assert chosen.indices[0] == 4
    assert len(set(chosen.indices.tolist())) == 3


@pytest.mark.parametrize(
    ("doubt", "features", "number", "strategy"),
    [
        ([1.0], [[1.0]], 1, "best"),
        ([1.0], [[1.0]], -1, "both"),
        ([1.0, 2.0], [[1.0]], 1, "both"),
        ([1.0], [1.0], 1, "both"),
        ([float("nan")], [[1.0]], 1, "both"),
        ([-1.0], [[1.0]], 1, "both"),
        ([1.0], [[float("inf")]], 1, "both"),
    ],
)
def test_arguments_that_do_not_fit(doubt: list[float], features: list[object], number: int, strategy: str) -> None:
    with pytest.raises(ValueError, match=r"strategy|number|shapes|finite"):
        choose(doubt, features, number, strategy)
