"""An exported file as a function of images: onnxruntime for .onnx, OpenVINO for .xml. Both run on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gfocal_runtime.metadata import KEY, ExportedFileError, Metadata, parse

Floats = npt.NDArray[np.float32]
SUFFIXES = (".onnx", ".xml")
OUTPUTS = ("boxes", "scores", "points")  # that every file has
FINAL_OUTPUTS = ("image", "boxes", "scores", "labels", "points")  # of a file with non-maximum suppression inside
MAX_FILE = 2**31  # bytes


class Engine(Protocol):
    """What runs a file."""

    metadata: Metadata

    def __call__(self, images: Floats) -> dict[str, npt.NDArray[Any]]:
        """Normalized images (B, 3, H, W) -> outputs by name."""
        ...


class MissingEngineError(ExportedFileError, ImportError):
    """The package that runs a file is not installed; the message names it."""


def open_file(path: str | Path, num_threads: int | None = None) -> Engine:
    """The engine of a file, by its suffix.

    Args:
        path: a .onnx file, or the .xml of OpenVINO with its .bin beside it.
        num_threads: threads of the engine; None: its own choice, all cores.

    Raises:
        ExportedFileError: there is no such file, or it is none that gfocal export wrote, or it is damaged.
        MissingEngineError: onnxruntime or openvino is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ExportedFileError(f"{path}: an exported file ends in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise ExportedFileError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE:
        raise ExportedFileError(f"{path}: larger than {MAX_FILE:,} bytes")
    if path.suffix.lower() == ".xml":
        return OpenVinoEngine(path, num_threads)
    return OnnxEngine(path, num_threads)


class OnnxEngine:
    """A .onnx file in onnxruntime."""

    def __init__(self, path: Path, num_threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingEngineError(
                f"{path}: needs the package onnxruntime ({error}): pip install onnxruntime, or 'gfocal[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes of errors are not public
            raise ExportedFileError(f"{path}: onnxruntime cannot read it ({_first_line(error)})") from error
        self.metadata = parse(self.session.get_modelmeta().custom_metadata_map.get(KEY), str(path))
        self.names = [output.name for output in self.session.get_outputs()]
        self.input = _only_input(path, [one.name for one in self.session.get_inputs()])
        _check_outputs(path, self.names, self.metadata)

    def __call__(self, images: Floats) -> dict[str, npt.NDArray[Any]]:
        """Normalized images (B, 3, H, W) -> outputs by name."""
        return dict(zip(self.names, self.session.run(self.names, {self.input: images}), strict=True))


class OpenVinoEngine:
    """The .xml and .bin of OpenVINO. The precision is the file's, not OpenVINO's own choice."""

    def __init__(self, path: Path, num_threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingEngineError(
                f"{path}: needs the package openvino ({error}): pip install openvino, or 'gfocal[openvino]'"
            ) from error
        core = openvino.Core()
        try:
            model = core.read_model(str(path))
            text = str(model.get_rt_info(KEY).value) if model.has_rt_info([KEY]) else None
        except Exception as error:
            raise ExportedFileError(f"{path}: OpenVINO cannot read it ({_first_line(error)})") from error
        self.metadata = parse(text, str(path))
        # OpenVINO computes in bf16 by itself where the processor has it.
        precision = "bf16" if self.metadata.precision == "bf16" else "f32"
        config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if num_threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(num_threads)
        try:
            self.compiled = core.compile_model(model, "CPU", config)
        except Exception as error:
            raise ExportedFileError(f"{path}: OpenVINO cannot compile it ({_first_line(error)})") from error
        self.names = [output.get_any_name() for output in self.compiled.outputs]
        _only_input(path, [one.get_any_name() for one in self.compiled.inputs])
        _check_outputs(path, self.names, self.metadata)

    def __call__(self, images: Floats) -> dict[str, npt.NDArray[Any]]:
        """Normalized images (B, 3, H, W) -> outputs by name."""
        found = self.compiled(images, share_inputs=True)
        return {name: np.array(found[i]) for i, name in enumerate(self.names)}


def _only_input(path: Path, names: list[str]) -> str:
    if names != ["images"]:
        raise ExportedFileError(f"{path}: its inputs are {ascii(names)[:200]}, not one that is named 'images'")
    return names[0]


def _check_outputs(path: Path, names: list[str], metadata: Metadata) -> None:
    wanted = (FINAL_OUTPUTS if metadata.has_nms else OUTPUTS) + ("edge_logits",) * (metadata.num_bins > 0)
    if missing := [name for name in wanted if name not in names]:
        raise ExportedFileError(f"{path}: has no output {missing[0]!r}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return ascii(lines[0])[1:-1][:300] if lines else type(error).__name__
