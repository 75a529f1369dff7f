"""Published weights by name: downloaded once, checked, and converted to a model file in the cache.

A name of ``gfocal.models.published`` is taken wherever a model file is. Nothing is downloaded that no name asked for,
and a file or folder of that name on this machine comes first.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gfocal import launch
from gfocal.console import can_redraw, note, say
from gfocal.data.coco_names import COCO_NAMES
from gfocal.errors import CheckpointImportError, DownloadError, ModelFileError
from gfocal.interop.weights_cache import (
    CACHE,
    MIRROR,
    checkpoint_folder,
    find_checkpoint,
    forbidding_variable,
    make_folders,
    mirrored,
    model_file_of,
    only_process,
)
from gfocal.models.detector import Detector
from gfocal.models.exported import is_exported
from gfocal.models.model_file import find_local_file, find_model_file, load_model, read_description, save_model
from gfocal.models.names import HUB_SCHEME, require_model
from gfocal.models.nanodet import without_auxiliary
from gfocal.models.published import PUBLISHED, PublishedWeights
from gfocal.models.zoo import PRESETS

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.interop.download import Report
    from gfocal.interop.mmdet import Imported


def load(path: str | Path, device: torch.device | str = "cpu") -> Detector:
    """A trained detector, ready to detect: ``gfocal.load("runs/mine")``, ``gfocal.load("gfl_r50_1x_coco")``.

    Args:
        path: a model file; the folder of a run: then its ``best.safetensors``, else ``last.safetensors``;
            ``hf://owner/name``, a model on the Hugging Face hub; or the name of published weights, which ``gfocal
            models`` lists. Those are downloaded when they are first used, with a progress bar, into a cache that the
            environment variable ``GFOCAL_CACHE`` moves. A file or folder of that name comes first.
        device: where to put it.

    Raises:
        ModelFileError: there is no such file and no such name, or it is no gfocal model, or it is damaged.
        DownloadError: published weights that are not in the cache and cannot be downloaded.
    """
    return load_model(locate_model(path), device)


def locate_model(model: str | Path) -> str | Path:
    """What is given for a model, with the name of published weights replaced by the model file in the cache.

    They are downloaded and converted unless the cache has them. Errors as those of ``load``, except that a file is
    not opened.
    """
    text = str(model)
    weights = PUBLISHED.get(text)
    is_there = not text.startswith(HUB_SCHEME) and Path(text).exists()
    if weights is not None and not is_there:
        return obtain(weights)
    if weights is not None and launch.is_main():
        note(_console(), f"{text}: the file or folder of this name is used, not the published weights")
    require_model(model)
    return model


def find_own_file(model: str | Path) -> Path:
    """The model file of a path or a run, to be changed; ModelFileError if it is on the hub or exported."""
    if str(model) in PUBLISHED and not Path(model).exists():
        raise ModelFileError(
            f"{model}: thresholds are stored in a model file of your own, not in the cache; copy "
            f"{model_file_of(PUBLISHED[str(model)])}, and give the copy"
        )
    if is_exported(model):
        raise ModelFileError(
            f"{model}: an exported file keeps the settings that it was made with; store them in the model file, and "
            "export it again"
        )
    return find_local_file(model)


def find_any_file(model: str | Path) -> Path:
    """The model file of a path, a run or a name of published weights that the cache has, to be read or copied."""
    if str(model) in PUBLISHED and not Path(model).exists():
        return model_file_of(PUBLISHED[str(model)])
    return find_model_file(model)


def obtain(weights: PublishedWeights) -> Path:
    """The model file of published weights, made if the cache does not have it.

    Raises:
        DownloadError: they cannot be downloaded, or the cache cannot be written.
        CheckpointImportError: a file in the cache is not what its name says.
    """
    model_file = model_file_of(weights)
    if _is_current(model_file, weights):
        return model_file
    make_folders()
    console = _console()
    with only_process(weights, lambda: say(console, f"{weights.name}: waiting for another process that gets it")):
        if _is_current(model_file, weights):
            return model_file
        checkpoint = find_checkpoint(weights)
        address = ""
        if checkpoint is None:
            checkpoint, address = fetch(weights, console)
        try:
            make_model_file(weights, checkpoint, address, model_file, console)
        except CheckpointImportError as error:
            if not address:
                raise
            checkpoint.unlink(missing_ok=True)  # nothing was known of it but where it came from
            raise DownloadError(
                f"{weights.name}: what came from {address} is no such checkpoint, and was removed ({error}). "
                f"{_by_hand(weights)}"
            ) from error
    return model_file


def is_in_cache(weights: PublishedWeights) -> bool:
    """Whether the weights can be used without a download."""
    return model_file_of(weights).is_file() or find_checkpoint(weights) is not None


def fetch(weights: PublishedWeights, console: Console) -> tuple[Path, str]:
    """Download the published file into the cache; returns it, and the address that it came from.

    The addresses are tried in order, until one gives the file, or a part of it from which a second try resumes.
    """
    from gfocal.interop.download import Wanted, download, part_of

    if variable := forbidding_variable():
        raise DownloadError(
            f"{weights.name}: not in the cache, and {variable} forbids downloads. {_by_hand(weights)}"
        )
    target = checkpoint_folder() / weights.file_name
    reasons = []
    for known in weights.downloads:
        wanted = Wanted(mirrored(known.address), known.digest, known.num_bytes)
        say(console, f"{weights.name}: downloading {wanted.address} ({weights.megabytes:g} MB, {weights.license})")
        try:
            with _progress_bar(weights.name, console) as report:
                download(wanted, target, report)
            return target, wanted.address
        except DownloadError as error:
            reasons.append(f"{wanted.address}: {error}")
        if (
            part_of(target).is_file() or wanted.address != known.address
        ):  # to be resumed; or the mirror's, the only one
            break
    raise DownloadError(f"{weights.name} cannot be downloaded: {'; '.join(reasons)}. {_by_hand(weights)}")


def make_model_file(
    weights: PublishedWeights, checkpoint: Path, address: str, model_file: Path, console: Console
) -> None:
    """Convert a published file; the model file says where its weights come from.

    Raises:
        CheckpointImportError: the file is damaged, or of another network.
        DownloadError: the model file cannot be written.
    """
    from gfocal.interop.download import describe_write_error, hash_file

    if not address:
        _check_by_hand(weights, checkpoint, console)
    model, remarks = import_published(weights, checkpoint)
    # All files of NanoDet-Plus, with the part for training and without, become the same detector.
    model = without_auxiliary(model)
    model.provenance = {
        "name": weights.name,
        "address": address or "put into the cache by hand",
        "file": checkpoint.name,
        "bytes": str(checkpoint.stat().st_size),
        "sha256": hash_file(checkpoint),
        "license": weights.license,
        "source": weights.source,
        "training": weights.training,
    }
    try:
        save_model(model, model_file)
    except OSError as error:
        raise DownloadError(
            f"{model_file}: cannot be written ({describe_write_error(error, model_file)}); {CACHE}=FOLDER in the "
            "environment names another folder for the cache"
        ) from error
    for remark in remarks:
        say(console, f"{weights.name}: {remark}")
    say(console, f"{weights.name}: model file {model_file}")


def import_published(weights: PublishedWeights, checkpoint: Path) -> tuple[Detector, list[str]]:
    """The detector of a published file, and remarks on what was left out. Raises CheckpointImportError."""
    if checkpoint.suffix == ".safetensors" and _is_model_file(checkpoint):
        model, remarks = load_model(checkpoint), []
    else:
        imported = _import(weights, checkpoint)
        model, remarks = imported.model, [f"left out: {reason}" for reason in imported.left_out]
    built = model.built_from
    body = inspect.signature(PRESETS[weights.preset]).parameters.get("body")
    wanted = weights.options.get("body", None if body is None else body.default)
    if built["preset"] != weights.preset or built["options"].get("body") != wanted:
        found = " with the backbone ".join(filter(None, (built["preset"], built["options"].get("body"))))
        raise CheckpointImportError(f"{checkpoint}: is a {found}, and so not {weights.name}; remove the file")
    return model, remarks


def _import(weights: PublishedWeights, checkpoint: Path) -> Imported:
    """A file by the importer of its family; the table knows what a file may leave open."""
    from gfocal.interop.any_checkpoint import import_any
    from gfocal.interop.mmdet import import_content
    from gfocal.interop.mmdet_checkpoint import read_checkpoint

    if weights.side is not None:
        return import_any(checkpoint, names=COCO_NAMES, side=weights.side)
    content = read_checkpoint(checkpoint)
    meta = content["meta"] if isinstance(content.get("meta"), Mapping) else {}
    # All of them have their AP in MMDetection 2.0; the metadata of the oldest may name the version before it.
    content = {**content, "meta": {**meta, "mmdet_version": "2.0.0"}}
    return import_content(content, checkpoint, None, weights.options.get("caffe"), COCO_NAMES)


def _is_current(model_file: Path, weights: PublishedWeights) -> bool:
    """Whether the cache has the model file of these weights, made of the file that lies there, if one does."""
    try:
        origin = read_description(model_file).get("provenance", {})
    except ModelFileError:
        return False
    checkpoint = find_checkpoint(weights)
    made_of = (origin.get("file"), origin.get("bytes"))
    return origin.get("name") == weights.name and (
        checkpoint is None or made_of == (checkpoint.name, str(checkpoint.stat().st_size))
    )


def _is_model_file(path: Path) -> bool:
    try:
        read_description(path)
    except ModelFileError:
        return False
    return True


def _check_by_hand(weights: PublishedWeights, checkpoint: Path, console: Console) -> None:
    """CheckpointImportError if a file put there by hand has the published name, but another size or hash."""
    from gfocal.interop.download import Wanted, find_mismatch

    known = [Wanted(d.address, d.digest, d.num_bytes) for d in weights.downloads if d.digest or d.num_bytes]
    if checkpoint.name != weights.file_name or not known:
        note(console, f"{checkpoint}: used by its tensors alone, no hash of it is published")
        return
    reasons = [find_mismatch(checkpoint, wanted) for wanted in known]
    if all(reasons):
        raise CheckpointImportError(
            f"{checkpoint}: {reasons[0]}; remove the file, and it is downloaded, or copy it there again"
        )


def _by_hand(weights: PublishedWeights) -> str:
    """What to do where a download is not possible."""
    return (
        f"By hand: get {weights.downloads[0].address} elsewhere and save it as "
        f"{checkpoint_folder() / weights.file_name} ({CACHE} moves this folder, {MIRROR} names another server)"
    )


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _progress_bar(name: str, console: Console) -> Iterator[Report]:
    """A bar over the bytes of a download; nothing is shown where the console is no terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not can_redraw(console)) as progress:
        task = progress.add_task(name, total=None)

        def report(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield report
