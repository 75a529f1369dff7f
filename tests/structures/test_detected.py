"""Detections: rows of every column together, one object, what they say of themselves, tables and pictures."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import gfocal
from gfocal.errors import MissingExtraError
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Detection, Detections, ImageSource


def detections(count: int = 4) -> Detections:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return Detections(
        boxes=rand(count, 4),
        scores=torch.tensor([0.9, 0.5, 0.5, 0.1])[:count],
        labels=torch.tensor([1, 0, 1, 0])[:count],
        edges=rand(count, 4, 5).softmax(-1),
        points=rand(count, 2),
        bin_sizes=rand(count, 4) + 1,
        names=("cat", "dog"),
        size=(30, 40),
    )


def columns(found: Detections) -> list[Tensor]:
    return [found.boxes, found.scores, found.labels, found.edges, found.points, found.bin_sizes]


@pytest.mark.parametrize(
    "keep", [torch.tensor([False, True, False, True]), torch.tensor([3, 0]), torch.zeros(4, dtype=torch.bool)]
)
def test_select_takes_the_same_rows_of_every_column(keep: Tensor) -> None:
    found = detections()
    kept = found.select(keep)
    for before, after in zip(columns(found), columns(kept), strict=True):
        assert torch.equal(after, before[keep])
    assert (kept.names, kept.size) == (found.names, found.size)
    assert len(kept) == len(kept.boxes)


def test_detections_print_as_one_line() -> None:
    assert repr(detections()) == "Detections(4 in 40x30 pixels: 2 dog, 2 cat)"
    assert repr(detections(0)) == "Detections(0 in 40x30 pixels)"
    many = replace(detections(), labels=torch.tensor([2, 2, 0, 1]), names=("cat", "dog", "owl"))
    assert repr(many) == "Detections(4 in 40x30 pixels: 2 owl, 1 cat, 1 dog)"
    generator = torch.rand(7, 4)
    seven = Detections(
        generator,
        generator[:, 0],
        torch.arange(7),
        torch.rand(7, 4, 5),
        generator[:, :2],
        generator,
        tuple("abcdefg"),
        (3, 4),
    )
    assert repr(seven) == "Detections(7 in 4x3 pixels: 1 a, 1 b, 1 c, 1 d, 1 e, ...)"


def test_above_is_strict() -> None:
    assert detections().above(0.5).scores.tolist() == pytest.approx([0.9])
    assert len(detections().above(0.0)) == 4
    assert len(detections().above(1.0)) == 0


def test_above_takes_a_threshold_for_each_class() -> None:
    found = detections()
    thresholds = [0.0] * len(found.names)
    thresholds[int(found.labels[0])] = 0.95
    kept = found.above(thresholds)
    assert kept.scores.tolist() == found.scores[found.labels != found.labels[0]].tolist()
    assert 0 < len(kept) < len(found)
    with pytest.raises(ValueError, match="1 thresholds for"):
        found.above((0.5,))


def test_names_follow_the_labels() -> None:
    assert detections().class_names == ["dog", "cat", "dog", "cat"]


def test_edge_std_is_that_of_the_distribution_in_pixels() -> None:
    found = detections()
    in_bins = GeneralDistribution(4).std(found.edges)
    torch.testing.assert_close(found.edge_std, in_bins * found.bin_sizes)


def test_edge_std_of_a_certain_and_of_a_torn_edge() -> None:
    found = detections(1)
    edges = torch.zeros(1, 4, 5)
    edges[0, :, 2] = 1  # certain
    edges[0, 3] = torch.tensor([0.5, 0, 0, 0, 0.5])  # torn between 0 and 4 bins
    torn = Detections(**{**vars(found), "edges": edges, "bin_sizes": torch.tensor([[8.0, 8, 8, 3]])})
    assert torn.edge_std.tolist() == [[0, 0, 0, 6]]


def test_one_detection_has_the_row_of_every_column() -> None:
    found = detections()
    one = found[1]
    assert isinstance(one, Detection)
    assert (one.label, one.name, one.score) == (0, "cat", 0.5)
    assert one.box == tuple(found.boxes[1].tolist())
    assert one.edge_std == tuple(found.edge_std[1].tolist())
    for mine, column in ((one.edges, found.edges), (one.point, found.points), (one.bin_sizes, found.bin_sizes)):
        assert torch.equal(mine, column[1])
    assert [d.score for d in found] == found.scores.tolist()
    assert [d.name for d in found] == found.class_names
    assert found[-1].box == found[3].box == found[torch.tensor(3)].box == found[np.int64(3)].box


@pytest.mark.parametrize("place", [4, -5])
def test_places_beyond_the_last_detection_are_refused(place: int) -> None:
    with pytest.raises(IndexError, match=f"detection {place} of 4"):
        detections()[place]


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        ([3, 0], [3, 0]),
        ([], []),
        ([True, False, False, True], [0, 3]),
        (np.array([False, True, True, False]), [1, 2]),
        (torch.tensor([2]), [2]),
    ],
)
def test_a_slice_a_mask_or_indices_give_detections(index: list[int], rows: list[int]) -> None:
    found = detections()
    some = found[index]
    assert isinstance(some, Detections)
    for after, before in zip(columns(some), columns(found), strict=True):
        assert torch.equal(after, before[rows])


def test_without_distributions_there_is_no_spread() -> None:
    found = replace(detections(), edges=torch.zeros(4, 4, 0))
    assert [one.edge_std for one in found] == [None] * 4
    assert "edge_std" not in found[0].to_dict()
    assert "edge_std" not in repr(found[0])
    json.loads(found.to_json())  # NaN is no json


def test_as_dictionary_and_as_json() -> None:
    found = replace(detections(), source=ImageSource("a.jpg"))
    content = found.to_dict()
    assert (content["image"], content["width"], content["height"]) == ("a.jpg", 40, 30)
    first = content["detections"][0]
    assert (first["name"], first["label"], first["score"]) == ("dog", 1, 0.9)
    assert first["box"] == pytest.approx(found.boxes[0].tolist(), abs=1e-4)
    assert first["edge_std"] == pytest.approx(found.edge_std[0].tolist(), abs=1e-4)
    assert json.loads(found.to_json()) == content
    assert json.loads(detections(0).to_json(indent=1))["detections"] == []


def test_print_lists_the_best() -> None:
    found = detections()
    lines = str(found).splitlines()
    assert lines[0] == repr(found)
    assert lines[1].startswith("  dog 0.90  box ")
    assert len(lines) == 5
    assert str(found.select(torch.zeros(25, dtype=torch.int64))).endswith("... 5 more")
    assert repr(found[0]).startswith("Detection(name='dog', score=0.900, box=(")


def test_a_table_of_one_image_and_of_several() -> None:
    pytest.importorskip("pandas")
    found = detections()
    table = found.to_pandas()
    assert list(table.columns[:4]) == ["image", "name", "label", "score"]
    assert table["name"].tolist() == found.class_names
    assert table["x2"].tolist() == pytest.approx(found.boxes[:, 2].tolist())
    assert table["std_bottom"].tolist() == pytest.approx(found.edge_std[:, 3].tolist())
    assert table["label"].tolist() == [1, 0, 1, 0]
    several = gfocal.to_pandas([found, detections(0), replace(detections(1), source=ImageSource("a.jpg"))])
    assert several["image"].tolist() == [0, 0, 0, 0, "a.jpg"]
    assert list(gfocal.to_pandas([]).columns) == list(table.columns)


def test_without_pandas_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pandas"):
        detections().to_pandas()


def boxes_in_view() -> Detections:
    return replace(detections(), boxes=torch.tensor([[2.0, 3, 20, 28]]).repeat(4, 1), names=("cat", "<b>dog"))


def test_a_notebook_shows_the_image_and_a_table(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "a.png")
    found = replace(boxes_in_view(), source=ImageSource(str(tmp_path / "a.png")))
    page = found._repr_html_()
    assert page.count("<img") == 1
    assert page.count("<tr>") == 5
    assert "&lt;b&gt;dog" in page
    assert "<b>" not in page
    (tmp_path / "a.png").unlink()
    assert "<img" not in found._repr_html_()
    assert "<table>" not in detections(0)._repr_html_()


def test_they_are_drawn_on_their_image_or_a_given_one() -> None:
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[..., 0] = 200
    found = replace(boxes_in_view(), source=ImageSource(reference=weakref.ref(pixels), color="bgr"))
    assert found.draw().getpixel((39, 29)) == (0, 0, 200)  # away from all boxes
    assert found.draw(pixels).getpixel((39, 29)) == (200, 0, 0)
    assert found.draw(pixels, color="bgr").getpixel((39, 29)) == (0, 0, 200)
    with pytest.raises(ValueError, match="not resized"):
        found.draw(np.zeros((15, 20, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="pass it"):
        replace(found, source=None).draw()


def test_detections_do_not_keep_their_image_alive() -> None:
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    found = replace(boxes_in_view(), source=ImageSource(reference=weakref.ref(pixels)))
    assert "<img" in found._repr_html_()
    del pixels
    gc.collect()
    assert "<img" not in found._repr_html_()
    with pytest.raises(ValueError, match="not in memory any more"):
        found.draw()


def test_detections_can_be_pickled_and_copied() -> None:
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    found = replace(detections(), source=ImageSource("a.jpg", weakref.ref(pixels)))
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert torch.equal(again.boxes, found.boxes)
        assert again.source.get() == "a.jpg"
    assert found[1:].source is found.to("cpu").source is found.source
