"""A dataset of synthetic images, without files, in which the law of every ambiguous edge is known.

Five classes of shapes (color and fill are independent of the class) on textured backgrounds, with clutter, occlusion
and shadows. A label is the tight box of the visible part of an object; an object of which less than 30 % is visible
has no label. About 28 % of the objects have one or two ambiguous sides, of three kinds with a different appearance:

- plain strip: a faint uniform strip is attached to the side; the label includes it with probability 0.3;
- barred strip: a faint strip with bars across it; the label includes it with probability 0.7;
- ramp: the side fades out linearly; the label's edge is uniform within the ramp.

Ambiguous sides are never occluded and never leave the image. ``Sample.edge_laws`` (G, 4, 3) has the law of every
side, as defined in ``gfocal.data.synthetic.edge_laws``.

    image, sample = gfocal.SyntheticScenes(1000, size=192, seed=0).read(7)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from gfocal.data.dataset import Sample
from gfocal.data.synthetic.edge_laws import sample_edges
from gfocal.data.synthetic.objects import SceneObject, make_object, sharp_laws
from gfocal.data.synthetic.shapes import SHAPES, Box, Floats, Layer, paint, tight_box
from gfocal.errors import DataError

PURPOSES = ("train", "val", "test")
MIN_VISIBLE = 0.3  # fraction of an object's pixels; with fewer it has no label
BANK, LAYOUT, PAINT, LABELS = 0, 1, 2, 3  # random streams of a scene; those from LABELS on are samples of the labels

_LIMIT = 2**32  # numpy splits larger numbers in two for a seed, so that two scenes could be equal


@dataclass(frozen=True)
class SyntheticScenes:
    """Scenes generated on access (an ``ImageData``): pure functions of purpose, seed, scene number and size.

    Scenes of different seeds or purposes are different. The first scenes of a longer dataset are those of a shorter
    one.

    Raises:
        DataError: if an argument is out of its range.
    """

    num_scenes: int
    size: int = 192  # height and width of an image, 96..640; objects grow with it
    seed: int = 0  # 0..2**32-1
    purpose: str = "train"  # one of PURPOSES
    ambiguous_share: float = 0.3  # probability that an object has ambiguous sides, 0..1
    first_scene: int = 0

    names = SHAPES
    category_ids = tuple(range(1, len(SHAPES) + 1))
    files = None

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
        """As many other scenes: those of epoch e start at scene number e * num_scenes."""
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
        """The boxes of a scene with resampled edges: draw 0 is that of ``sample``. (G, 4), pixels."""
        return self._boxes(index, self._scene(index)[1], draw)

    def _stream(self, index: int, stream: int) -> Generator:
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"scene {index} of {self.num_scenes}")
        return np.random.default_rng((PURPOSES.index(self.purpose), self.seed, self.first_scene + index, stream))

    def _scene(self, index: int) -> tuple[list[Layer], _GroundTruth]:
        return _arrange(self._stream(index, LAYOUT), self.size, self.ambiguous_share)

    def _boxes(self, index: int, ground_truth: _GroundTruth, draw: int) -> Tensor:
        uniforms = self._stream(index, LABELS + draw).random((len(ground_truth.laws), 4), dtype=np.float32)
        return sample_edges(torch.from_numpy(ground_truth.laws), torch.from_numpy(uniforms))

    def _sample(self, index: int, ground_truth: _GroundTruth) -> Sample:
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
class _GroundTruth:
    laws: Floats  # (G, 4, 3)
    labels: NDArray[np.int64]  # (G,)


def _arrange(rng: Generator, size: int, ambiguous_share: float) -> tuple[list[Layer], _GroundTruth]:
    """Choose the objects of a scene and their places; the boxes are those of the visible parts."""
    are_ambiguous = np.sort(rng.random(rng.integers(2, 9)) < ambiguous_share)[::-1]  # ambiguous ones first
    placed: list[SceneObject] = []
    for ambiguous in are_ambiguous.tolist():
        obj = make_object(rng, size / 192, ambiguous)
        if _place(rng, obj, placed, size):
            placed.append(obj)
    placed.reverse()  # painting order: ambiguous objects on top
    owner = np.full((size, size), -1, np.int8)
    windows = [obj.layer.window(size) for obj in placed]
    for number, (obj, (there, here)) in enumerate(zip(placed, windows, strict=True)):
        owner[there][obj.layer.mask[here]] = number
    laws, labels = [np.zeros((0, 4, 3), np.float32)], []
    for number, (obj, (there, _)) in enumerate(zip(placed, windows, strict=True)):
        visible = owner[there] == number
        box = tight_box(visible)
        if box is None or visible.sum() < MIN_VISIBLE * obj.layer.mask.sum():
            continue
        if obj.layer.sharp:
            left, top = there[1].start, there[0].start
            obj.laws = sharp_laws((box[0] + left, box[1] + top, box[2] + left, box[3] + top))
        laws.append(obj.laws[None])
        labels.append(obj.label)
    ground_truth = _GroundTruth(np.concatenate(laws), np.array(labels, np.int64))
    return [obj.layer for obj in placed], ground_truth


def _place(rng: Generator, obj: SceneObject, others: list[SceneObject], size: int) -> bool:
    """Move an object to a free place; False if none is found in a few tries."""
    left, top, right, bottom = obj.laws[:, 1].tolist()
    width, height = right - left, bottom - top
    margin = 4 * size / 192
    # A tenth of a sharp object may be outside the image on either side; an ambiguous one stays inside.
    spare_x, spare_y = (-0.1 * width, -0.1 * height) if obj.layer.sharp else (margin, margin)
    room = np.array([size - width - 2 * spare_x, size - height - 2 * spare_y])
    for x, y in np.round(rng.random((12, 2)) * room + np.array([spare_x - left, spare_y - top])).tolist():
        obj.outer_box = (left + x, top + y, right + x, bottom + y)
        laws = obj.laws + np.array([[x, x, 0], [y, y, 0]] * 2, np.float32)
        obj.zones = _zones(laws, margin)
        if all(_may_overlap(obj, other) for other in others):
            obj.laws, obj.layer.corner = laws, (int(x), int(y))
            return True
    return False


def _zones(laws: Floats, margin: float) -> tuple[Box, ...]:
    zones = []
    for side in np.flatnonzero(laws[:, 0] != laws[:, 1]).tolist():
        zone = laws[:, 1].tolist()
        zone[(side + 2) % 4] = float(laws[side, 0])
        zones.append((zone[0] - margin, zone[1] - margin, zone[2] + margin, zone[3] + margin))
    return tuple(zones)


def _may_overlap(one: SceneObject, two: SceneObject) -> bool:
    """Whether the overlap of two objects is small enough and leaves ambiguous sides free."""
    if any(_intersection_area(one.outer_box, zone) for zone in two.zones):
        return False
    if any(_intersection_area(two.outer_box, zone) for zone in one.zones):
        return False
    # Two ambiguous objects must not occlude each other.
    most = 0.3 if one.layer.sharp or two.layer.sharp else 0
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one.outer_box, two.outer_box))
    return _intersection_area(one.outer_box, two.outer_box) <= most * smaller


def _intersection_area(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    return width * height if width > 0 and height > 0 else 0.0
