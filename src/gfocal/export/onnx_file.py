"""A detector as an onnx graph: export, cleaning, metadata, checks."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gfocal.errors import ExportError, MissingExtraError
from gfocal.export.network import ExportedNetwork

if TYPE_CHECKING:
    import onnx

# 20 has GridSample and what else is needed; GroupNormalization of 21 is slower in onnxruntime, and its input is
# quantized by NNCF.
OPSET = 20
MAX_BYTES = 2**31 - 2**20  # a protobuf has no more


def require_onnx() -> None:
    """Raise MissingExtraError unless the packages that write and run onnx files are installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"--to onnx needs another package ({error}): pip install 'gfocal[onnx]'") from error


def example_images(multiple: int) -> torch.Tensor:
    """Images for tracing, (2, 3, H, W): so large that no map has a single cell, which torch would take for fixed."""
    rows, columns = (5, 9) if multiple < 256 else (1, 2)
    return torch.zeros(2, 3, rows * multiple, columns * multiple)


def to_onnx(network: ExportedNetwork, multiple: int) -> onnx.ModelProto:
    """The graph of a network, with free batch, height and width (multiples of ``multiple``).

    Raises ExportError where torch cannot export it.
    """
    import onnx

    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (example_images(multiple),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=network.output_names,
                dynamic_shapes=(dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter has many classes of errors
        raise ExportError(f"torch cannot export this network to onnx: {error}") from error
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    _clean(graph)
    _name_sizes(graph)
    onnx.checker.check_model(graph)
    return graph


def _name_sizes(graph: Any) -> None:
    """Name the free sizes of inputs and outputs; the exporter's own names are formulas."""
    names = {"images": ("batch", None, "height", "width"), "points": ("points", None)}
    for value in (*graph.graph.input, *graph.graph.output):
        sizes = value.type.tensor_type.shape.dim
        for size, name in zip(sizes, names.get(value.name, ("batch", "points")), strict=False):
            if name is not None:
                size.dim_param = name
    del graph.graph.value_info[:]  # has the formulas, too; readers infer it again


def _clean(graph: Any) -> None:
    """Remove what the exporter adds for debugging: lines and paths of source code, in every node."""
    del graph.metadata_props[:]
    graph.doc_string = ""
    for part in (graph.graph, *graph.functions):
        part.doc_string = ""
        del part.metadata_props[:]
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def read_onnx(path: Path) -> Any:
    """The graph of a file, to be written with other metadata. Raises MissingExtraError without onnx."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            f"to change {path} needs another package ({error}): pip install 'gfocal[onnx]'"
        ) from error
    return onnx.load(str(path))


def write_onnx(graph: Any, text: str, path: Path) -> None:
    """Write a graph with its metadata. Raises ExportError for one that is too large for a file."""
    from gfocal_runtime.metadata import KEY

    del graph.metadata_props[:]
    entry = graph.metadata_props.add()
    entry.key, entry.value = KEY, text
    if graph.ByteSize() > MAX_BYTES:
        raise ExportError(f"a graph of {graph.ByteSize():,} bytes is too large for an onnx file")
    path.write_bytes(graph.SerializeToString())


def last_convolutions(graph: Any) -> list[str]:
    """Names of the convolutions after which no other one comes: those that predict logits."""
    producers = {output: node for node in graph.graph.node for output in node.output}
    found, seen = [], set()
    waiting = [output.name for output in graph.graph.output]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type == "Conv":
            found.append(node.name)
        else:
            waiting.extend(node.input)
    return sorted(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own progress and warnings; its errors say what is wrong."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
