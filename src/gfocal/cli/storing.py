"""What 'gfocal eval' writes: its numbers, and into a model file thresholds, NMS and what bf16 costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gfocal.atomic import atomic_write
from gfocal.cli.options import describe_nms, has_nms_options, nms_to_json
from gfocal.console import note, say, warn
from gfocal.text import pluralize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from gfocal.calibration.measure import Trust
    from gfocal.cli.evaluation_page import Circumstances
    from gfocal.data.dataset import ImageData
    from gfocal.evaluation.coco_ap import ScoredBoxes
    from gfocal.evaluation.evaluate import Evaluation
    from gfocal.models.detector import Detector
    from gfocal.models.exported import AnyDetector
    from gfocal.models.precision import Bf16Check, Precision

    Compared = Mapping[str, Mapping[int, ScoredBoxes]]  # by precision: detections by image id


def write_numbers(
    path: Path,
    evaluation: Evaluation,
    model: AnyDetector | None,
    trust: Trust | None,
    of: Circumstances,
    console: Console,
) -> None:
    """All numbers as json; of a model also how far it can be trusted, its NMS, its precision, what it has seen."""
    numbers = evaluation.to_json()
    if model is not None:
        numbers |= {} if trust is None else {"trust": trust.to_json()}
        numbers |= {"nms": nms_to_json(model.decode_settings), "precision": of.precision}
        numbers["training_images_seen"] = of.seen
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    say(console, f"numbers: {path}")


def write_settings(
    path: Path, model: AnyDetector, evaluation: Evaluation, args: argparse.Namespace, part: str, console: Console
) -> None:
    """Write what --store-thresholds and --store-nms ask for into the model file, and print it."""
    from gfocal.models.model_file import store_nms

    settings = model.decode_settings
    if args.store_nms:
        store_nms(path, settings.nms_threshold, settings.class_agnostic_nms)
        say(console, f"{describe_nms(settings)}: written into {path}")
    if args.store_thresholds is not None:
        write_thresholds(path, evaluation, part, console)
    if has_nms_options(args) and not args.store_nms and args.store_thresholds is not None:
        note(console, "the thresholds hold with this NMS, which the model file lacks: --store-nms writes it too")
    elif has_nms_options(args) and args.store_nms and args.store_thresholds is None and model.class_thresholds:
        note(console, "its score thresholds were chosen with another NMS: --store-thresholds chooses new ones")


def write_thresholds(path: Path, evaluation: Evaluation, part: str, console: Console) -> None:
    """Write the chosen thresholds into the model file, and print them; none without detections."""
    from gfocal.models.model_file import store_thresholds

    chosen = evaluation.best_thresholds
    if not evaluation.ap.num_detections:
        warn(console, f"there are no detections, so no thresholds are written into {path}: train for longer first")
        return
    how = f"{chosen.rule} at IoU 0.5 on {pluralize(evaluation.ap.num_images, 'image')}: {part}"
    store_thresholds(path, chosen.scores, how)
    say(console, f"thresholds written into {path}, {how}")
    for name, one in zip(evaluation.boxes.names, chosen.classes, strict=True):
        say(console, f"  {name}: {one.threshold:g}{f' ({one.note})' * bool(one.note)}")


def precisions_to_compute(model: AnyDetector, args: argparse.Namespace) -> list[Precision]:
    """The precision of --precision, and with --store-precision the other one to compare it with.

    Raises:
        DataError: --store-precision for an exported file, which has one precision.
    """
    from torch import nn

    from gfocal.errors import DataError
    from gfocal.models.predict import computed_precision

    # Of an exported file it may be another word, which then says what its engine computes in anyway.
    precision = cast("Precision", computed_precision(model, args.precision))
    if not args.store_precision:
        return [precision]
    if not isinstance(model, nn.Module):
        raise DataError(f"{args.model}: computes in {precision} alone; --store-precision needs a model file")
    return [precision, "float32" if precision == "bf16" else "bf16"]


def compare_precisions(model: Detector, data: ImageData, found: Compared, how: str) -> Bf16Check | None:
    """AP in bf16 and in float32; None where the images have no objects, so that there is none. ``how``: in a line."""
    from gfocal.evaluation.detections import average_precision
    from gfocal.models.precision import Bf16Check, digest_weights

    float32_ap, bf16_ap = (average_precision(data, found[precision]).ap for precision in ("float32", "bf16"))
    if float32_ap is None or bf16_ap is None:
        return None
    return Bf16Check(bf16_ap, float32_ap, len(data), how[:1000], digest_weights(model))


def store_precision(
    path: Path | None, model: AnyDetector | None, data: ImageData, found: Compared, part: str, console: Console
) -> None:
    """Compare AP in bf16 with AP in float32; write it into the model file, where bf16 costs little.

    Raises:
        DataError: the images have no objects, so that there is no AP.
    """
    from gfocal.errors import DataError
    from gfocal.models.detector import Detector
    from gfocal.models.model_file import store_bf16_check
    from gfocal.models.precision import MAX_AP_DIFFERENCE, is_bf16_native

    assert isinstance(model, Detector)
    assert path is not None
    check = compare_precisions(model, data, found, f"{pluralize(len(data), 'image')}: {part}")
    if check is None:
        raise DataError("--store-precision: these images have no objects, so there is no AP to compare")
    difference = 100 * (check.ap - check.float32_ap)
    say(console, f"AP in float32 {check.float32_ap:.4f}, in bf16 {check.ap:.4f}: {difference:+.2f} points")
    store_bf16_check(path, check if check.is_passed else None)
    if not check.is_passed:
        note(
            console,
            f"that is more than {100 * MAX_AP_DIFFERENCE:g} points: {path} stays with float32 unless --precision "
            "says otherwise",
        )
        return
    say(console, f"written into {path}: 'gfocal detect' and model.detect use bf16 where it is native")
    if not is_bf16_native(next(model.parameters()).device):
        note(console, "this device has no instructions for bf16, so it computes in float32")
