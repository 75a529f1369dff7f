"""gfocal eval."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import launch
from gfocal.cli import DONE
from gfocal.cli.inputs import explain_missing_coco, read_datasets, select_device, select_splits, standard_output
from gfocal.cli.options import add_device, add_rename, int_at_least, threshold_rule
from gfocal.console import note, say
from gfocal.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from gfocal.data.dataset import ImageData
    from gfocal.evaluation.coco_ap import ScoredBoxes
    from gfocal.evaluation.evaluate import Evaluation
    from gfocal.models.detector import Detector
    from gfocal.training.distributed import Devices


PAGE = "evaluation.html"


def add(commands: Any) -> None:
    """Declare the command and its options."""
    evaluate = commands.add_parser(
        "eval",
        help="what a model is worth on annotated images, and what goes wrong",
        usage="gfocal eval MODEL DATA ... [options]",
        description="Evaluate a model on annotated images: the COCO numbers of all classes and of each, the type of "
        "error that costs most, the best score threshold. --report writes a page with all of it: error types, "
        "precision-recall curves, thresholds, false positives per image, a confusion matrix, the worst images. "
        "Under torchrun or accelerate launch every process takes its share.",
    )
    evaluate.set_defaults(run=run)
    evaluate.add_argument(
        "model",
        metavar="MODEL",
        help="a model file or the folder of a run; or a .json of detections in COCO's results format, of whatever "
        "detector, with the image and category ids of the data",
    )
    evaluate.add_argument("data", nargs="+", metavar="DATA", help="as for train; several are evaluated as one set")
    add_rename(evaluate)
    evaluate.add_argument("--split", metavar="NAME", help="(default: test, else val)")
    evaluate.add_argument("--batch-size", type=int_at_least(1), default=8)
    evaluate.add_argument("--num-workers", type=int_at_least(0), default=2)
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write all numbers as json")
    evaluate.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="write the detections as COCO results json, with the category ids of the data",
    )
    evaluate.add_argument(
        "--report", type=Path, metavar="PATH", help=f"write a page: an .html file, or a folder for {PAGE}"
    )
    evaluate.add_argument(
        "--worst",
        type=int_at_least(0),
        default=12,
        metavar="N",
        help="how many of the images with the heaviest mistakes the page shows (default: 12)",
    )
    evaluate.add_argument(
        "--store-thresholds",
        type=threshold_rule,
        metavar="RULE",
        help="choose a score threshold for each class on these images and write it into the model file, for "
        "'gfocal detect' to use: f1 for the largest F1, precision=0.9 for the lowest score at which 9 of 10 "
        "detections are right. Choose on val, evaluate on test",
    )
    add_device(evaluate)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal eval."""
    from gfocal.data.coco_names import COCO_NAMES
    from gfocal.errors import DeviceError
    from gfocal.evaluation.detections import explain_no_detections
    from gfocal.evaluation.evaluate import evaluate
    from gfocal.evaluation.thresholds import parse_rule
    from gfocal.interop.coco_results import write_coco_results
    from gfocal.models.model_file import find_local_file, load_model
    from gfocal.reports.tables import coco_table
    from gfocal.training.distributed import Devices

    rule, report = args.store_thresholds, args.report
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        report = report / PAGE
    for file in (args.out, args.results, report):
        if file is not None and file.is_dir():
            raise IsADirectoryError(f"{file}: is a folder; name a file")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    if is_results(args):
        model = devices = None
    else:
        devices = None
        if launch.world_size() > 1:
            if args.device not in (None, "cpu"):
                raise DeviceError(
                    f"--device {args.device}: processes of a launcher share out the devices; leave it out, or say cpu"
                )
            devices = Devices(cpu=args.device == "cpu")
        model = load_model(args.model, select_device(args.device) if devices is None else devices.device)
    model_path = find_local_file(args.model) if rule is not None else None
    with explain_missing_coco(model is not None and model.names == COCO_NAMES, args.data[0]):
        parts = select_splits(args.data, args.split, "test", "val")
        data = read_datasets(parts, console, None, None if model is None else model.names, args.rename)
    part = "; ".join(
        f"split {split} of {path}" if split else f"all of {path}, which has no split test or val"
        for path, split in parts
    )
    say(console, f"evaluating {counted(len(data), 'image')}: {part}")
    found: Mapping[int, ScoredBoxes] = (
        results_read(args.model, data) if model is None else detections_of(model, data, args, console, devices)
    )
    if not launch.is_main():
        return DONE
    if model is not None and args.results:
        write_coco_results(args.results, found, data.category_ids, model.box_coder.has_distribution)
        say(console, f"detections: {args.results}")
    evaluation = evaluate(
        data,
        found,
        model_thresholds=model.class_thresholds if model is not None and rule is None else None,
        precision=parse_rule(rule or "f1"),
        min_score=0.0 if model is None else model.decode_settings.score_threshold,
    )
    output = standard_output()
    output.print(coco_table(evaluation.ap))
    for line in evaluation.summary():
        say(output, line)
    if model is not None and (why := explain_no_detections(evaluation.ap, model.decode_settings)):
        say(console, why)
    if args.out:
        write_text(args.out, json.dumps(evaluation.to_json(), indent=1) + "\n")
        say(console, f"numbers: {args.out}")
    if report is not None:
        write_page(report, evaluation, data, args, part)
        say(console, f"report: {report}")
    if model_path is not None:
        store(model_path, evaluation, part, console)
        if any(split == "test" for _, split in parts):
            note(console, "args on the split test, which flatters what is measured on it: choose on val")
    return DONE


