"""Splits that gfocal.json assigns: images that it moves from one split of a dataset to another, whatever its format.

``gfocal split`` writes them where the format has no lists of images. The annotation files stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gfocal.data.dataset import FileData, Problem
from gfocal.data.paths import SPLITS, pick_split, sort_splits, split_name
from gfocal.data.sidecar import SIDECAR, read_sidecar
from gfocal.data.views import concatenate
from gfocal.errors import DataError

TRAIN = next(iter(SPLITS))  # what is moved nowhere, in data without splits of their own
LOST = "images that gfocal.json assigns to a split are not in the data"

Moves = Mapping[str, Mapping[str, Sequence[str]]]  # own split, "" without one -> new split -> names of images
Read = Callable[[str | None], FileData]


def dataset_root(path: Path) -> Path:
    """The folder whose gfocal.json is that of a dataset."""
    return path if path.is_dir() else path.parent


def sidecar_key(path: Path) -> str:
    """Under which gfocal.json has the splits of a dataset: the name of its file, nothing for a folder."""
    return "" if path.is_dir() else path.name


def image_name(path: Path, root: Path) -> str:
    """The name of an image in gfocal.json: its path below the dataset's folder."""
    return Path(os.path.relpath(path.absolute(), root.absolute())).as_posix()


def read_moves(path: Path) -> Moves:
    """The images that gfocal.json moves to another split; empty without any. Raises DataError if it is broken."""
    root = dataset_root(path)
    file = root / SIDECAR
    if not file.is_file() or b'"moved"' not in file.read_bytes():  # it may be large, and is parsed by the reader too
        return {}
    return read_sidecar(root).moved.get(sidecar_key(path), {})


def list_usual_splits(own: Sequence[str]) -> list[str]:
    """The splits in the files of a dataset; none where all is in a single one that is not named after a split."""
    return [] if len(own) == 1 and split_name(own[0]) is None else list(own)


def list_assigned_splits(own: Sequence[str], moves: Moves) -> list[str]:
    """All splits of a dataset with the splits ``own`` in its files."""
    return sort_splits([*(list_usual_splits(own) or [TRAIN]), *(name for to in moves.values() for name in to)])


def read_assigned(
    path: Path, split: str | None, names: Sequence[str] | None, own: Sequence[str], moves: Moves, read: Read
) -> FileData:
    """Read a split of a dataset whose images gfocal.json moves.

    Args:
        path: of the dataset.
        split: to read; None: the only one.
        names: the expected classes.
        own: the splits in the dataset's files.
        moves: as of ``read_moves``.
        read: reads a split of the dataset's files.

    Raises:
        DataError: there is no such split, or no image of it is left.
    """
    wanted = pick_split({name: name for name in list_assigned_splits(own, moves)}, split, path)
    usual = list_usual_splits(own)
    sources = {name: name for name in usual} or {"": TRAIN}
    root, parts = dataset_root(path), []
    for source, same in sources.items():
        targets = moves.get(source, {})
        if same != wanted and wanted not in targets:
            continue
        data = read(source if usual else own[0] if own else None)
        here = {name: index for index in range(len(data)) if (name := _name(data, index, root))}
        gone = {name for moved in targets.values() for name in moved}
        listed = targets.get(wanted, ())
        chosen = [name for name in here if name not in gone] if same == wanted else listed
        parts.append(_select(data, [here[name] for name in chosen if name in here], path))
        if same != wanted and (lost := [name for name in listed if name not in here]):
            record = f"{wanted}: {len(lost)}, e.g. {lost[0]}"
            parts[-1].problems.append(Problem(str(root / SIDECAR), record, LOST, "skipped"))
    parts = [part for part in parts if len(part)]
    if not parts:
        raise DataError(f"{path}: split {wanted}: none of its images, listed in {root / SIDECAR}, is there")
    return parts[0] if len(parts) == 1 else concatenate(parts, names, where=str(path))


def _name(data: FileData, index: int, root: Path) -> str:
    path = data.table.path(index)
    return "" if path is None else image_name(path, root)


def _select(data: FileData, indices: Sequence[int], path: Path) -> FileData:
    """Some images, in their order, without the problems of the others' annotation files."""
    chosen = data.select(sorted(indices))
    own = _stems(chosen)
    others = _stems(data) - own
    kept = [one for one in data.problems if Path(one.file).stem not in others or Path(one.file) == path]
    chosen.problems = list(kept)
    return chosen


def _stems(data: FileData) -> set[str]:
    return {path.stem for index in range(len(data)) if (path := data.table.path(index)) is not None}
