"""A detector of any file that gfocal writes: a model file, or one that ``gfocal export`` made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.errors import DeviceError
from gfocal.interop import published_weights
from gfocal.models.exported import AnyDetector, is_exported, load_exported

if TYPE_CHECKING:
    import torch


def load(path: str | Path, device: torch.device | str = "cpu") -> AnyDetector:
    """A trained detector, ready to detect: ``gfocal.load("runs/mine")``, ``gfocal.load("gfl_r50_1x_coco")``.

    Args:
        path: a model file; the folder of a run: then its ``best.safetensors``, else ``last.safetensors``;
            ``hf://owner/name``, a model on the Hugging Face hub; or the name of published weights, which ``gfocal
            models`` lists. Those are downloaded when they are first used, with a progress bar, into a cache that the
            environment variable ``GFOCAL_CACHE`` moves. A file or folder of that name comes first. Or a file of
            ``gfocal export``: ``model.onnx``, or OpenVINO's ``model.xml``, which runs in its own engine on the CPU.
        device: where to put it; for an exported file the CPU alone.

    Raises:
        ModelFileError: there is no such file and no such name, or it is no gfocal model, or it is damaged.
        DownloadError: published weights that are not in the cache and cannot be downloaded.
        MissingExtraError: the engine of an exported file is not installed.
        DeviceError: an exported file on another device than the CPU.
    """
    if not is_exported(path):
        return published_weights.load(path, device)
    if str(device).partition(":")[0] != "cpu":
        raise DeviceError(f"{path}: an exported file runs on the CPU, not on {device}; leave --device out")
    return load_exported(path)
