"""AP against the number of labeled images: chosen by gfocal.selection, or at random.

    python benchmarks/selection.py --out runs/selection --seeds 0 1 2 --strategies random both

The pool is 1,000 synthetic scenes of 96 pixels in which two of the five classes are rare, as in most collections: of
the scenes that hold a ring or a cross one of 50 is kept. The test set has 400 scenes with all classes equally often.
50 images of the pool, drawn at random, are labeled first, and a detector is trained on them, from NanoDet-Plus-m with
COCO weights. Then 50 at a time are added, chosen by the last detector or at random, and the first detector is trained
further on all that are labeled, for the same number of steps whatever their number. ``--balanced`` leaves the pool as
it is drawn: all classes equally often, where a choice has less to gain.

``--frames`` counts instead, with the first detector of each seed, how many scenes are among the 50 images chosen from
a pool of 200 scenes in 5 frames each, which differ by a shift of up to 2 pixels, brightness and noise, as of a video.

What is done is kept in ``--out``; with ``--minutes`` the command stops before it takes longer, and continues when it
is run again. ``--table`` prints what there is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gfocal
from gfocal.build import build_criterion, build_model
from gfocal.config.config import Config, read_config
from gfocal.data.dataset import Sample
from gfocal.data.loading import evaluation_loader
from gfocal.data.preprocess import normalize_batch
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.detections import average_precision, detect_all
from gfocal.inference.uncertainty import LEAST_SCORE, image_uncertainty
from gfocal.models.detector import Detector
from gfocal.models.image_features import predict_with_features
from gfocal.selection.choice import STRATEGIES, Strategy, choose
from gfocal.structures import Batch, pad_targets
from gfocal.training.distributed import Devices
from gfocal.training.step import training_step

SIDE, POOL, TEST, START, STEP = 96, 1000, 400, 50, 50
SCENES, FRAMES = 200, 5
RARE, KEPT = ("ring", "cross"), 0.02  # classes, and which share of the scenes with one of them is in the pool
LEARNING_RATE, BATCH, START_STEPS = 1e-3, 8, 300


@dataclass(frozen=True)
class Images:
    """Images in memory (an ``ImageData``)."""

    images: Tensor  # (N, 3, H, W) uint8
    samples: tuple[Sample, ...]
    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    files = None

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        """The ground truth."""
        return self.samples[index]

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """Image and ground truth."""
        return self.images[index], self.samples[index]

    def at_epoch(self, epoch: int) -> Images:
        """The same in every epoch."""
        return self


def draw_pool(seed: int, is_balanced: bool, folder: Path) -> Images:
    """The images of a pool, whose scene numbers are kept in a folder."""
    data = SyntheticScenes(200 * POOL, SIDE, seed, "train")
    path = folder / f"pool_{'balanced' if is_balanced else 'rare'}_{seed}.json"
    if path.exists():
        return read_all(data, json.loads(path.read_text(encoding="utf-8")))
    rare = {data.names.index(name) for name in RARE}
    rng = np.random.default_rng(seed)
    indices: list[int] = []
    for i in range(len(data)):
        if len(indices) == POOL:
            break
        if is_balanced or not rare & set(data.sample(i).labels.tolist()) or rng.random() < KEPT:
            indices.append(i)
    path.write_text(json.dumps(indices), encoding="utf-8")
    return read_all(data, indices)


def read_all(data: SyntheticScenes, indices: Sequence[int]) -> Images:
    """Some scenes, in memory."""
    images, samples = zip(*(data.read(i) for i in indices), strict=True)
    return Images(torch.stack(images), samples, data.names, data.category_ids)


def small_config() -> Config:
    """NanoDet-Plus-m at the size of the scenes."""
    config = read_config("nano")
    return replace(config, size=replace(config.size, short_side=SIDE, long_side=SIDE))


def train(data: Images, indices: Sequence[int], steps: int, seed: int, start: Path | None) -> Detector:
    """A detector trained on some images, mirrored at random, with a warm-up and a cosine; from COCO, or a file."""
    torch.manual_seed(seed)
    config = small_config()
    model = build_model(config, data.names) if start is None else gfocal.load(start)
    assert isinstance(model, Detector)
    model.train()
    criterion = build_criterion(model, config.method)
    devices = Devices("no", 1, True)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / 50, 0.5 * (1 + np.cos(np.pi * i / steps)) + 1e-3)
    )
    rng = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(steps):
        while len(order) < BATCH:
            order += rng.permutation(np.asarray(indices)).tolist()
        own, order = order[:BATCH], order[BATCH:]
        training_step(
            model, criterion, make_batch(model, data, own, rng), optimizer, devices, config.optimizer.clip_norm
        )
        schedule.step()
    return model.eval()


def make_batch(model: Detector, data: Images, indices: Sequence[int], rng: np.random.Generator) -> Batch:
    """Images with their ground truth, half of them mirrored."""
    images, boxes = [], []
    for i in indices:
        image, box = data.images[i], data.samples[i].boxes
        if rng.random() < 0.5:
            image, box = image.flip(2), torch.stack([SIDE - box[:, 2], box[:, 1], SIDE - box[:, 0], box[:, 3]], 1)
        images.append(image)
        boxes.append(box)
    sizes = torch.full((len(indices), 2), SIDE)
    targets = pad_targets(boxes, [data.samples[i].labels for i in indices])
    return Batch(normalize_batch(images, model.input_settings), targets, sizes, sizes, tuple(indices))


def scan(model: Detector, data: Images) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Uncertainty (N,) and features (N, D) of all images."""
    doubts, rows = [], []
    batches = evaluation_loader(data, model.input_settings, 8)
    for _, found, features in predict_with_features(model, batches, LEAST_SCORE):
        doubts += [sum(image_uncertainty(one)) for one in found]
        rows.append(features.clone())
    return np.array(doubts), torch.cat(rows).numpy()


