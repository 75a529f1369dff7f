"""A detector as OpenVINO's .xml and .bin, made of its onnx graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gfocal.errors import ExportError, MissingExtraError


def require_openvino() -> None:
    """Raise MissingExtraError unless openvino is installed."""
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"--to openvino needs another package ({error}): pip install 'gfocal[openvino]'"
        ) from error


def to_openvino(onnx_file: Path) -> Any:
    """OpenVINO's model of an onnx file."""
    import openvino

    try:
        return openvino.convert_model(str(onnx_file))
    except Exception as error:
        raise ExportError(f"OpenVINO cannot convert this network: {error}") from error


def read_openvino(path: Path) -> Any:
    """OpenVINO's model of an .xml and its .bin. Raises MissingExtraError without openvino."""
    require_openvino()
    import openvino

    return openvino.Core().read_model(str(path))


def write_openvino(model: Any, text: str, path: Path) -> None:
    """Write .xml and .bin with the metadata; weights stay as they are, by default OpenVINO would halve them."""
    import openvino

    from gfocal_runtime.metadata import KEY

    model.set_rt_info(text, KEY)
    openvino.save_model(model, str(path), compress_to_fp16=False)


def last_convolutions(model: Any) -> list[str]:
    """Names of the convolutions after which no other one comes: those that predict logits."""
    found, seen = [], set()
    waiting = [result.input_value(0).get_node() for result in model.get_results()]
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name in seen:
            continue
        seen.add(name)
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            found.append(name)
        else:
            waiting.extend(value.get_node() for value in node.input_values())
    return sorted(found)
