"""gfocal eval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import launch
from gfocal.cli import DONE
from gfocal.cli.counting import (
    allow_detections,
    explain_what_counts,
    read_detections,
    rename_as_in_training,
    select_classes,
    stated_ids,
)
from gfocal.cli.early import find_detections, require_data, say_beginning
from gfocal.cli.evaluation_page import Circumstances, write_pages
from gfocal.cli.held_out import parts_to_evaluate, select_held_out
from gfocal.cli.inputs import (
    explain_missing_coco,
    load_detector,
    prepare_compiling,
    read_datasets,
    standard_output,
    take_ignored_as_objects,
)
from gfocal.cli.options import (
    Options,
    add_classes,
    add_device,
    add_ignored_as_objects,
    add_image_reading,
    add_nms,
    add_precision,
    add_rename,
    add_viewer,
    describe_nms,
    has_nms_options,
    int_at_least,
    threshold_rule,
    viewer_file,
    with_nms,
)
from gfocal.cli.seen_images import count_run_images, describe_seen_images
from gfocal.cli.storing import precisions_to_compute, store_precision, write_numbers, write_settings
from gfocal.cli.trust import report_trust
from gfocal.console import note, say, warn
from gfocal.models.names import require_model
from gfocal.text import pluralize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from gfocal.data.dataset import ImageData
    from gfocal.evaluation.detections import ScoredDetections
    from gfocal.evaluation.evaluate import Evaluation
    from gfocal.interop.coco_results import ImageResults
    from gfocal.models.exported import AnyDetector
    from gfocal.models.precision import Precision
    from gfocal.structures import Detections
    from gfocal.training.distributed import Devices

    Found = Mapping[int, Detections | ScoredDetections | ImageResults]  # by image id

PAGE = "evaluation.html"


def add(commands: Any) -> None:
    """Declare the command and its options."""
    evaluate = commands.add_parser(
        "eval",
        help="evaluate a model on annotated images",
        usage="gfocal eval MODEL DATA ... [options]",
        description="Evaluate a model on annotated images: COCO AP of all classes and of each, the error type that "
        "costs most AP, the best score threshold. --report writes a page with error types, precision-recall curves, "
        "score thresholds, false positives per image, a confusion matrix and the worst images. Under torchrun or "
        "accelerate launch, the processes share the images.",
    )
    evaluate.set_defaults(run=run)
    evaluate.add_argument(
        "model",
        metavar="MODEL",
        help="a model file, the folder of a run, published weights by name (see 'gfocal models'), or a .onnx or .xml "
        "file of 'gfocal export'; or detections: "
        "a .json of any detector in COCO's results format, with the image and category ids of the data, or what "
        "'gfocal detect' wrote (its folder, or the detections.json or labels in it)",
    )
    evaluate.add_argument("data", nargs="+", metavar="DATA", help="as for train; several become one dataset")
    evaluate.add_argument(
        "--split",
        metavar="NAME",
        help="(default: test, else val, else the images that the run of MODEL held out, else all)",
    )
    add_rename(evaluate)
    add_classes(evaluate, "data and detections", "others are not evaluated")
    add_ignored_as_objects(evaluate)
    add_nms(evaluate)
    evaluate.add_argument(
        "--max-detections",
        type=int_at_least(1),
        default=100,
        metavar="N",
        help="AP with the best N detections of each class and image too, beside COCO's 100; a model then gives N for "
        "each image, and all numbers but COCO's are of these (default: 100)",
    )
    evaluate.add_argument("--batch-size", type=int_at_least(1), default=8, help="images per pass (default: 8)")
    evaluate.add_argument(
        "--num-workers", type=int_at_least(0), default=2, help="processes that load images (default: 2)"
    )
    add_image_reading(evaluate)
    add_device(evaluate)
    add_precision(evaluate)
    _add_output(evaluate.add_argument_group("output"))


def _add_output(group: Options) -> None:
    group.add_argument("--out", type=Path, metavar="FILE", help="write all numbers as json")
    group.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="write the detections as COCO results json, with the category ids of the data",
    )
    group.add_argument(
        "--report", type=Path, metavar="PATH", help=f"write a page: an .html file, or a folder for {PAGE}"
    )
    group.add_argument(
        "--worst",
        type=int_at_least(0),
        default=12,
        metavar="N",
        help="number of images with the most severe mistakes on the page (default: 12)",
    )
    add_viewer(group, "all images with detections and ground truth")
    group.add_argument(
        "--store-thresholds",
        type=threshold_rule,
        metavar="RULE",
        help="choose a score threshold for each class on these images and write it into the model file, where "
        "'gfocal detect' reads it: f1 for the highest F1, precision=0.9 for the lowest score with a precision of "
        "0.9. Choose on val, evaluate on test",
    )
    group.add_argument(
        "--store-nms",
        action="store_true",
        help="write --nms-iou and --class-agnostic-nms into the model file, for 'gfocal detect' and model.detect",
    )
    group.add_argument(
        "--store-precision",
        action="store_true",
        help="detect in float32 and in bf16, and where AP differs by at most 0.2 points, write into the model file "
        "that 'gfocal detect', 'gfocal eval' and model.detect may use bf16",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal eval."""
    args.detections = find_detections(args.model)
    if args.detections is None:
        require_model(args.model)
    else:
        require_data([args.model])
    with explain_missing_coco("coco" in f"{args.model} {args.data[0]}".lower(), args.data[0]):
        require_data(args.data)
    say_beginning(f"loading {args.model}", console)
    from gfocal.data.images import pixel_limit

    with pixel_limit(args.max_megapixels):
        return _evaluate(args, console)


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    from gfocal.evaluation.evaluate import evaluate
    from gfocal.evaluation.thresholds import parse_rule
    from gfocal.interop.coco_results import write_coco_results
    from gfocal.interop.published_weights import find_own_file
    from gfocal.reports.viewer import EvaluatedImages

    rule = args.store_thresholds
    report = _report_file(args.report)
    _prepare_files(args.out, args.results, report)
    viewer = viewer_file(args)
    if args.compile:
        prepare_compiling()
    model, devices = _load(args)
    stores = rule is not None or args.store_nms or args.store_precision
    model_path = find_own_file(args.model) if stores else None
    data, part = _read_data(args, model, console)
    say(console, f"evaluating {pluralize(len(data), 'image')}: {part}")
    seen = _count_seen(args, model, data, console)
    own_limit = None if model is None else allow_detections(model, args.max_detections)
    found: dict[str, Found] = {}  # by precision
    if model is None:
        data, detections = read_detections(args.detections, data, console)
    else:
        precisions = precisions_to_compute(model, args)
        found = {
            precision: detect_in_data(model, data, args, console, devices, precision) for precision in precisions
        }
        detections = found[precisions[0]]
    if not launch.is_main():
        return DONE
    if len(found) > 1:
        store_precision(model_path, model, data, found, part, console)
    model_thresholds = model.class_thresholds if model is not None and rule is None else None
    if args.classes:
        data, detections, model_thresholds = select_classes(args.classes, data, detections, model_thresholds)
    if model is not None and args.results:
        has_std = model.box_coder.has_distribution
        write_coco_results(args.results, detections, data.category_ids, has_std, stated_ids(data)[1])
        say(console, f"detections: {args.results}")
    evaluation = evaluate(
        data,
        detections,
        model_thresholds=model_thresholds,
        precision=parse_rule(rule or "f1"),
        min_score=0.0 if model is None else model.decode_settings.score_threshold,
        max_detections=args.max_detections,
        best_per_image=own_limit,
    )
    print_evaluation(evaluation, model, seen, console)
    trust = report_trust(model, data, detections, args, console)
    circumstances = Circumstances(part, next(iter(found), None), seen)
    explain_what_counts(data, model, own_limit, args.max_detections, console)
    if args.out:
        write_numbers(args.out, evaluation, model, trust, circumstances, console)
    write_pages(report, viewer, EvaluatedImages(data, detections, evaluation), trust, args, circumstances, console)
    if model is not None and model_path is not None:
        write_settings(model_path, model, evaluation, args, part, console)
    return DONE


