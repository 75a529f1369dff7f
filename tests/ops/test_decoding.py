"""From logits to detections: a slow reimplementation, and each rule of the protocol alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfocal.ops.boxes import boxes_from_distances, clip_boxes, iou
from gfocal.ops.decoding import DecodeSettings, best_pairs, decode
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import make_points
from gfocal.structures import Detections, HeadOutputs

LAW = GeneralDistribution(16)
NAMES = ("cat", "dog")


def outputs_of(
    scores: Tensor, ltrb: Tensor, shapes: Sequence[tuple[int, int]], strides: Sequence[int]
) -> HeadOutputs:
    """Logits of given scores (B, P, C) and distances in bins (B, P, 4)."""
    points = make_points(shapes, strides)
    return HeadOutputs(scores.logit(), LAW.two_hot(ltrb).clamp(min=1e-30).log(), points)


def one_level(
    scores: Sequence[Sequence[float]], ltrb: Sequence[Sequence[float]], shape: tuple[int, int] | None = None
) -> HeadOutputs:
    """One image, a row of points with stride 8."""
    shape = shape or (1, len(scores))
    return outputs_of(torch.tensor([scores]), torch.tensor([ltrb], dtype=torch.float32), [shape], [8])


def decode_one(
    outputs: HeadOutputs,
    settings: DecodeSettings | None = None,
    size: tuple[int, int] = (64, 64),
    original: tuple[int, int] | None = None,
    law: GeneralDistribution = LAW,
) -> Detections:
    names = tuple(f"class{i}" for i in range(outputs.cls_logits.shape[-1]))
    sizes, originals = torch.tensor([size]), torch.tensor([original or size])
    (found,) = decode(outputs, law, sizes, originals, names, settings)
    return found


def slow_decode(
    outputs: HeadOutputs, settings: DecodeSettings, size: tuple[int, int]
) -> list[tuple[float, int, int]]:
    """(score, point, label) of what is kept in one image, best first."""
    scores, edges = outputs.cls_logits[0].sigmoid(), outputs.box_logits[0].softmax(-1)
    candidates, start = [], 0
    for count in outputs.points.counts:
        pairs = [(scores[p, c].item(), p, c) for p in range(start, start + count) for c in range(scores.shape[1])]
        pairs = sorted((pair for pair in pairs if pair[0] > settings.score_threshold), reverse=True)
        candidates += pairs[: settings.per_level]
        start += count

    def box(p: int) -> Tensor:
        bins = torch.arange(17) * outputs.points.strides[p]
        ltrb = (edges[p] * bins).sum(-1)
        return clip_boxes(boxes_from_distances(outputs.points.xy[p], ltrb), *size)

    kept: list[tuple[float, int, int]] = []
    for candidate in sorted(candidates, reverse=True):
        _, p, c = candidate
        if all(iou(box(p), box(q)).item() <= settings.nms_threshold for _, q, d in kept if d == c):
            kept.append(candidate)
    return kept[: settings.max_detections]


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_equals_the_slow_way(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes, strides, size = [(6, 8), (3, 4)], [8, 16], (45, 60)
    count = sum(h * w for h, w in shapes)
    scores = torch.rand(1, count, 2, generator=generator) ** 3
    ltrb = torch.rand(1, count, 4, generator=generator) * 2 + 0.5
    outputs = outputs_of(scores, ltrb, shapes, strides)
    limits = DecodeSettings(score_threshold=0.1, per_level=25, nms_threshold=0.4, max_detections=20)
    found = decode_one(outputs, limits, size)
    want = slow_decode(outputs, limits, size)
    assert found.scores.tolist() == pytest.approx([s for s, _, _ in want])
    assert found.labels.tolist() == [c for _, _, c in want]
    assert found.points.tolist() == [outputs.points.xy[p].tolist() for _, p, _ in want]
    torch.testing.assert_close(found.edges, torch.stack([outputs.box_logits[0, p].softmax(-1) for _, p, _ in want]))


def test_the_score_threshold_is_strict() -> None:
    outputs = one_level([[0.5], [0.2], [0.8]], [[1, 1, 1, 1]] * 3)
    at = outputs.cls_logits[0, 0, 0].sigmoid().item()
    found = decode_one(outputs, DecodeSettings(score_threshold=at, nms_threshold=1))
    assert found.scores.tolist() == pytest.approx([0.8])


def test_the_best_pairs_of_each_level_are_kept() -> None:
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.7], [0.2, 0.3], [0.6, 0.06]]).logit()
    points, scores, labels = best_pairs(logits, [2, 2], DecodeSettings(per_level=2))
    assert points.tolist() == [0, 1, 3, 2]
    assert labels.tolist() == [1, 0, 0, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.6, 0.3])


def test_without_a_limit_no_pair_above_the_threshold_is_lost() -> None:
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.04]]).logit()
    points, _, labels = best_pairs(logits, [2], DecodeSettings(per_level=3))
    assert sorted(zip(points.tolist(), labels.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0)]


def test_one_point_may_stand_for_several_classes() -> None:
    found = decode_one(one_level([[0.9, 0.7]], [[1, 1, 1, 1]]))
    assert found.labels.tolist() == [0, 1]
    assert torch.equal(found.boxes[0], found.boxes[1])
    assert torch.equal(found.edges[0], found.edges[1])
    assert found.class_names == ["class0", "class1"]


def test_suppression_is_per_class_and_only_above_the_threshold() -> None:
    # Points at x = 0 and 8: boxes (0, 0, 24, 8) and (8, 0, 32, 8), IoU 16 / 32 = 0.5.
    same = one_level([[0.9, 0.01], [0.8, 0.01]], [[0, 0, 3, 1], [0, 0, 3, 1]])
    assert len(decode_one(same, DecodeSettings(nms_threshold=0.45))) == 1
    assert len(decode_one(same, DecodeSettings(nms_threshold=0.55))) == 2
    assert decode_one(same, DecodeSettings(nms_threshold=0.45)).scores.tolist() == pytest.approx([0.9])
    other = one_level([[0.9, 0.01], [0.01, 0.8]], [[0, 0, 3, 1], [0, 0, 3, 1]])
    assert len(decode_one(other, DecodeSettings(nms_threshold=0.45))) == 2


def test_suppression_across_classes_gives_an_object_one_name() -> None:
    # As above, IoU 0.5; the third box, at x = 40, is apart.
    scores = [[0.01, 0.8], [0.9, 0.01], [0.01, 0.01], [0.01, 0.01], [0.01, 0.01], [0.7, 0.6]]
    outputs = one_level(scores, [[0, 0, 3, 1]] * 6)
    across = DecodeSettings(nms_threshold=0.45, class_agnostic_nms=True)
    assert decode_one(outputs, replace(across, class_agnostic_nms=False)).class_names == [
        "class0",
        "class1",
        "class0",
        "class1",
    ]
    found = decode_one(outputs, across)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.class_names == ["class0", "class0"]
    assert len(decode_one(outputs, replace(across, nms_threshold=0.55))) == 3  # the two names of one place are one


def test_at_most_max_detections_the_best_first() -> None:
    scores = [[0.1 * (i + 1)] for i in range(8)]
    found = decode_one(one_level(scores, [[0.1, 0.1, 0.1, 0.1]] * 8), DecodeSettings(max_detections=3))
    assert found.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])


def test_boxes_end_at_the_border_of_the_image_not_of_the_padding() -> None:
    found = decode_one(one_level([[0.9]], [[3, 3, 16, 16]]), size=(50, 40))
    assert found.boxes.tolist() == [[0, 0, 40, 50]]


def test_a_box_wholly_in_the_padding_is_no_detection() -> None:
    outputs = one_level([[0.01], [0.01], [0.9]], [[0.5, 0, 1, 1]] * 3)  # at x = 16, from 12 to 24
    assert len(decode_one(outputs, size=(64, 12))) == 0
    assert len(decode_one(outputs, size=(64, 13))) == 1


def test_results_are_scaled_to_the_original_image_each_axis_alone() -> None:
    outputs = one_level([[0.01], [0.9]], [[0, 0, 0, 0], [0.5, 0, 2, 1]])
    found = decode_one(outputs, size=(40, 60), original=(80, 180))
    assert found.size == (80, 180)
    torch.testing.assert_close(found.boxes, torch.tensor([[4.0 * 3, 0, 24 * 3, 8 * 2]]))
    assert found.points.tolist() == [[24, 0]]
    assert found.bin_sizes.tolist() == [[24, 16, 24, 16]]


def test_a_image_without_detections_has_empty_columns_of_the_right_shape() -> None:
    found = decode_one(one_level([[0.01]] * 4, [[1, 1, 1, 1]] * 4))
    assert len(found) == 0
    shapes = [tuple(getattr(found, name).shape) for name in ("boxes", "scores", "edges", "points", "bin_sizes")]
    assert shapes == [(0, 4), (0,), (0, 4, 17), (0, 2), (0, 4)]
    assert found.edge_std.shape == (0, 4)


@pytest.mark.parametrize("delta", [1.0, 0.5])
def test_the_edges_reproduce_the_boxes_row_by_row(delta: float) -> None:
    """The expectation of an edge, in pixels around its point, is the box before it was clipped."""
    generator = torch.Generator().manual_seed(1)
    law = GeneralDistribution(8, delta)
    points = make_points([(6, 8), (3, 4)], [8, 16])
    outputs = HeadOutputs(
        torch.randn(1, 60, 2, generator=generator), torch.randn(1, 60, 4, 9, generator=generator) * 3, points
    )
    found = decode_one(outputs, size=(48, 64), original=(96, 192), law=law)
    assert len(found) > 5
    bins = torch.arange(9.0)
    ltrb = (found.edges * bins).sum(-1) * found.bin_sizes
    again = clip_boxes(boxes_from_distances(found.points, ltrb), 96, 192)
    torch.testing.assert_close(again, found.boxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found.edges.sum(-1), torch.ones(len(found), 4))


def test_a_batch_gives_what_its_images_give_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    points = make_points([(6, 8)], [8])
    outputs = HeadOutputs(
        torch.randn(2, 48, 2, generator=generator), torch.randn(2, 48, 4, 17, generator=generator), points
    )
    sizes, originals = torch.tensor([[48, 64], [30, 50]]), torch.tensor([[48, 64], [60, 100]])
    together = decode(outputs, LAW, sizes, originals, NAMES)
    for i, found in enumerate(together):
        part = replace(outputs, cls_logits=outputs.cls_logits[i : i + 1], box_logits=outputs.box_logits[i : i + 1])
        (alone,) = decode(part, LAW, sizes[i : i + 1], originals[i : i + 1], NAMES)
        for name in ("boxes", "scores", "labels", "edges", "points", "bin_sizes"):
            assert torch.equal(getattr(found, name), getattr(alone, name))
        assert found.names == NAMES
        assert len(found) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_float32_results(dtype: torch.dtype) -> None:
    outputs = one_level([[0.9]], [[1, 1, 1, 1]])
    half = replace(outputs, cls_logits=outputs.cls_logits.to(dtype), box_logits=outputs.box_logits.to(dtype))
    found = decode_one(half)
    assert found.boxes.dtype == found.scores.dtype == found.edges.dtype == torch.float32
    torch.testing.assert_close(found.boxes, torch.tensor([[0.0, 0, 8, 8]]), rtol=0, atol=0.02)


def test_no_graph_is_kept() -> None:
    outputs = one_level([[0.9]], [[1, 1, 1, 1]])
    found = decode_one(replace(outputs, box_logits=outputs.box_logits.requires_grad_()))
    assert not found.boxes.requires_grad
