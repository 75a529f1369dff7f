"""Non-maximum suppression inside an onnx graph: raw outputs become final objects.

It is onnx's own NonMaxSuppression, which knows images and classes. Three things differ from detection outside of the
graph: boxes are clipped to the padded input, not to each image in it; no level is limited to its best candidates; and
where two boxes overlap by exactly the threshold, or have equal scores, the engine decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfocal.ops.decoding import DecodeSettings

if TYPE_CHECKING:
    import onnx

PREFIX = "nms_"
LEAST_IOU = 1e-6  # in place of a threshold of 0, at which OpenVINO removes boxes that do not even touch


def append_nms(graph: onnx.ModelProto, settings: DecodeSettings) -> onnx.ModelProto:
    """A graph with the outputs image (N,), boxes (N, 4), scores (N,), labels (N,), points (N, 3) and edge_logits.

    N objects of all images, best first; of each image at most ``max_detections``.
    """
    import onnx
    from onnx import TensorProto, helper

    old = {output.name: output for output in graph.graph.output}
    raw = {name: f"{PREFIX}raw_{name}" for name in old}
    for node in graph.graph.node:
        node.output[:] = [raw.get(name, name) for name in node.output]
        node.input[:] = [raw.get(name, name) for name in node.input]
    build = _Builder(graph)
    scores = raw["scores"]
    if "quality" in raw:
        above = build.add("Greater", scores, build.constant(np.float32(settings.score_threshold)))
        product = build.add("Mul", scores, build.add("Unsqueeze", raw["quality"], build.integers([-1])))
        scores = build.add("Where", above, product, build.constant(np.float32(0)))
    threshold = 0.0 if "quality" in raw else settings.score_threshold
    boxes = build.add("Max", raw["boxes"], build.constant(np.float32(0)))
    size = build.add("Slice", build.add("Shape", "images"), *map(build.integers, ([2], [4], [0])))  # H, W
    sides = build.add("Cast", build.add("Gather", size, build.integers([1, 0, 1, 0])), to=TensorProto.FLOAT)
    boxes = build.add("Min", boxes, sides)
    selected = build.add(
        "NonMaxSuppression",
        boxes,
        build.class_scores(scores, settings.class_agnostic_nms),
        build.integers([settings.max_detections]),
        build.constant(np.array([max(settings.nms_threshold, LEAST_IOU)], np.float32)),
        build.constant(np.array([threshold], np.float32)),
    )  # (N, 3): image, class, point
    image, label, point = (build.add("Gather", selected, build.scalar(i), axis=1) for i in range(3))
    if settings.class_agnostic_nms:  # the one class stood for all
        label = build.add("GatherND", build.add("ArgMax", scores, axis=-1, keepdims=0), build.pair(image, point))
    score = build.add("GatherND", scores, build.add("Concat", *build.columns(image, point, label), axis=1))
    order = build.best_of_each_image(image, score, settings.max_detections)
    image, label, point, score = (build.add("Gather", one, order, axis=0) for one in (image, label, point, score))
    where = build.pair(image, point)
    found = {
        "image": image,
        "boxes": build.add("GatherND", boxes, where),
        "scores": score,
        "labels": label,
        "points": build.add("Gather", raw["points"], point, axis=0),
    }
    if "edge_logits" in raw:
        found["edge_logits"] = build.add("GatherND", raw["edge_logits"], where)
    del graph.graph.output[:]
    for name, value in found.items():
        build.add("Identity", value, output=name)
        kind = TensorProto.INT64 if name in ("image", "labels") else TensorProto.FLOAT
        tail = {"boxes": [4], "points": [3], "edge_logits": list(_tail(old, "edge_logits"))}.get(name, [])
        graph.graph.output.append(helper.make_tensor_value_info(name, kind, ["objects", *tail]))
    onnx.checker.check_model(graph)
    return graph


def _tail(outputs: dict[str, Any], name: str) -> tuple[int, int]:
    """The last two sizes of an output (B, P, 4, K)."""
    if name not in outputs:
        return (0, 0)
    sizes = outputs[name].type.tensor_type.shape.dim
    return sizes[2].dim_value, sizes[3].dim_value


class _Builder:
    """Adds nodes to a graph."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.graph, self.count = graph.graph, 0

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        from onnx import helper

        self.count += 1
        name = output or f"{PREFIX}{self.count}"
        self.graph.node.append(
            helper.make_node(kind, list(inputs), [name], name=f"{PREFIX}node_{self.count}", **attributes)
        )
        return name

    def constant(self, value: Any) -> str:
        """A constant tensor."""
        from onnx import numpy_helper

        self.count += 1
        name = f"{PREFIX}constant_{self.count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def integers(self, values: list[int]) -> str:
        """A constant list of integers."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: int) -> str:
        """A constant integer."""
        return self.constant(np.array(value, np.int64))

    def columns(self, *values: str) -> list[str]:
        """(N,) -> (N, 1) each."""
        return [self.add("Unsqueeze", value, self.integers([1])) for value in values]

    def pair(self, first: str, second: str) -> str:
        """Two (N,) as (N, 2)."""
        return self.add("Concat", *self.columns(first, second), axis=1)

    def class_scores(self, scores: str, is_agnostic: bool) -> str:
        """(B, P, C) -> (B, C, P), or the best of all classes (B, 1, P)."""
        if is_agnostic:
            scores = self.add("ReduceMax", scores, self.integers([-1]), keepdims=1)
        return self.add("Transpose", scores, perm=[0, 2, 1])

    def best_of_each_image(self, image: str, score: str, limit: int) -> str:
        """Indices of objects, best first, of each image the best ``limit``. (N,), (N,) -> (M,)"""
        number = self.add("Shape", score)
        order = self.add_second("TopK", score, number)
        # Rank of an object in its image: how many objects of this image come up to it.
        num_images = self.add("Slice", self.add("Shape", "images"), *map(self.integers, ([0], [1], [0])))
        ones = self.add("OneHot", self.add("Gather", image, order, axis=0), num_images, self.integers([0, 1]))
        counted = self.add("Mul", ones, self.add("CumSum", ones, self.scalar(0)))
        rank = self.add("ReduceSum", counted, self.integers([1]), keepdims=0)
        return self.add("Compress", order, self.add("LessOrEqual", rank, self.scalar(limit)), axis=0)

    def add_second(self, kind: str, *inputs: str) -> str:
        """A node with two outputs; the second is returned."""
        from onnx import helper

        self.count += 1
        names = [f"{PREFIX}{self.count}_{part}" for part in range(2)]
        self.graph.node.append(helper.make_node(kind, list(inputs), names, name=f"{PREFIX}node_{self.count}"))
        return names[1]
