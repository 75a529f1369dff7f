"""From arguments to datasets, devices and the standard output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from gfocal import launch
from gfocal.console import note, say
from gfocal.text import one_line, pluralize

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from gfocal.config.config import Config
    from gfocal.data.dataset import FileData, ImageData, Problem
    from gfocal.models.exported import AnyDetector


_PRINTED: WeakKeyDictionary[Console, set[str]] = WeakKeyDictionary()  # lines on data, by where they were printed
PIPE_WIDTH = 200  # columns
Share = Literal["empty", "any"]  # which classes of the data may be missing among the expected ones


@contextmanager
def explain_missing_coco(is_expected: bool, path: str) -> Iterator[None]:
    """Where COCO itself is expected, add to a DataError how to download it; not where the data have other classes."""
    from gfocal.data.coco_names import COCO_2017
    from gfocal.errors import ClassMismatchError, DataError

    try:
        yield
    except DataError as error:
        if not is_expected or isinstance(error, ClassMismatchError):
            raise
        raise DataError(f"{error}\n{COCO_2017.format(path=path)}") from error


def first_available_split(path: str, *names: str) -> str | None:
    """The first of the named splits that a dataset has; None where it has none of them."""
    from gfocal.data.discovery import list_splits

    if path == "synthetic":
        return names[0]
    available = list_splits(Path(path))
    return next((name for name in names if name in available), None)


def select_splits(paths: Sequence[str], split: str | None, *defaults: str) -> list[tuple[str, str | None]]:
    """Each dataset with the given split, else the first of the defaults that it has, else None: all images."""
    return [(path, split or first_available_split(path, *defaults)) for path in paths]


def read_datasets(
    parts: Sequence[tuple[str, str | None]],
    console: Console,
    config: Config | None = None,
    names: Sequence[str] | None = None,
    renames: Sequence[tuple[str, str]] = (),
    classes: Sequence[str] = (),
    share: Share = "empty",
) -> ImageData:
    """Datasets, each with its split, as one; see ``read_dataset`` and ``gfocal.data.views``.

    ``classes`` are the texts of --classes. With ``names`` they say only that other classes are left out.
    """
    from gfocal.data.views import ONE_CLASS, as_one_class, concatenate
    from gfocal.errors import DataError

    if len(parts) == 1 and not renames and not classes:
        path, split = parts[0]
        return read_dataset(path, split, console, config, names, share)
    where = ", ".join(path for path, _ in parts)
    sets = [read_dataset(path, split, console, config) for path, split in parts]
    files = [data.files for data in sets if data.files is not None]
    if len(files) < len(sets):
        raise DataError(
            f"{where}: synthetic images can neither be combined with other data nor renamed, and have all their "
            "classes; give them alone"
        )
    is_class_agnostic = names is not None and tuple(names) == ONE_CLASS
    found = concatenate(files, None, dict(renames), where)
    print_problems(found.problems[sum(len(data.problems) for data in files) :], console)
    if classes and (names is None or is_class_agnostic):
        found = select_classes(found, classes, console)
    elif names is not None and not is_class_agnostic:
        found = match_classes(found, names, where, "any" if classes else share, console)
    return as_one_class(found) if is_class_agnostic else found


def select_classes(data: FileData, classes: Sequence[str], console: Console) -> FileData:
    """The data with the classes of --classes alone, said in a note."""
    from gfocal.data.classes import choose_classes
    from gfocal.data.views import describe_left_out, with_classes

    chosen = choose_classes(classes, data.names)
    if left_out := describe_left_out(data, chosen):
        note(
            console,
            f"{len(chosen)} of {len(data.names)} classes: {one_line(', '.join(chosen))}; left out, so that their "
            f"objects are background: {left_out}",
        )
    return with_classes(data, chosen)


def match_classes(data: FileData, names: Sequence[str], where: str, share: Share, console: Console) -> FileData:
    """The data with the classes ``names``; those that are left out are said in a note."""
    from gfocal.data.views import share_classes

    found, left_out = share_classes(data, names, where, only_empty=share == "empty")
    if left_out:
        count = sum(name in names for name in data.names)
        hint = "" if share == "empty" else "; --rename OLD=NEW gives a class the name that is expected"
        note(
            console,
            f"{where}: {count} of the {len(data.names)} classes of the data are expected; left out: {left_out}{hint}",
        )
    return found


def take_ignored_as_objects(data: ImageData, wanted: bool, console: Console) -> ImageData:
    """The data, for --ignored-as-objects with all objects as ordinary ones, said in a note."""
    from gfocal.data.views import ignored_as_objects

    if not wanted or data.files is None:
        return data
    number = int(data.files.table.crowd.sum())
    note(console, f"{pluralize(number, 'ignored object is', 'ignored objects are')} taken as ordinary objects")
    return ignored_as_objects(data.files)


def print_problems(problems: Sequence[Problem], console: Console) -> None:
    """Print the problems of a dataset, a line for each kind, without those of another split of the same files."""
    from gfocal.data.validation import summarize

    printed = _PRINTED.setdefault(console, set())
    for line in summarize(problems):
        if line not in printed:
            note(console, line)
        printed.add(line)


def read_dataset(
    data: str,
    split: str | None,
    console: Console,
    config: Config | None = None,
    names: Sequence[str] | None = None,
    share: Share = "empty",
) -> ImageData:
    """Read a dataset and print its problems; ``synthetic`` stands for synthetic images of the config's size and seed.

    ``names`` are the expected classes. Where they are the one class "object", all classes of the data become it.
    Other classes of the data are left out with a note if they have no objects, with ``share`` "any" in any case.
    """
    from gfocal.data.views import ONE_CLASS, as_one_class

    if names is not None and tuple(names) == ONE_CLASS:
        found = read_dataset(data, split, console, config)
        if found.names != ONE_CLASS:
            note(
                console,
                f"the model has one class, {ONE_CLASS[0]}: all {len(found.names)} classes of the data count as it",
            )
        return as_one_class(found)
    from gfocal.data.discovery import read_data
    from gfocal.data.paths import class_mismatch
    from gfocal.data.synthetic.scenes import SyntheticScenes
    from gfocal.errors import ClassMismatchError

    if data == "synthetic":
        if names is not None and tuple(names) != SyntheticScenes.names:
            raise class_mismatch(SyntheticScenes.names, names, data)
        size = (config.size.short_side if config else None) or 192
        seed = config.run.seed if config else 0
        return SyntheticScenes(1000 if split == "train" else 200, size, seed, split or "test")
    try:
        found = read_data(Path(data), split, names)
    except ClassMismatchError:
        if names is None:
            raise
        found = match_classes(read_data(Path(data), split), names, data, share, console)
    say_format(found, data, console)
    print_problems(found.problems, console)
    return found


def say_format(data: FileData, path: str, console: Console) -> None:
    """Say once which format a dataset was read as."""
    line = f"read as {data.format}: {path}"
    printed = _PRINTED.setdefault(console, set())
    if data.format and line not in printed:
        say(console, line)
    printed.add(line)


def standard_output() -> Console:
    """A console for results; everything else goes to standard error.

    Where it is no terminal, lines are ``PIPE_WIDTH`` wide instead of rich's 80 columns.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def use_device(name: str | None) -> None:
    """Let training compute on the named device; None leaves it to accelerate: a GPU if there is one, else the CPU."""
    import torch

    if name is None or launch.world_size() > 1:
        return
    device = select_device(name)
    if device.type == "cpu":  # run.cpu says so
        return
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def select_device(name: str | None) -> torch.device:
    """The named device, else the first GPU, else the CPU. Raises DeviceError for one that is not available."""
    import torch

    from gfocal.errors import DeviceError

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {name}: not available ({reason}); leave the option out, or give cpu") from error


def prepare_compiling() -> None:
    """Make torch.compile keep what it compiles in gfocal's cache, for --compile.

    Raises:
        DeviceError: there is no C++ compiler.
    """
    from gfocal.errors import DeviceError
    from gfocal.interop.weights_cache import cache_folder

    if not any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"))):
        raise DeviceError("--compile needs a C++ compiler; install one (g++ or clang++), or leave the option out")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))


def load_detector(model: str, device: str | None) -> AnyDetector:
    """The detector of a model file or an exported one, on the named device, by default the first GPU or the CPU."""
    from gfocal.interop.any_model import load
    from gfocal.models.exported import is_exported

    return load(model, "cpu" if device is None and is_exported(model) else select_device(device))
