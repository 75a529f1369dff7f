"""Which classes of data or of a model are used, and under which names: ``--classes`` and ``--rename``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gfocal.errors import DataError
from gfocal.text import did_you_mean, one_line


@dataclass(frozen=True)
class ClassMap:
    """From the classes of data or of a model to those that are reported."""

    names: tuple[str, ...]  # that are reported, indexed by new label
    new_labels: tuple[int, ...]  # of each old label; -1: left out

    @property
    def is_identity(self) -> bool:
        """Whether labels stay as they are, and none is left out."""
        return self.new_labels == tuple(range(len(self.names)))

    @property
    def merges(self) -> bool:
        """Whether several old classes become one."""
        used = [label for label in self.new_labels if label >= 0]
        return len(set(used)) < len(used)


def map_classes(
    names: Sequence[str], renames: Mapping[str, str] | None = None, classes: Sequence[str] = ()
) -> ClassMap:
    """Rename classes, of which those that get the same name become one, then choose some of them.

    Args:
        names: of the classes, indexed by label.
        renames: old name -> new name.
        classes: names after renaming, or several separated by commas; none: all classes.

    Raises DataError for a name that no class has.
    """
    renames = renames or {}
    for old, new in renames.items():
        if old not in names and new not in names:
            raise DataError(f"no class {old!r} to rename; {_suggest(old, names)}")
    renamed = [renames.get(name, name) for name in names]
    found = list(dict.fromkeys(renamed))
    chosen = choose_classes(classes, found) if classes else tuple(found)
    place = {name: label for label, name in enumerate(chosen)}
    return ClassMap(chosen, tuple(place.get(name, -1) for name in renamed))


def choose_classes(texts: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """The classes that ``--classes`` names, in the order of ``available``.

    A text is the name of a class, or several separated by commas. Raises DataError for a name that no class has.
    """
    wanted: list[str] = []
    for text in texts:
        wanted += [text] if text in available else [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in available:
            raise DataError(f"--classes: no class {one_line(name)!r}; {_suggest(name, available)}")
    return tuple(name for name in available if name in wanted)


def _suggest(name: str, available: Sequence[str]) -> str:
    return did_you_mean(repr(name), map(repr, available))
