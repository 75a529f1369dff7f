"""Our COCO numbers equal those of pycocotools."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.dataset import Sample
from gfocal.data.readers.coco import read_coco
from gfocal.evaluation.coco_ap import CocoResult, coco_ap
from gfocal.reports.tables import coco_table

pycocotools = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra: test)")
from pycocotools.cocoeval import COCOeval  # noqa: E402

AP_KEYS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
KEYS = [*AP_KEYS, "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]


def reference(ground_truth: dict, results: list[dict]) -> tuple[list[float], list[float]]:
    """The twelve numbers and the AP of each category, by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = pycocotools.COCO()
        gt.dataset = ground_truth
        gt.createIndex()
        found = gt.loadRes(results) if results else pycocotools.COCO()
        if not results:
            found.dataset = {
                "images": ground_truth["images"],
                "categories": ground_truth["categories"],
                "annotations": [],
            }
            found.createIndex()
        run = COCOeval(gt, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"][:, :, :, 0, 2]
    per_class = [p[p > -1].mean() if (p > -1).any() else -1 for p in np.moveaxis(precision, 2, 0)]
    return run.stats.tolist(), per_class


def compare(result: CocoResult, stats: list[float], per_class: list[float]) -> None:
    for key, theirs in zip(KEYS, stats, strict=True):
        ours = getattr(result, key)
        assert (-1 if ours is None else ours) == pytest.approx(theirs, abs=1e-12), key
    for (name, ours), theirs in zip(result.per_class.items(), per_class, strict=True):
        assert (-1 if ours.ap is None else ours.ap) == pytest.approx(theirs, abs=1e-12), name


def scene(seed: int, num_images: int, num_classes: int, num_found: int, crowd: float, levels: int):
    """Random ground truth and detections, many of them near the ground truth, in both libraries' forms.

    ``levels`` scores exist, so few of them make many ties.
    """
    rng = np.random.default_rng(seed)
    samples, found, annotations, results = [], {}, [], []
    for image_id in range(1, num_images + 1):
        count = int(rng.integers(0, 12)) if image_id % 4 else 0
        xy = rng.integers(0, 300, (count, 2)).astype(np.float64)
        wh = rng.choice([12.0, 30.0, 50.0, 90.0, 140.0], (count, 2)) + rng.integers(0, 5, (count, 2))
        labels, crowds = rng.integers(0, num_classes, count), rng.random(count) < crowd
        boxes = np.concatenate([xy, xy + wh], 1)
        samples.append(
            Sample(
                image_id,
                None,
                torch.tensor(boxes, dtype=torch.float32),
                torch.tensor(labels),
                torch.tensor(crowds),
            )
        )
        for box, label, flag in zip(boxes, labels, crowds, strict=True):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(flag),
                }
            )
        chosen = rng.integers(0, max(count, 1), num_found) if count else np.zeros(0, dtype=int)
        jitter = np.round(rng.normal(0, 6, (len(chosen), 4)))
        guess = boxes[chosen] + jitter
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        scores = np.float32(rng.integers(1, levels + 1, len(chosen)) / (levels + 1))
        guessed = np.where(rng.random(len(chosen)) < 0.8, labels[chosen], rng.integers(0, num_classes, len(chosen)))
        found[image_id] = SimpleNamespace(
            boxes=torch.tensor(guess, dtype=torch.float32), scores=torch.tensor(scores), labels=torch.tensor(guessed)
        )
        for box, label, score in zip(guess, guessed, scores, strict=True):
            results.append(
                {
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": float(score),
                }
            )
    ground_truth = {
        "images": [{"id": i} for i in range(1, num_images + 1)],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(num_classes)],
        "annotations": annotations,
    }
    return samples, found, [str(c) for c in range(num_classes)], ground_truth, results


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_classes=st.integers(1, 4),
    num_found=st.sampled_from([0, 1, 8, 30]),
    crowd=st.sampled_from([0.0, 0.3, 1.0]),
    levels=st.sampled_from([1, 3, 1000]),
)
def test_equal_to_pycocotools(seed, num_classes, num_found, crowd, levels):
    samples, found, names, ground_truth, results = scene(seed, 6, num_classes, num_found, crowd, levels)
    compare(coco_ap(samples, found, names), *reference(ground_truth, results))


def test_more_than_100_detections_of_one_class_in_an_image():
    samples, found, names, ground_truth, results = scene(5, 4, 1, 260, 0.2, 1000)
    assert max(len(f.scores) for f in found.values()) > 100
    compare(coco_ap(samples, found, names), *reference(ground_truth, results))


