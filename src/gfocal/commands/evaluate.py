"""gfocal eval."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.commands import DONE
from gfocal.commands.options import add_device, whole
from gfocal.commands.sources import chosen_device, first_split, read, standard_output, told_of_coco
from gfocal.words import counted

if TYPE_CHECKING:
    from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command and its options."""
    evaluate = commands.add_parser("eval", help="the COCO numbers of a model on annotated pictures")
    evaluate.set_defaults(run=run)
    evaluate.add_argument("model", metavar="MODEL", help="a model file or the folder of a run")
    evaluate.add_argument("data", metavar="DATA", help="as for train")
    evaluate.add_argument("--split", metavar="NAME", help="(default: test, else val)")
    evaluate.add_argument("--batch-size", type=whole(1), default=8)
    evaluate.add_argument("--workers", type=whole(0), default=2)
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as json")
    evaluate.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="write the detections as COCO results json, with the category ids of the data",
    )
    add_device(evaluate)


def run(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal eval."""
    from gfocal.atomic import atomic_write
    from gfocal.data.coco_names import COCO_NAMES
    from gfocal.data.loading import evaluation_loader
    from gfocal.evaluation.running import average_precision, detect_all, nothing_found
    from gfocal.interop.coco_results import write_coco_results
    from gfocal.models.files import load_model
    from gfocal.training.logging import progress_bar

    for file in (chosen.out, chosen.results):
        if file is not None and file.is_dir():
            raise IsADirectoryError(f"{file}: is a folder; name a file")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    model = load_model(chosen.model, chosen_device(chosen))
    with told_of_coco(model.names == COCO_NAMES, chosen.data):
        split = chosen.split or first_split(chosen.data, "test", "val")
        data = read(chosen.data, split, console, None, model.names)
    part = f"split {split} of {chosen.data}" if split else f"all of {chosen.data}, which has no split test or val"
    console.print(f"judging {counted(len(data), 'picture')}: {part}", markup=False, highlight=False, soft_wrap=True)
    batches = evaluation_loader(data, model.input_settings, chosen.batch_size, chosen.workers)
    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(
            model,
            batches,
            model.names,
            model.distribution,
            model.decode_settings,
            next(model.parameters()).device,
            on_batch=bar.advance,
        )
    result = average_precision(data, found)
    standard_output().print(result.table())
    if why := nothing_found(result, model.decode_settings):
        console.print(why, highlight=False, soft_wrap=True)
    if chosen.out:
        with atomic_write(chosen.out) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    if chosen.results:
        edge_std = all(one.edges.shape[-1] > 0 for one in found.values())
        write_coco_results(chosen.results, found, data.category_ids, edge_std)
    return DONE