def is_results(args: argparse.Namespace) -> bool:
    """Whether MODEL is a file of detections; DataError for options that want a model then."""
    from gfocal.errors import DataError

    if not args.model.lower().endswith(".json"):
        return False
    if args.store_thresholds is not None:
        raise DataError(f"{args.model}: detections, no model; --store-thresholds needs a model file to write into")
    if args.results is not None:
        raise DataError(f"{args.model}: detections already; --results writes those of a model")
    return True


def results_read(path: str, data: ImageData) -> Mapping[int, ScoredBoxes]:
    """Detections from a file, checked to be of these images."""
    from gfocal.errors import DataError
    from gfocal.interop.coco_results import read_coco_results

    found = read_coco_results(path, data.category_ids)
    if unknown := sorted(set(found) - {data.sample(i).image_id for i in range(len(data))}):
        raise DataError(
            f"{path}: {counted(len(unknown), 'image id')} not among those of the data, the first is {unknown[0]}; "
            "evaluate on the images the detections were made on (--split names a part)"
        )
    return found


def detections_of(
    model: Detector, data: ImageData, args: argparse.Namespace, console: Console, devices: Devices | None
) -> Mapping[int, ScoredBoxes]:
    """What a model finds in all images, of which several processes take their shares."""
    from gfocal.console import progress_bar
    from gfocal.data.loading import evaluation_loader
    from gfocal.evaluation.detections import detect_all, detections_to_rows, rows_to_detections

    rank, world = (devices.rank, devices.world_size) if devices is not None else (0, 1)
    batches = evaluation_loader(data, model.input_settings, args.batch_size, args.num_workers, rank, world)
    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(model, batches, on_batch=bar.advance)
    if devices is None:
        return found
    everything = rows_to_detections(devices.gather_rows(detections_to_rows(found, model.box_coder.has_distribution)))
    in_order = (data.sample(i).image_id for i in range(len(data)))
    return {image_id: everything[image_id] for image_id in in_order if image_id in everything}


def write_page(path: Path, evaluation: Evaluation, data: ImageData, args: argparse.Namespace, part: str) -> None:
    """The page of --report."""
    from gfocal.reports.evaluation import draw_worst_images, write_evaluation_page

    write_evaluation_page(
        path,
        evaluation,
        title=f"Evaluation of {Path(args.model).name}",
        lead=f"{counted(len(data), 'image')}: {part}.",
        images=draw_worst_images(data, evaluation, args.worst),
        facts={"model": args.model, "data": part, "thresholds": evaluation.thresholds_source},
    )


def store(path: Path, evaluation: Evaluation, part: str, console: Console) -> None:
    """Write the args thresholds into the model file, and say what was written."""
    from gfocal.models.model_file import store_thresholds

    chosen = evaluation.best_thresholds
    how = f"{chosen.rule} at IoU 0.5 on {counted(evaluation.ap.num_images, 'image')}: {part}"
    store_thresholds(path, chosen.scores, how)
    say(console, f"thresholds written into {path}, {how}")
    for name, one in zip(evaluation.boxes.names, chosen.classes, strict=True):
        say(console, f"  {name}: {one.threshold:g}{f' ({one.note})' * bool(one.note)}")


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not there."""
    from gfocal.atomic import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
