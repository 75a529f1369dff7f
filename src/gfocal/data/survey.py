"""What the image files of a dataset hold that the pixels read from them do not show: more than 8 bits, more pages."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from gfocal.console import note, say
from gfocal.data.dataset import ImageData
from gfocal.data.images import image_header, value_bounds
from gfocal.data.preprocess import InputSettings
from gfocal.data.value_range import MeasuredValues, Range, RangeChoice, choose_range
from gfocal.errors import ImageError

MAX_HEADERS = 20_000  # images whose headers are read, 0.1 ms each
MAX_DECODED, MAX_PIXELS = 500, 2_000_000_000  # images of more than 8 bits that are decoded, and their pixels in all
ONE_PAGE_OF_8_BITS = (".jpg", ".jpeg", ".bmp")  # suffixes of files that need no look

T = TypeVar("T")


@dataclass(frozen=True)
class Survey:
    """The headers of a dataset's image files."""

    num_images: int
    num_seen: int  # of these; the others, evenly spaced between them, were left out
    deep: tuple[Path, ...] = ()  # files of more than 8 bits per channel
    deep_pixels: int = 0  # pixels of these
    num_paged: int = 0  # files with several pages or frames
    num_pages: int = 0  # pages of these

    def describe_pages(self) -> str:
        """How many pages are not looked at; empty where every file has one."""
        if not self.num_paged:
            return ""
        seen = f" (of {self.num_seen:,} images whose headers were read)" * (self.num_seen < self.num_images)
        files = "file has" if self.num_paged == 1 else "files have"
        return (
            f"{self.num_paged:,} {files} several pages or frames{seen}: {self.num_pages - self.num_paged:,} of "
            f"{self.num_pages:,} are not looked at, only the first of each file; extract those that you need"
        )


def survey_images(paths: Sequence[str | Path]) -> Survey:
    """Read the headers of images, or of ``MAX_HEADERS`` evenly spaced ones. Files that cannot be read are skipped."""
    step = max(1, -(-len(paths) // MAX_HEADERS))
    chosen = paths[::step]
    candidates = [Path(path) for path in chosen if not str(path).lower().endswith(ONE_PAGE_OF_8_BITS)]
    deep, deep_pixels, num_paged, num_pages = [], 0, 0, 0
    for path, header in zip(candidates, _try_each(image_header, candidates), strict=True):
        if header is None:
            continue
        if header.is_deep:
            deep.append(path)
            deep_pixels += header.size[0] * header.size[1]
        if header.frames > 1:
            num_paged += 1
            num_pages += header.frames
    return Survey(len(paths), len(chosen), tuple(deep), deep_pixels, num_paged, num_pages)


def measure_values(survey: Survey) -> MeasuredValues | None:
    """The lowest and highest value in the images of more than 8 bits, or in evenly spaced ones; None without any."""
    if not survey.deep:
        return None
    affordable = int(MAX_PIXELS * len(survey.deep) / max(survey.deep_pixels, 1))
    count = max(1, min(MAX_DECODED, affordable, len(survey.deep)))
    chosen = [survey.deep[i * len(survey.deep) // count] for i in range(count)]
    bounds = [found for found in _try_each(value_bounds, chosen) if found is not None]
    if not bounds:
        return None
    return MeasuredValues(min(b[0] for b in bounds), max(b[1] for b in bounds), len(bounds), len(survey.deep))


def choose_for_images(
    paths: Sequence[str | Path], settings: InputSettings, stated: Range | None, console: Console
) -> RangeChoice:
    """Choose the range of values for some images and a model's settings; prints it, and pages that are not read."""
    survey = survey_images(paths)
    if pages := survey.describe_pages():
        note(console, pages)
    choice = choose_range(measure_values(survey), stated, settings.value_range, settings.is_value_range_stated)
    if choice.text:
        (note if choice.is_note else say)(console, choice.text)
    return choice


def image_paths(datasets: Iterable[ImageData | None]) -> list[Path]:
    """The paths of all images of some datasets, as far as these are files."""
    tables = [data.files.table for data in datasets if data is not None and data.files is not None]
    return [path for table in tables for i in range(len(table)) if (path := table.path(i)) is not None]


def with_value_range(data: ImageData, value_range: Range | None) -> ImageData:
    """The data, read with this range of values; those that are not files as they are."""
    files = data.files
    return data if files is None or files.value_range == value_range else replace(files, value_range=value_range)


def _try_each(read: Callable[[Path], T], paths: Sequence[Path]) -> list[T | None]:
    """A function of every path, by several threads; None for images that cannot be read."""

    def attempt(path: Path) -> T | None:
        try:
            return read(path)
        except ImageError:
            return None

    # Reading changes the warning filters for a moment. Threads that do so at the same time may leave them changed.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(attempt, paths))