def _count_seen(args: argparse.Namespace, model: AnyDetector | None, data: ImageData, console: Console) -> int | None:
    """How many images the model was trained on, with a warning if it was; None where that is unknown."""
    if model is None or not launch.is_main():
        return None
    of_run = count_run_images(args.model, data)
    if of_run is None:
        return None
    if warning := describe_seen_images(of_run.trained, len(data)):
        warn(console, warning)
    if of_run.selected_on:
        what = "these images" if of_run.selected_on == len(data) else f"{of_run.selected_on:,} of these images"
        note(console, f"the best epoch was chosen on {what}: AP is a little too high")
    return of_run.trained


def _report_file(path: Path | None) -> Path | None:
    """The file of --report, which may name a folder."""
    return path if path is None or path.suffix.lower() in (".html", ".htm") else path / PAGE


def _prepare_files(*files: Path | None) -> None:
    """Create the folders of the files that will be written, before anything is computed."""
    for file in files:
        if file is not None and file.is_dir():
            raise IsADirectoryError(f"{file}: is a folder; name a file")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)


def _load(args: argparse.Namespace) -> tuple[AnyDetector | None, Devices | None]:
    """The model, None where MODEL is a file of detections; and the devices where a launcher started the process."""
    from gfocal.errors import DeviceError
    from gfocal.interop.any_model import load
    from gfocal.training.distributed import Devices

    if is_results_file(args):
        return None, None
    devices = None
    if launch.world_size() > 1 and args.device not in (None, "cpu"):
        raise DeviceError(
            f"--device {args.device}: launched processes share the devices; leave the option out, or give cpu"
        )
    if launch.world_size() > 1:
        devices = Devices(cpu=args.device == "cpu")
    model = load_detector(args.model, args.device) if devices is None else load(args.model, devices.device)
    model.decode_settings = with_nms(model.decode_settings, args)
    return model, devices


