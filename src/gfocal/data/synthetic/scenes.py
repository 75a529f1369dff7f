"""Synthetic images: a detection problem without files, in which the law of every ambiguous edge is known.

Five classes of shapes (color and fill say nothing about the class) on textured backgrounds, with clutter,
occlusion and shadows. A label is the tight box of what is visible of its object; an object of which less
than 30 % is visible has no label. About 28 % of the objects have one or two ambiguous sides, of three kinds
that a viewer can tell apart:

- plain strip: a faint even strip is attached to the side; the label includes it with probability 0.3;
- barred strip: a faint strip with bars across it; the label includes it with probability 0.7;
- ramp: the side fades out linearly; the label's edge is uniform within the fade.

Ambiguous sides are never hidden and never leave the image. ``Sample.edge_laws`` (G, 4, 3) keeps the law
of every side, as ``gfocal.data.synthetic.edge_laws`` defines it.

    from gfocal.data.synthetic import SyntheticScenes
    image, sample = SyntheticScenes(1000, size=192, seed=0).read(7)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from gfocal.data.dataset import Sample
from gfocal.data.synthetic.edge_laws import draw_edges
from gfocal.data.synthetic.objects import DrawnObject, make_object, sharp_laws
from gfocal.data.synthetic.shapes import SHAPES, Box, Floats, Layer, paint, tight_box
from gfocal.errors import DataError

PURPOSES = ("train", "val", "test")
LEAST_VISIBLE = 0.3  # share of an object's pixels below which it has no label
BANK, LAYOUT, PAINT, LABELS = 0, 1, 2, 3  # random streams of a scene; draws of labels count on from LABELS

_LIMIT = 2**32  # numpy splits larger numbers in two when it mixes them into a seed: two scenes could agree


@dataclass(frozen=True)
class SyntheticScenes:
    """Scenes drawn on demand (an ``ImageData``): each a pure function of (purpose, seed, scene number, size).

    Scenes of different seeds or different purposes are never the same. The first scenes of a longer set
    are those of a shorter one.

    Raises:
        DataError: if an argument is out of its range.
    """

    num_scenes: int
    size: int = 192  # height and width of an image, 96..640; objects grow with it
    seed: int = 0  # 0..2**32-1
    purpose: str = "train"  # one of PURPOSES
    ambiguous_share: float = 0.3  # probability that an object is given ambiguous sides, 0..1
    first_scene: int = 0

    names = SHAPES
    category_ids = tuple(range(1, len(SHAPES) + 1))

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise DataError(f"SyntheticScenes: purpose {self.purpose!r} is not one of {', '.join(PURPOSES)}")
        if not 96 <= self.size <= 640:
            raise DataError(f"SyntheticScenes: size {self.size} is outside 96..640 pixels")
        if not 0 <= self.ambiguous_share <= 1:
            raise DataError(f"SyntheticScenes: ambiguous_share {self.ambiguous_share} is outside 0..1")
        if self.num_scenes < 1 or self.first_scene < 0 or self.first_scene + self.num_scenes > _LIMIT:
            raise DataError(
                f"SyntheticScenes: scenes {self.first_scene}..{self.first_scene + self.num_scenes - 1} "
                f"are outside 0..{_LIMIT - 1}, or there are none: give num_scenes of at least 1"
            )
        if not 0 <= self.seed < _LIMIT:
            raise DataError(f"SyntheticScenes: seed {self.seed} is outside 0..{_LIMIT - 1}")

    def __len__(self) -> int:
        return self.num_scenes

    def at_epoch(self, epoch: int) -> SyntheticScenes:
        """As many fresh scenes: those of epoch e begin at scene number e * num_scenes."""
        return replace(self, first_scene=epoch * self.num_scenes)

    def sample(self, index: int) -> Sample:
        """The ground truth of one scene, without painting it. ``image_id`` is the scene number."""
        return self._sample(index, self._scene(index)[1])

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One scene, uint8 RGB (3, size, size), with its ground truth."""
        layers, ground_truth = self._scene(index)
        bank_key = (PURPOSES.index(self.purpose), self.seed, 0, BANK)
        image = paint(layers, self.size, bank_key, self._stream(index, PAINT))
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), self._sample(index, ground_truth)

    def redraw(self, index: int, draw: int) -> Tensor:
        """The boxes of a scene with labels drawn anew: draw 0 is that of ``sample``. (G, 4), pixels."""
        return self._boxes(index, self._scene(index)[1], draw)

    def _stream(self, index: int, stream: int) -> Generator:
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"scene {index} of {self.num_scenes}")
        return np.random.default_rng((PURPOSES.index(self.purpose), self.seed, self.first_scene + index, stream))

    def _scene(self, index: int) -> tuple[list[Layer], _Truth]:
        return _arrange(self._stream(index, LAYOUT), self.size, self.ambiguous_share)

    def _boxes(self, index: int, ground_truth: _Truth, draw: int) -> Tensor:
        uniforms = self._stream(index, LABELS + draw).random((len(ground_truth.laws), 4), dtype=np.float32)
        return draw_edges(torch.from_numpy(ground_truth.laws), torch.from_numpy(uniforms))

    def _sample(self, index: int, ground_truth: _Truth) -> Sample:
        return Sample(
            image_id=self.first_scene + index,
            path=None,
            boxes=self._boxes(index, ground_truth, 0),
            labels=torch.from_numpy(ground_truth.labels),
            crowd=torch.zeros(len(ground_truth.labels), dtype=torch.bool),
            size=(self.size, self.size),
            edge_laws=torch.from_numpy(ground_truth.laws),
        )


