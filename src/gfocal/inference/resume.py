"""How a run of detection begins: what it is, whether it goes on with an earlier one, what its files are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gfocal.errors import DataError
from gfocal.inference.journal import Journal, difference, end_of, read_header, records
from gfocal.inference.results import JSON_FILE
from gfocal.inference.shards import Shard, digest, journals_in
from gfocal.models.detector import Detector
from gfocal.text import counted


def header_of(
    model: Detector,
    threshold: float | Sequence[float],
    draw: bool,
    edges: str,
    shard: Shard,
    files: Sequence[str],
) -> dict[str, Any]:
    """What a run is: all that its results depend on. A run that goes on must be the same.

    The number of processes and the list of files are part of it only where shares depend on them.
    """
    header: dict[str, Any] = {
        "model": fingerprint(model),
        "names": list(model.names),
        "score": threshold if isinstance(threshold, float) else list(threshold),
        "images": draw,
        "edges": edges,
        "max_detections": model.decode_settings.max_detections,
    }
    return header | ({"shards": shard.count, "files": digest(files)} if shard.count > 1 else {})


def fingerprint(model: Detector) -> str:
    """Weights and settings of a model in 16 signs; two models with the same one find the same."""
    sha = hashlib.sha256()
    about = [model.built_from, asdict(model.input_settings), asdict(model.decode_settings), model.names]
    sha.update(json.dumps(about, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def open_journal(
    folder: Path, shard: Shard, header: Mapping[str, Any], resume: bool
) -> tuple[Journal, dict[str, str]]:
    """The journal of a run, and the images that are done: file -> name of what was written for it.

    A journal of a run that has ended gives way to a new run: its results are written. Raises DataError for one that
    has not, unless ``resume`` goes on with it; for one of another run with ``resume``; and where processes of another
    run have left theirs.
    """
    path = folder / shard.journal
    for other in journals_in(folder):
        if other == path:
            continue
        why = "it has another number of shards" if shard.count == 1 else difference(read_header(other), header)
        if why is not None:
            raise DataError(
                f"{other}: the journal of another run ({why}); merge that (gfocal detect --merge {folder}), take it "
                "away, or name another folder"
            )
    if not path.is_file():
        return Journal(path, header), {}
    if not resume:
        count = sum(1 for _ in records(path))
        if count and shard.count > 1 and end_of(path) is not None:
            raise DataError(
                f"{path}: shard {shard} is done, {counted(count, 'image')}; run the others, or take this file away "
                "to do it anew"
            )
        if count and end_of(path) is None:
            raise DataError(
                f"{path}: a run was stopped here after {counted(count, 'image')}; go on with it (--resume), name "
                "another folder, or take this file away to begin anew"
            )
        return Journal(path, header), {}
    if (why := difference(read_header(path), header)) is not None:
        raise DataError(
            f"{path}: not the run that would go on: {why}; say again what was said then, or name another folder"
        )
    done: dict[str, str] = {}
    with path.open("rb") as file:
        length = len(file.readline())
    for record, end in records(path):
        done[record["file"]] = record["name"]
        length = end
    return Journal(path, header, length), done


def is_finished(folder: Path, files: Sequence[str], header: Mapping[str, Any]) -> bool:
    """Whether the results of this very run are there already, for all its files."""
    if journals_in(folder) or not (folder / JSON_FILE).is_file():
        return False
    try:
        content = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        there = {image["file_name"] for image in content["images"]}
        return content["info"]["run"] == dict(header) and there.issuperset(files)
    except (ValueError, KeyError, TypeError):
        return False


def stems(files: Sequence[str], done: Mapping[str, str]) -> list[str]:
    """A name without ending for what is written for each file, which no other has.

    A file that is done keeps its own.
    """
    taken = {name.casefold() for name in done.values()}
    found = []
    for file in files:
        name = done.get(file)
        if name is None:
            stem = name = Path(file).stem
            number = 1
            while name.casefold() in taken:  # on many disks A.jpg and a.jpg are one file
                number += 1
                name = f"{stem}_{number}"
            taken.add(name.casefold())
        found.append(name)
    return found
