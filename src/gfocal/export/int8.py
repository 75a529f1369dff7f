"""Convolutions in 8 bits: static quantization by onnxruntime or NNCF, calibrated on images.

What is kept in float: the convolutions that predict logits, whose output *is* an edge's distribution, and everything
after them. Activations are unsigned, and a ReLU is quantized with its convolution, so that no code is spent on
negative values; weights have a scale for each channel. docs/export.md has what each of these is worth.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gfocal.errors import ExportError, MissingExtraError
from gfocal.export import onnx_file, openvino_file

if TYPE_CHECKING:
    import onnx

LEAKY_FLOAT = 20  # first convolutions of a network with leaky ReLUs that stay in float; docs/export.md has why
Inputs = Sequence[Tensor]  # (3, H, W) each, padded as the network needs it


def require_nncf() -> None:
    """Raise MissingExtraError unless nncf is installed."""
    try:
        with _quiet():
            import nncf  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"--precision int8 of OpenVINO needs another package ({error}): pip install 'gfocal[openvino]'"
        ) from error


class _Reader:
    """The images of a calibration, one by one, as onnxruntime asks for them."""

    def __init__(self, inputs: Inputs) -> None:
        self.left: Iterator[Tensor] = iter(inputs)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next batch of one image; None after the last."""
        image = next(self.left, None)
        return None if image is None else {"images": as_batch(image)}


def as_batch(image: Tensor) -> npt.NDArray[np.float32]:
    """(3, H, W) -> (1, 3, H, W)."""
    return np.ascontiguousarray(image.unsqueeze(0).numpy())


def quantize_onnx(path: Path, inputs: Inputs, target: Path) -> onnx.ModelProto:
    """The graph of an onnx file with convolutions in 8 bits; ``target`` is a file to write on the way."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_name("prepared.onnx")
    try:
        with _quiet():
            # Folds BatchNorm and constants; the graph's own shapes are enough.
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                _Reader(inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=onnx_file.last_convolutions(onnx.load(str(prepared))),
                calibrate_method=CalibrationMethod.MinMax,
            )
    except Exception as error:
        raise ExportError(f"onnxruntime cannot quantize this network: {error}") from error
    return onnx.load(str(target))


def quantize_openvino(model: Any, inputs: Inputs) -> Any:
    """OpenVINO's model with convolutions in 8 bits.

    Networks with leaky ReLUs, whose maps have negative values, get a zero point, and their first convolutions stay in
    float: edges lose a sixth to half less so.
    """
    kept = openvino_file.last_convolutions(model)
    operations = model.get_ordered_ops()
    is_leaky = any(one.get_type_name() in ("PRelu", "LeakyRelu") for one in operations)
    if is_leaky:
        convolutions = [one for one in operations if one.get_type_name() in ("Convolution", "GroupConvolution")]
        kept = sorted({*kept, *(one.get_friendly_name() for one in convolutions[:LEAKY_FLOAT])})
    try:
        with _quiet():
            import nncf

            presets = nncf.QuantizationPreset
            return nncf.quantize(
                model,
                nncf.Dataset([as_batch(image) for image in inputs]),
                subset_size=len(inputs),
                preset=presets.MIXED if is_leaky else presets.PERFORMANCE,
                ignored_scope=nncf.IgnoredScope(names=kept),
            )
    except Exception as error:
        raise ExportError(f"NNCF cannot quantize this network: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of the libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars of NNCF
            yield
    finally:
        logging.disable(before)
