"""Are wrong annotations found? Errors of known kinds are planted in the annotations of images that a model never saw.

    python benchmarks/labels.py --model runs/cards --data DIR/cards --split test
    python benchmarks/labels.py --model runs/bccd --data DIR/bccd --split val+test

In each of ``--seeds`` repetitions 3 % of the boxes are removed, 3 % get another class, 5 % of all edges, among the
other boxes, move by 10 % of the side of their box, inwards or outwards, and as many boxes as 3 % are added: boxes of
one image, drawn in another one where no box is near. All errors are planted at once, and ranked as
``gfocal check --model`` does. Precision: of the first N of a ranking, as many as are planted of the kind, how many
are planted. What is wrong in the annotations themselves counts as a false alarm, so that precision on a set with
errors of its own cannot be high.

``boxes`` counts boxes with a moved edge, ranked by the largest |z|; beside it the ranking by 1 - IoU with the
detection of the same model. ``edges`` counts single edges; beside it a ranking by the distance from the detected edge
in sides of the box, which is what 1 - IoU is made of. Both are given by the detection in the image alone, as anybody
would compare them. ``chance`` is the precision of a random order.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torchvision.ops import box_iou

import gfocal
from gfocal.checks.label_review import propose
from gfocal.checks.proposals import Proposals
from gfocal.checks.suspects import Ranking, Suspect, SuspectKind, rank_suspects
from gfocal.cli.inputs import read_datasets
from gfocal.data.dataset import FileData, Sample
from gfocal.data.survey import with_value_range

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SHARE, EDGES, BY = 0.03, 0.05, 0.1
SAME = 0.5  # IoU of a found missing box with the removed one


@dataclass
class Planted:
    """Annotations with errors, and which they are."""

    samples: list[Sample]
    moved: set[tuple[int, int, int]]  # image, box, side
    swapped: set[tuple[int, int]]  # image, box
    added: set[tuple[int, int]]
    removed: list[torch.Tensor]  # of each image, (R, 4)


def plant(data: FileData, seed: int) -> Planted:
    """Errors of all kinds, each in boxes of its own."""
    rng = np.random.default_rng(seed)
    owners = [(i, k) for i in range(len(data)) for k in range(len(data.sample(i).boxes))]
    order = rng.permutation(len(owners))
    count = max(1, round(SHARE * len(owners)))
    removed = {owners[k] for k in order[:count]}
    swapped = {owners[k] for k in order[count : 2 * count]}
    others = [owners[k] for k in order[2 * count :]]
    chosen = rng.choice(4 * len(others), round(EDGES * 4 * len(owners)), replace=False)
    moved = {(*others[int(k) // 4], int(k) % 4) for k in chosen}
    strangers = [(int(rng.integers(len(data))), owners[int(k)]) for k in rng.integers(len(owners), size=50 * count)]
    planted = Planted([], set(), set(), set(), [])
    num_added = 0
    for i in range(len(data)):
        sample = data.sample(i)
        boxes, labels = sample.boxes.clone(), sample.labels.clone()
        keep = [k for k in range(len(boxes)) if (i, k) not in removed]
        place = {k: new for new, k in enumerate(keep)}
        for k in keep:
            if (i, k) in swapped:
                labels[k] = (labels[k] + 1 + int(rng.integers(len(data.names) - 1))) % len(data.names)
                planted.swapped.add((i, place[k]))
            for side in range(4):
                if (i, k, side) in moved:
                    boxes[k, side] = move_edge(sample, k, side, rng)
                    planted.moved.add((i, place[k], side))
        planted.removed.append(sample.boxes[[k for k in range(len(boxes)) if (i, k) in removed]])
        new_boxes, new_labels = list[torch.Tensor](), list[torch.Tensor]()
        for target, (j, k) in strangers:
            if target == i and num_added < count and (box := fit_in(data.sample(j).boxes[k], sample)) is not None:
                planted.added.add((i, len(keep) + len(new_boxes)))
                new_boxes.append(box)
                new_labels.append(data.sample(j).labels[k])
                num_added += 1
        crowd = torch.cat([sample.crowd[keep], torch.zeros(len(new_boxes), dtype=torch.bool)])
        planted.samples.append(
            replace(
                sample,
                boxes=torch.cat([boxes[keep], torch.stack(new_boxes) if new_boxes else boxes[:0]]),
                labels=torch.cat([labels[keep], torch.tensor(new_labels, dtype=torch.int64)]),
                crowd=crowd,
                areas=None,
                stated=None,
            )
        )
    return planted


def move_edge(sample: Sample, index: int, side: int, rng: np.random.Generator) -> float:
    """The new place of an edge, within the image."""
    box = sample.boxes[index].tolist()
    assert sample.size is not None, "samples of files have a size"
    length = box[side % 2 + 2] - box[side % 2]
    step = BY * length * (1 if rng.random() < 0.5 else -1)
    inside = 0 <= box[side] + step <= sample.size[1 - side % 2]
    return box[side] + (step if inside else -step)


def fit_in(box: torch.Tensor, sample: Sample) -> torch.Tensor | None:
    """A box of another image, if it lies within this one and near no box of it."""
    assert sample.size is not None, "samples of files have a size"
    if box[2] > sample.size[1] or box[3] > sample.size[0]:
        return None
    if len(sample.boxes) and float(box_iou(box[None], sample.boxes).max()) > 0.1:
        return None
    return box


def precision(flags: Sequence[bool] | Bools, number: int) -> float:
    """The share of planted errors among the first ``number`` of a ranking."""
    return float(np.asarray(flags[:number], dtype=float).sum() / number) if number else float("nan")


def flags_of(suspects: Sequence[Suspect], planted: Planted) -> list[bool]:
    """Which suspects are planted."""
    flags, used = [], set[tuple[int, int]]()
    for one in suspects:
        key = (one.image, -1 if one.annotation is None else one.annotation)
        if one.kind == "suspect-class":
            flags.append(key in planted.swapped)
        elif one.kind == "suspect-extra-box":
            flags.append(key in planted.added)
        elif one.kind == "suspect-edge":
            flags.append(any((*key, side) in planted.moved for side in range(4)))
        else:
            gone = planted.removed[one.image]
            overlap = box_iou(torch.tensor([one.box]), gone) if len(gone) else torch.zeros(1, 1)
            place = (one.image, int(overlap.argmax()))
            is_right = float(overlap.max()) >= SAME and place not in used
            used |= {place} if is_right else set()
            flags.append(is_right)
    return flags


def measure(planted: Planted, ranking: Ranking, plain: Ranking) -> dict[str, float]:
    """Precision of each ranking, and the numbers planted. ``plain`` is of the images without their mirrors."""
    numbers: dict[SuspectKind, int] = {
        "suspect-class": len(planted.swapped),
        "suspect-missing-box": sum(map(len, planted.removed)),
        "suspect-extra-box": len(planted.added),
        "suspect-edge": len({key[:2] for key in planted.moved}),
    }
    result: dict[str, float] = {}
    for kind, number in numbers.items():
        result[f"{kind} planted"] = number
        result[kind] = precision(flags_of(ranking.suspects[kind], planted), number)
    single = plain.suspects["suspect-edge"]
    annotated, detected = (
        torch.tensor(boxes) for boxes in zip(*((o.box, o.suggested_box) for o in single), strict=True)
    )
    overlap = torch.cat([box_iou(a[None], b[None])[0] for a, b in zip(annotated, detected, strict=True)])
    is_moved = np.array(flags_of(single, planted))
    result["boxes by 1 - IoU"] = precision(
        is_moved[np.argsort(overlap.numpy(), kind="stable")], numbers["suspect-edge"]
    )
    result["boxes by chance"] = float(is_moved.mean())
    moved, sides = ranking.suspects["suspect-edge"], (annotated[:, 2:] - annotated[:, :2]).repeat(1, 2)
    z, distance = np.array([one.z for one in moved]), ((annotated - detected) / sides).numpy()
    for name, value, order in (("edges", z, moved), ("edges by distance", distance, single)):
        is_planted = np.array(
            [[(o.image, o.annotation, s) in planted.moved for s in range(4)] for o in order]
        ).ravel()
        result[name] = precision(is_planted[np.argsort(-np.abs(value).ravel(), kind="stable")], len(planted.moved))
        result["edges by chance"] = float(is_planted.mean())
    result["edges planted"] = len(planted.moved)
    return result


def main() -> None:
    """Print one table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument(
        "--split", action="append", required=True, help="which the model was not trained on; a+b: both"
    )
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    console = Console()
    for name, path, split in zip(args.model, args.data, args.split, strict=True):
        model = gfocal.load(name)
        parts = [(path, one) for one in split.split("+")]
        read = read_datasets(parts, Console(stderr=True), None, model.names, share="any")
        data = with_value_range(read, model.input_settings.value_range).files
        assert data is not None, "images are files"
        proposals: list[Proposals] = propose(model, data)
        plain = propose(model, data, mirror=False)
        known = [True] * len(data.names)
        rows: list[dict[str, float]] = []
        for seed in range(args.seeds):
            planted = plant(data, seed)
            ranked = [rank_suspects(planted.samples, one, known) for one in (proposals, plain)]
            rows.append(measure(planted, *ranked))
        table = Table(
            title=f"{name} on {split} of {path}: {len(data)} images, {args.seeds} seeds", title_justify="left"
        )
        for heading in ("", "mean", "sd over seeds"):
            table.add_column(heading, justify="left" if not heading else "right")
        for key in rows[0]:
            values = [row[key] for row in rows]
            digits = 1 if key.endswith("planted") else 3
            table.add_row(key, f"{mean(values):.{digits}f}", f"{stdev(values) if len(values) > 1 else 0:.{digits}f}")
        console.print(table)
        for ours, theirs in (("suspect-edge", "boxes by 1 - IoU"), ("edges", "edges by distance")):
            ratio = mean(row[ours] for row in rows) / mean(row[theirs] for row in rows)
            console.print(f"{ours}: {ratio:.2f} times the precision of {theirs}")


if __name__ == "__main__":
    main()
