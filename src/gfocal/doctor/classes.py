"""Classes and splits: names, how many boxes each has, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch

from gfocal.data.samples import FileData
from gfocal.doctor.findings import Finding
from gfocal.words import counted

FEW = 10  # boxes in training
IMBALANCE = 100  # times as many boxes as the rarest class that has some
EMPTY = 0.5  # share of pictures without an object
PLACEHOLDERS = {"object", "objects", "item", "thing", "class", "label", "unlabeled", "unlabelled", "none", "unknown"}
NUMBERED = re.compile(r"(class|label|category)?[ _-]?\d+")


def class_counts(data: FileData) -> list[int]:
    """Boxes of each class, by label; crowd and difficult ones are none."""
    number = torch.zeros(len(data.names), dtype=torch.int64)
    for sample in data.samples:
        number += torch.bincount(sample.labels[~sample.crowd], minlength=len(data.names))
    return number.tolist()


def class_findings(splits: Mapping[str, FileData], training: list[str], where: str) -> list[Finding]:
    """Findings on the classes of one data set; ``training`` names the splits of it that are learned."""
    lists = {name: data.names for name, data in splits.items()}
    first = next(iter(lists.values()))
    for name, names in lists.items():
        if names != first:
            missing = sorted(set(first) ^ set(names))
            what = f"differs in {', '.join(missing)}" if missing else "has them in another order"
            return [Finding("class-lists-differ", where, name, f"the list of {name} {what}", name)]
    findings = list(_names(first, where))
    counts = {name: dict(zip(first, class_counts(data), strict=True)) for name, data in splits.items()}
    findings += _counts(first, counts, training, where)
    for name, data in splits.items():
        findings += _split(data, counts[name], name, name in training, where)
    return findings


def _names(names: tuple[str, ...], where: str) -> Iterator[Finding]:
    plain: dict[str, str] = {}
    for name in names:
        key = re.sub(r"[\W_]+", "", name).casefold() or name
        if key in plain and plain[key] != name:
            yield Finding("similar-class-names", where, name, f"{name!r} and {plain[key]!r} are two classes")
        plain.setdefault(key, name)
        word = name.strip().casefold()
        if word in PLACEHOLDERS or NUMBERED.fullmatch(word):
            yield Finding("placeholder-class", where, name, f"{name!r} does not say what the objects are")


def _counts(
    names: tuple[str, ...], counts: Mapping[str, Mapping[str, int]], training: list[str], where: str
) -> Iterator[Finding]:
    learned = {name: sum(counts[split][name] for split in training) for name in names}
    for name in names:
        elsewhere = {split: count[name] for split, count in counts.items() if count[name] and split not in training}
        if not learned[name] and elsewhere:
            there = ", ".join(f"{number} in {split}" for split, number in elsewhere.items())
            yield Finding("class-not-in-train", where, name, f"no box in training, {there}")
        elif not learned[name]:
            yield Finding("class-without-boxes", where, name, "no box in any split")
        elif learned[name] < FEW:
            yield Finding("rare-class", where, name, f"{counted(learned[name], 'box', 'boxes')} in training")
        for split, count in counts.items():
            if learned[name] and split not in training and not count[name] and any(count.values()):
                yield Finding("class-not-in-split", where, name, f"no box in {split}: it is not judged there", split)
    some = {name: number for name, number in learned.items() if number}
    if some and max(some.values()) > IMBALANCE * min(some.values()):
        most, least = max(some, key=some.__getitem__), min(some, key=some.__getitem__)
        text = f"{most} has {some[most]:,} boxes in training, {least} {some[least]:,}"
        yield Finding("imbalanced-classes", where, least, text)


def _split(data: FileData, counts: Mapping[str, int], split: str, is_training: bool, where: str) -> Iterator[Finding]:
    objects = sum(counts.values())
    empty = sum(bool(sample.crowd.all()) for sample in data.samples)
    if not objects:
        what = "learn" if is_training else "find"
        yield Finding("no-objects", where, split, f"{counted(len(data), 'picture')}, and no object to {what}", split)
    elif empty > EMPTY * len(data):
        text = f"{empty} of {counted(len(data), 'picture')} have no object"
        yield Finding("many-empty-pictures", where, split, text, split)
    ignored = sum(int(sample.crowd.sum()) for sample in data.samples)
    if ignored:
        regions = counted(ignored, "box", "boxes")
        text = f"{regions} of crowds, or marked difficult: no truth in training, ignored in evaluation"
        yield Finding("ignored-regions", where, split, text, split)
