"""Shards of several processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.inference.shards import Shard, launched_shard, parse_shard


@given(count=st.integers(1, 20), images=st.integers(0, 100))
def test_law_every_image_is_in_one_shard(count: int, images: int) -> None:
    shards = [list(Shard(k, count).of(images)) for k in range(1, count + 1)]
    assert sorted(i for shard in shards for i in shard) == list(range(images))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_text_form() -> None:
    assert parse_shard("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"
    for wrong in ("0/8", "9/8", "2", "2/", "-1/8", "a/b", "2/8/3", "²/8"):
        with pytest.raises(ValueError, match="takes K/N"):
            parse_shard(wrong)


def test_the_shard_of_a_launched_process() -> None:
    assert launched_shard({}) == Shard(1, 1)
    assert launched_shard({"RANK": "2", "WORLD_SIZE": "8"}) == Shard(3, 8)
    assert launched_shard({"RANK": "0", "WORLD_SIZE": "1"}) == Shard()
    assert launched_shard({"RANK": "x", "WORLD_SIZE": "8"}) == Shard()
