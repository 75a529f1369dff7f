"""Do predicted edges have the distribution of the labels? On synthetic scenes, where it is known.

    python benchmarks/edge_law.py --model runs/one --model runs/two
    python benchmarks/edge_law.py --train giou none --seeds 0 1 2 --out runs/edge_law
    python benchmarks/edge_law.py --heads giou none --seeds 0 1 2 --init-from runs/edge_law/giou-seed0

``--model``: trained models on ``--images`` scenes that no training sees. An ambiguous edge counts where its object is
found (right class, IoU 0.5, score above 0.3). ``--train`` trains first, with each value of ``method.box_loss`` and
each seed: the config of ``gfocal demo`` on images of 128 pixels, in which 80 % of the objects have ambiguous edges,
with bins of half a stride. Runs that are there are not trained again. ``--heads`` trains only a head, from random
weights, on the features that a trained model has of 2,000 scenes, with labels that are drawn anew in every epoch: a
minute of a processor each.

TV: total variation between the predicted distribution and what DFL alone converges to under the law of the labels
(``law_probabilities``), 0..1. Mean: by how far the mean of an edge is from that of its law, pixels. CRPS: against
labels drawn from the law, pixels. Spearman: between predicted and true standard deviation of the ambiguous edges.
Two places: of edges with two places that are at least ``--apart`` bins apart; found: a peak within one bin of each;
weight: by how much the mass on the outer side of the middle is off from the probability of the outer place, median;
of 3, of 7: mean of that mass where the probability is 0.3 and 0.7.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gfocal
from gfocal.build import build_criterion
from gfocal.calibration.coverage import crps
from gfocal.config.config import MethodSettings, read_config, with_changes
from gfocal.data.loading import evaluation_loader
from gfocal.data.synthetic.edge_laws import is_ambiguous, law_mean, law_probabilities, law_std, sample_edges
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.detections import average_precision, detect_all
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.models.zoo import create
from gfocal.ops.boxes import iou
from gfocal.ops.decoding import decode
from gfocal.ops.distributions import GeneralDistribution
from gfocal.run import run_training
from gfocal.run_folder import RunFolder
from gfocal.structures import pad_targets

# Small images with many ambiguous objects, and bins of half a stride: places are then 1 to 5 bins apart.
SIZE, AMBIGUOUS = 128, 0.8
CHANGES = {
    "size.short_side": SIZE,
    "size.long_side": SIZE,
    "model.options.delta": 0.5,
    "run.batch_size": 16,
    "run.num_workers": 0,
}
HEAD_SCENES, HEAD_SEED, HEAD_EPOCHS, HEAD_BATCH, HEAD_LR = 2000, 1000, 5, 25, 2e-3
TRAIN_SCENES = 950  # an epoch, as in gfocal demo
TEST_SEED = 0
SCORE, IOU = 0.3, 0.5
DRAWS = 32  # labels of each edge for CRPS
COUNTS = ("edges", "two_places")  # printed without a spread


@dataclass(frozen=True)
class Edges:
    """Edges of detected objects, with the laws of their labels."""

    probabilities: Tensor  # (N, K)
    laws: Tensor  # (N, 3)
    origin: Tensor  # (N,) x or y of the point, pixels
    bin_size: Tensor  # (N,) pixels
    side: Tensor  # (N,) 0..3

    def select(self, rows: Tensor) -> Edges:
        """Some of them, by a mask."""
        return Edges(*(getattr(self, entry.name)[rows] for entry in fields(self)))

    @property
    def outwards(self) -> Tensor:
        """-1 for left and top, 1 for right and bottom. (N,)"""
        return torch.where(self.side < 2, -1.0, 1.0)

    def distances(self, positions: Tensor) -> Tensor:
        """Of (..., N) positions in pixels: from the points outwards, in bins."""
        return self.outwards * (positions - self.origin) / self.bin_size

    def limits(self) -> Tensor:
        """What DFL alone converges to. (N, K)"""
        n = self.probabilities.shape[-1] - 1
        all_sides = [law_probabilities(self.laws, self.origin, self.bin_size, n, side) for side in range(4)]
        return torch.stack(all_sides).gather(0, self.side.view(1, -1, 1).expand(1, -1, n + 1))[0]


@dataclass(frozen=True)
class Measured:
    """What is printed of one model; distances in pixels."""

    ap: float
    edges: int  # ambiguous ones
    tv: float
    tv_sharp: float
    mean: float
    crps: float
    crps_sharp: float
    spearman: float
    two_places: int
    found: float
    weight: float
    of_3: float
    of_7: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", action="append", default=[])
    arguments.add_argument("--train", nargs="+", default=[], metavar="BOX_LOSS", help="giou, none")
    arguments.add_argument("--heads", nargs="+", default=[], metavar="BOX_LOSS", help="giou, none")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--init-from", help="the model whose features --heads takes")
    arguments.add_argument("--out", type=Path, default=Path("runs/edge_law"))
    arguments.add_argument("--images", type=int, default=500)
    arguments.add_argument("--apart", type=float, default=2.0, help="bins")
    chosen = arguments.parse_args()
    console = Console(width=150)
    test = SyntheticScenes(chosen.images, SIZE, TEST_SEED, "test", AMBIGUOUS)
    rows: dict[str, list[Measured]] = {}

    def add(title: str, run: str, found: dict[int, gfocal.Detections]) -> None:
        rows.setdefault(title, []).append(measure(test, found, chosen.apart))
        console.print_json(json.dumps({"run": run} | vars(rows[title][-1])))

    for name in chosen.model:
        add(name, name, detect_scenes(load_model(Path(name)), test))
    for box_loss in chosen.train:
        for seed in chosen.seeds:
            folder = train(box_loss, seed, chosen.epochs, chosen.out)
            add(box_loss, str(folder), detect_scenes(load_model(folder), test))
    if chosen.heads:
        model = load_model(Path(chosen.init_from))
        scenes = SyntheticScenes(HEAD_SCENES, SIZE, HEAD_SEED, "train", AMBIGUOUS)
        features, test_features = extract(model, scenes), extract(model, test)
        for box_loss in chosen.heads:
            for seed in chosen.seeds:
                head = train_head(model, scenes, features, box_loss, seed)
                add(f"{box_loss}, head alone", f"head, seed {seed}", detect_in_features(model, head, test_features))
    if rows:
        console.print(model_table(rows, f"{chosen.images} synthetic scenes"))


def train(box_loss: str, seed: int, epochs: int, out: Path) -> Path:
    """Train the config of ``gfocal demo`` with a box loss, or go on where a run stopped; returns its directory."""
    folder = out / f"{box_loss}-seed{seed}"
    done = folder / "done"
    if done.exists():
        return folder
    changes = {"run.seed": seed, "run.epochs": epochs, "method.box_loss": box_loss}
    config = with_changes(read_config("demo"), CHANGES | changes)
    data = SyntheticScenes(TRAIN_SCENES, SIZE, seed, "train", AMBIGUOUS)
    resume = RunFolder(folder).has_state
    run_training(config, data, None, folder, resume=resume, data_name="synthetic", console=Console(stderr=True))
    done.touch()
    return folder


def detect_scenes(model: Detector, data: SyntheticScenes) -> dict[int, gfocal.Detections]:
    """Detections of all scenes."""
    return detect_all(model, evaluation_loader(data, model.input_settings, 8))


def extract(model: Detector, data: SyntheticScenes) -> list[Tensor]:
    """The pyramid of all scenes: a tensor of each level, in half precision."""
    model.eval()
    parts = []
    with torch.no_grad():
        for batch in evaluation_loader(data, model.input_settings, 20):
            parts.append([level.half() for level in model.neck(model.backbone(batch.images))])
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def train_head(
    model: Detector, data: SyntheticScenes, features: list[Tensor], box_loss: Literal["giou", "none"], seed: int
) -> nn.Module:
    """Train a head from random weights on the features of a model, with the labels drawn anew in every epoch."""
    torch.manual_seed(seed)
    built_from = model.built_from
    head = create(built_from["preset"], model.num_classes, pretrained=False, **built_from["options"]).head.train()
    criterion = build_criterion(model, MethodSettings(box_loss=box_loss))
    optimizer = torch.optim.AdamW(head.parameters(), lr=HEAD_LR, weight_decay=0.02)
    steps = HEAD_EPOCHS * len(data) // HEAD_BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 30) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
    )
    classes = [data.sample(i).labels for i in range(len(data))]
    sizes = torch.full((HEAD_BATCH, 2), SIZE)
    for epoch in range(HEAD_EPOCHS):
        boxes = [data.redraw(i, seed * 1000 + epoch) for i in range(len(data))]
        for rows in torch.randperm(len(data)).split(HEAD_BATCH):
            targets = pad_targets([boxes[i] for i in rows.tolist()], [classes[i] for i in rows.tolist()])
            loss = criterion(head([level[rows].float() for level in features]), targets, sizes).total
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 10.0)
            optimizer.step()
            schedule.step()
    return head.eval()


def detect_in_features(model: Detector, head: nn.Module, features: list[Tensor]) -> dict[int, gfocal.Detections]:
    """Detections by the number of the scene."""
    found: list[gfocal.Detections] = []
    with torch.no_grad():
        for rows in torch.arange(len(features[0])).split(HEAD_BATCH):
            sizes = torch.full((len(rows), 2), SIZE)
            outputs = head([level[rows].float() for level in features])
            found += decode(outputs, model.box_coder, sizes, sizes, model.names, model.decode_settings)
    return dict(enumerate(found))


def measure(data: SyntheticScenes, found: dict[int, gfocal.Detections], apart: float) -> Measured:
    """AP, and how the edges of detected objects compare with their laws."""
    ap = average_precision(data, found).ap
    assert ap is not None, "synthetic scenes have objects"
    return measure_edges(collect_edges(data, found), ap, apart)


def collect_edges(data: SyntheticScenes, found: dict[int, gfocal.Detections]) -> Edges:
    """All four edges of the best detection of each object that is found."""
    parts = []
    for i in range(len(data)):
        sample = data.sample(i)
        assert sample.edge_laws is not None, "synthetic scenes know them"
        detections = found[sample.image_id].above(SCORE)
        if not len(detections) or not len(sample.boxes):
            continue
        overlap = iou(sample.boxes[:, None], detections.boxes)
        overlap = torch.where(detections.labels == sample.labels[:, None], overlap, 0)
        best, match = overlap.max(1)
        match, laws = match[best > IOU], sample.edge_laws[best > IOU]
        origin = detections.points[match].repeat(1, 2)  # (M, 4)
        side = torch.arange(4).expand(origin.shape)
        bin_sizes = detections.bin_sizes[match]
        edges = Edges(detections.edges[match], laws, origin, bin_sizes, side)
        parts.append([getattr(edges, entry.name).flatten(0, 1) for entry in fields(Edges)])
    return Edges(*(torch.cat(column) for column in zip(*parts, strict=True)))


def measure_edges(edges: Edges, ap: float, apart: float) -> Measured:
    """All measures of the edges of a model."""
    ambiguous = is_ambiguous(edges.laws)
    distribution = GeneralDistribution(edges.probabilities.shape[-1] - 1)
    variation = (edges.probabilities - edges.limits()).abs().sum(-1) / 2
    scores = sampled_crps(edges)
    some = edges.select(ambiguous)
    off = distribution.expectation(some.probabilities) - some.distances(law_mean(some.laws))
    two = some.select(
        (some.distances(some.laws[:, 1]) - some.distances(some.laws[:, 0]) >= apart) & some.laws[:, 2].isfinite()
    )
    found, weight = find_places(two)
    return Measured(
        ap=ap,
        edges=len(some.side),
        tv=float(variation[ambiguous].mean()),
        tv_sharp=float(variation[~ambiguous].mean()),
        mean=float((off.abs() * some.bin_size).mean()),
        crps=float(scores[ambiguous].mean()),
        crps_sharp=float(scores[~ambiguous].mean()),
        spearman=spearman(distribution.std(some.probabilities) * some.bin_size, law_std(some.laws)),
        two_places=len(two.side),
        found=float(found.double().mean()),
        weight=float((weight - two.laws[:, 2]).abs().median()),
        of_3=float(weight[two.laws[:, 2] < 0.5].mean()),
        of_7=float(weight[two.laws[:, 2] > 0.5].mean()),
    )


def sampled_crps(edges: Edges) -> Tensor:
    """(N,) the mean over labels that are drawn evenly from the law of each edge."""
    draws = (torch.arange(DRAWS) + 0.5) / DRAWS
    labels = torch.stack([sample_edges(edges.laws, draw.expand(len(edges.laws))) for draw in draws])
    distances = edges.distances(labels) * edges.bin_size
    return crps(edges.probabilities, edges.bin_size, distances).mean(0)


def find_places(edges: Edges) -> tuple[Tensor, Tensor]:
    """Of edges with two places: whether each has a peak (N,), and the mass on the outer one's side (N,)."""
    p = edges.probabilities
    bins = torch.arange(p.shape[-1])
    padded = torch.nn.functional.pad(p, (1, 1))
    peak = (p >= padded[:, :-2]) & (p >= padded[:, 2:])  # (N, K)
    inner, outer = (edges.distances(edges.laws[:, i]).unsqueeze(-1) for i in (0, 1))
    has = [(peak & ((bins - place).abs() <= 1)).any(-1) for place in (inner, outer)]
    # A bin in the middle belongs to both places in proportion.
    share = ((bins - (inner + outer) / 2) + 0.5).clamp(0, 1)
    return has[0] & has[1], (p * share).sum(-1)


def spearman(one: Tensor, two: Tensor) -> float:
    """Rank correlation; equal values share their mean rank."""
    ranks = []
    for values in (one, two):
        _, inverse, counts = np.unique(values.numpy(), return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum() - (counts - 1) / 2)[inverse])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def model_table(rows: dict[str, list[Measured]], what: str) -> Table:
    """One row for each box loss or model: the mean over seeds, and their standard deviation."""
    table = Table(title=f"{what}; mean of the seeds, and standard deviation")
    names = [entry.name for entry in fields(Measured)]
    for name in ("box loss", "seeds", *names):
        table.add_column(name.replace("_", " "), justify="right")
    for name, measured in rows.items():
        cells = []
        for entry in names:
            values = [float(getattr(one, entry)) for one in measured]
            spread = f" {stdev(values):.3f}" if len(values) > 1 and entry not in COUNTS else ""
            cells.append(f"{mean(values):.0f}" if entry in COUNTS else f"{mean(values):.3f}{spread}")
        table.add_row(name, str(len(measured)), *cells)
    return table


if __name__ == "__main__":
    main()
