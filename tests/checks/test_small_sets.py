"""Sets that are too small to mean anything are named; a batch of more images than there are is refused."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from gfocal.checks.before_training import explain_small_sets, fit_batch_size, refuse_large_batch
from gfocal.config.config import Config, with_changes
from gfocal.data.dataset import FileData, Sample
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import ConfigError


def photos(images: int, objects: int, crowds: int = 0) -> FileData:
    boxes = torch.tensor([[1.0, 1, 9, 9]]).repeat(objects + crowds, 1)
    crowd = torch.arange(objects + crowds) >= objects
    labels = torch.zeros(objects + crowds, dtype=torch.int64)
    return FileData(("cat",), (1,), [Sample(i, None, boxes, labels, crowd, (20, 20)) for i in range(images)])


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (photos(20, 1), photos(2, 5), []),
        (photos(3, 1), None, ["3 training images: too few to learn from"]),
        (
            photos(19, 9),
            photos(3, 3, 9),
            ["19 training images", "9 objects in 3 validation images: too few to measure"],
        ),
        (SyntheticScenes(20, size=96), SyntheticScenes(10, size=96), []),
        (SyntheticScenes(20, size=96), SyntheticScenes(1, size=96), ["in 1 validation image: too few"]),
    ],
)
def test_what_is_too_small(train, val, words: list[str]) -> None:
    lines = explain_small_sets(train, val)
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_a_batch_of_more_images_than_there_are_is_refused() -> None:
    refuse_large_batch(3, photos(3, 1), 1)
    with pytest.raises(ConfigError, match=r"8 is more than the 3 training images: give --batch-size 3"):
        refuse_large_batch(8, photos(3, 1), 1)
    with pytest.raises(ConfigError, match=r"8 in each of 2 processes is more than the 9 .*: give --batch-size 4"):
        refuse_large_batch(8, photos(9, 1), 2)
    with pytest.raises(ConfigError, match="use at most 1 process"):
        refuse_large_batch(1, photos(1, 1), 4)


def test_a_batch_that_nobody_stated_is_lowered_to_the_set() -> None:
    config = with_changes(Config(), {"run.batch_size": 8, "run.skip_empty": False})
    for data, processes, size in (
        (photos(5, 1), 1, 5),
        (photos(5, 1), 2, 2),
        (photos(8, 1), 1, 8),
        (photos(1, 1), 2, 8),
    ):
        said = io.StringIO()
        fitted = fit_batch_size(config, data, False, processes, Console(file=said, width=200))
        assert fitted.run.batch_size == size
        assert ("instead of 8" in said.getvalue()) == (size < 8)
    with pytest.raises(ConfigError, match="more than the 5 training images"):
        fit_batch_size(config, photos(5, 1), True, 1, Console(file=said))
    some = FileData(("cat",), (1,), [*photos(3, 1).samples, *photos(4, 0).samples])
    fewer = fit_batch_size(with_changes(config, {"run.skip_empty": True}), some, False, 1, Console(file=said))
    assert fewer.run.batch_size == 3
