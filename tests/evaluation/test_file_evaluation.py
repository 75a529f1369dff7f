"""Detections in a file, on a COCO file: the numbers of pycocotools, whatever it reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data
from gfocal.data.readers.coco import read_coco
from gfocal.data.stated import index_by_stated_id
from gfocal.data.views import as_one_class, concatenate, with_classes
from gfocal.evaluation.coco_ap import CocoResult, coco_ap
from gfocal.evaluation.evaluate import Evaluation, evaluate
from gfocal.evaluation.matching import collect_boxes, compute_overlaps, match
from gfocal.interop.coco_results import read_coco_results

pycocotools = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra: test)")
from test_coco_ap import KEYS, reference  # noqa: E402

WIDTH, HEIGHT = 100, 80


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images."""
    home = tmp_path_factory.mktemp("set")
    for name in "abc":
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(home / f"{name}.png")
    return home


def write(folder: Path, content: dict[str, Any], results: list[dict[str, Any]]) -> tuple[Path, Path]:
    file, found = folder / "set.json", folder / "found" / "results.json"
    found.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    found.write_text(json.dumps(results))
    return file, found


def evaluate_files(file: Path, found: Path, max_detections: int = 100) -> tuple[FileData, Evaluation]:
    data = read_coco(file)
    ids, _ = index_by_stated_id(data.table.image_ids.tolist(), data.table.stated)
    detections = read_coco_results(found, data.category_ids, ids)
    return data, evaluate(data, detections, max_detections=max_detections)


