"""``gfocal check`` as a function: read all splits and images once, assign points to the boxes, collect findings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal import __version__
from gfocal.checks.advice import Advice, advise_for_network
from gfocal.checks.annotations import check_boxes
from gfocal.checks.before_training import geometry_from_config
from gfocal.checks.class_findings import check_classes, check_val_split, count_by_name
from gfocal.checks.class_summary import ClassSummary, count_boxes, summarize_classes
from gfocal.checks.duplicates import check_duplicates
from gfocal.checks.findings import Finding, Severity, count_by_severity, group_by_kind
from gfocal.checks.geometry import DetectorGeometry
from gfocal.checks.image_files import check_image_files, read_images
from gfocal.checks.records import check_records
from gfocal.checks.regression_range import (
    RegressionRangeResult,
    check_regression_range,
    measure_regression_range,
    single_thread,
)
from gfocal.checks.tile_size import check_tiles
from gfocal.config.config import Config
from gfocal.console import progress_bar, say
from gfocal.data.dataset import FileData
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.paths import split_name
from gfocal.data.survey import image_paths, measure_values, survey_images
from gfocal.data.value_range import Range, RangeChoice, choose_range
from gfocal.data.views import concatenate, ignored_as_objects
from gfocal.errors import DataError
from gfocal.text import one_line

SCHEMA = 1  # of the json; grows when a key is removed or changes its meaning
WHOLE = "all"  # name of the only split of data without splits
FOR_EVALUATION = ("val", "test")
MAX_COMMAND = 1000  # characters
MAX_IMAGES, MAX_IMAGES_FAST = 5000, 500  # images whose boxes get points assigned


@dataclass(frozen=True)
class CheckResult:
    """What was checked, and what was found."""

    paths: tuple[str, ...]
    config_name: str
    fast: bool
    splits: Mapping[str, FileData]
    training_splits: tuple[str, ...]  # none: of train, val and test only those for evaluation were read
    classes: tuple[ClassSummary, ...]  # those with most objects first
    findings: tuple[Finding, ...]  # most severe kinds first
    geometry: DetectorGeometry | None  # None: the config's detector has no regression range
    regression_range: RegressionRangeResult | None
    advice: tuple[Advice, ...]
    value_range: Range | None = None  # that images of more than 8 bits are read with
    train_options: str = ""  # with which ``gfocal train`` has this config
    reviewed: str = ""  # what a model reviewed of the annotations, in a line; empty: nothing

    @property
    def measured_splits(self) -> tuple[str, ...]:
        """Those whose boxes got points assigned: for training, else all."""
        return self.training_splits or tuple(self.splits)

    def fill_command(self, finding: Finding) -> str:
        """The command that does what a finding asks for; empty if there is none."""
        command = finding.command
        if command.startswith("gfocal split") and len(self.paths) > 1:
            return ""  # takes one dataset
        if command.endswith("--auto"):
            command += self.train_options
        parts = "--val 0.15 --test 0.15" if "test" in self.splits else "--val 0.15"
        return one_line(command.replace("PARTS", parts, 1).replace("DATA", self.data_argument, 1), MAX_COMMAND)

    @property
    def data_argument(self) -> str:
        """The datasets as arguments of a command line."""
        return " ".join(map(shlex.quote, self.paths))

    @property
    def counts(self) -> dict[Severity, int]:
        """Number of findings of each severity."""
        return count_by_severity(self.findings)

    def to_json(self) -> dict[str, Any]:
        """As ``gfocal check --json`` writes it."""
        measured = self.regression_range
        return {
            "schema": SCHEMA,
            "gfocal": __version__,
            "data": list(self.paths),
            "config": self.config_name,
            "fast": self.fast,
            "splits": {n: _split_to_json(data, n in self.training_splits) for n, data in self.splits.items()},
            "classes": {one.name: one.to_json() for one in self.classes},
            "counts": self.counts,
            "findings": [f.to_json() | {"command": self.fill_command(f)} for f in self.findings],
            "regression_range": None if measured is None else _range_to_json(measured),
            "advice": [advice.to_json() for advice in self.advice],
        }


@single_thread()
def check_datasets(
    paths: Sequence[str],
    config: Config,
    config_name: str,
    split_names: Sequence[str] = (),
    *,
    jobs: int = 2,
    fast: bool = False,
    with_ignored: bool = False,
    console: Console | None = None,
    train_options: str = "",
) -> CheckResult:
    """Check one dataset, or several that are to be used together.

    Args:
        paths: of datasets, as ``read_data`` takes them.
        config: decides the detector and the input size for which points are assigned to boxes.
        config_name: how the user named it.
        split_names: splits to check; none: train, val and test, else all there are.
        jobs: threads that read images.
        fast: read only the headers of images, and assign points in fewer of them.
        with_ignored: take ignored objects as ordinary ones.
        console: where progress is shown.
        train_options: options with which ``gfocal train`` has this config, for commands that are shown.

    Raises:
        DataError: a path holds no dataset, or one of the splits does not exist or has no usable image.
        ConfigError: the config's detector cannot be built.
    """
    console = console or Console(stderr=True)
    source = _read_sources(paths, split_names, with_ignored)
    say(console, "\n".join(source.formats))
    findings = list(source.findings)
    for name, data in source.splits.items():
        findings += check_records(data, name) + check_boxes(data, name)
    depth = _choose_value_range(source, config, fast)
    total = sum(map(len, source.splits.values()))
    with progress_bar(console, "reading headers" if fast else "reading images", total) as bar:
        images = read_images(source.splits, jobs, fast, lambda: bar.advance(1))
    findings += check_image_files(images, source.splits, depth.text) + check_duplicates(images, source.splits)

    geometry, result, advice = geometry_from_config(config), None, list[Advice]()
    if geometry is not None:
        result, advice, of_range = _check_range(source, geometry, config, fast, paths[0])
        findings += of_range
    return CheckResult(
        paths=tuple(paths),
        config_name=config_name,
        fast=fast,
        splits=source.splits,
        training_splits=tuple(source.training),
        classes=summarize_classes(source.splits, None if geometry is None else geometry.input_settings),
        findings=tuple(finding for group in group_by_kind(findings).values() for finding in group),
        geometry=geometry,
        regression_range=result,
        advice=tuple(advice),
        value_range=depth.value_range,
        train_options=train_options,
    )


def _check_range(
    source: _Sources, geometry: DetectorGeometry, config: Config, fast: bool, where: str
) -> tuple[RegressionRangeResult, list[Advice], list[Finding]]:
    """The regression range on the training splits, or on all where none was read, with advice and findings."""
    measured = source.training or list(source.splits)
    data, split = concatenate([source.splits[name] for name in measured]), ", ".join(measured)
    result = measure_regression_range(data, geometry, MAX_IMAGES_FAST if fast else MAX_IMAGES)
    advice, why_not = advise_for_network(data, geometry, result, config.augment.short_sides, config.model.init_from)
    allowed, no_larger_range = config.run.max_clamped_fraction, "" if advice else why_not
    findings = check_regression_range(result, data, split, where, allowed, no_larger_range, why_not)
    return result, advice, findings + check_tiles(data, geometry.input_settings, split, where)


def with_review(check: CheckResult, suspects: Sequence[Finding], reviewed: str) -> CheckResult:
    """A check with the findings of a review of annotations, in the order of kinds."""
    groups = group_by_kind([*check.findings, *suspects])
    return replace(
        check, findings=tuple(finding for group in groups.values() for finding in group), reviewed=reviewed
    )


@dataclass
class _Sources:
    """The splits of all datasets."""

    splits: dict[str, FileData] = field(default_factory=dict)
    # Names of the training splits: train, or all that are not for evaluation if none is named train.
    training: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)  # on classes
    formats: list[str] = field(default_factory=list)  # what each dataset was read as


def _choose_value_range(source: _Sources, config: Config, fast: bool) -> RangeChoice:
    """Choose the values of deep images that become 0 and 255, as training does, and read all splits with them."""
    found = None if fast else measure_values(survey_images(image_paths(source.splits.values())))
    choice = choose_range(found, config.images.value_range)
    for data in source.splits.values():
        data.value_range = choice.value_range
    return choice


def _read_sources(paths: Sequence[str], split_names: Sequence[str], with_ignored: bool) -> _Sources:
    found, base_names = _Sources(), dict[str, str]()
    datasets = [read_splits(Path(path), split_names, is_only=len(paths) == 1) for path in paths]
    has_train = any(base == "train" for dataset in datasets for base, _ in dataset.values())
    training_of: dict[str, tuple[dict[str, FileData], list[str]]] = {}
    for path, dataset in zip(paths, datasets, strict=True):
        splits = {name: ignored_as_objects(data) if with_ignored else data for name, (_, data) in dataset.items()}
        training = [
            name
            for name, (base, _) in dataset.items()
            if base == "train" or not (has_train or base in FOR_EVALUATION)
        ]
        if repeated := sorted(set(splits) & set(found.splits)):
            raise DataError(f"{path}: is named twice, or another dataset has its name ({', '.join(repeated)})")
        formats = dict.fromkeys(data.format for data in splits.values() if data.format)
        found.formats += [f"read as {', '.join(formats)}: {path}"] * bool(formats)
        found.splits |= splits
        found.training += training
        training_of[path] = splits, training
        base_names |= {name: base for name, (base, _) in dataset.items()}
    trained = count_by_name(found.splits[name] for name in found.training) if found.training else None
    everywhere = count_by_name(found.splits.values())
    for path, (splits, training) in training_of.items():
        found.findings += check_classes(splits, training, path, trained, everywhere)
    if not split_names:
        found.findings += check_val_split(base_names, found.splits, ", ".join(paths))
    return found


def read_splits(path: Path, split_names: Sequence[str], is_only: bool) -> dict[str, tuple[str, FileData]]:
    """The splits of a dataset: a name that is unique among all datasets -> its plain name and its data.

    Without ``split_names`` a list such as VOC's trainval, which repeats images of others, is passed over.
    """
    existing = list_splits(path)
    if not existing:
        words = re.findall("[A-Za-z]+[0-9]*", path.stem)
        base = next((name for word in words if (name := split_name(word))), WHOLE)
        return {base if is_only else path.name: (base, read_data(path))}
    usual = [name for name in existing if split_name(name) == name]
    found = {}
    for name in list(split_names) or usual or existing:
        base = split_name(name) or name
        found[base if is_only else f"{path.name}:{base}"] = (base, read_data(path, name))
    return found


def _split_to_json(data: FileData, is_training: bool) -> dict[str, Any]:
    number = count_boxes(data)
    return {
        "training": is_training,
        "images": len(data),
        "objects": sum(number),
        "classes": dict(zip(data.names, number, strict=True)),
    }


def _range_to_json(result: RegressionRangeResult) -> dict[str, Any]:
    return {
        "n": result.n,
        "delta": result.delta,
        "short_side": result.short_side,
        "long_side": result.long_side,
        "stretch": result.stretch,
        "images": result.num_images,
        "boxes": result.num_boxes,
        "points": result.num_points,
        "by_predictions": result.by_predictions,
        "clamped_fraction": result.clamped_fraction,
        "unassigned_fraction": result.unassigned_fraction,
        "max_distance_strides": float(result.distances[-1]) if len(result.distances) else 0.0,
        "levels": [
            {
                "stride": level.stride,
                "range_pixels": level.range_pixels,
                "boxes": level.num_boxes,
                "points": level.num_points,
                "clamped_fraction": level.clamped_fraction,
            }
            for level in result.levels
        ],
        "box_side_quantiles": {f"{q:.0%}": round(value, 2) for q, value in result.side_quantiles().items()},
    }
