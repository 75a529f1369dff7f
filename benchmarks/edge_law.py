"""Do predicted edges have the distribution of the labels? On synthetic scenes, where it is known.

    python benchmarks/edge_law.py --toy
    python benchmarks/edge_law.py --model runs/one --model runs/two
    python benchmarks/edge_law.py --train giou mean none --seeds 0 1 2 --out runs/edge_law

``--toy``: the logits of one object's four edges are the parameters, and the loss is its expectation over the labels,
so that nothing but the loss decides where they end. One edge is at either of two places, with probability 0.3 or 0.7.

``--model``: trained models on ``--images`` scenes that no training sees. An ambiguous edge counts where its object is
found (right class, IoU 0.5, score above 0.3). ``--train`` trains first, with each value of ``method.box_loss`` and
each seed: the config of ``gfocal demo`` on images of 128 pixels, in which 80 % of the objects have ambiguous edges,
with bins of half a stride. Runs that are there are not trained again.

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
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gfocal
from gfocal.calibration.coverage import crps
from gfocal.config.config import read_config, with_changes
from gfocal.data.loading import evaluation_loader
from gfocal.data.synthetic.edge_laws import is_ambiguous, law_mean, law_probabilities, law_std, sample_edges
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.detections import average_precision, detect_all
from gfocal.losses import distribution_focal_loss
from gfocal.losses.box import BoxLoss, mean_loss, overlap_loss
from gfocal.ops.boxes import boxes_from_distances, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.run import run_training
from gfocal.structures import Points

# Small images with many ambiguous objects, and bins of half a stride: places are then 1 to 5 bins apart.
SIZE, AMBIGUOUS = 128, 0.8
CHANGES = {
    "size.short_side": SIZE,
    "size.long_side": SIZE,
    "model.options.delta": 0.5,
    "run.batch_size": 16,
    "run.num_workers": 0,
}
TRAIN_SCENES = 950  # an epoch, as in gfocal demo
TEST_SEED = 0
SCORE, IOU = 0.3, 0.5
DRAWS = 32  # labels of each edge for CRPS
BOX_WEIGHT = 2.0
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
    arguments.add_argument("--toy", action="store_true")
    arguments.add_argument("--model", action="append", default=[])
    arguments.add_argument("--train", nargs="+", default=[], metavar="BOX_LOSS", help="giou, mean, none")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--out", type=Path, default=Path("runs/edge_law"))
    arguments.add_argument("--images", type=int, default=500)
    arguments.add_argument("--apart", type=float, default=2.0, help="bins")
    chosen = arguments.parse_args()
    console = Console(width=150)
    if chosen.toy:
        console.print(toy_table())
    rows: dict[str, list[Measured]] = {}
    for name in chosen.model:
        rows[name] = [measure_model(name, chosen.images, chosen.apart)]
    for box_loss in chosen.train:
        for seed in chosen.seeds:
            folder = train(box_loss, seed, chosen.epochs, chosen.out)
            rows.setdefault(box_loss, []).append(measure_model(str(folder), chosen.images, chosen.apart))
            console.print_json(json.dumps({"run": str(folder)} | vars(rows[box_loss][-1])))
    if rows:
        console.print(model_table(rows, chosen.images))


def train(box_loss: str, seed: int, epochs: int, out: Path) -> Path:
    """Train the config of ``gfocal demo`` with a box loss; returns its run directory."""
    folder = out / f"{box_loss}-seed{seed}"
    if (folder / "result.json").exists():
        return folder
    changes = {"run.seed": seed, "run.epochs": epochs, "method.box_loss": box_loss}
    config = with_changes(read_config("demo"), CHANGES | changes)
    data = SyntheticScenes(TRAIN_SCENES, SIZE, seed, "train", AMBIGUOUS)
    run_training(config, data, None, folder, data_name="synthetic", console=Console(stderr=True))
    (folder / "result.json").write_text("{}\n")
    return folder


def measure_model(name: str, images: int, apart: float) -> Measured:
    """Detect in test scenes and compare the edges with their laws."""
    model = gfocal.load(name)
    data = SyntheticScenes(images, model.input_settings.short_side, TEST_SEED, "test", AMBIGUOUS)
    found = detect_all(model, evaluation_loader(data, model.input_settings, 8))
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


def model_table(rows: dict[str, list[Measured]], images: int) -> Table:
    """One row for each box loss or model: the mean over seeds, and their standard deviation."""
    table = Table(title=f"{images} synthetic scenes; mean of the seeds, and standard deviation")
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


def toy_table(objects: int = 64, steps: int = 3000) -> Table:
    """Where free logits end under the expectation of each loss."""
    table = Table(title=f"free logits: {objects} objects, one edge of each at one of two places")
    for name in ("box loss", "weight of DFL", "TV", "largest", "TV of sharp edges", "mean off by, bins"):
        table.add_column(name, justify="right")
    cases: list[tuple[str, BoxLoss | None, float]] = [
        *(("giou", overlap_loss, weight) for weight in (0.25, 1.0, 2.0, 8.0)),
        ("mean", mean_loss, 0.25),
        ("none", None, 1.0),
    ]
    for name, box_loss, dfl_weight in cases:
        variation, off = fit_free_logits(box_loss, dfl_weight, objects, steps)
        table.add_row(
            name,
            f"{dfl_weight:g}",
            f"{float(variation[:, 2].mean()):.3f}",
            f"{float(variation[:, 2].max()):.3f}",
            f"{float(variation[:, [0, 1, 3]].mean()):.3f}",
            f"{float(off[:, 2].mean()):.2f}",
        )
    return table


def fit_free_logits(box_loss: BoxLoss | None, dfl_weight: float, objects: int, steps: int) -> tuple[Tensor, Tensor]:
    """Total variation to the limit of DFL alone, and how far the mean is off in bins; both (objects, 4), float64."""
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edge, stride = GeneralDistribution(16), 8.0
    inner = 2 + 4 * draw(objects, 4)  # bins
    outer = inner.clone()
    outer[:, 2] += 2 + 4 * draw(objects)
    share = torch.where(draw(objects) < 0.5, 0.3, 0.7)
    shares = torch.stack([1 - share, share])  # (2, objects)
    labels = torch.stack([inner, outer])  # (2, objects, 4)
    limit = (shares[..., None, None] * edge.two_hot(labels)).sum(0)
    xy = torch.full((objects, 2), 200.0, dtype=torch.float64)
    cells = torch.zeros(objects, 2, dtype=torch.int64)
    points = Points(xy, xy.new_full((objects,), stride), cells, ((1, objects),), (int(stride),))
    gt_boxes = boxes_from_distances(xy, labels * stride)
    logits = torch.zeros(objects, 4, edge.num_bins, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = torch.zeros((), dtype=torch.float64)
        boxes = edge.boxes(logits, points)
        for part, its_boxes, bins in zip(shares, gt_boxes, labels, strict=True):
            each = dfl_weight * distribution_focal_loss(logits, bins).mean(-1)
            if box_loss is not None:
                each = each + BOX_WEIGHT * box_loss(logits, edge, points, boxes, its_boxes)
            loss = loss + (part * each).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    found = logits.detach().softmax(-1)
    return (found - limit).abs().sum(-1) / 2, (edge.expectation(found) - edge.expectation(limit)).abs()


if __name__ == "__main__":
    main()
