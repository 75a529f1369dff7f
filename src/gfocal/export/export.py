"""A detector becomes a file for another engine, is compared with itself there, and is kept only if it is the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gfocal.data.dataset import ImageData
from gfocal.data.loading import evaluation_loader
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import ExportError
from gfocal.evaluation.detections import average_precision
from gfocal.export import int8, nms_graph, onnx_file, openvino_file, torch_file
from gfocal.export.file_metadata import describe_export, to_text
from gfocal.export.network import ExportedNetwork
from gfocal.export.verify import Differences, Reference, Run, compare, reference_of, require_within
from gfocal.models.detector import Detector
from gfocal.models.exported import AnyDetector, ExportedDetector, files_of
from gfocal.models.predict import as_rgb, predict, stack_inputs
from gfocal.structures import Detections
from gfocal_runtime.engines import Engine, open_file

Kind = Literal["onnx", "openvino", "torch"]
Precision = Literal["float32", "bf16", "int8"]
SUFFIX: dict[Kind, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS: dict[Kind, tuple[Precision, ...]] = {
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bf16", "int8"),
    "torch": ("float32",),
}
NUM_CALIBRATION = 64  # images; 20 suffice, in measurements 200 were no better
NUM_VERIFICATION = 16
Say = Callable[[str], object]


@dataclass(frozen=True)
class ExportOptions:
    """What is wanted of an export."""

    kind: Kind
    precision: Precision = "float32"
    nms: bool = False  # whether the file has non-maximum suppression inside
    calibration: Sequence[Any] = field(default=(), repr=False)  # images for int8, of any kind that ``detect`` takes
    images: Sequence[Any] = field(default=(), repr=False)  # to verify with; none: synthetic images
    data: ImageData | None = field(default=None, repr=False)  # annotated images, for AP of model and file

    def check(self) -> None:
        """Raise ExportError or MissingExtraError for what cannot be."""
        if self.precision not in PRECISIONS[self.kind]:
            can = ", ".join(PRECISIONS[self.kind])
            other = {"bf16": "openvino", "int8": "openvino or onnx"}[self.precision]
            raise ExportError(f"--to {self.kind} has the precisions {can}, not {self.precision}; --to {other} has it")
        if self.precision == "int8" and not len(self.calibration):
            raise ExportError("--precision int8 needs images to measure the range of each layer on: --calibrate DATA")
        if self.nms and self.kind == "torch":
            raise ExportError("--nms is for onnx and openvino; a .pt2 file has the outputs before it")
        if self.kind != "torch":
            onnx_file.require_onnx()
        if self.kind == "openvino":
            openvino_file.require_openvino()
            if self.precision == "int8":
                int8.require_nncf()


def export_model(model: Detector, out: Path, options: ExportOptions, say: Say = lambda text: None) -> Differences:
    """Write a model as a file for another engine; returns how it differs from the model on the images.

    The file appears when it has been verified, and else not at all.

    Args:
        model: a detector on the CPU.
        out: the file; OpenVINO's .bin is written beside its .xml.
        options: kind, precision and images.
        say: is called with a line about each step.

    Raises:
        ExportError: it cannot be exported, or differs from the model by more than its precision may.
        MissingExtraError: a package is not installed.
    """
    options.check()
    if out.suffix != SUFFIX[options.kind]:
        raise ExportError(f"{out}: a file for {options.kind} ends in {SUFFIX[options.kind]}")
    network = ExportedNetwork(model).eval()
    inputs = read_inputs(model, options.images or synthetic_images(), NUM_VERIFICATION)
    # Before an engine is started: torch loses threads to OpenVINO in the same process.
    references = reference_of(network, inputs)
    ap = None if options.data is None else measure_ap(model, options.data)
    with _work_folder(out) as folder:
        file = folder / out.name
        say(f"exporting to {options.kind}, {options.precision}")
        write = _convert(model, network, options, folder, say)
        write(file, False, {})
        say(f"comparing with the model on {len(inputs)} images")
        differences = _verify(model, network, file, references, options, ap)
        require_within(differences, options.precision)
        write(file, options.nms, {"images": _describe_images(options)} | differences.to_json())
        if options.kind != "torch":
            open_file(file)  # with what was added since
        for part in reversed(files_of(file)):  # the .xml last, which is what is loaded
            os.replace(part, out.with_name(part.name))
    return differences


def read_inputs(model: Detector, images: Sequence[Any], most: int) -> list[Tensor]:
    """Up to ``most`` images, evenly taken, as padded inputs (3, H, W) of the network."""
    step = max(len(images) / most, 1)
    chosen = [images[int(i * step)] for i in range(min(len(images), most))]
    settings = model.input_settings
    values = settings.value_range
    return [stack_inputs([0], [as_rgb(one, values)], settings).images[0] for one in chosen]


def synthetic_images() -> list[Tensor]:
    """Images to compare with where there are none of the user's."""
    scenes = SyntheticScenes(NUM_VERIFICATION, size=320, seed=0, purpose="test")
    return [scenes.read(i)[0] for i in range(len(scenes))]


