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
unreported        with tracks: boxes below the threshold that continue none, which a resumed run needs
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


def tracker_input(record: Record) -> tuple[list[list[float]], list[bool], list[list[float]] | None]:
    """What ``Tracker.update`` got for a frame: boxes, whether they are sure, and edge_std. Best first, as then."""
    rest = record.get("unreported", {"scores": [], "boxes": [], "edge_std": []})
    scores = record["scores"] + rest["scores"]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    boxes = record["boxes"] + rest["boxes"]
    is_sure = record["is_sure"] + [False] * len(rest["scores"])
    stds = record["edge_std"] + rest.get("edge_std", []) if "edge_std" in record else None
    return [boxes[i] for i in order], [is_sure[i] for i in order], stds and [stds[i] for i in order]


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


def open_lines(path: Path, header: Mapping[str, Any], resume: bool) -> tuple[Journal, int] | None:
    """The journal of a video, and how many frames it has; None for one that is finished, with ``resume``.

    The journal of a run that has ended is replaced, unless it is to be resumed.

    Raises:
        DataError: a run was stopped here, without ``resume``; or it is of another video, or had other settings.
    """
    if not path.is_file():
        return Journal(path, header), 0
    is_finished = read_end(path) is not None
    if not resume:
        if not is_finished and (count := sum(1 for _ in read_records(path))):
            raise DataError(
                f"{path}: a run was stopped here after {pluralize(count, 'frame')}; continue it (--resume), name "
                "another folder, or remove this file to start again"
            )
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
