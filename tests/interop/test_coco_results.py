"""COCO results files: what is written is what is read, here and by pycocotools."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gfocal.errors import DataError
from gfocal.interop.coco_results import read_coco_results, write_coco_results

IDS = (3, 17, 90)


def made(n: int = 3) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    xy = 100 * torch.rand(n, 2, generator=generator)
    return SimpleNamespace(
        boxes=torch.cat([xy, xy + 5 + 50 * torch.rand(n, 2, generator=generator)], 1),
        scores=torch.rand(n, generator=generator),
        labels=torch.arange(n) % 3,
        edge_std=torch.rand(n, 4, generator=generator),
    )


def test_round_trip(tmp_path: Path):
    found = {7: made(), 9: made(0)}
    assert write_coco_results(tmp_path / "r.json", found, IDS, edge_std=True) == 3
    back = read_coco_results(tmp_path / "r.json", IDS)
    assert set(back) == {7}
    torch.testing.assert_close(back[7].boxes.float(), found[7].boxes, atol=2e-3, rtol=0)
    assert torch.equal(back[7].scores.float(), found[7].scores)
    assert torch.equal(back[7].labels, found[7].labels)
    assert back[7].edge_std is not None
    torch.testing.assert_close(back[7].edge_std, found[7].edge_std, atol=1e-3, rtol=0)


def test_pycocotools_reads_it(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra: test)")
    write_coco_results(tmp_path / "r.json", {7: made()}, IDS, edge_std=True)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = coco.COCO()
        ground_truth.dataset = {"images": [{"id": 7}], "categories": [{"id": i} for i in IDS], "annotations": []}
        ground_truth.createIndex()
        results = ground_truth.loadRes(str(tmp_path / "r.json"))
    assert {a["category_id"] for a in results.dataset["annotations"]} == set(IDS)


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path: Path):
    bad = made()
    bad.boxes[1, 2] = float("nan")
    with pytest.raises(ValueError, match="image id 7"):
        write_coco_results(tmp_path / "r.json", {7: bad}, IDS)
    assert list(tmp_path.iterdir()) == []


def test_a_label_without_a_category_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="category ids"):
        write_coco_results(tmp_path / "r.json", {7: made()}, (3, 17))


def test_no_detections_at_all_is_an_empty_list(tmp_path: Path):
    assert write_coco_results(tmp_path / "r.json", {7: made(0)}, IDS) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == []
    assert read_coco_results(tmp_path / "r.json", IDS) == {}


def test_edge_std_that_is_not_there_is_refused(tmp_path: Path):
    bare = made()
    del bare.edge_std
    with pytest.raises(ValueError, match="no edge_std"):
        write_coco_results(tmp_path / "r.json", {7: bare}, IDS, edge_std=True)


GOOD = {"image_id": 7, "category_id": 17, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"category_id": 4}, "category_id 4"),
        ({"image_id": "7"}, "image_id '7'"),
        ({"bbox": [1.0, 2.0, 3.0]}, "expected 4 finite numbers"),
        ({"bbox": [1.0, 2.0, -3.0, 4.0]}, "width -3.0"),
        ({"score": float("nan")}, "score"),
        ({"edge_std": [1.0]}, "edge_std"),
    ],
)
def test_a_malformed_record_is_named(tmp_path: Path, changed, message):
    file = tmp_path / "r.json"
    file.write_text(json.dumps([GOOD, {**GOOD, **changed}]))
    with pytest.raises(DataError, match=message) as caught:
        read_coco_results(file, IDS)
    assert f"{file}: record 1" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "not a json file"),
        ("{}", "a list of records"),
        ('[{"image_id": 7}]', "has no category_id, bbox, score"),
        (json.dumps([GOOD, {**GOOD, "edge_std": [1, 1, 1, 1]}]), "1 of 2 records have edge_std"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco_results(tmp_path / "r.json", IDS)
