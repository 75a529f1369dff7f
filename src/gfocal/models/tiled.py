"""Detection in large images: tile by tile, and merged."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, wait
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gfocal.data.image_rows import ArrayRows, Rows, open_rows
from gfocal.data.preprocess import InputSettings, input_shape, normalize_batch, resize
from gfocal.data.threads import start_workers
from gfocal.data.tile_pixels import read_tiles
from gfocal.data.value_range import Range
from gfocal.models.precision import Precision
from gfocal.models.predict import (
    ImageBatch,
    as_rgb,
    is_several,
    predict,
    range_of_images,
    resolve_threshold,
    source_of,
)
from gfocal.ops.seams import merge_tiles
from gfocal.ops.tiles import Tile, Tiling, find_own, move_to_image
from gfocal.structures import Color, Detections

if TYPE_CHECKING:
    from gfocal.models.exported import AnyDetector

CELL = 64  # pixels of the network's input; cells of coarser maps are as large as objects that coarser levels find

T = TypeVar("T")


def detect_in_tiles(
    model: AnyDetector,
    rows: Rows,
    tiling: Tiling,
    score_threshold: float,
    batch_size: int = 1,
    precision: Precision = "auto",
    compiled: bool = False,
    on_tile: Callable[[Detections], None] | None = None,
) -> Detections:
    """Find objects in an image that is read by rows.

    Every tile goes through the network as an image of its size does, whatever the size of the whole: objects have the
    same scale in all images. ``model.decode_settings.max_detections`` is the limit of a tile, not of the image.

    Args:
        model: a detector.
        rows: the image.
        tiling: how it is cut.
        score_threshold: detections must score more.
        batch_size: tiles per pass through the network.
        precision: number format of the network, see ``gfocal.models.precision``.
        compiled: compile the network first.
        on_tile: is called with the detections of each tile, in its pixels, once they are found.

    Returns:
        ``Detections`` in pixels of the image, on the CPU.

    Raises:
        ImageError: pixels cannot be read.
    """
    tiling = align(tiling, model.input_settings)
    found: list[tuple[Tile, Detections]] = []
    batches = _batches(rows, tiling, model.input_settings, batch_size)
    with start_workers(1) as pool, closing(batches), closing(_iterate_ahead(pool, batches)) as ahead:
        for batch, detections in predict(model, ahead, score_threshold, precision, compiled):
            for tile, one in zip(batch.keys, detections, strict=True):
                one = one.to("cpu")
                if on_tile is not None:
                    on_tile(one)
                whole = one.select(find_own(one, tile, tiling))
                found.append((tile, move_to_image(whole, tile, rows.size)))
    return merge_tiles(found, model.decode_settings)


def detect_tiled(
    model: AnyDetector,
    images: Any,
    tiling: Tiling,
    score_threshold: float | Sequence[float] | None = None,
    batch_size: int = 1,
    value_range: Range | None = None,
    color: Color = "rgb",
    precision: Precision = "auto",
) -> list[Detections] | Detections:
    """As ``gfocal.models.predict.detect``, tile by tile; ``batch_size`` counts tiles."""
    single = not is_several(images)
    several = [images] if single else images
    threshold = resolve_threshold(model, score_threshold)
    lowest = min(threshold) if isinstance(threshold, tuple) else threshold
    values = range_of_images(several, model.input_settings, value_range)
    found = []
    for image in several:
        with _open_any(image, values, color) as rows:
            one = detect_in_tiles(model, rows, tiling, lowest, batch_size, precision)
        found.append(replace(one.above(threshold), source=source_of(image, color, values)))
    return found[0] if single else found


@contextmanager
def _open_any(image: Any, value_range: Range | None, color: Color) -> Iterator[Rows]:
    if isinstance(image, str | Path):
        with open_rows(image, value_range) as rows:
            yield rows
        return
    yield ArrayRows(as_rgb(image, value_range, color))


def align(tiling: Tiling, settings: InputSettings) -> Tiling:
    """The tiling whose tiles begin where the cells of the network's coarse maps do."""
    height, width = input_shape((tiling.size, tiling.size), settings)
    return replace(tiling, grid=CELL * tiling.size / max(height, width)) if height == width else tiling


def _batches(
    rows: Rows, tiling: Tiling, settings: InputSettings, batch_size: int
) -> Generator[ImageBatch[Tile], None, None]:
    """Successive tiles that have one size, all at the scale of a whole tile."""
    tiles = read_tiles(rows, tiling, settings.mean if settings.stretch else None)
    for shape, same in groupby(tiles, lambda pair: tuple(pair[1].shape[-2:])):
        while several := list(islice(same, batch_size)):
            yield _stack(several, (shape[0], shape[1]), tiling, settings)


def _stack(
    tiles: Sequence[tuple[Tile, Tensor]], size: tuple[int, int], tiling: Tiling, settings: InputSettings
) -> ImageBatch[Tile]:
    whole = input_shape((tiling.size, tiling.size), settings)
    height, width = (max(round(size[i] * whole[i] / tiling.size), 1) for i in range(2))
    resized = [resize(pixels, (height, width), settings.antialias, settings.stretch) for _, pixels in tiles]
    return ImageBatch(
        keys=tuple(tile for tile, _ in tiles),
        images=normalize_batch(resized, settings),
        sizes=torch.tensor([(height, width)] * len(tiles)),
        original_sizes=torch.tensor([size] * len(tiles)),
    )


def _iterate_ahead(pool: Executor, items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, of which a worker makes the next one meanwhile."""
    end = object()
    future = pool.submit(next, items, end)
    try:
        while (item := future.result()) is not end:
            future = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
    finally:
        wait([future])  # nobody closes what a worker still reads
