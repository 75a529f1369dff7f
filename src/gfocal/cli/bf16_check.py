"""The check of bf16 at the end of 'gfocal train', so that a trained model detects fast where that costs no AP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.cli.storing import compare_precisions
from gfocal.console import say
from gfocal.text import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.config.config import Config
    from gfocal.data.dataset import ImageData
    from gfocal.structures import Detections

MOST_IMAGES = 100  # that are looked at in both precisions
LEAST_AP = 0.05  # below that, equal AP says nothing


def check_bf16(file: Path, val_data: ImageData, config: Config, console: Console) -> None:
    """Where the device computes bf16 natively, measure AP with it on validation images, and store it if it is equal.

    What is stored is that of ``gfocal eval --store-precision``. A file that has it already, of a run that was
    finished before, stays as it is.

    Args:
        file: the model file of a run.
        val_data: its validation images; of many, some, evenly taken.
        config: of the run.
        console: for a line on what came out.
    """
    from gfocal.cli.inputs import select_device
    from gfocal.data.loading import evaluation_loader
    from gfocal.data.survey import with_value_range
    from gfocal.data.views import as_one_class
    from gfocal.evaluation.detections import detect_all
    from gfocal.models.model_file import load_model, store_bf16_check
    from gfocal.models.precision import PRECISIONS, is_bf16_native

    device = select_device("cpu" if config.run.cpu else None)
    if not is_bf16_native(device):
        return
    model = load_model(file)
    if model.bf16_check is not None or (data := select_few(val_data)) is None:
        return
    data = as_one_class(data) if config.model.class_agnostic else data
    data = with_value_range(data, model.input_settings.value_range)
    model.to(device)
    found: dict[str, dict[int, Detections]] = {}
    for precision in PRECISIONS[1:]:
        loader = evaluation_loader(data, model.input_settings, config.run.eval_batch_size, config.run.num_workers)
        found[precision] = detect_all(model, loader, None, precision)
    images = pluralize(len(data), "validation image")
    check = compare_precisions(model, data, found, f"{images} at the end of training")
    if check is None or check.float32_ap < LEAST_AP:
        return
    figures = f"AP {check.float32_ap:.4f} in float32, {check.ap:.4f} in bf16 on {images}"
    if check.is_passed:
        store_bf16_check(file, check)
        say(console, f"{figures}: {file.name} computes in bf16 unless --precision says otherwise")
    else:
        say(console, f"{figures}: {file.name} stays with float32 unless --precision says otherwise")


def count_checked(val_data: ImageData | None, config: Config) -> int:
    """Images on which ``check_bf16`` detects objects, each precision for itself."""
    from gfocal.cli.inputs import select_device
    from gfocal.models.precision import is_bf16_native

    if val_data is None or not is_bf16_native(select_device("cpu" if config.run.cpu else None)):
        return 0
    few = select_few(val_data)
    return 0 if few is None else 2 * len(few)


def select_few(data: ImageData) -> ImageData | None:
    """Up to so many images with objects; None of generated data that have more, and where no image has any."""
    files = data.files
    if files is None:
        return data if len(data) <= MOST_IMAGES else None
    chosen = list(files.table.indices_with_objects())
    step = max(len(chosen) / MOST_IMAGES, 1)
    few = [int(chosen[int(i * step)]) for i in range(min(len(chosen), MOST_IMAGES))]
    return files.select(few) if few else None