def _read_data(args: argparse.Namespace, model: AnyDetector | None, console: Console) -> tuple[ImageData, str]:
    """The data as one dataset, and a description of its parts."""
    from gfocal.data.classes import choose_classes
    from gfocal.data.coco_names import COCO_NAMES
    from gfocal.data.preprocess import InputSettings
    from gfocal.data.survey import choose_for_images, image_paths, with_value_range
    from gfocal.data.views import ONE_CLASS
    from gfocal.errors import DataError

    with explain_missing_coco(model is not None and model.names == COCO_NAMES, args.data[0]):
        parts, held_out = parts_to_evaluate(args)
        names = None if model is None else model.names
        classes = args.classes if names == ONE_CLASS else ()  # of other models once everything is detected
        renames = rename_as_in_training(parts, model, args.rename, console)
        data = read_datasets(parts, console, None, names, renames, classes, share="any")
        data = take_ignored_as_objects(data, args.ignored_as_objects, console)
        held = select_held_out(data, args, held_out)
        data = data if held is None else held
    if model is not None or args.report is not None or args.viewer is not None:
        settings = InputSettings() if model is None else model.input_settings
        choice = choose_for_images(image_paths([data]), settings, args.value_range, console)
        data = with_value_range(data, choice.value_range)
    if args.store_thresholds is not None and any(split == "test" for _, split in parts):
        note(console, "thresholds chosen on the split test make its results look better than they are: choose on val")
    part = "; ".join(
        f"split {split} of {path}" if split else f"all of {path}, which has no split test or val"
        for path, split in parts
    )
    if held is not None:
        part = f"held out for validation by the run of {args.model}, from {', '.join(args.data)}"
    if args.classes and (data.files is None or args.store_thresholds is not None):
        what = "synthetic images have all their classes" if data.files is None else "--store-thresholds is for all"
        raise DataError(f"--classes: {what}; leave one of the options out")
    if args.classes and data.names != ONE_CLASS:  # before anything is detected
        part += f"; classes {', '.join(choose_classes(args.classes, data.names))}"
    if model is not None and (has_nms_options(args) or model.decode_settings.class_agnostic_nms):
        part += f"; {describe_nms(model.decode_settings)}"
    return data, part


def is_results_file(args: argparse.Namespace) -> bool:
    """Whether MODEL is a file of detections. Raises DataError for options that then have no meaning."""
    from gfocal.errors import DataError

    if args.detections is None:
        return False
    for option, is_given in (
        ("--store-thresholds", args.store_thresholds is not None),
        ("--store-nms", args.store_nms),
        ("--store-precision", args.store_precision),
    ):
        if is_given:
            raise DataError(f"{args.model}: a file of detections; {option} needs a model file to write into")
    if has_nms_options(args):
        raise DataError(f"{args.model}: a file of detections; --nms-iou and --class-agnostic-nms need a model")
    if args.results is not None:
        raise DataError(f"{args.model}: a file of detections already; --results writes those of a model")
    return True


def detect_in_data(
    model: AnyDetector,
    data: ImageData,
    args: argparse.Namespace,
    console: Console,
    devices: Devices | None,
    precision: Precision,
) -> Found:
    """Detections of a model in all images, which several processes share."""
    from gfocal.console import progress_bar
    from gfocal.data.loading import evaluation_loader
    from gfocal.evaluation.detections import detect_all, detections_to_rows, rows_to_detections

    rank, world_size = (devices.rank, devices.world_size) if devices is not None else (0, 1)
    batches = evaluation_loader(data, model.input_settings, args.batch_size, args.num_workers, rank, world_size)
    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(model, batches, bar.advance, precision, args.compile)
    if devices is None:
        return found
    everything = rows_to_detections(devices.gather_rows(detections_to_rows(found, model.box_coder.has_distribution)))
    in_order = (data.sample(i).image_id for i in range(len(data)))
    return {image_id: everything[image_id] for image_id in in_order if image_id in everything}


def print_evaluation(evaluation: Evaluation, model: AnyDetector | None, seen: int | None, console: Console) -> None:
    """The COCO numbers and the summary; and that some images were trained on, since the output may go to a file."""
    from gfocal.evaluation.detections import explain_no_detections
    from gfocal.reports.tables import coco_table, limits_table

    output = standard_output()
    output.print(coco_table(evaluation.ap))
    if evaluation.ap.limited is not None:
        output.print(limits_table(evaluation.ap, evaluation.ap.limited))
    for line in evaluation.summary():
        say(output, line)
    if seen:
        say(
            output,
            f"trained on {seen:,} of these {pluralize(evaluation.ap.num_images, 'image')}: expect less on new ones",
        )
    if model is not None and (why := explain_no_detections(evaluation.ap, model.decode_settings)):
        say(console, why)
