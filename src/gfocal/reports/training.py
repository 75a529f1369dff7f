"""The page of a run, ``report.html`` in its folder: curves and detections while it trains, and afterwards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rich.console import Console

from gfocal.console import say, warn
from gfocal.data.dataset import ImageData
from gfocal.errors import ImageError
from gfocal.evaluation.bootstrap import RESAMPLES, Interval, ap_intervals, read_matches
from gfocal.reports import html
from gfocal.reports.demo import training_curves
from gfocal.run_folder import RunFolder
from gfocal.text import pluralize
from gfocal.training.pace import format_duration
from gfocal.training.watching import Evaluated, RunView
from gfocal.visualize.predictions import draw_predictions

NUM_IMAGES = 6
MAX_SHARE = 0.02  # of the time of the run that the page may take; at the end of a run it is drawn in any case
REFRESH_SECONDS = 10
SECONDS_BETWEEN_PAGES = 2  # of a run whose epochs take less
IMAGES = re.compile(r"<!--images-->.*?<!--/images-->", re.DOTALL)
# What a config decides, in the order of a summary; all other values are below it.
SUMMARY = (
    "model.preset", "model.init_from", "size.short_side", "size.long_side", "run.epochs", "run.time_minutes",
    "run.batch_size",
    "optimizer.kind", "optimizer.lr", "optimizer.lr_batch", "schedule.kind", "augment.preset", "run.precision",
    "run.ema_decay", "run.ema_share", "run.seed",
)  # fmt: skip
VERSIONS = ("gfocal", "torch", "torchvision", "timm", "python", "machine", "gpu", "threads", "processes", "command")


@dataclass
class TrainingPage:
    """Writes the page of a run, as a watcher of it: pass ``update`` to ``gfocal.run.run_training``.

    Drawing is left out while it would take more than 2 % of the time spent training. A page that cannot be written
    is warned of once, and does not end the run.
    """

    console: Console
    notes: Sequence[str] = ()  # what to keep in mind of the data
    evaluated: Evaluated | None = None  # not drawn yet
    evaluated_epoch: int = 0
    images: str = ""  # html of the section with detections
    interval: Interval | None = None  # of the best AP
    interval_epoch: int = 0
    spent: float = 0.0  # seconds
    written_at: float = 0.0
    has_failed: bool = False
    indices: list[int] = field(default_factory=list)

    def update(self, view: RunView) -> None:
        """Write the page anew."""
        started = time.perf_counter()
        if view.evaluated is not None:
            self.evaluated, self.evaluated_epoch = view.evaluated, view.epoch
        is_running = view.phase == "running"
        if is_running and started - self.written_at < SECONDS_BETWEEN_PAGES and self.written_at:
            return
        if not self.images:
            self.images = read_images(view.folder)
        if not is_running or self.spent <= MAX_SHARE * view.seconds:
            self._draw(view)
            self._measure(view)
        try:
            write_training_page(view, self.images, self.interval, self.notes)
            if not self.written_at:
                say(self.console, f"{view.folder.page}: the run as a page, while it trains and after")
        except OSError as error:
            if not self.has_failed:
                warn(self.console, f"{view.folder.page}: cannot be written ({error}); the run continues")
            self.has_failed = True
        self.written_at = time.perf_counter()
        self.spent += self.written_at - started

    def _draw(self, view: RunView) -> None:
        if self.evaluated is None or view.val_data is None:
            return
        self.indices = self.indices or choose_images(view.val_data)
        figures = draw_images(view.val_data, self.indices, self.evaluated)
        self.evaluated = None
        heading = f"Validation images after epoch {self.evaluated_epoch}"
        if view.best_epoch not in (0, self.evaluated_epoch):
            heading += f"; the best weights are those of epoch {view.best_epoch}"
        section = html.section(heading, html.gallery(figures), DETECTIONS)
        self.images = f"<!--images-->{section}<!--/images-->"

    def _measure(self, view: RunView) -> None:
        if not view.best_epoch or (view.best_epoch == self.interval_epoch and view.phase == "running"):
            return
        with suppress(OSError, ValueError):  # of a run that was started by an older gfocal
            few = RESAMPLES if view.phase != "running" else RESAMPLES // 4
            self.interval = ap_intervals(read_matches(view.folder.matches), few).ap
            self.interval_epoch = view.best_epoch


def read_images(folder: RunFolder) -> str:
    """The section with detections of a page that an earlier part of the run wrote; empty without one."""
    with suppress(OSError, ValueError):
        if found := IMAGES.search(folder.page.read_text(encoding="utf-8")):
            return found[0]
    return ""


def choose_images(data: ImageData, count: int = NUM_IMAGES) -> list[int]:
    """Indices of the images that are drawn: evenly spread over those with objects; always the same ones."""
    if data.files is not None:
        present = data.files.table.indices_with_objects().tolist()
    else:
        present = list(range(min(len(data), 10 * count)))  # generated images all have objects
    present = present or list(range(len(data)))
    return [present[k * len(present) // count] for k in range(count)] if len(present) > count else present


def draw_images(data: ImageData, indices: Sequence[int], evaluated: Evaluated) -> list[str]:
    """Figures of some images with ground truth and detections; one that cannot be read is left out."""
    figures = []
    for index in indices:
        with suppress(ImageError):
            image, sample = data.read(index)
            drawn, line = draw_predictions(image, sample, evaluated.detections.get(sample.image_id), data.names)
            name = sample.path.name if sample.path else f"image {sample.image_id}"
            figures.append(html.figure(drawn, f"{name}: {line}", fast=True))
    return figures


def write_training_page(view: RunView, images: str, interval: Interval | None, notes: Sequence[str] = ()) -> None:
    """Write the page of a run into its folder, whole or not at all.

    ``images`` is the section with detections, as html; ``notes`` are plain text.
    """
    title = f"Training {view.folder.path.name}"
    about, charts = _read_json(view.folder), training_curves(view.rows)
    versions = {key: about[key] for key in VERSIONS if about.get(key) is not None}
    parts = [
        html.header(title, describe_state(view), _tiles(view, interval)),
        "".join(f'<p class="warn">{html.text(line)}</p>' for line in notes),
        images,
        html.section("Training curves", html.charts(charts) if charts else html.note("No epoch is done yet.")),
        html.section("Which weights are the result", _paragraphs(describe_selection(view, about))),
        _config(view.folder),
        html.section("Versions", html.facts(versions)) if versions else "",
    ]
    refresh = REFRESH_SECONDS if view.phase == "running" else 0
    html.write_page(view.folder.page, title, parts, STYLE, refresh)


def describe_state(view: RunView) -> str:
    """Where a run is, in a sentence or two."""
    written = time.strftime("%H:%M:%S")
    done = f"{view.epoch} of {pluralize(view.epochs, 'epoch')}"
    if view.phase == "finished":
        early = f" {view.message[:1].upper()}{view.message[1:]}." if view.message else ""
        return f"Finished at {written} after {done}, {format_duration(view.seconds)} of training.{early}"
    if view.phase == "stopped":
        return (
            f"Stopped at {written} after {done}: {view.message}. With --resume the run continues where it was saved."
        )
    under_way = f", {view.batches} of {view.batches_per_epoch} batches of the next one" if view.batches else ""
    left = "" if view.seconds_left is None else f", {format_duration(view.seconds_left)} left"
    return (
        f"{done} done{under_way}{left}. Written at {written}; the page loads itself again every {REFRESH_SECONDS} s."
    )


def describe_selection(view: RunView, about: Mapping[str, Any]) -> list[str]:
    """What the result of a run is and what it was selected on, in sentences."""
    if view.val_data is None:
        return ["The weights of the last epoch: there is no validation data to select on."]
    where = f"{pluralize(len(view.val_data), 'validation image')} of {about.get('data') or 'the data'}"
    every = f"every {pluralize(view.eval_every, 'epoch')}" if view.eval_every > 1 else "every epoch"
    so_far = "so far " if view.phase == "running" else ""
    best = f": {so_far}epoch {view.best_epoch}, AP {view.best_ap:.3f}" if view.best_epoch else ""
    return [
        f"Those of the epoch with the highest AP ({view.folder.best.name}{best}). AP is measured {every}, on "
        f"{about.get('selected_on') or where}.",
        "AP of the selected epoch is a little too high, as it is the best of several. To report a number, evaluate "
        "on images that neither trained nor selected: 'gfocal eval' on a split test.",
    ]


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{html.text(sentence)}</p>" for sentence in sentences)


def _tiles(view: RunView, interval: Interval | None) -> str:
    last = view.rows[-1] if view.rows else {}
    best = html.decimal(view.best_ap) if view.best_epoch else "–"
    numbers = {"best AP" if view.val_data is not None else "AP, without validation": best}
    if interval is not None:
        numbers["95 % interval of it"] = f"{interval.low:.2f} – {interval.high:.2f}"
    numbers["loss"] = html.decimal(float(last["loss"])) if last else "–"
    numbers["epochs"] = f"{view.epoch} / {view.epochs}"
    if view.phase == "running":
        numbers["left"] = format_duration(view.seconds_left)
    return html.tiles(numbers)


def _config(folder: RunFolder) -> str:
    """The values that matter most, then all of them."""
    from gfocal.config.config import flatten, read_config
    from gfocal.errors import ConfigError

    try:
        values, text = flatten(read_config(folder.config)), folder.config.read_text(encoding="utf-8")
    except (OSError, ConfigError):
        return ""
    summary = {key: values[key] for key in SUMMARY if values.get(key) is not None}
    every = html.details(f"all of {folder.config.name}", f"<pre>{escape(text)}</pre>")
    return html.section("Config", html.facts(summary) + every)


def _read_json(folder: RunFolder) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(folder.description.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


DETECTIONS = (
    "The same images at every evaluation. Solid and labeled: detections of score above 0.3, or else the best one. "
    "Dashed and white: ground truth."
)

STYLE = """
.warn{border-left:4px solid var(--c1);padding:8px 14px;background:var(--card)}
.numbers div:nth-child(2) b{font-size:1.5rem}
pre{overflow-x:auto;font-size:.82rem;
background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px}
"""
