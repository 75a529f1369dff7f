"""The cache of published weights: its folder, the files in it, and a lock so that only one process fills it.

``checkpoints/`` has published files as they are, downloaded or put there by hand; ``models/`` the model files made of
them. Environment variables: ``GFOCAL_CACHE`` is another folder, ``GFOCAL_MIRROR`` a server that has the same paths,
``GFOCAL_OFFLINE`` or ``HF_HUB_OFFLINE`` set to 1 forbids downloads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from gfocal.errors import DownloadError
from gfocal.models.published import PublishedWeights
from gfocal.text import one_line

CACHE, MIRROR = "GFOCAL_CACHE", "GFOCAL_MIRROR"
OFFLINE = ("GFOCAL_OFFLINE", "HF_HUB_OFFLINE")
YES = ("1", "true", "yes", "on")  # as huggingface_hub reads its variable
SUFFIXES = (".ckpt", ".pth", ".safetensors")  # of a file put there by hand under the name of the weights


def cache_folder() -> Path:
    """The folder of the cache, which need not exist."""
    if given := os.environ.get(CACHE):
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("gfocal", appauthor=False)


def checkpoint_folder() -> Path:
    """The folder of published files, where a file may be put by hand."""
    return cache_folder() / "checkpoints"


def model_file_of(weights: PublishedWeights) -> Path:
    """Where the model file of published weights is, once it was made."""
    return cache_folder() / "models" / f"{weights.name}.safetensors"


def find_checkpoint(weights: PublishedWeights) -> Path | None:
    """The published file in the cache: by its own name, or by the name of the weights; None if there is none."""
    names = [weights.file_name, *weights.other_files, *(f"{weights.name}{suffix}" for suffix in SUFFIXES)]
    return next((path for name in names if (path := checkpoint_folder() / name).is_file()), None)


def forbidding_variable() -> str | None:
    """The environment variable that forbids downloads, with its value; None if none does."""
    return next((f"{key}={os.environ[key]}" for key in OFFLINE if os.environ.get(key, "").lower() in YES), None)


def mirrored(address: str) -> str:
    """The address on the server that ``GFOCAL_MIRROR`` names; unchanged without one."""
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return address
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
        raise DownloadError(f"{MIRROR}={one_line(mirror)}: not an address; give one like https://mirror.example")
    return mirror.rstrip("/") + urlsplit(address).path


def make_folders() -> None:
    """Create the folders of the cache; DownloadError where that is not possible."""
    try:
        for folder in (checkpoint_folder(), cache_folder() / "models"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{cache_folder()}: cannot be used as the cache of published weights ({error.strerror}); {CACHE}=FOLDER "
            "in the environment names another folder"
        ) from error


@contextmanager
def only_process(weights: PublishedWeights, report_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of these weights; ``report_waiting`` is called if another process has it, which is waited for."""
    from filelock import FileLock, Timeout

    lock = FileLock(cache_folder() / "checkpoints" / f"{weights.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report_waiting()
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise DownloadError(
            f"{checkpoint_folder()}: cannot be locked ({one_line(str(error))}); {CACHE}=FOLDER in the environment "
            "names another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
