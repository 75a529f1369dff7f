"""What is odd about classes and splits: names, how many boxes each class has, and in which split."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from gfocal.checks.annotations import describe_box, read_box
from gfocal.checks.class_names import find_suspects, normalize_name
from gfocal.checks.class_summary import count_boxes
from gfocal.checks.findings import Finding, GroupImage, MarkedBox
from gfocal.checks.records import are_ids_shifted
from gfocal.data.dataset import FileData
from gfocal.text import pluralize

MIN_BOXES = 10  # of a class in training
MAX_IMBALANCE = 100  # times as many boxes as the rarest class that has some
MAX_EMPTY = 0.5  # fraction of images without an object
PLACEHOLDERS = {"object", "objects", "item", "thing", "class", "label", "unlabeled", "none", "unknown"}
NUMBERED = re.compile(r"(class|label|category)?[ _-]?\d+")
MAX_NAMES = 12  # classes in a command
VALIDATION = "val"  # the split on which the best epoch is chosen


def check_classes(
    splits: Mapping[str, FileData],
    training: Sequence[str],
    where: str,
    trained: Mapping[str, int] | None,
    everywhere: Mapping[str, int],
) -> list[Finding]:
    """Findings on the classes of one dataset.

    Args:
        splits: those that were read.
        training: names of its training splits.
        where: its path.
        trained: boxes of each class in the training splits of all datasets; None: no training split was read, and
            nothing is said of training.
        everywhere: boxes of each class in all splits of all datasets.
    """
    lists = {name: data.names for name, data in splits.items()}
    first = next(iter(lists.values()))
    for name, names in lists.items():
        if names != first:
            missing = sorted(set(first) ^ set(names))
            what = f"differs in {', '.join(missing)}" if missing else "has another order"
            return [Finding("class-list-mismatch", where, name, f"the list of {name} {what}", name)]
    counts = {name: dict(zip(first, count_boxes(data), strict=True)) for name, data in splits.items()}
    number = {name: sum(count[name] for count in counts.values()) for name in first}
    findings = [*_check_suspects(splits, number, where), *_check_names(first, number, where)]
    can_train = not any(are_ids_shifted(data) for data in splits.values())
    if trained is None:
        findings += _check_evaluated(first, counts, where)
    else:
        absent = {name for name in first if can_train and not everywhere[name]}
        findings += _check_counts(first, counts, training, where, absent, trained)
    for name, data in splits.items():
        findings += _check_split(data, counts[name], name, name in training, where)
    return findings


def check_val_split(base_names: Mapping[str, str], splits: Mapping[str, FileData], where: str) -> list[Finding]:
    """A finding if no split is for validation; ``base_names`` are the plain names of the splits."""
    bases = set(base_names.values())
    if VALIDATION in bases or bases <= {"test"}:
        return []
    found = ", ".join(f"{pluralize(len(splits[name]), 'image')} in {name}" for name in base_names)
    return [Finding("no-val-split", where, "", f"{found}, no val")]


def _check_names(names: tuple[str, ...], number: Mapping[str, int], where: str) -> Iterator[Finding]:
    plain: dict[str, str] = {}
    for name in names:
        key = normalize_name(name)
        if key in plain and plain[key] != name:
            old, new = sorted((name, plain[key]), key=lambda one: number[one])
            text = f"{name!r} and {plain[key]!r} are two classes"
            yield Finding("similar-class-names", where, name, text, own_command=_rename(old, new))
        plain.setdefault(key, name)
        word = name.strip().casefold()
        if word in PLACEHOLDERS or NUMBERED.fullmatch(word):
            yield Finding("placeholder-class-name", where, name, f"{name!r} does not name an object")


def _rename(old: str, new: str) -> str:
    return f"gfocal train DATA --rename {shlex.quote(f'{old}={new}')}"


def _check_suspects(splits: Mapping[str, FileData], number: Mapping[str, int], where: str) -> Iterator[Finding]:
    """Classes with hardly a box, named like a frequent one; with the images of those boxes."""
    for suspect in find_suspects(number):
        if normalize_name(suspect.name) == normalize_name(suspect.meant):
            continue  # a finding of its own, whatever the numbers are
        also = f", also near {', '.join(suspect.also)}" if suspect.also else ""
        text = (
            f"{pluralize(suspect.number, 'box', 'boxes')}, near {suspect.meant} ({suspect.number_meant:,} boxes; "
            f"{suspect.why}{also}): mislabeled?"
        )
        group = tuple(_list_images(splits, suspect.name))
        command = _rename(suspect.name, suspect.meant)
        yield Finding("mislabeled-class", where, suspect.name, text, group=group, own_command=command)


def _list_images(splits: Mapping[str, FileData], name: str) -> Iterator[GroupImage]:
    """The images with a box of a class, those boxes marked."""
    for split, data in splits.items():
        label = data.names.index(name)
        table = data.table
        rows = ((table.labels == label) & ~table.crowd).nonzero().flatten()  # (k,) of few boxes
        images = (table.offsets[1:, None] > rows).int().argmax(0)  # (k,) first image that ends after the row
        for image in sorted(set(images.tolist())):
            sample = data.samples[image]
            here = [i for i in range(len(sample.boxes)) if int(sample.labels[i]) == label and not sample.crowd[i]]
            if sample.path is not None:
                text = "; ".join(describe_box(sample, i, data.names) for i in here)
                boxes = tuple(MarkedBox(read_box(sample, i), "found") for i in here)
                yield GroupImage(split, sample.path, boxes, text)


def count_by_name(splits: Iterable[FileData]) -> Counter[str]:
    """Boxes of each class in some splits together."""
    number: Counter[str] = Counter()
    for data in splits:
        for name, boxes in zip(data.names, count_boxes(data), strict=True):
            number[name] += boxes
    return number


def _check_evaluated(
    names: tuple[str, ...], counts: Mapping[str, Mapping[str, int]], where: str
) -> Iterator[Finding]:
    """Classes without a box where only splits for evaluation were read."""
    for name in names:
        without = [split for split, count in counts.items() if not count[name] and any(count.values())]
        if without:
            text = f"no box in {' or '.join(without)}: it is not evaluated there"
            yield Finding("class-not-evaluated", where, name, text, without[0] if len(without) == 1 else "")


def _check_counts(
    names: tuple[str, ...],
    counts: Mapping[str, Mapping[str, int]],
    training: Sequence[str],
    where: str,
    absent: Set[str],
    trained: Mapping[str, int],
) -> Iterator[Finding]:
    """Findings of single classes; ``absent`` are those without a box, and none if ids are shifted."""
    no_box = "no box in any split" if len(counts) > 1 else f"no box in {next(iter(counts))}"
    used = [name for name in names if any(count[name] for count in counts.values())]
    is_known = 0 < len(used) <= MAX_NAMES
    only_used = f"gfocal train DATA --classes {shlex.quote(','.join(used))}" if is_known else ""
    for name in names:
        elsewhere = {split: count[name] for split, count in counts.items() if count[name] and split not in training}
        if not trained[name] and elsewhere:
            there = ", ".join(f"{number} in {split}" for split, number in elsewhere.items())
            yield Finding("class-not-in-training", where, name, f"no box in training, {there}")
        elif not trained[name]:
            if name in absent:  # else another dataset has it, or it is where the boxes of another class should be
                yield Finding("class-without-boxes", where, name, no_box, own_command=only_used)
        elif training and trained[name] < MIN_BOXES:
            yield Finding("rare-class", where, name, f"{pluralize(trained[name], 'box', 'boxes')} in training")
        for split, count in counts.items():
            if trained[name] and split not in training and not count[name] and any(count.values()):
                yield Finding(
                    "class-not-evaluated", where, name, f"no box in {split}: it is not evaluated there", split
                )
    some = {name: trained[name] for name in names if trained[name]} if training else {}
    if some and max(some.values()) > MAX_IMBALANCE * min(some.values()):
        most, least = max(some, key=some.__getitem__), min(some, key=some.__getitem__)
        text = f"{most} has {some[most]:,} boxes in training, {least} {some[least]:,}"
        yield Finding("class-imbalance", where, least, text)


def _check_split(
    data: FileData, counts: Mapping[str, int], split: str, is_training: bool, where: str
) -> Iterator[Finding]:
    objects = sum(counts.values())
    empty = sum(bool(sample.crowd.all()) for sample in data.samples)
    if not objects:
        what = "train on" if is_training else "evaluate on"
        yield Finding(
            "split-without-objects", where, split, f"{pluralize(len(data), 'image')}, no object to {what}", split
        )
    elif empty > MAX_EMPTY * len(data):
        text = f"{empty} of {pluralize(len(data), 'image')} have no object"
        yield Finding("many-empty-images", where, split, text, split)
    ignored = sum(int(sample.crowd.sum()) for sample in data.samples)
    if ignored:
        regions = pluralize(ignored, "box", "boxes")
        text = f"{regions} of crowds or marked difficult: no ground truth in training, ignored in evaluation"
        yield Finding("ignored-regions", where, split, text, split)
