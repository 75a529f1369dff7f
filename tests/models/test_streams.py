"""Several passes at once: the results and their order are those of one pass after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from gfocal.models import streams
from gfocal.models.inference_copy import inference_network
from gfocal.models.predict import detect
from gfocal.models.streams import MAX_PIXELS, MAX_STREAMS, count_streams, run_each
from gfocal.models.zoo import create


@dataclass(frozen=True)
class Numbered:
    number: int
    images: Tensor


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def batches(count: int, side: int = 32) -> list[Numbered]:
    return [Numbered(number, torch.zeros(1, 3, side, side)) for number in range(count)]


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_several_threads() -> None:
    threads: set[int] = set()

    def run(batch: Numbered) -> int:
        time.sleep(0.02 * (batch.number % 3 == 0))  # some take longer
        threads.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        return 10 * batch.number

    found = [(batch.number, result) for batch, result in run_each(run, iter(batches(9)), nn.Linear(1, 1))]
    assert found == [(number, 10 * number) for number in range(9)]
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_single_batch_keeps_all_threads_of_torch() -> None:
    for few, network in ((batches(1), nn.Linear(1, 1)), (batches(3), None), (batches(3, 600), nn.Linear(1, 1))):
        own = [threading.get_ident() for _ in few]
        assert [one for _, one in run_each(lambda _: threading.get_ident(), few, network)] == own
    assert list(run_each(len, [], None)) == []  # type: ignore[type-var]


@pytest.mark.usefixtures("two_threads")
def test_an_error_or_an_interruption_comes_where_the_result_would() -> None:
    for kind in (ValueError, KeyboardInterrupt):

        def run(batch: Numbered, kind: type[BaseException] = kind) -> int:
            if batch.number == 3:
                raise kind("here")
            return batch.number

        found = run_each(run, batches(9), nn.Linear(1, 1))
        assert [next(found)[1] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(kind, match="here"):
            next(found)
        assert torch.get_num_threads() == 2


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, MAX_PIXELS // 32 + 1)
    for threads, expected in ((1, 1), (2, 2), (64, MAX_STREAMS)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert count_streams(nn.Linear(1, 1), small) == expected
        assert count_streams(nn.Linear(1, 1), large) == 1
        assert count_streams(nn.Conv2d(3, 3, 1), small) == 1
        assert count_streams(nn.ReLU(), small) == 1


@pytest.mark.usefixtures("two_threads")
def test_detections_are_those_of_one_pass_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create("nanodet_plus_m", 3, pretrained=False, channels=32)
    network = inference_network(model)
    if network is None or count_streams(network, torch.zeros(1, 3, 416, 416)) == 1:
        pytest.skip("torch has no oneDNN here, whose convolutions this is for")
    images = [torch.randint(0, 256, (3, 60, 80 + i), dtype=torch.uint8) for i in range(5)]
    together = detect(model, images, score_threshold=0.001)
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)
    alone = detect(model, images, score_threshold=0.001)
    for one, two in zip(together, alone, strict=True):
        assert len(one) == len(two) > 0
        torch.testing.assert_close(one.scores, two.scores, rtol=1e-4, atol=1e-5)