def count_scenes(work: Work, seed: int, strategies: Sequence[Strategy]) -> dict[str, int]:
    """How many scenes are among the images that each strategy chooses from frames; of 50 drawn at random, too."""
    model = gfocal.load(work.path(seed, "random", START).with_suffix(".safetensors"))
    assert isinstance(model, Detector)
    data = read_all(SyntheticScenes(SCENES, SIDE, seed, "val"), range(SCENES))
    generator = torch.Generator().manual_seed(seed)
    frames = [make_frame(image, generator) for image in data.images for _ in range(FRAMES)]
    samples = tuple(sample for sample in data.samples for _ in range(FRAMES))
    doubt, features = scan(model, Images(torch.stack(frames), samples, data.names, data.category_ids))
    chosen = {one: choose(doubt, features, STEP, one, seed=seed).indices for one in strategies}
    chosen["random"] = np.random.default_rng(seed).permutation(len(frames))[:STEP]
    return {name: len(set((indices // FRAMES).tolist())) for name, indices in chosen.items()}


def make_frame(image: Tensor, generator: torch.Generator) -> Tensor:
    """An image as the next frame of a video might have it."""
    shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
    brightness = 1 + 0.05 * float(torch.randn((), generator=generator))
    moved = torch.roll(image, shift, (1, 2)).float() * brightness
    return (moved + 2 * torch.randn(image.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


def draw_random(seed: int) -> list[int]:
    """All images of the pool in random order: those labeled at first, and what is added at random."""
    return np.random.default_rng((seed, 1)).permutation(POOL).tolist()


class Work:
    """The results so far, in a file for each detector."""

    def __init__(self, folder: Path, steps: int, is_balanced: bool) -> None:
        self.folder, self.steps, self.is_balanced = folder, steps, is_balanced
        self.pools: dict[int, Images] = {}
        self.test: Images | None = None

    def path(self, seed: int, strategy: str, size: int) -> Path:
        """Of a detector; the first one of a seed is shared by all strategies."""
        pool = "balanced" if self.is_balanced else "rare"
        return self.folder / f"{pool}_{seed}_{f'start_{START}' if size == START else f'{strategy}_{size}'}.json"

    def pool(self, seed: int) -> Images:
        """The pool of a seed."""
        if seed not in self.pools:
            self.pools[seed] = draw_pool(seed, self.is_balanced, self.folder)
        return self.pools[seed]

    def run(self, seed: int, strategy: str, size: int, labeled: Sequence[int]) -> None:
        """Train on the labeled images, and evaluate."""
        pool = self.pool(seed)
        if self.test is None:
            self.test = read_all(SyntheticScenes(TEST, SIDE, 0, "test"), range(TEST))
        is_first = size == START
        start = None if is_first else self.path(seed, strategy, START).with_suffix(".safetensors")
        model = train(pool, labeled, START_STEPS if is_first else self.steps, seed, start)
        path = self.path(seed, strategy, size)
        gfocal.save(model, path.with_suffix(".safetensors"))
        result = average_precision(
            self.test, detect_all(model, evaluation_loader(self.test, model.input_settings, 8))
        )
        labels = torch.cat([pool.samples[i].labels for i in labeled])
        objects = torch.bincount(labels, minlength=len(pool.names)).tolist()
        content = {"images": list(labeled), "ap": result.ap, "ap50": result.ap50, "objects": objects}
        path.write_text(json.dumps(content), encoding="utf-8")

    def choose_next(self, seed: int, strategy: Strategy, size: int) -> list[int]:
        """The images labeled at a size, and those that its detector chooses."""
        model = gfocal.load(self.path(seed, strategy, size).with_suffix(".safetensors"))
        pool, known = self.pool(seed), self.read(seed, strategy, size)
        assert isinstance(model, Detector)
        assert known is not None
        doubt, features = scan(model, pool)
        labeled = known["images"]
        rest = sorted(set(range(len(pool))) - set(labeled))
        chosen = choose(doubt[rest], features[rest], STEP, strategy, features[labeled], seed)
        return [*labeled, *(rest[i] for i in chosen.indices)]

    def read(self, seed: int, strategy: str, size: int) -> dict[str, Any] | None:
        """What was found; None if it was not yet."""
        path = self.path(seed, strategy, size)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def jobs(work: Work, seeds: Sequence[int], strategies: Sequence[str], sizes: Sequence[int]) -> Iterator[None]:
    """Train whatever is missing, one detector at each step; the largest random sets first."""
    wanted = [("random", START)]
    for strategy in strategies:
        wanted += [(strategy, size) for size in sorted(sizes, reverse=strategy == "random")]
    for strategy, size in wanted:
        for seed in seeds:
            if work.read(seed, strategy, size) is not None:
                continue
            is_random = strategy == "random"
            labeled = draw_random(seed)[:size] if is_random else work.choose_next(seed, strategy, size - STEP)
            work.run(seed, strategy, size, labeled)
            yield


def print_table(work: Work, seeds: Sequence[int], strategies: Sequence[str], sizes: Sequence[int]) -> None:
    """Mean and deviation of AP over seeds."""
    table = Table("labeled images", *(str(size) for size in (START, *sizes)), title="AP on the test scenes")
    for strategy in strategies:
        cells, counts = [], []
        for size in (START, *sizes):
            found = [one for seed in seeds if (one := work.read(seed, strategy, size)) is not None]
            aps = [one["ap"] for one in found]
            spread = f" ± {stdev(aps):.3f}" if len(aps) > 1 else ""
            cells.append(f"{mean(aps):.3f}{spread} ({len(aps)})" if aps else "")
            objects = [(sum(one["objects"]), sum(one["objects"][-len(RARE) :])) for one in found]
            counts.append(" / ".join(f"{mean(column):.0f}" for column in zip(*objects, strict=True)))
        table.add_row(strategy, *cells)
        table.add_row("  objects / of rare classes", *counts)
    Console(width=160).print(table)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("runs/selection"))
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--sizes", type=int, nargs="+", default=[100, 150, 200])
    arguments.add_argument("--strategies", nargs="+", default=["random", "both", "uncertainty", "diversity"])
    arguments.add_argument("--steps", type=int, default=150, help="of each detector but the first")
    arguments.add_argument("--balanced", action="store_true")
    arguments.add_argument("--minutes", type=float, default=1e9)
    arguments.add_argument("--table", action="store_true")
    arguments.add_argument("--frames", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    work = Work(given.out, given.steps, given.balanced)
    start, longest = time.time(), 0.0
    if not given.table and not given.frames:
        last = time.time()
        for _ in jobs(work, given.seeds, given.strategies, given.sizes):
            longest, last = max(longest, time.time() - last), time.time()
            print(f"{time.time() - start:.0f} s", flush=True)
            if time.time() - start + 1.2 * longest > 60 * given.minutes:
                break
    if given.frames:
        for seed in given.seeds:
            print(seed, count_scenes(work, seed, STRATEGIES))
        return
    print_table(work, given.seeds, given.strategies, given.sizes)


if __name__ == "__main__":
    main()
