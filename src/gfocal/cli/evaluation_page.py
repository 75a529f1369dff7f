"""The page of 'gfocal eval --report': from what was computed, and what is known of the model's run."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.cli.held_out import read_selected_on
from gfocal.cli.seen_images import describe_seen_images
from gfocal.console import note, progress_bar, say
from gfocal.text import one_line, pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.calibration.measure import Trust
    from gfocal.evaluation.evaluate import Evaluation
    from gfocal.reports.viewer import EvaluatedImages
    from gfocal.visualize.viewer.viewer_page import ViewerFile


@dataclass(frozen=True)
class Circumstances:
    """What the numbers are of."""

    part: str  # of the data, in words
    precision: str | None  # None for detections of a file
    seen: int | None  # images that the model was trained on; None where that is unknown


def write_pages(
    report: Path | None,
    viewer: ViewerFile | None,
    images: EvaluatedImages,
    trust: Trust | None,
    args: argparse.Namespace,
    of: Circumstances,
    console: Console,
) -> None:
    """The pages of --report and --viewer, where they are asked for."""
    if report is not None:
        write_page(report, images, trust, args, of)
        say(console, f"report: {report}")
    if viewer is not None:
        write_viewer_page(viewer, images, args, console)


def write_page(
    path: Path,
    images: EvaluatedImages,
    trust: Trust | None,
    args: argparse.Namespace,
    of: Circumstances,
) -> None:
    """The page of --report."""
    from gfocal.reports.evaluation import draw_worst_images, write_evaluation_page
    from gfocal.visualize.viewer.pack import MAX_SIDE
    from gfocal.visualize.viewer.viewer_page import viewer_section

    data, evaluation = images.data, images.evaluation
    warning = describe_seen_images(of.seen, len(data))
    facts = {"model": args.model, "data": of.part}
    if of.seen is not None:
        facts["images trained on"] = f"{of.seen:,} of {pluralize(len(data), 'image')}"
    facts["thresholds"] = evaluation.thresholds_source
    if (selected_on := read_selected_on(args.model)) is not None:
        facts["best epoch selected on"] = selected_on
    if of.precision is not None:
        facts["precision"] = of.precision
    title = f"Evaluation of {Path(args.model).name}"
    worst = [one.image_id for one in evaluation.worst_images(args.worst)]
    write_evaluation_page(
        path,
        evaluation,
        title=title,
        lead=f"{pluralize(len(data), 'image')}: {of.part}." + (f" Warning: {warning}." if warning else ""),
        images=draw_worst_images(data, evaluation, args.worst),
        viewer=viewer_section(images.settings(title), images.pack(worst, MAX_SIDE)) if worst else "",
        trust=trust,
        facts=facts | describe_limit(evaluation) | describe_run(args.model) | describe_now(),
    )


def write_viewer_page(file: ViewerFile, images: EvaluatedImages, args: argparse.Namespace, console: Console) -> None:
    """The page of --viewer."""
    from gfocal.reports.viewer import write_evaluation_viewer

    with progress_bar(console, "viewer", len(images.data)) as bar:
        title = (
            f"{Path(args.model).name} on images with ground truth, at first at {images.evaluation.thresholds_source}"
        )
        written = write_evaluation_viewer(file, images, title, bar.advance)
    if (missing := written.describe_missing()) is not None:
        note(console, missing)
    say(console, f"viewer: {written.path}, {written.num_bytes / 1e6:.1f} MB")


def describe_limit(evaluation: Evaluation) -> dict[str, str]:
    """AP with the number of detections that --max-detections gives."""
    limited = evaluation.ap.limited
    if limited is None or limited.ap is None:
        return {}
    counted = f"AP {limited.ap:.3f}; all on this page but the other AP values is with these"
    return {f"best {limited.max_detections:,} detections": counted}


def describe_run(model: str) -> dict[str, str]:
    """Epochs, number of training images and version of the run of a model; nothing of one without its run."""
    from gfocal.errors import GFocalError
    from gfocal.reports.runs import find_run, read_runs
    from gfocal.run_folder import RunFolder

    folder = find_run(model) if Path(model).exists() else None
    if folder is None:
        return {}
    try:
        (run,) = read_runs([folder])
        facts = {"trained for": run.state}
        if run.best and Path(model) != RunFolder(folder).last:
            facts["epoch of the model"] = f"{run.best['epoch']:.0f}, the best"
    except (GFocalError, ValueError, TypeError):  # damaged: the numbers of the page hold without it
        return {}
    if isinstance(images := run.about.get("train_images"), int):
        facts["training images"] = f"{images:,}"
    if isinstance(version := run.about.get("gfocal"), str):
        facts["trained with gfocal"] = one_line(version, max_length=100)
    return facts


def describe_now() -> dict[str, str]:
    """Date and version of gfocal."""
    from datetime import datetime

    from gfocal import __version__

    return {"evaluated": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, with gfocal {__version__}"}
