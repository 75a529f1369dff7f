"""Where do edge distributions end under the loss alone? Without images, where nothing but the labels is uncertain.

    python benchmarks/edge_law_toy.py --seeds 0 1 2

Free logits: those of the four edges of an object are the parameters, and the loss is its expectation over the labels.
One edge of each is at either of two places, with probability 0.3 or 0.7.

Network: two hidden layers whose input is the places of every edge and their probability, trained as a detector is,
with labels that are drawn anew in every step. Half of the objects have an edge at either of two places, 1 to 6
bins apart. Measures are those of ``edge_law.py`` on objects that it has not seen, in bins; in place of AP the mean
IoU of boxes with drawn labels.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from edge_law import Edges, Measured, measure_edges, model_table
from gfocal.data.synthetic.edge_laws import sample_edges
from gfocal.losses import distribution_focal_loss
from gfocal.losses.box import BoxLoss, overlap_loss
from gfocal.ops.boxes import boxes_from_distances, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Points

EDGE = GeneralDistribution(16)
BOX_WEIGHT = 2.0
STRIDE = 8.0
CASES: list[tuple[str, BoxLoss | None, float]] = [  # weights of DFL
    *(("giou", overlap_loss, weight) for weight in (0.25, 1.0, 8.0)),
    ("none", None, 1.0),
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--steps", type=int, default=1500, help="of the network")
    chosen = arguments.parse_args()
    console = Console(width=150)
    console.print(toy_table())
    rows: dict[str, list[Measured]] = {}
    for name, box_loss, dfl_weight in CASES:
        title = f"{name}, DFL {dfl_weight:g}"
        rows[title] = [measure_network(box_loss, dfl_weight, seed, chosen.steps) for seed in chosen.seeds]
    console.print(model_table(rows, "a network whose input is the places (ap: mean IoU)"))


def toy_table(objects: int = 64, steps: int = 3000) -> Table:
    """Where free logits end under the expectation of each loss."""
    table = Table(title=f"free logits: {objects} objects, one edge of each at one of two places")
    for name in ("box loss", "weight of DFL", "TV", "largest", "TV of sharp edges", "mean off by, bins"):
        table.add_column(name, justify="right")
    for name, box_loss, dfl_weight in CASES:
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
    inner = 2 + 4 * draw(objects, 4)  # bins
    outer = inner.clone()
    outer[:, 2] += 2 + 4 * draw(objects)
    share = torch.where(draw(objects) < 0.5, 0.3, 0.7)
    shares = torch.stack([1 - share, share])  # (2, objects)
    labels = torch.stack([inner, outer])  # (2, objects, 4)
    limit = (shares[..., None, None] * EDGE.two_hot(labels)).sum(0)
    points = make_points(objects, torch.float64)
    gt_boxes = boxes_from_distances(points.xy, labels * STRIDE)
    logits = torch.zeros(objects, 4, EDGE.num_bins, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = torch.zeros((), dtype=torch.float64)
        boxes = EDGE.boxes(logits, points)
        for part, its_boxes, bins in zip(shares, gt_boxes, labels, strict=True):
            each = dfl_weight * distribution_focal_loss(logits, bins).mean(-1)
            if box_loss is not None:
                each = each + BOX_WEIGHT * box_loss(logits, EDGE, points, boxes, its_boxes)
            loss = loss + (part * each).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    found = logits.detach().softmax(-1)
    return (found - limit).abs().sum(-1) / 2, (EDGE.expectation(found) - EDGE.expectation(limit)).abs()


def make_points(count: int, dtype: torch.dtype) -> Points:
    """As many points at one place, of one level."""
    xy = torch.full((count, 2), 200.0, dtype=dtype)
    cells = torch.zeros(count, 2, dtype=torch.int64)
    return Points(xy, xy.new_full((count,), STRIDE), cells, ((1, count),), (int(STRIDE),))


def draw_laws(count: int, generator: torch.Generator) -> Tensor:
    """Laws of the four edges of objects: distances in bins, the right edge of every second one at two places."""
    draw = partial(torch.rand, generator=generator)
    inner = 2 + 4 * draw(count, 4)
    outer = inner.clone()
    outer[::2, 2] += 1 + 5 * draw(len(inner[::2]))
    share = torch.where(draw(count, 4) < 0.5, 0.3, 0.7)
    return torch.stack([inner, outer, share], -1)  # (count, 4, 3)


def measure_network(box_loss: BoxLoss | None, dfl_weight: float, seed: int, steps: int) -> Measured:
    """Train a network whose input is the laws, and measure it on others."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(4 * 35, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4 * EDGE.num_bins)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    points = make_points(256, torch.float32)
    for _ in range(steps):
        laws = draw_laws(len(points.xy), generator)
        labels = sample_edges(laws, torch.rand(laws.shape[:-1], generator=generator))  # bins
        logits = network(describe(laws)).unflatten(-1, (4, -1))
        loss = dfl_weight * distribution_focal_loss(logits, labels).mean()
        if box_loss is not None:
            gt_boxes = boxes_from_distances(points.xy, labels * STRIDE)
            boxes = EDGE.boxes(logits, points)
            loss = loss + BOX_WEIGHT * box_loss(logits, EDGE, points, boxes, gt_boxes).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    laws = draw_laws(4000, torch.Generator().manual_seed(12345))
    with torch.no_grad():
        found = network(describe(laws)).unflatten(-1, (4, -1)).softmax(-1)
    nowhere = torch.zeros(len(laws), 2)
    labels = sample_edges(laws, torch.rand(laws.shape[:-1], generator=generator))
    boxes, gt_boxes = (boxes_from_distances(nowhere, of) for of in (EDGE.expectation(found), labels))
    # Distances are outwards, as x of a right edge is.
    flat = laws.flatten(0, 1)
    ones, side = torch.ones(len(flat)), torch.full((len(flat),), 2)
    edges = Edges(found.flatten(0, 1), flat, torch.zeros(len(flat)), ones, side)
    return measure_edges(edges, float(iou(boxes, gt_boxes).mean()), apart=2.0)


def describe(laws: Tensor) -> Tensor:
    """The input of the network: both places of each edge as weights of bins, and the probability. -> (..., 140)"""
    places = [EDGE.two_hot(laws[..., i]) for i in (0, 1)]
    return torch.cat([*places, laws[..., 2:]], -1).flatten(-2)


if __name__ == "__main__":
    main()
