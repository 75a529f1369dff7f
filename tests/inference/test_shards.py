"""Shares of processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.inference.shards import Shard, launched, shard


@given(count=st.integers(1, 20), images=st.integers(0, 100))
def test_law_every_image_is_of_one_share(count: int, images: int) -> None:
    shares = [list(Shard(k, count).of(images)) for k in range(1, count + 1)]
    assert sorted(i for share in shares for i in share) == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_as_text() -> None:
    assert shard("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"
    for wrong in ("0/8", "9/8", "2", "2/", "-1/8", "a/b", "2/8/3", "²/8"):
        with pytest.raises(ValueError, match="takes K/N"):
            shard(wrong)


def test_what_a_launcher_says() -> None:
    assert launched({}) == Shard(1, 1)
    assert launched({"RANK": "2", "WORLD_SIZE": "8"}) == Shard(3, 8)
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) == Shard()
    assert launched({"RANK": "x", "WORLD_SIZE": "8"}) == Shard()
