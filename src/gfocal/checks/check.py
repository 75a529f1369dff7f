"""The whole check: read every split once, look at every image, lay out every box, and gather what was found."""

# FOLDED doctor.coverage: Findings on reach: edges that cannot be said, boxes that no point learns, boxes that are small at the input.
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal import __version__
from gfocal.checks.advice import FEW, Advice, Layout, advise
from gfocal.checks.annotations import TINY, box_findings, box_of, class_counts, class_findings, described
from gfocal.checks.before_training import config_layout, told
from gfocal.checks.duplicates import duplicate_findings
from gfocal.checks.findings import Finding, Severity, by_kind, counts
from gfocal.checks.image_files import image_findings, read_images
from gfocal.checks.reach import LaidBox, ReachResult, one_thread
from gfocal.checks.records import reader_findings
from gfocal.config.config import Config
from gfocal.console import progress_bar
from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data, splits
from gfocal.data.paths import split_name
from gfocal.data.views import joined
from gfocal.errors import DataError
from gfocal.text import counted

SCHEMA = 1  # of the json; grows when a key changes its meaning or goes
WHOLE = "all"  # name of the only part of data without splits
MOST_LAID, MOST_LAID_FAST = 5000, 500  # images whose boxes are laid out


@dataclass(frozen=True)
class Check:
    """What was checked, and what was found."""

    paths: tuple[str, ...]
    config_name: str
    fast: bool
    splits: Mapping[str, FileData]
    training: tuple[str, ...]  # names of the splits that are learned
    findings: tuple[Finding, ...]  # worst kinds first
    layout: Layout | None  # None: the config's detector has no reach
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
            "config": self.config_name,
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
    config: Config,
    config_name: str,
    wanted: Sequence[str] = (),
    *,
    jobs: int = 2,
    fast: bool = False,
    console: Console | None = None,
) -> Check:
    """Check one dataset, or several that are to be used together.

    Args:
        paths: of datasets, as ``read_data`` takes them.
        config: says at which size, and for which detector, boxes are laid out.
        config_name: how the user named it.
        wanted: names of splits; none: train, val and test, else all there are.
        jobs: threads that read images.
        fast: read only the headers of images, and lay out fewer boxes.
        console: where progress is shown.

    Raises:
        DataError: a path holds no dataset, or one of the splits is not there or has no usable image.
        ConfigError: the config's detector cannot be built.
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
            raise DataError(f"{path}: is named twice, or another dataset has its name ({', '.join(again)})")
        every |= named
        training += learned
        findings += class_findings(named, learned, path)
    for name, data in every.items():
        findings += reader_findings(data, name) + box_findings(data, name)
    total = sum(map(len, every.values()))
    with progress_bar(console, "reading headers" if fast else "reading images", total) as bar:
        images = read_images(every, jobs, fast, lambda: bar.advance(1))
    findings += image_findings(images, every) + duplicate_findings(images, every)

    layout, result, advice = config_layout(config), None, []
    if layout is not None and training:
        data = joined([every[name] for name in training])
        result = layout.reach(data, MOST_LAID_FAST if fast else MOST_LAID)
        advice = advise(data, layout, result, config.augment.short_sides)
        where = ", ".join(training)
        findings += reach_findings(result, data, where, paths[0], config.run.max_clamped_fraction)
    ranked = tuple(finding for group in by_kind(findings).values() for finding in group)
    return Check(tuple(paths), config_name, fast, every, tuple(training), ranked, layout, result, tuple(advice))


def read_splits(path: Path, wanted: Sequence[str], alone: bool) -> dict[str, tuple[str, FileData]]:
    """The splits of a dataset: a name that no other dataset has -> its plain name and its data.

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
        "images": len(data),
        "objects": sum(number),
        "classes": dict(zip(data.names, number, strict=True)),
    }


def _reach_facts(result: ReachResult) -> dict[str, Any]:
    return {
        "n": result.n,
        "delta": result.delta,
        "short_side": result.short_side,
        "long_side": result.long_side,
        "images": result.images,
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


def reach_findings(
    result: ReachResult, data: FileData, split: str, where: str, max_clamped_fraction: float
) -> list[Finding]:
    """A finding for each box that is concerned, and one for all of them where they are many."""
    findings = []
    if result.share > FEW or result.share > max_clamped_fraction:
        code = "reach-too-short" if result.share > max_clamped_fraction else "reach-short"
        findings.append(Finding(code, where, split, told(result), split))
    if result.unplaced_share > FEW:
        text = (
            f"{len(result.unplaced)} of {counted(result.boxes, 'box', 'boxes')} ({result.unplaced_share:.1%}) are "
            f"learned by no point at a short side of {result.short_side}"
        )
        findings.append(Finding("many-without-location", where, split, text, split))
    for laid in result.beyond:
        text = (
            f"{laid.farthest:.1f} strides of {laid.stride} to its farthest edge, of {result.n * result.delta:g} that "
            f"can be said; {_size(laid)}"
        )
        findings.append(_found("edge-beyond-reach", laid, data, split, text))
    for code, boxes in (("box-without-location", result.unplaced), ("small-at-input", result.small)):
        findings += [_found(code, laid, data, split, _size(laid)) for laid in _not_tiny(boxes, data)]
    return findings


def _size(laid: LaidBox) -> str:
    return f"{laid.sides[0]:.1f} x {laid.sides[1]:.1f} pixels at the input"


def _not_tiny(boxes: Sequence[LaidBox], data: FileData) -> list[LaidBox]:
    """Boxes that are not a finding already, for being next to nothing in the file itself."""
    kept = []
    for laid in boxes:
        x1, y1, x2, y2 = box_of(data.samples[laid.image], laid.box)
        if min(x2 - x1, y2 - y1) >= TINY:
            kept.append(laid)
    return kept


def _found(code: str, laid: LaidBox, data: FileData, split: str, text: str) -> Finding:
    sample = data.samples[laid.image]
    record = described(sample, laid.box, data.names)
    return Finding(code, str(sample.path), record, text, split, sample.path, (box_of(sample, laid.box),))
