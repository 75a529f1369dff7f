"""gfocal calibrate."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.atomic import atomic_write
from gfocal.cli import DONE
from gfocal.cli.early import require_data, say_beginning
from gfocal.cli.held_out import read_held_out, run_folder_of, select_held_out
from gfocal.cli.inputs import load_detector, read_datasets, select_splits, standard_output
from gfocal.cli.options import add_device, add_image_reading, add_precision, coverage, fraction, int_at_least
from gfocal.cli.seen_images import RunImages, count_run_images
from gfocal.console import note, say
from gfocal.models.names import require_model
from gfocal.text import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.calibration.calibrate import CalibrationResult
    from gfocal.data.dataset import ImageData
    from gfocal.models.exported import AnyDetector
    from gfocal.structures import Detections


def add(commands: Any) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "calibrate",
        help="make edge_std, intervals and scores of a model mean what they say",
        usage="gfocal calibrate MODEL DATA ... [options]",
        description="Measure on annotated images that training did not see how far edges lie off, and write it into "
        "the model file: edge_std is then a standard deviation in pixels, edge_interval(0.9) holds the edges of 9 of "
        "10 objects, and calibrated_scores are the IoU or the precision to be expected. 'gfocal eval' measures it on "
        "other images.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model file, the folder of a run, published weights by name (with --out; see 'gfocal models'), or a "
        "file of 'gfocal export'",
    )
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help="annotated images, in any format that 'gfocal eval' reads"
    )
    parser.add_argument("--split", metavar="NAME", help="part of the data (default: val, else what the run held out)")
    parser.add_argument(
        "--coverage",
        type=coverage,
        default=0.9,
        metavar="SHARE",
        help="which must be possible, and at which the figures are printed; intervals of any other can be asked "
        "later, with as many boxes as it needs (default: 0.9)",
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        metavar="SCORE",
        help="of the detections that the guarantees are about (default: as 'gfocal detect' has it)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a copy (default: change the file)")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write an html page: where coverage holds and where not, and the widest and the most wrong edges",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as json")
    parser.add_argument("--seed", type=int, default=0, help="of the division of the images (default: 0)")
    parser.add_argument(
        "--seen-images",
        action="store_true",
        help="take images that the model was trained on too; its edges are too good on them, and nothing is promised",
    )
    parser.add_argument("--batch-size", type=int_at_least(1), default=8, help="images per pass (default: 8)")
    parser.add_argument(
        "--num-workers", type=int_at_least(0), default=2, help="processes that load images (default: 2)"
    )
    add_image_reading(parser)
    add_device(parser)
    add_precision(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal calibrate."""
    require_model(args.model)
    require_data(args.data)
    say_beginning(f"loading {args.model}", console)
    from gfocal.data.images import pixel_limit

    with pixel_limit(args.max_megapixels):
        return _calibrate(args, console)


def _calibrate(args: argparse.Namespace, console: Console) -> int:
    from gfocal.calibration.calibrate import calibrate
    from gfocal.errors import CalibrationError
    from gfocal.interop.published_weights import find_own_file
    from gfocal.models.exported import is_exported
    from gfocal.models.predict import resolve_threshold

    path = None if args.out is not None or is_exported(args.model) else find_own_file(args.model)
    model = load_detector(args.model, args.device)
    if is_exported(args.model) and (args.out or Path(args.model)).suffix != Path(args.model).suffix:
        raise CalibrationError(f"--out {args.out}: a copy of {args.model} ends in {Path(args.model).suffix}")
    if not model.box_coder.has_distribution:
        raise CalibrationError(f"{args.model}: its head has no edge distributions; a GFL or NanoDet preset has")
    data, where = _read_data(args, model, console)
    found = _detect(args, model, data, console)
    threshold = resolve_threshold(model, args.score_threshold)
    result = calibrate(data, found, threshold, where, _digest(model), args.coverage, seed=args.seed)
    path = _store(args, model, path, result)
    print_result(result, args.coverage)
    if args.json is not None:
        with atomic_write(args.json) as temporary:
            temporary.write_text(json.dumps(figures(result), indent=1) + "\n", encoding="utf-8")
        say(console, f"figures: {args.json}")
    if args.report is not None:
        write_report(args, result, data)
        say(console, f"report: {args.report}")
    say(console, f"calibrated: {path}; 'gfocal eval {path} DATA' measures it on other images")
    return DONE


def _digest(model: AnyDetector) -> str:
    """What identifies the network that a calibration is of; a file's own digest changes when it is written."""
    from gfocal.models.detector import Detector
    from gfocal.models.precision import digest_weights

    return digest_weights(model) if isinstance(model, Detector) else f"{model.path.suffix[1:]} {model.digest()[:16]}"


def _store(args: argparse.Namespace, model: AnyDetector, path: Path | None, result: CalibrationResult) -> Path:
    """Write the calibration into the model file or the exported one, or into a copy; returns the file."""
    from gfocal.models.exported import ExportedDetector
    from gfocal.models.model_file import store_calibration

    if isinstance(model, ExportedDetector):
        from gfocal.export.recalibrate import store_exported_calibration

        out = model.path if args.out is None else args.out
        out.parent.mkdir(parents=True, exist_ok=True)
        store_exported_calibration(model, result.calibration, out)
        return out
    path = _copy_model(args) if path is None else path
    store_calibration(path, result.calibration)
    return path