def measure_ap(model: AnyDetector, data: ImageData) -> float | None:
    """COCO's AP, of a model in float32."""
    batches = evaluation_loader(data, model.input_settings, batch_size=1)
    found: dict[int, Detections] = {}
    for batch, detections in predict(model, batches, precision="float32"):
        found.update(zip(batch.image_ids, detections, strict=True))
    return average_precision(data, found).ap


Write = Callable[[Path, bool, dict[str, Any]], None]  # file, whether with NMS, verification


def _convert(model: Detector, network: ExportedNetwork, options: ExportOptions, folder: Path, say: Say) -> Write:
    """What writes the converted network."""
    multiple = model.input_settings.multiple

    def text(has_nms: bool, verification: dict[str, Any]) -> str:
        opset = None if options.kind == "torch" else onnx_file.OPSET
        about = describe_export(model, options.precision, has_nms, opset, verification)
        return to_text(about, SUFFIX[options.kind])

    if options.kind == "torch":
        program = torch_file.to_program(network, multiple)
        return lambda path, has_nms, verification: torch_file.write_program(program, text(False, verification), path)
    graph = onnx_file.to_onnx(network, multiple)
    calibration = read_inputs(model, options.calibration, NUM_CALIBRATION) if options.precision == "int8" else []
    if calibration:
        say(f"calibrating int8 on {len(calibration)} images")
    if options.kind == "onnx":
        if calibration:
            onnx_file.write_onnx(graph, text(False, {}), folder / "float.onnx")
            graph = int8.quantize_onnx(folder / "float.onnx", calibration, folder / "int8.onnx")
        return lambda path, has_nms, verification: onnx_file.write_onnx(
            _with_nms(graph, model, has_nms), text(has_nms, verification), path
        )

    models: dict[bool, Any] = {}  # with NMS or without: quantization takes a while

    def write_openvino(path: Path, has_nms: bool, verification: dict[str, Any]) -> None:
        if has_nms not in models:
            onnx_file.write_onnx(_with_nms(graph, model, has_nms), text(has_nms, {}), folder / "float.onnx")
            converted = openvino_file.to_openvino(folder / "float.onnx")
            models[has_nms] = int8.quantize_openvino(converted, calibration) if calibration else converted
        openvino_file.write_openvino(models[has_nms], text(has_nms, verification), path)

    return write_openvino


def _with_nms(graph: Any, model: Detector, has_nms: bool) -> Any:
    if not has_nms:
        return graph
    copied = type(graph)()
    copied.CopyFrom(graph)
    return nms_graph.append_nms(copied, model.decode_settings)


def _verify(
    model: Detector,
    network: ExportedNetwork,
    file: Path,
    references: Sequence[Reference],
    options: ExportOptions,
    ap: float | None,
) -> Differences:
    if options.kind == "torch":
        return compare(references, _program_runner(file, network.output_names), model.box_coder.delta)
    engine = open_file(file)
    ap_file = None
    if options.data is not None:
        ap_file = measure_ap(ExportedDetector(engine, file), options.data)
    return compare(references, _engine_runner(engine), model.box_coder.delta, (ap, ap_file))


def _engine_runner(engine: Engine) -> Run:
    return lambda images: {
        name: torch.from_numpy(value) for name, value in engine(images.contiguous().numpy()).items()
    }


def _program_runner(file: Path, names: Sequence[str]) -> Run:
    module = torch.export.load(str(file)).module()
    return lambda images: dict(zip(names, module(images), strict=True))


def _describe_images(options: ExportOptions) -> str:
    return "the user's" if len(options.images) else "synthetic"


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder beside the file that is removed at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}.", suffix=".tmp", dir=out.parent) as folder:
        yield Path(folder)
