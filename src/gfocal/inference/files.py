"""Detection in image files, resumable after any interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal.console import fail, note, say
from gfocal.data.classes import ClassMap
from gfocal.data.survey import choose_for_images
from gfocal.data.value_range import Range
from gfocal.errors import DataError
from gfocal.inference.intervals import choose_coverage, usable_calibration
from gfocal.inference.journal import Journal
from gfocal.inference.labeling import Order, check_tools
from gfocal.inference.results import FORMATS, ViewerOfRun, describe_threshold, write_results
from gfocal.inference.resume import is_finished, open_journal, run_header, unique_names
from gfocal.inference.sources import find_images
from gfocal.inference.stages import Pipeline
from gfocal.inference.windows import ImageFile
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import computed_precision, resolve_threshold
from gfocal.ops.tiles import Tiling
from gfocal.structures.detected import COVERAGE
from gfocal.text import one_line, pluralize
from gfocal.visualize.annotate import DrawStyle
from gfocal.visualize.lettering import check_font, find_unwritable
from gfocal.visualize.viewer.pack import choose_side, pack_calibration
from gfocal.visualize.viewer.viewer_page import ViewerFile, ViewerSettings


def detect_files(
    model: AnyDetector,
    paths: Sequence[str | Path],
    folder: Path,
    *,
    lists: Sequence[Path] = (),
    score_threshold: float | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    draw: bool = True,
    style: DrawStyle | None = None,
    value_range: Range | None = None,
    formats: Sequence[str] = ("coco",),
    classes: ClassMap | None = None,
    resume: bool = False,
    console: Console | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
    coverage: float | None = None,
    viewer: ViewerFile | None = None,
    tiling: Tiling | None = None,
    order: Order = "uncertainty",
) -> int:
    """Detect objects in image files; write results and drawn images. Returns how many files failed.

    Files that cannot be read are reported and left out. Every finished image is recorded in a journal,
    ``detections.jsonl``, which a run without failures removes at its end.

    Args:
        model: a detector.
        paths: files, folders, patterns and lists of files, see ``gfocal.inference.sources``.
        folder: for everything that is written.
        lists: text files with a path in each line.
        score_threshold: minimum score; None takes the model's own threshold of each class, or else 0.3.
        batch_size: images per pass through the network.
        num_workers: threads that read images ahead of the network and draw behind it; 0: none.
        draw: whether to draw images.
        style: what is drawn and how; None: boxes with class names and scores.
        value_range: of images of more than 8 bits, what becomes 0 and 255; None: the model's, or by the images.
        formats: of ``coco``, ``yolo``, ``voc``, ``csv``, ``cvat``, ``label-studio``, ``fiftyone``.
        classes: which of the model's classes are reported, under which names; None: all.
        resume: continue an interrupted run with the same model and settings; failed files are tried again.
        console: for messages; None: standard error.
        precision: number format of the network, see ``gfocal.models.precision``; the results say which it was.
        compiled: compile the network first.
        coverage: of a calibrated model, that of the intervals of edges which are written and drawn; None: 0.9.
        viewer: the page to write, on which images and detections can be looked through; None: no page.
        tiling: how images are cut into tiles, of which ``batch_size`` then counts; None: not at all.
        order: of the images of a labeling tool: what the model is most uncertain of first, or that of the files.

    Raises:
        DataError: no image is found; ``folder`` cannot be used; the detector has no edge distributions to draw; or
            its calibration cannot promise the coverage.
    """
    console = console or Console(stderr=True)
    style = style or DrawStyle()
    _check_options(model, batch_size, formats, style)
    check_tools(model.names if classes is None else classes.names, formats)
    coverage = choose_coverage(model, coverage, is_drawn=draw and style.edges == "interval")
    style = style if coverage is None else replace(style, coverage=coverage)
    files, num_failed = _find(paths, lists, folder, draw, console)
    if draw:
        _note_unwritable(model.names if classes is None else classes.names, style, console)
    threshold = resolve_threshold(model, score_threshold)
    value_range = choose_for_images(files, model.input_settings, value_range, console).value_range
    computed = computed_precision(model, precision)
    header = run_header(model, threshold, draw, style, value_range, classes, computed, coverage, viewer, tiling)
    pipeline = Pipeline(model, folder, threshold, batch_size, num_workers, draw, style, console, num_failed)
    pipeline.value_range, pipeline.classes, pipeline.coverage = value_range, classes, coverage
    pipeline.precision, pipeline.compiled, pipeline.tiling = precision, compiled, tiling
    of_run = None
    if viewer is not None:
        pipeline.viewer_side = viewer.side or choose_side(len(files), viewer.max_bytes)
        of_run = ViewerOfRun(viewer, _viewer_settings(model, classes, len(files), coverage))
    return _run(pipeline, _Job(files, tuple(formats), header, of_run, order), resume)


def _viewer_settings(
    model: AnyDetector, classes: ClassMap | None, num_images: int, coverage: float | None
) -> ViewerSettings:
    """What the viewer of a run says beside its images."""
    names = model.names if classes is None else classes.names
    calibration = usable_calibration(model)
    if calibration is not None and classes is not None:
        calibration = calibration.relabel(classes.new_labels)
    packed = pack_calibration(calibration, len(names), coverage)
    title = f"Detections in {pluralize(num_images, 'image')}"
    return ViewerSettings(title, names, calibration=packed, coverage=coverage or COVERAGE)


@dataclass(frozen=True)
class _Job:
    """What is to be done, beside the settings of the pipeline."""

    files: list[str]
    formats: tuple[str, ...]
    header: Mapping[str, Any]
    viewer: ViewerOfRun | None = None
    order: Order = "uncertainty"


def _check_options(model: AnyDetector, batch_size: int, formats: Sequence[str], style: DrawStyle) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if unknown := [kind for kind in formats if kind not in FORMATS]:
        raise ValueError(f"no format {unknown[0]!r}; there are: {', '.join(FORMATS)}")
    if style.edges != "none" and not model.box_coder.has_distribution:
        raise DataError(
            f"edges={style.edges}: {model.built_from['preset']} predicts no distribution of an edge, which this "
            "would draw; draw boxes alone (--edges none)"
        )
    if style.font_path is not None:
        check_font(style.font_path)


def _note_unwritable(names: Sequence[str], style: DrawStyle, console: Console) -> None:
    """Say which class names the drawings show as numbers."""
    if style.labels not in ("name", "name+score") or not (unwritable := find_unwritable(names, style.font_path)):
        return
    shown = ", ".join(f"{one_line(name, 40)} = class {names.index(name)}" for name in unwritable[:5])
    more = ", ..." * (len(unwritable) > 5)
    note(
        console, f"no font here has the letters of {shown}{more}: drawings show the number; --font names a font file"
    )


def _find(
    paths: Sequence[str | Path], lists: Sequence[Path], folder: Path, draw: bool, console: Console
) -> tuple[list[str], int]:
    """The image files, and how many of ``paths`` failed, which is reported. Creates the output folder."""
    found = find_images(paths, folder, lists)
    for text in found.notes:
        note(console, text)
    for text in found.failures:
        fail(console, text)
    if not found.files:
        raise DataError("no images were found; nothing was written")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder for the results")
    if draw and any(parent.resolve() == folder.resolve() for parent in {Path(file).parent for file in found.files}):
        raise DataError(
            f"{folder}: holds input images, which drawn images could replace; name another folder, or draw none "
            "(--no-images)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return found.files, len(found.failures)


def _run(pipeline: Pipeline, job: _Job, resume: bool) -> int:
    """Process the files that are not done yet and write the results; returns how many files failed."""
    folder, console = pipeline.folder, pipeline.console
    total = pluralize(len(job.files), "image")
    if resume and is_finished(folder, job.files, job.header):
        say(console, f"{folder}: all {total} are done already")
        return pipeline.num_failed
    journal, done = open_journal(folder, job.header, resume)
    with journal:
        if done:
            note(console, f"{pluralize(len(done), 'image')} done before, in {journal.path}")
        _process(pipeline, job, journal, done)
        journal.finish(pipeline.num_failed)
    if not done and not journal.count:
        journal.path.unlink()
        raise DataError(f"none of {total} could be read; nothing was written")
    written = write_results(journal.path, folder, job.formats, job.header, job.viewer, job.order)
    for text in written.notes:
        note(console, text)
    drawn = f", and drawn in {folder}" if pipeline.draw and written.num_images else ""
    say(console, f"{written}{drawn}; {describe_threshold(pipeline.threshold)}")
    if not pipeline.num_failed:
        journal.path.unlink()
    return pipeline.num_failed


def _process(pipeline: Pipeline, job: _Job, journal: Journal, done: Mapping[str, str]) -> None:
    """All files that are not done; an interruption ends with a message that says how to continue."""
    names = unique_names(job.files, done)
    rest = [ImageFile(i, file, names[i]) for i, file in enumerate(job.files) if file not in done]
    try:
        pipeline.process(rest, journal)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_write_interrupted(pipeline.folder, job, journal, len(done))) from None
    except Exception:
        if count := len(done) + journal.count:
            note(
                pipeline.console,
                f"{pluralize(count, 'image')} done so far, in {journal.path}; --resume continues from there",
            )
        raise


def _write_interrupted(folder: Path, job: _Job, journal: Journal, num_before: int) -> str:
    """Write what was found until the interruption; returns a message that says how to continue."""
    count = num_before + journal.count
    if not count:
        journal.path.unlink()
        return "stopped before an image was done; nothing was written"
    message = f"stopped after {count:,} of {pluralize(len(job.files), 'image')}"
    paths = write_results(journal.path, folder, job.formats, job.header, job.viewer, job.order).paths
    return f"{message}; the results so far are in {', '.join(map(str, paths))}; --resume continues"
