"""A detector as a program of ``torch.export`` (.pt2): the network alone, which runs where torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gfocal.errors import ExportError
from gfocal.export.network import ExportedNetwork
from gfocal.export.onnx_file import example_images


def to_program(network: ExportedNetwork, multiple: int) -> Any:
    """The program of a network, with free batch, height and width."""
    dynamic = torch.export.Dim.DYNAMIC
    try:
        return torch.export.export(
            network.eval(), (example_images(multiple),), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
        )
    except Exception as error:  # the exporter has many classes of errors
        raise ExportError(f"torch cannot export this network: {error}") from error


def write_program(program: Any, text: str, path: Path) -> None:
    """Write a program, with the metadata as an extra file named ``gfocal``."""
    from gfocal_runtime.metadata import KEY

    torch.export.save(program, str(path), extra_files={KEY: text})
