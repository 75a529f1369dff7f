"""Another calibration in an exported file, of the numbers that the file itself gives."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gfocal.export import onnx_file, openvino_file
from gfocal.export.file_metadata import to_text
from gfocal.models.exported import ExportedDetector, files_of
from gfocal.models.stored_calibration import calibration_to_json
from gfocal.structures.calibration import Calibration


def store_exported_calibration(model: ExportedDetector, calibration: Calibration, out: Path) -> None:
    """Write an exported file with a calibration in place of its own; the network stays.

    Args:
        model: of the file, which is read again.
        calibration: of the detections of this file.
        out: the file to be written, which may be the same one; OpenVINO's .bin is written beside it.

    Raises:
        MissingExtraError: the package that reads and writes such a file is not installed.
        ExportError: the metadata would be too long.
    """
    about = {**model.metadata.about, "calibration": calibration_to_json(calibration)}
    text = to_text(about, str(out))
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}.", suffix=".tmp", dir=out.parent) as folder:
        file = Path(folder) / out.name
        if model.path.suffix.lower() == ".xml":
            openvino_file.write_openvino(openvino_file.read_openvino(model.path), text, file)
        else:
            onnx_file.write_onnx(onnx_file.read_onnx(model.path), text, file)
        for part in reversed(files_of(file)):  # the .xml last, which is what is loaded
            os.replace(part, out.with_name(part.name))