@dataclass
class _Truth:
    laws: Floats  # (G, 4, 3)
    labels: NDArray[np.int64]  # (G,)


def _arrange(rng: Generator, size: int, ambiguous_share: float) -> tuple[list[Layer], _Truth]:
    """Choose the objects of a scene and where they lie; read their boxes off what remains visible."""
    ambiguous = np.sort(rng.random(rng.integers(2, 9)) < ambiguous_share)[::-1]  # ambiguous ones first
    placed: list[DrawnObject] = []
    for wants_ambiguity in ambiguous.tolist():
        thing = make_object(rng, size / 192, wants_ambiguity)
        if _place(rng, thing, placed, size):
            placed.append(thing)
    placed.reverse()  # painted in this order: ambiguous objects on top
    owner = np.full((size, size), -1, np.int8)
    windows = [thing.layer.window(size) for thing in placed]
    for number, (thing, (there, here)) in enumerate(zip(placed, windows, strict=True)):
        owner[there][thing.layer.mask[here]] = number
    laws, labels = [np.zeros((0, 4, 3), np.float32)], []
    for number, (thing, (there, _)) in enumerate(zip(placed, windows, strict=True)):
        visible = owner[there] == number
        box = tight_box(visible)
        if box is None or visible.sum() < LEAST_VISIBLE * thing.layer.mask.sum():
            continue
        if thing.layer.sharp:
            left, top = there[1].start, there[0].start
            thing.laws = sharp_laws((box[0] + left, box[1] + top, box[2] + left, box[3] + top))
        laws.append(thing.laws[None])
        labels.append(thing.label)
    ground_truth = _Truth(np.concatenate(laws), np.array(labels, np.int64))
    return [thing.layer for thing in placed], ground_truth


def _place(rng: Generator, thing: DrawnObject, others: list[DrawnObject], size: int) -> bool:
    """Move an object to a free place, if one is found in a few tries."""
    left, top, right, bottom = thing.laws[:, 1].tolist()
    width, height = right - left, bottom - top
    margin = 4 * size / 192
    # A sharp object may leave the image by a tenth on either side; an ambiguous one stays inside.
    spare_x, spare_y = (-0.1 * width, -0.1 * height) if thing.layer.sharp else (margin, margin)
    room = np.array([size - width - 2 * spare_x, size - height - 2 * spare_y])
    for x, y in np.round(rng.random((12, 2)) * room + np.array([spare_x - left, spare_y - top])).tolist():
        thing.outer_box = (left + x, top + y, right + x, bottom + y)
        laws = thing.laws + np.array([[x, x, 0], [y, y, 0]] * 2, np.float32)
        thing.zones = _zones(laws, margin)
        if all(_may_meet(thing, other) for other in others):
            thing.laws, thing.layer.corner = laws, (int(x), int(y))
            return True
    return False


def _zones(laws: Floats, margin: float) -> tuple[Box, ...]:
    zones = []
    for side in np.flatnonzero(laws[:, 0] != laws[:, 1]).tolist():
        zone = laws[:, 1].tolist()
        zone[(side + 2) % 4] = float(laws[side, 0])
        zones.append((zone[0] - margin, zone[1] - margin, zone[2] + margin, zone[3] + margin))
    return tuple(zones)


def _may_meet(one: DrawnObject, two: DrawnObject) -> bool:
    """Whether two objects may lie as they do: overlaps are moderate, and ambiguous sides stay free."""
    if any(_common_area(one.outer_box, zone) for zone in two.zones):
        return False
    if any(_common_area(two.outer_box, zone) for zone in one.zones):
        return False
    # Of two ambiguous objects one would hide a part of the other.
    most = 0.3 if one.layer.sharp or two.layer.sharp else 0
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one.outer_box, two.outer_box))
    return _common_area(one.outer_box, two.outer_box) <= most * smaller


def _common_area(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    return width * height if width > 0 and height > 0 else 0.0