def _read_data(args: argparse.Namespace, model: AnyDetector, console: Console) -> tuple[ImageData, str]:
    """The split val, or what the run held out, or all images; and what they are, in a line."""
    from gfocal.data.survey import choose_for_images, image_paths, with_value_range

    parts = select_splits(args.data, args.split, "val")
    held_out = None if any(split for _, split in parts) else read_held_out(run_folder_of(args.model))
    wanted = parts if held_out is None else select_splits(args.data, None, "train")
    data = read_datasets(wanted, console, None, model.names, list(model.renames.items()), (), share="any")
    where = "; ".join(f"split {split} of {path}" if split else f"all of {path}" for path, split in wanted)
    held = select_held_out(data, args, held_out)
    if held is not None:
        data, where = held, f"held out for validation by the run of {args.model}, from {', '.join(args.data)}"
    of_run = count_run_images(args.model, data)
    if not args.seen_images:
        refuse_seen_images(of_run, len(data), where)
    if held is not None or (of_run is not None and of_run.selected_on):
        note(console, "the best epoch was chosen on these images: the promises are a little too good")
    choice = choose_for_images(image_paths([data]), model.input_settings, args.value_range, console)
    return with_value_range(data, choice.value_range), where


def refuse_seen_images(of_run: RunImages | None, total: int, where: str) -> None:
    """Raise CalibrationError if the run of a model was trained on some of ``total`` images."""
    from gfocal.errors import CalibrationError

    if of_run is not None and of_run.trained:
        raise CalibrationError(
            f"{where}: the model was trained on {of_run.trained:,} of these {pluralize(total, 'image')}, on which "
            "its edges are better than on others; give images that it has not seen ('gfocal split' holds some out "
            "before training), or --seen-images if no promise is needed"
        )


def _detect(args: argparse.Namespace, model: AnyDetector, data: ImageData, console: Console) -> dict[int, Detections]:
    from gfocal.console import progress_bar
    from gfocal.data.loading import evaluation_loader
    from gfocal.evaluation.detections import detect_all

    say(console, f"detecting in {pluralize(len(data), 'image')}")
    batches = evaluation_loader(data, model.input_settings, args.batch_size, args.num_workers)
    with progress_bar(console, "detecting", len(batches)) as bar:
        return detect_all(model, batches, bar.advance, args.precision, args.compile)


def _copy_model(args: argparse.Namespace) -> Path:
    """A copy of the model file at --out."""
    from gfocal.interop.published_weights import find_any_file

    source = find_any_file(args.model)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out) as temporary:
        shutil.copyfile(source, temporary)
    return args.out


def write_report(args: argparse.Namespace, result: CalibrationResult, data: ImageData) -> None:
    """The page of --report."""
    from gfocal.reports.calibration import write_calibration_page

    args.report.parent.mkdir(parents=True, exist_ok=True)
    write_calibration_page(args.report, result, data, args.coverage, f"Calibration of {args.model}", args.seed)


def print_result(result: CalibrationResult, coverage: float) -> None:
    """What was found, and what it is worth."""
    from gfocal.calibration.held_out import SPLITS

    output = standard_output()
    boxes = pluralize(result.calibration.num_boxes, "matched box", "matched boxes")
    say(output, f"edges: {boxes} in {pluralize(result.num_counted_images, 'image')} counted")
    if few := result.describe_few_images():
        say(output, f"  {few}")
    say(output, f"  rule of their spread: {result.describe_rule()}")
    if result.held_out is None:
        say(
            output,
            f"boxes, {coverage:.0%} asked: half of them are too few for it, so that other images must say what is "
            "covered ('gfocal eval')",
        )
    else:
        found = result.held_out.summary()
        say(
            output,
            f"boxes, {coverage:.0%} asked: {found.boxes:.1%} covered, intervals {found.width:.1f} pixels wide in the "
            f"mean (each half of the images by the other, {SPLITS} divisions)",
        )
    before, after = result.scores_before, result.scores_after
    say(
        output,
        f"scores: LaECE {before.la_ece:.3f} -> {after.la_ece:.3f}, D-ECE {before.d_ece:.3f} -> {after.d_ece:.3f} "
        "(cross-validated by image)",
    )


def figures(result: CalibrationResult) -> dict[str, Any]:
    """All numbers of ``print_result`` and more, for --json."""
    made = result.calibration
    return {
        "data": made.data,
        "images": made.num_images,
        "boxes": made.num_boxes,
        "counted_images": result.num_counted_images,
        "iou_threshold": made.iou_threshold,
        "score_threshold": made.score_threshold,
        "spread": {"fitted": made.is_fitted, "weights": list(made.spread.weights), "std_factor": made.std_factor},
        "held_out": None if result.held_out is None else asdict(result.held_out.summary()),
        "scores": {"before": asdict(result.scores_before), "after": asdict(result.scores_after)},
    }
