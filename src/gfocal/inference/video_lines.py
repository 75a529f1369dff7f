"""The json lines of a video: a header, a line for each frame, and an end. They are the journal of the run.

The first line is ``{"journal": {...}}``: the names of the classes, the settings, and under ``video`` the file, its
time base and frame rate. The last is ``{"done": ...}``. Between them is a line for each frame:

frame, pts, time  its number from 0, and when it is shown: in units of the time base, and in seconds
size              height and width, upright, pixels
labels, names     of the class of each detection
scores, boxes     boxes as x1, y1, x2, y2 in pixels of the upright frame
edge_std          standard deviations of the edges left, top, right, bottom, pixels
edge_intervals, calibrated_scores   of a calibrated model
track_ids         with tracks: of each detection, null for one that belongs to no track, or not yet
is_sure           with tracks: whether the score is above the threshold; the others only continue a track

Boxes below the threshold that continue no track are left out: without them, the tracker of a resumed run comes to the
same tracks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.errors import DataError
from gfocal.inference.frames import Frame
from gfocal.inference.journal import Journal, Record, describe_difference, read_end, read_header, read_records
from gfocal.inference.results import record_detections
from gfocal.structures import Detections
from gfocal.text import pluralize


def make_line(frame: Frame, detections: Detections, coverage: float | None) -> Record:
    """The line of a frame, without tracks."""
    record: Record = {"frame": frame.index, "pts": frame.pts, "time": frame.time, "size": list(frame.size)}
    found = record_detections(detections, coverage)
    return record | {"labels": found.pop("labels"), "names": detections.class_names} | found


def sure_boxes(detections: Detections, threshold: float | Sequence[float]) -> Tensor:
    """Which detections score above a threshold: one for all, or one for each class, by label. (N,) bool"""
    if not isinstance(threshold, Sequence):
        return detections.scores > threshold
    return detections.scores > detections.scores.new_tensor(threshold)[detections.labels]


def drawable(record: Record, names: tuple[str, ...]) -> Detections:
    """The detections of a line, without distributions."""
    count = len(record["labels"])
    return Detections(
        boxes=torch.tensor(record["boxes"], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(record["scores"], dtype=torch.float32),
        labels=torch.tensor(record["labels"], dtype=torch.int64),
        edges=torch.zeros(count, 4, 0),
        points=torch.zeros(count, 2),
        bin_sizes=torch.zeros(count, 4),
        names=names,
        size=(record["size"][0], record["size"][1]),
    )


def open_lines(
    path: Path, header: Mapping[str, Any], resume: bool, is_live: bool = False
) -> tuple[Journal, int] | None:
    """The journal of a video, and how many frames it has; None for one that is finished, with ``resume``.

    Without ``resume``, the journal of a run that has ended is replaced where it would be the same again: not where
    that run had other settings, nor where it is of a stream or a camera (``is_live``), whose frames are gone.

    Raises:
        DataError: a run was stopped here, or one that ended would be lost, without ``resume``; or with it, the run is
            of another video, or had other settings.
    """
    if not path.is_file():
        return Journal(path, header), 0
    is_finished = read_end(path) is not None
    if not resume:
        _refuse_to_replace(path, header, is_finished, is_live)
        return Journal(path, header), 0
    if (why := describe_difference(read_header(path), header)) is not None:
        raise DataError(
            f"{path}: of a run with other settings: {why}; resume with the same ones, or name another folder"
        )
    if is_finished:
        return None
    if header["draw"] and header["edges"] != "none":  # lines have no distributions to draw
        return Journal(path, header), 0
    with path.open("rb") as file:
        length = len(file.readline())
    count = 0
    for _, length in read_records(path):  # noqa: B007
        count += 1
    return Journal(path, header, length), count


def _refuse_to_replace(path: Path, header: Mapping[str, Any], is_finished: bool, is_live: bool) -> None:
    """Raise a DataError for lines that a new run would not write again."""
    count = sum(1 for _ in read_records(path))
    if not count:
        return
    if not is_finished:
        raise DataError(
            f"{path}: a run was stopped here after {pluralize(count, 'frame')}; continue it (--resume), name "
            "another folder, or remove this file to start again"
        )
    why = "of a live source" if is_live else describe_difference(read_header(path), header)
    if why is not None:
        settings = "" if is_live else "with other settings: "
        raise DataError(
            f"{path}: of a finished run {settings}{why}; name another folder (--out), or remove this file to "
            "replace it"
        )
