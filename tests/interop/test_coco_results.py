"""COCO results files: what is written is what is read, here and by pycocotools."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

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
    torch.testing.assert_close(back[7].boxes, found[7].boxes, atol=2e-3, rtol=0)
    assert torch.equal(back[7].scores, found[7].scores)
    assert torch.equal(back[7].labels, found[7].labels)
    assert back[7].edge_std is not None
    torch.testing.assert_close(back[7].edge_std, found[7].edge_std, atol=1e-3, rtol=0)


def test_pycocotools_reads_it(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra: test)")
    write_coco_results(tmp_path / "r.json", {7: made()}, IDS, edge_std=True)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": [{"id": 7}], "categories": [{"id": i} for i in IDS], "annotations": []}
        truth.createIndex()
        results = truth.loadRes(str(tmp_path / "r.json"))
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
