"""Batches of a table: the same detections as ``model.detect``, whatever the batch, and errors as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import tiny_detector
from gfocal.data.classes import map_classes
from gfocal.inference.batches import DetectBatch
from gfocal.models.detector import Detector
from gfocal.models.model_file import save_model
from gfocal.structures import Detections

THRESHOLD = 0.0105


@pytest.fixture(scope="module")
def model() -> Detector:
    return tiny_detector()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        Image.effect_noise((60, 40 + number), 60).convert("RGB").save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(5)]


def assert_is(row: dict[str, Any], expected: Detections) -> None:
    assert (row["height"], row["width"]) == expected.size
    assert row["boxes"] == expected.boxes.tolist()
    assert row["scores"] == expected.scores.tolist()
    assert row["labels"] == expected.labels.tolist()
    assert row["edge_std"] == expected.edge_std.tolist()
    assert row["error"] is None


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@settings(max_examples=8)
@given(order=st.lists(st.integers(0, 4), min_size=1, max_size=5), as_bytes=st.booleans())
def test_any_batch_has_the_detections_of_detect(
    model: Detector, photos: list[str], order: list[int], as_bytes: bool
) -> None:
    files = [photos[i] for i in order]
    images = [Path(file).read_bytes() for file in files] if as_bytes else files
    column = np.empty(len(images), object)
    column[:] = images
    found = DetectBatch(model, THRESHOLD)({"bytes" if as_bytes else "path": column, "id": np.array(order)})
    assert found["id"] == order
    for row, file in zip(rows_of(found), files, strict=True):
        assert_is(row, model.detect(file, THRESHOLD))


def test_images_that_cannot_be_read_are_rows_with_their_reason(
    model: Detector, photos: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(photos[0]).read_bytes()[:100])
    paths = [photos[0], str(broken), str(tmp_path / "absent.png"), None, photos[1]]
    rows = rows_of(DetectBatch(model, THRESHOLD, batch_size=4)({"path": paths, "bytes": [None] * 4 + [b"no image"]}))
    assert [row["error"] is None for row in rows] == [True, False, False, False, False]
    assert "broken.png" in rows[1]["error"]
    assert "absent.png" in rows[2]["error"]
    assert rows[3]["error"] == "no image: neither bytes nor a path"
    assert photos[1] in rows[4]["error"]
    assert rows[1]["boxes"] == []
    assert rows[1]["width"] is None
    assert_is(rows[0], model.detect(photos[0], THRESHOLD))


def test_larger_passes_find_the_same(model: Detector, photos: list[str]) -> None:
    one, four = (rows_of(DetectBatch(model, THRESHOLD, batch_size=n)({"path": photos})) for n in (1, 4))
    for a, b in zip(one, four, strict=True):
        assert a["labels"] == b["labels"]
        torch.testing.assert_close(torch.tensor(a["boxes"]), torch.tensor(b["boxes"]), atol=1e-3, rtol=0)


def test_a_model_is_loaded_where_its_path_is_given(model: Detector, photos: list[str], tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.safetensors")
    found = DetectBatch(str(tmp_path / "model.safetensors"), THRESHOLD, num_threads=1)({"path": photos[:1]})
    assert_is(rows_of(found)[0], model.detect(photos[0], THRESHOLD))


def test_chosen_classes(model: Detector, photos: list[str]) -> None:
    classes = map_classes(model.names, {}, ["dog"])
    found = DetectBatch(model, THRESHOLD, classes=classes)({"path": photos[:1]})
    everything = model.detect(photos[0], THRESHOLD)
    assert len(found["labels"][0]) == int((everything.labels == 1).sum()) > 0
    assert set(found["labels"][0]) == {0}


def test_a_batch_without_images_is_refused(model: Detector) -> None:
    with pytest.raises(ValueError, match="'bytes' or 'path', not only 'id'"):
        DetectBatch(model)({"id": [1]})
    with pytest.raises(ValueError, match="batch_size"):
        DetectBatch(model, batch_size=0)


def test_an_address_is_read_through_pyarrow(model: Detector, photos: list[str]) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra ray: pip install 'gfocal[ray]'")
    found = rows_of(DetectBatch(model, THRESHOLD)({"path": [Path(photos[0]).as_uri(), "file:///no/such.png"]}))
    assert_is(found[0], model.detect(photos[0], THRESHOLD))
    assert "file:///no/such.png: cannot be read" in found[1]["error"]