def check(result: CocoResult, content: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Equal to pycocotools, to the last bits of a mean."""
    stats, per_class = reference(complete(content), results)
    for key, theirs in zip(KEYS, stats, strict=True):
        ours = getattr(result, key)
        assert (-1 if ours is None else ours) == pytest.approx(theirs, abs=1e-12), key
    for one, theirs in zip(result.per_class.values(), per_class, strict=True):
        assert (-1 if one.ap is None else one.ap) == pytest.approx(theirs, abs=1e-12)


def complete(content: dict[str, Any]) -> dict[str, Any]:
    """With what pycocotools cannot do without: areas, and annotation ids from 1 (0 is "not matched" to it)."""
    annotations = []
    for number, annotation in enumerate(content["annotations"], 1):
        area = annotation["bbox"][2] * annotation["bbox"][3]
        annotations.append({"iscrowd": 0, "area": area} | annotation | {"id": number})
    return content | {"annotations": annotations}


def made_set(boxes: list[list[float]], **changes: Any) -> dict[str, Any]:
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0} | changes
        for k, box in enumerate(boxes, 1)
    ]
    images = [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}


def detections_of(content: dict[str, Any], score: float = 0.9) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox")
    return [{key: one[key] for key in keys} | {"score": score} for one in content["annotations"]]


@pytest.mark.parametrize(
    "boxes",
    [
        [[-30, 10, 80, 40], [60, 20, 30, 30]],
        [[0.1, 0.2, 500.5, 33.3]],
        [[120, 10, 20, 20], [10, 10, 20, 20]],  # outside
        [[10, 10, 20, 20], [10, 10, 20, 20]],  # twice
    ],
)
def test_the_same_boxes_have_an_ap_of_1_wherever_they_lie(folder: Path, boxes: list[list[float]]) -> None:
    content = made_set(boxes)
    results = detections_of(content)
    _, evaluation = evaluate_files(*write(folder, content, results))
    assert evaluation.ap.ap == pytest.approx(1.0)
    assert evaluation.ap.num_ground_truth == len(boxes)
    check(evaluation.ap, content, results)


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ([10, 10, 20, 20], [10, 10, 20, 15]),  # IoU 0.75
        ([10.1, 0.1, 0.3, 0.4], [10.1, 0.1, 0.3, 0.2]),  # 0.5 up to a rounding
        ([10.7, 10.3, 30.1, 20.2], [10.7, 10.3, 30.1, 13.13]),  # 0.65 up to a rounding
        ([33.3, 7.7, 9.9, 11.1], [33.3, 7.7, 9.9, 9.435]),  # 0.85 up to a rounding
    ],
)
def test_an_iou_at_a_threshold_falls_on_the_same_side(folder: Path, box: list[float], found: list[float]) -> None:
    content = made_set([box])
    results = [{"image_id": 1, "category_id": 1, "bbox": found, "score": 0.5}]
    check(evaluate_files(*write(folder, content, results))[1].ap, content, results)


def test_scores_are_ordered_as_they_stand_in_the_file(folder: Path) -> None:
    content = made_set([[10, 10, 20, 20]])
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [60, 10, 20, 20], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9000000001},  # the same as float32
    ]
    _, evaluation = evaluate_files(*write(folder, content, results))
    assert evaluation.ap.ap == pytest.approx(1.0)
    threshold = evaluation.thresholds[0]
    assert (evaluation.selected.tolist(), threshold) == ([True, False], pytest.approx(0.9))


@pytest.mark.parametrize(("area", "size"), [(0, "small"), (2000, "medium"), (20000, "large"), (None, "small")])
def test_the_stated_area_decides_the_size(folder: Path, area: float | None, size: str) -> None:
    content = made_set([[10, 10, 20, 20]], area=area)
    if area is None:
        del content["annotations"][0]["area"]
    results = detections_of(content)
    result = evaluate_files(*write(folder, content, results))[1].ap
    assert [s for s in ("small", "medium", "large") if getattr(result, f"num_{s}")] == [size]
    check(result, content, results)


BOX = st.tuples(
    st.sampled_from([-30.0, -0.1, 0.0, 5.0, 10.1, 20.3, 40.7, 60.0, 95.5, 130.0]),
    st.sampled_from([-20.0, 0.0, 3.3, 10.0, 30.1, 50.2, 79.0]),
    st.sampled_from([0.0, 0.3, 5.0, 10.0, 20.2, 33.3, 64.0, 200.0]),
    st.sampled_from([0.0, 0.7, 5.0, 10.0, 20.0, 33.1, 64.0, 100.0]),
).map(list)


@st.composite
def sets(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowds, ties, boxes anywhere, ids from 0, of any order or of text, areas that are missing or of no box."""
    image_ids: list[Any] = draw(st.sampled_from([[0, 1, 2], [7, 0, 3], ["x", "y", "z"], [10**12, 5, 6]]))
    category_ids = draw(st.sampled_from([[0, 1], [1, 2], [9, 4], [3]]))
    objects = draw(st.lists(st.tuples(BOX, st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=12))
    annotations = []
    for number, (box, image, label, crowd) in enumerate(objects):
        one = {
            "id": number,
            "image_id": image_ids[image],
            "category_id": category_ids[label % len(category_ids)],
            "bbox": box,
            "iscrowd": int(crowd and draw(st.booleans())),
        }
        area = draw(st.sampled_from(["box", "missing", 0, 7.5, 1024, 9216.0, 1e6]))
        if area != "missing":
            one["area"] = box[2] * box[3] if area == "box" else area
        annotations.append(one)
    found = []
    for _ in range(draw(st.integers(0, 15))):
        near = draw(st.booleans()) and annotations
        if near:
            box = list(draw(st.sampled_from(annotations))["bbox"])
            side = draw(st.integers(0, 3))
            box[side] = round(box[side] * draw(st.sampled_from([1.0, 0.5, 0.75, 0.9, 1.1])), 3)
        else:
            box = draw(BOX)
        found.append(
            {
                "image_id": image_ids[draw(st.integers(0, 2))],
                "category_id": draw(st.sampled_from(category_ids)),
                "bbox": box,
                "score": draw(st.sampled_from([0.1, 0.5, 0.5000000001, 0.9])),
            }
        )
    images = [
        {"id": image_id, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
        for image_id, name in zip(image_ids, "abc", strict=True)
    ]
    categories = [{"id": number, "name": f"class {number}"} for number in category_ids]
    return {"images": images, "annotations": annotations, "categories": categories}, found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sets())
def test_made_sets_are_equal(folder: Path, made: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    content, results = made
    ordered = content | {"categories": sorted(content["categories"], key=lambda one: one["id"])}
    data, evaluation = evaluate_files(*write(folder, content, results))
    check(evaluation.ap, ordered, results)
    # The arrays that everything else is computed from match alike.
    boxes = evaluation.boxes
    for iou, attribute in ((0.5, "ap50"), (0.75, "ap75")):
        if attribute == "ap50":
            assert np.array_equal(match(boxes, compute_overlaps(boxes), iou).gt_index, evaluation.matching.gt_index)
    means = [curve.mean() for curve in evaluation.precision if curve is not None]
    assert (evaluation.ap.ap50 or 0.0) == pytest.approx(np.mean(means) if means else 0.0, abs=1e-9)
    assert len(data) == 3


def crowded(count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    content = made_set([[k % 20 * 5, k // 20 * 5, 4, 4] for k in range(count)])
    content["categories"].append({"id": 2, "name": "other"})
    content["annotations"][0]["category_id"] = 2
    results = detections_of(content)
    for one in results:
        one["score"] = float(rng.uniform(0.5, 1))
    for k in range(0, count, 7):  # wrong ones among them
        results[k] = results[k] | {"bbox": [k % 20 * 5 + 2, k // 20 * 5, 4, 4]}
    return content, results


@pytest.mark.parametrize("limit", [30, 1000])
def test_300_objects_in_an_image(folder: Path, limit: int) -> None:
    content, results = crowded(300)
    _, evaluation = evaluate_files(*write(folder, content, results), max_detections=limit)
    check(evaluation.ap, content, results)
    assert evaluation.ap.num_beyond_limit == 199
    limited = evaluation.ap.limited
    assert limited is not None
    precision, recall = reference_at(limit, content, results)
    assert limited.ap == pytest.approx(precision[precision > -1].mean(), abs=1e-12)
    assert limited.ar == pytest.approx(recall[recall > -1].mean(), abs=1e-12)
    assert limited.per_class["thing"] == pytest.approx(precision[:, :, 0].mean(), abs=1e-12)
    assert evaluation.to_json()["limited"]["max_detections"] == limit
    assert len(evaluation.boxes.score) == min(limit, 299) + 1  # errors and curves are of these


def reference_at(limit: int, content: dict[str, Any], results: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, C) and recall (T, C) of pycocotools with a limit of detections."""
    import contextlib
    import io

    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools.COCO()
        truth.dataset = complete(content)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.params.maxDets = [1, 10, limit]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, :, 0, 2], run.eval["recall"][:, :, 0, 2]


def test_a_limited_result_of_a_model_is_that_of_its_own_limit(folder: Path) -> None:
    content, results = crowded(300)
    file, found = write(folder, content, results)
    data = read_coco(file)
    detections = read_coco_results(found, data.category_ids)
    both = evaluate(data, detections, max_detections=300, best_per_image=100).ap
    best = sorted(results, key=lambda one: -one["score"])[:100]
    check(both, content, best)
    assert both.limited == evaluate(data, detections, max_detections=300).ap.limited


def test_what_is_stated_follows_every_view_of_the_data(folder: Path) -> None:
    content = made_set([[-30, 10, 80, 40], [60, 20, 30, 30], [10, 10, 20, 20]])
    content["annotations"][2]["category_id"] = 5
    content["categories"].append({"id": 5, "name": "other"})
    file, found = write(folder, content, detections_of(content))
    data = read_coco(file)
    ids, _ = index_by_stated_id(data.table.image_ids.tolist(), data.table.stated)
    detections = read_coco_results(found, data.category_ids, ids)
    boxes = [[-30.0, 10.0, 80.0, 40.0], [60.0, 20.0, 30.0, 30.0], [10.0, 10.0, 20.0, 20.0]]

    def stated(view: Any) -> tuple[list[list[float]], list[int]]:
        sample = view.sample(0)
        assert sample.stated is not None
        return sample.stated.boxes.tolist(), sample.stated.labels.tolist()

    assert stated(data) == (boxes, [0, 0, 1])
    assert stated(data.select([0])) == (boxes, [0, 0, 1])
    assert stated(as_one_class(data)) == (boxes, [0, 0, 0])
    assert stated(concatenate([data], ["other", "thing"])) == (boxes, [1, 1, 0])
    assert stated(with_classes(data, ["thing"])) == (boxes[:2], [0, 0])
    assert stated(with_classes(data, ["none", "other"])) == (boxes[2:], [1])
    assert with_classes(data, ["none", "other"]).category_ids == (6, 5)
    assert data.without_stated().sample(0).stated is None
    assert coco_ap(list(data.samples), detections, data.names).ap == pytest.approx(1.0)
    assert data.sample(0).boxes[0].tolist() == [0.0, 10.0, 50.0, 50.0]  # for training it is clipped


def test_detections_have_the_coordinates_of_the_annotation_file(folder: Path) -> None:
    """Where images were resized after annotation, boxes are scaled for models, not for other programs' detections."""
    content = made_set([[200, 100, 301, 203], [600, 500, 133, 201]])
    content["images"][0] |= {"width": 10 * WIDTH, "height": 10 * HEIGHT}
    results = detections_of(content)
    data, _ = evaluate_files(*write(folder, content, results))
    stated = data.sample(0).stated
    assert stated is not None
    assert stated.boxes[0].tolist() == pytest.approx([20, 10, 30.1, 20.3])
    unscaled = data.before_scaling().select([0])
    ids, _ = index_by_stated_id([1], unscaled.table.stated)
    found = read_coco_results(folder / "found" / "results.json", data.category_ids, ids)
    check(evaluate(unscaled, found).ap, content, results)
    both = concatenate([data, with_classes(data, data.names)]).before_scaling().table.stated
    assert both is not None
    assert both.boxes[:2].tolist() == [one["bbox"] for one in content["annotations"]]


def test_boxes_of_other_formats_are_not_clipped_either(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    (tmp_path / "set.csv").write_text(
        "filename,class,xmin,ymin,xmax,ymax\na.png,thing,-30,10,50,50\na.png,thing,60.1,20,90,50\na.png,thing,3,3,3,9\n"
    )
    data = read_data(tmp_path / "set.csv")
    stated = data.sample(0).stated
    assert stated is not None
    assert stated.boxes.tolist() == [[-30, 10, 80, 40], [60.1, 20, 90 - 60.1, 30]]
    assert collect_boxes(list(data.samples), {}, data.names).gt_box[0].tolist() == [-30, 10, 50, 50]
