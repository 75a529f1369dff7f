"""Every object of one class, and nothing else changed."""

from __future__ import annotations

from pathlib import Path

import torch

from gfocal.data.dataset import FileData, Sample
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.views import ONE_CLASS, as_one_class


def test_files() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 2.0, 5.0, 8.0]])
    sample = Sample(7, Path("a.jpg"), boxes, torch.tensor([2, 1]), torch.tensor([False, True]), (10, 10))
    data = FileData(("a", "b", "c"), (4, 5, 9), [sample])
    one = as_one_class(data)
    assert (one.names, one.category_ids) == (("object",), (1,))
    assert one.sample(0).labels.tolist() == [0, 0]
    assert torch.equal(one.sample(0).boxes, boxes)
    assert one.sample(0).crowd.tolist() == [False, True]
    assert one.sample(0).path == Path("a.jpg")
    assert data.sample(0).labels.tolist() == [2, 1]
    assert as_one_class(one) is one


def test_synthetic_images_of_every_epoch() -> None:
    data = SyntheticScenes(3, size=96)
    one = as_one_class(data)
    assert len(one) == 3
    assert one.names == ONE_CLASS
    for epoch in (0, 5):
        image, sample = one.at_epoch(epoch).read(1)
        assert not sample.labels.any()
        assert torch.equal(sample.boxes, data.at_epoch(epoch).sample(1).boxes)
        assert torch.equal(image, data.at_epoch(epoch).read(1)[0])
        assert not one.at_epoch(epoch).sample(2).labels.any()