def test_coco_with_crowds_sparse_ids_and_outline_areas(shared: Path):
    file = shared / "data" / "coco_ccby" / "annotations" / "instances_val2017.json"
    data = read_coco(file)
    rng = np.random.default_rng(0)
    found, results = {}, []
    for sample in data.samples:
        boxes = sample.boxes.double() + torch.from_numpy(np.round(rng.normal(0, 5, sample.boxes.shape), 2))
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        boxes = boxes.float()
        scores = torch.from_numpy(rng.random(len(boxes), dtype=np.float32))
        found[sample.image_id] = SimpleNamespace(boxes=boxes, scores=scores, labels=sample.labels)
        corners = boxes.double()
        for box, score, label in zip(corners.tolist(), scores.tolist(), sample.labels.tolist(), strict=True):
            results.append(
                {
                    "image_id": sample.image_id,
                    "category_id": data.category_ids[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": score,
                }
            )
    ours = coco_ap(data.samples, found, data.names)
    assert ours.ap is not None
    assert 0.1 < ours.ap < 0.9
    stats, per_class = reference(json.loads(file.read_text()), results)
    # Our ground-truth boxes are float32 corners, COCO's are decimals: IoU differs in the eighth digit.
    for key, theirs in zip(KEYS, stats, strict=True):
        assert (getattr(ours, key) or 0.0) == pytest.approx(max(theirs, 0.0), abs=1e-9), key
    for (name, mine), theirs in zip(ours.per_class.items(), per_class, strict=True):
        assert (-1 if mine.ap is None else mine.ap) == pytest.approx(theirs, abs=1e-9), name


def test_no_ground_truth_of_a_size_is_none_and_empty_in_the_table():
    sample = Sample(1, None, torch.tensor([[0.0, 0, 200, 200]]), torch.tensor([0]), torch.tensor([False]))
    result = coco_ap([sample], {}, ["a", "b"])
    assert result.ap == 0
    assert result.ap_small is None
    assert result.per_class["b"].ap is None
    assert json.loads(json.dumps(result.to_json()))["ap_small"] is None
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120)
    console.print(coco_table(result))
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["1", "image,", "1", "ground-truth", "box,", "0", "detections"]
    assert next(line.split() for line in lines if line.startswith("b")) == ["b", "0", "n/a"]
    assert next(line.split() for line in lines if line.startswith("a ")) == ["a", "few", "1", *["0.000"] * 3]


def test_the_table_cuts_no_number_on_a_terminal_of_80_columns():
    box = torch.tensor([[0.0, 0, 200, 200]])
    sample = Sample(1, None, box, torch.tensor([1]), torch.tensor([False]))
    one = SimpleNamespace(boxes=box, scores=torch.tensor([0.5]), labels=torch.tensor([1]))
    result = coco_ap([sample], {1: one}, ["a class of a very long name indeed", "[bold]hydrant"])
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    console.print(coco_table(result))
    lines = console.file.getvalue().splitlines()
    assert "…" not in console.file.getvalue()
    assert max(len(line) for line in lines) <= 80
    assert next(line.split() for line in lines if line.startswith("all")) == ["all", "few", "1"] + ["1.000"] * 6
    assert next(line.split() for line in lines if "[bold]hydrant" in line)[1:] == ["few", "1"] + ["1.000"] * 3


def test_classes_by_size_and_many_without_ground_truth_in_one_line():
    sizes = torch.tensor([[0.0, 0, 20, 20], [100.0, 0, 150, 50], [200.0, 0, 400, 200]])
    sample = Sample(1, None, sizes, torch.tensor([0, 0, 0]), torch.tensor([False] * 3))
    one = SimpleNamespace(boxes=sizes[[0, 2]], scores=torch.tensor([0.5, 0.4]), labels=torch.tensor([0, 0]))
    result = coco_ap([sample], {1: one}, ["cat", *(f"none{k}" for k in range(4))])
    cat = result.per_class["cat"]
    assert (cat.ap_small, cat.ap_medium, cat.ap_large) == pytest.approx((1, 0, 1), abs=1e-9)
    assert (cat.ap_small, cat.ap_medium, cat.ap_large) == (result.ap_small, result.ap_medium, result.ap_large)
    assert cat.ap75 == pytest.approx(cat.ap50)
    assert result.per_class["none0"].ap_small is None
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    console.print(coco_table(result))
    text = console.file.getvalue()
    assert "none0" not in text
    assert "4 classes without ground truth omitted" in [line.strip() for line in text.splitlines()]
    assert "cat" in text


def test_detections_of_an_unknown_image_are_refused():
    sample = Sample(1, None, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    one = SimpleNamespace(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="image id 7"):
        coco_ap([sample], {7: one}, ["a"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": torch.tensor([[50.0, 50, 20, 20]])}, "not x, y, width, height"),
        ({"boxes": torch.tensor([[0.0, 0, float("nan"), 20]])}, "image id 3: box 0"),
        ({"scores": torch.tensor([float("nan")])}, "finite scores"),
        ({"scores": torch.zeros(2)}, "1 finite scores"),
        ({"labels": torch.tensor([1])}, "label 1, but the 1 classes"),
    ],
)
def test_malformed_detections_are_refused_by_image_and_box(changed, message):
    box = torch.tensor([[0.0, 0, 20, 20]])
    sample = Sample(3, None, box, torch.tensor([0]), torch.tensor([False]))
    one = {"boxes": box, "scores": torch.tensor([0.5]), "labels": torch.tensor([0])}
    assert coco_ap([sample], {3: SimpleNamespace(**one)}, ["a"]).ap == pytest.approx(1)
    with pytest.raises(ValueError, match=message):
        coco_ap([sample], {3: SimpleNamespace(**{**one, **changed})}, ["a"])


def test_a_repeated_image_id_is_refused():
    sample = Sample(3, None, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    with pytest.raises(ValueError, match="image id 3 occurs in more than one sample"):
        coco_ap([sample, sample], {}, ["a"])


def test_nothing_is_printed(capfd):
    samples, found, names, _, _ = scene(1, 4, 2, 8, 0.2, 10)
    coco_ap(samples, found, names)
    assert tuple(capfd.readouterr()) == ("", "")
