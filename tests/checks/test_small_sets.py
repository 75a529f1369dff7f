"""Sets that are too small to mean anything are named; a batch of more images than there are is refused."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gfocal.checks.before_training import explain_small_sets, fit_batch_size, fit_epochs, refuse_large_batch
from gfocal.config.config import Config, read_config, with_changes
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


class Count:
    """As many images as it is told, of which nothing else is asked."""

    files = None

    def __init__(self, images: int) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images


def steps_of(config: Config, images: int, processes: int = 1) -> tuple[int, int, int]:
    """Steps of an epoch, epochs, and epochs of the config before."""
    run = config.run
    fitted = fit_epochs(config, Count(images), processes, Console(file=io.StringIO()))  # type: ignore[arg-type]
    per_epoch = -(-images // (run.batch_size * processes * run.grad_accum_steps))
    return per_epoch, fitted.run.epochs, run.epochs


@given(
    images=st.integers(1, 10**6),
    processes=st.integers(1, 8),
    least=st.integers(0, 2000),
    more=st.integers(0, 10**5),
    accumulated=st.integers(1, 4),
)
def test_a_run_has_enough_steps_and_not_too_many(
    images: int, processes: int, least: int, more: int, accumulated: int
) -> None:
    limits = {"run.min_steps": least, "run.max_steps": max(least + more, 1)}
    config = with_changes(read_config("nano"), limits | {"run.grad_accum_steps": accumulated})
    per_epoch, epochs, asked = steps_of(config, images, processes)
    steps, most = per_epoch * epochs, config.run.max_steps
    assert most is not None
    assert epochs >= 1
    assert steps <= most or epochs == 1
    assert steps >= least or steps + per_epoch > most  # no whole number of epochs lies between the limits
    if least <= per_epoch * asked <= most:
        assert epochs == asked
    if epochs > asked:
        assert steps - per_epoch < least
    if epochs < asked:
        assert steps + per_epoch > most


@pytest.mark.parametrize(
    ("name", "images", "epochs"),
    [
        ("nano", 20, 250), ("nano", 100, 58), ("nano", 205, 30), ("nano", 300, 30), ("nano", 3000, 30),
        ("nano", 100_000, 7), ("light", 100, 39), ("light", 300, 20), ("light", 100_000, 7),
        ("coco_r50_1x", 20, 12), ("coco_r50_1x", 117_266, 12), ("bccd_r18", 20, 24),
    ],
)  # fmt: skip
def test_epochs_of_a_number_of_images(name: str, images: int, epochs: int) -> None:
    """The table of docs/training.md; published configs stay as they are."""
    assert steps_of(read_config(name), images)[1] == epochs


def test_epochs_that_are_chosen_are_said() -> None:
    config, said = read_config("nano"), io.StringIO()
    fit_epochs(config, photos(100, 1), 1, Console(file=said, width=200))
    assert "58 epochs instead of 30, 754 steps, for 100 training images (--epochs" in said.getvalue()
    said = io.StringIO()
    for images, changes in ((300, {}), (100, {"run.time_minutes": 5.0}), (100, {"run.min_steps": 0})):
        changed = with_changes(config, changes)
        assert fit_epochs(changed, photos(images, 1), 1, Console(file=said)) == changed
    assert said.getvalue() == ""


@pytest.mark.parametrize("changes", [{"run.min_steps": -1}, {"run.max_steps": 0}, {"run.max_steps": 749}])
def test_limits_that_do_not_fit(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least"):
        with_changes(read_config("nano"), changes)
