"""Why a rare class is lost: what each class of the positives gives to the losses in the course of a training.

    python benchmarks/rare_classes.py PATH/TO/bccd --config bccd_r18 --epochs 12

Trains as the config says, without evaluations, and prints for some epochs and each class, over the positives of the
epoch: their share, the mean IoU of their boxes, the mean score of their class, the mean pull on that score (the
absolute gradient of QFL by the logit) and their share of the weights of the box losses. ``--set`` changes the config.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gfocal.build import build_criterion, build_model
from gfocal.config.config import Config, read_config, with_changes
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.gfl import GFLCriterion, rows
from gfocal.data.augmentation.pipeline import augmentation_for
from gfocal.data.dataset import ImageData
from gfocal.data.discovery import read_data
from gfocal.data.loading import Collate, Item
from gfocal.losses.gfl import quality_focal_loss
from gfocal.ops.boxes import iou
from gfocal.ops.points import drop_empty_slots, exclude_ignored, inside_own_padding
from gfocal.structures import Batch, HeadOutputs
from gfocal.training.distributed import Devices
from gfocal.training.optim import limit_warmup, lr_factor, make_optimizer, set_learning_rate

COLUMNS = ("positives", "IoU", "score", "pull", "box weight")


def read_batch(data: ImageData, numbers: list[int], config: Config, collate: Collate) -> Batch:
    """The images of these numbers, augmented."""
    augmentation = augmentation_for(config.augment, collate.settings)
    items = []
    for number in numbers:
        image, sample = data.read(number)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        image, boxes, labels, ignored = augmentation(image, sample.boxes, sample.labels, sample.crowd, None)
        items.append(Item(image, boxes, labels, ignored, size, sample.image_id))
    return collate(items)


@torch.no_grad()
def measure(criterion: DenseCriterion | GFLCriterion, outputs: HeadOutputs, batch: Batch, num_classes: int) -> Tensor:
    """(num_classes, 5) sums over the positives of a batch, in the order of COLUMNS."""
    points, targets = outputs.points, batch.targets
    assignment = criterion.assign(points, targets, inside_own_padding(points, batch.sizes))
    if criterion.exclude_ignored:
        assignment = exclude_ignored(assignment, points, targets)
    assignment = drop_empty_slots(assignment)
    slots, positive = assignment.slots, assignment.slot_positive
    object_of_slot = assignment.gt_index.gather(1, slots).clamp(min=0)
    labels = rows(targets.labels, object_of_slot)[positive]
    boxes = criterion.box_coder.boxes(
        rows(outputs.box_logits.flatten(2), slots).unflatten(-1, (4, -1)).float(), points.select(slots)
    )
    overlap = iou(boxes, rows(targets.boxes, object_of_slot))[positive]
    logits = rows(outputs.cls_logits, slots)[positive].float()  # (positives, C)
    own = logits.gather(1, labels[:, None])[:, 0]
    modulated, plain = (
        torch.func.grad(lambda x, beta=beta: quality_focal_loss(x, overlap, beta).sum())(own).abs()
        for beta in (criterion.beta, 0.0)
    )
    pull = torch.lerp(modulated, plain, getattr(criterion, "unmodulated", 0.0))
    equal = getattr(criterion, "box_weights", "quality") == "equal"
    weight = torch.ones_like(own) if equal else logits.amax(1).sigmoid()
    values = torch.stack([torch.ones_like(own), overlap, own.sigmoid(), pull, weight], 1)
    return torch.zeros(num_classes, len(COLUMNS)).index_add_(0, labels, values)


def main() -> None:
    """Train and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--config", default="bccd_r18")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--show", type=int, nargs="+", help="epochs (default: the first, some between, the last)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the config")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    config = with_changes(read_config(chosen.config), dict(pair.split("=", 1) for pair in chosen.set))
    data = read_data(chosen.data, chosen.split)
    model = build_model(config, data.names).to(memory_format=torch.channels_last).train()
    criterion = build_criterion(model, config.method)
    assert isinstance(criterion, DenseCriterion | GFLCriterion), "the config has another criterion"
    size = config.run.batch_size
    optimizer = make_optimizer(model, config.optimizer, size)
    devices = Devices(config.run.precision, 1, cpu=True)
    network, optimizer = devices.prepare(model, optimizer)
    collate = Collate(model.input_settings)
    per_epoch = -(-len(data) // size)
    schedule, _ = limit_warmup(config.schedule, per_epoch * chosen.epochs)
    shown = chosen.show or sorted(
        {1, *range(chosen.epochs // 4, chosen.epochs + 1, max(chosen.epochs // 4, 1))} - {0}
    )
    for epoch in range(chosen.epochs):
        now = criterion.at_epoch(epoch, chosen.epochs)
        order = torch.randperm(len(data)).tolist()
        sums = torch.zeros(len(data.names), len(COLUMNS))
        for step in range(per_epoch):
            set_learning_rate(optimizer, lr_factor(epoch * per_epoch + step, per_epoch, chosen.epochs, schedule))
            batch = read_batch(data, order[step * size : (step + 1) * size], config, collate)
            outputs = network(batch.images)
            sums += measure(now, outputs, batch, len(data.names))
            devices.backward(now(outputs, batch.targets, batch.sizes).total)
            devices.clip_grad_norm(network, config.optimizer.clip_norm or 1e9)
            optimizer.step()
            optimizer.zero_grad()
        if epoch + 1 in shown:
            Console().print(table_of(sums, data.names, f"epoch {epoch + 1} of {chosen.epochs}"))


def table_of(sums: Tensor, names: tuple[str, ...], title: str) -> Table:
    """A line for each class."""
    table = Table("class", *COLUMNS, title=title)
    for name, row, all_of in zip(names, sums, sums.sum(0).expand_as(sums), strict=True):
        count = row[0].clamp(min=1)
        share, weight = row[0] / all_of[0], row[4] / all_of[4]
        table.add_row(
            name,
            f"{share:.1%}",
            f"{row[1] / count:.2f}",
            f"{row[2] / count:.3f}",
            f"{row[3] / count:.3f}",
            f"{weight:.1%}",
        )
    return table


if __name__ == "__main__":
    main()
