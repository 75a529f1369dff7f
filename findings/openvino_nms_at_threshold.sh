#!/usr/bin/env bash
# Guess: ONNX's NonMaxSuppression keeps a box whose IoU is exactly the threshold, whatever runs the graph. At threshold 0 so
#   all boxes stay that do not overlap, and at 1 all boxes.
# Behaviour: that is so in ONNX Runtime and in onnx's reference. OpenVINO removes at IoU >= threshold. At 0, which is also
#   what an absent input means, boxes without any overlap have IoU 0 and go: one box of each class is left, without a warning.
#   At 0.5 the half of an object goes, at 1 a copy. OpenVINO's specification of the operation says that boxes stay at
#   iou <= iou_threshold. A threshold of 0.000001 in place of 0 gives the three the same boxes.
# Versions: openvino 2026.4.1 (CPU), onnxruntime 1.32.0, onnx 1.23.2. Source: the results below; OpenVINO's specification of
#   NonMaxSuppression-9. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 \
    numpy==2.3.5
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

APART = [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]
HALF = [[0, 0, 10, 10], [0, 0, 10, 5], [40, 40, 50, 50]]
COPY = [[0, 0, 10, 10], [0, 0, 10, 10], [40, 40, 50, 50]]


def kept(boxes, threshold):
    """Indices of the boxes that each engine keeps."""
    constants = [helper.make_tensor("most", TensorProto.INT64, [1], [100])]
    inputs = ["boxes", "scores", "most"]
    if threshold is not None:
        constants.append(helper.make_tensor("threshold", TensorProto.FLOAT, [1], [threshold]))
        inputs.append("threshold")
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", inputs, ["selected"])],
        "nms",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in
         (("boxes", [1, "n", 4]), ("scores", [1, 1, "n"]))],
        [helper.make_tensor_value_info("selected", TensorProto.INT64, ["k", 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    feed = {"boxes": np.array([boxes], np.float32), "scores": np.array([[[0.9, 0.8, 0.7]]], np.float32)}
    data = model.SerializeToString()
    runtime = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feed)[0]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    vino = list(compiled(feed).values())[0]
    found = [runtime[:, 2].tolist(), vino[:, 2].tolist()]
    if threshold is not None:  # onnx's reference wants the input
        assert ReferenceEvaluator(model).run(None, feed)[0][:, 2].tolist() == found[0]
    return found


print(*(f"{name} {version(name)}" for name in ("openvino", "onnxruntime", "onnx")))
for what, boxes, threshold, expected in (
    ("three boxes apart, no threshold", APART, None, [[0, 1, 2], [0]]),
    ("three boxes apart, threshold 0", APART, 0.0, [[0, 1, 2], [0]]),
    ("three boxes apart, threshold 0.000001", APART, 1e-6, [[0, 1, 2], [0, 1, 2]]),
    ("IoU 0.5, threshold 0.5", HALF, 0.5, [[0, 1, 2], [0, 2]]),
    ("IoU 0.5, threshold 0.4999", HALF, 0.4999, [[0, 2], [0, 2]]),
    ("a copy, threshold 1", COPY, 1.0, [[0, 1, 2], [0, 2]]),
):
    found = kept(boxes, threshold)
    print(f"{what:38} kept by onnxruntime {found[0]}, by openvino {found[1]}")
    assert found == expected, (found, expected)
PY
