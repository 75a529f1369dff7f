"""The whole check: read every split once, look at every picture, lay out every box, and gather what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal import __version__
from gfocal.configs import Recipe
from gfocal.data.discovery import read_data, splits
from gfocal.data.joining import joined
from gfocal.data.layouts import split_name
from gfocal.data.samples import DataError, FileData
from gfocal.doctor.advice import Advice, advise
from gfocal.doctor.automatic import recipe_layout
from gfocal.doctor.boxes import box_findings
from gfocal.doctor.classes import class_counts, class_findings
from gfocal.doctor.coverage import reach_findings
from gfocal.doctor.duplicates import duplicate_findings
from gfocal.doctor.findings import Finding, Severity, by_kind, counts
from gfocal.doctor.layout import Layout
from gfocal.doctor.pictures import picture_findings, read_pictures
from gfocal.doctor.reach import ReachResult, one_thread
from gfocal.doctor.records import reader_findings
from gfocal.training.logging import progress_bar

SCHEMA = 1  # of the json; grows when a key changes its meaning or goes
WHOLE = "all"  # name of the only part of data without splits
MOST_LAID, MOST_LAID_FAST = 5000, 500  # pictures whose boxes are laid out


@dataclass(frozen=True)
class Check:
    """What was checked, and what was found."""

    paths: tuple[str, ...]
    recipe_name: str
    fast: bool
    splits: Mapping[str, FileData]
    training: tuple[str, ...]  # names of the splits that are learned
    findings: tuple[Finding, ...]  # worst kinds first
    layout: Layout | None  # None: the recipe's detector has no reach
    reach: ReachResult | None
    advice: tuple[Advice, ...]

    @property
    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        return counts(self.findings)

    def to_json(self) -> dict[str, Any]:
        """As ``gfocal check --json`` writes it."""
        return {
            "schema": SCHEMA,
            "gfocal": __version__,
            "data": list(self.paths),
            "recipe": self.recipe_name,
            "fast": self.fast,
            "splits": {name: _split_facts(data, name in self.training) for name, data in self.splits.items()},
            "counts": self.counts,
            "findings": [finding.to_json() for finding in self.findings],
            "reach": None if self.reach is None else _reach_facts(self.reach),
            "advice": [advice.to_json() for advice in self.advice],
        }


@one_thread()
def check(
    paths: Sequence[str],
    recipe: Recipe,
    recipe_name: str,
    wanted: Sequence[str] = (),
    *,
    jobs: int = 2,
    fast: bool = False,
    console: Console | None = None,
) -> Check:
    """Check one data set, or several that are to be used together.

    Args:
        paths: of data sets, as ``read_data`` takes them.
        recipe: says at which size, and for which detector, boxes are laid out.
        recipe_name: how the user named it.
        wanted: names of splits; none: train, val and test, else all there are.
        jobs: threads that read pictures.
        fast: read only the headers of pictures, and lay out fewer boxes.
        console: where progress is shown.

    Raises:
        DataError: a path holds no data set, or one of the splits is not there or has no usable picture.
        RecipeError: the recipe's detector cannot be built.
    """
    console = console or Console(stderr=True)
    findings: list[Finding] = []
    every: dict[str, FileData] = {}
    training: list[str] = []
    groups = [read_splits(Path(path), wanted, alone=len(paths) == 1) for path in paths]
    has_train = any(base == "train" for group in groups for base, _ in group.values())
    for path, group in zip(paths, groups, strict=True):
        named = {name: data for name, (_, data) in group.items()}
        learned = [name for name, (base, _) in group.items() if base == "train" or not has_train]
        if again := sorted(set(named) & set(every)):
            raise DataError(f"{path}: is named twice, or another data set has its name ({', '.join(again)})")
        every |= named
        training += learned
        findings += class_findings(named, learned, path)
    for name, data in every.items():
        findings += reader_findings(data, name) + box_findings(data, name)
    total = sum(map(len, every.values()))
    with progress_bar(console, "reading headers" if fast else "reading pictures", total) as bar:
        pictures = read_pictures(every, jobs, fast, lambda: bar.advance(1))
    findings += picture_findings(pictures, every) + duplicate_findings(pictures, every)

    layout, result, advice = recipe_layout(recipe), None, []
    if layout is not None and training:
        data = joined([every[name] for name in training])
        result = layout.reach(data, MOST_LAID_FAST if fast else MOST_LAID)
        advice = advise(data, layout, result, recipe.augment.short_sides)
        where = ", ".join(training)
        findings += reach_findings(result, data, where, paths[0], recipe.run.most_clamped)
    ranked = tuple(finding for group in by_kind(findings).values() for finding in group)
    return Check(tuple(paths), recipe_name, fast, every, tuple(training), ranked, layout, result, tuple(advice))


def read_splits(path: Path, wanted: Sequence[str], alone: bool) -> dict[str, tuple[str, FileData]]:
    """The splits of a data set: a name that no other data set has -> its plain name and its data.

    Without ``wanted`` a list such as VOC's trainval, which repeats others, is passed over.
    """
    there = splits(path)
    if not there:
        words = re.findall("[A-Za-z]+[0-9]*", path.stem)
        base = next((name for word in words if (name := split_name(word))), WHOLE)
        return {base if alone else path.name: (base, read_data(path))}
    usual = [name for name in there if split_name(name) == name]
    chosen = list(wanted) or usual or there
    found = {}
    for name in chosen:
        base = split_name(name) or name
        found[base if alone else f"{path.name}:{base}"] = (base, read_data(path, name))
    return found


def _split_facts(data: FileData, is_training: bool) -> dict[str, Any]:
    number = class_counts(data)
    return {
        "training": is_training,
        "pictures": len(data),
        "objects": sum(number),
        "classes": dict(zip(data.names, number, strict=True)),
    }


def _reach_facts(result: ReachResult) -> dict[str, Any]:
    return {
        "n": result.n,
        "delta": result.delta,
        "short_side": result.short_side,
        "long_side": result.long_side,
        "pictures": result.pictures,
        "boxes": result.boxes,
        "points": result.points,
        "share_beyond": result.share,
        "share_without_location": result.unplaced_share,
        "farthest_strides": float(result.distances[-1]) if len(result.distances) else 0.0,
        "levels": [
            {
                "stride": level.stride,
                "reach": level.reach,
                "boxes": level.boxes,
                "points": level.points,
                "share_beyond": level.share,
            }
            for level in result.levels
        ],
        "box_sides": {f"{q:.0%}": round(value, 2) for q, value in result.side_quantiles().items()},
    }
