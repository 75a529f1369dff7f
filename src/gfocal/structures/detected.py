"""Objects found in an image: ``Detections``, of which one is a ``Detection``."""

from __future__ import annotations

import json
import operator
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from gfocal.structures.calibration import Calibration, Guarantee, ScoreKind, variance_of_bins, widest

if TYPE_CHECKING:
    import pandas
    from PIL import Image

Edges = Literal["none", "std", "distribution", "interval"]  # what drawings show of the edges
Color = Literal["rgb", "bgr"]  # the order of the channels of arrays and tensors; OpenCV's is bgr
Two = tuple[float, float]
Four = tuple[float, float, float, float]
COVERAGE = 0.9  # of intervals where the user asks for no other


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Where the image of some detections is found again, so that it can be shown.

    An image that was given as an object is not kept alive: thousands of results hold no pixels.
    """

    path: str | None = None
    reference: weakref.ref[Any] | None = None  # to an array, tensor or PIL image
    color: Color = "rgb"
    value_range: tuple[int, int] | None = None  # of pixels of more than 8 bits

    def get(self) -> Any:
        """The path; or the image while its owner keeps it; else None."""
        return self.path if self.reference is None else self.reference()

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: no reference, which has no meaning in another process."""
        return vars(self) | {"reference": None}


@dataclass(frozen=True)
class Detection:
    """One object found in an image."""

    box: Four  # x1, y1, x2, y2 in pixels of the original image
    score: float  # 0..1: the expected IoU of the box with an object of its class
    label: int
    name: str  # of its class
    edge_std: Four | None  # of the edges left, top, right, bottom, in pixels; None: no distributions
    edges: Tensor  # (4, K) float32, probabilities; K = 0: no distributions
    point: Tensor  # (2,) float32, pixels of the original image, see ``Detections``
    bin_sizes: Tensor  # (4,) float32, pixels of the original image per bin
    # Of a calibrated model: where each edge lies, as lowest and highest x or y. All four do with probability 0.9;
    # None if it was calibrated on too few boxes to promise that.
    edge_interval: tuple[Two, Two, Two, Two] | None = None
    calibrated_score: float | None = None  # of a calibrated model: the expected IoU, 0 for a false positive

    def __repr__(self) -> str:
        box = ", ".join(f"{v:.1f}" for v in self.box)
        std = "" if self.edge_std is None else f", edge_std=({', '.join(f'{v:.1f}' for v in self.edge_std)})"
        return f"Detection(name={self.name!r}, score={self.score:.3f}, box=({box}){std})"

    def to_dict(self) -> dict[str, Any]:
        """``name``, ``label``, ``score``, ``box`` and, with distributions, ``edge_std``: numbers, text and lists.

        Of a calibrated model also ``edge_interval`` and ``calibrated_score``. Boxes and edges are rounded to 1/10,000
        of a pixel, scores to 7 digits, as in the files of ``gfocal detect``.
        """
        found: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "score": float(f"{self.score:.7g}"),
            "box": [round(v, 4) for v in self.box],
        }
        if self.edge_std is not None:
            found["edge_std"] = [round(v, 4) for v in self.edge_std]
        if self.edge_interval is not None:
            found["edge_interval"] = [[round(low, 4), round(high, 4)] for low, high in self.edge_interval]
        if self.calibrated_score is not None:
            found["calibrated_score"] = float(f"{self.calibrated_score:.7g}")
        return found


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first, with the distribution behind each box edge.

    It is a sequence: ``for one in found`` and ``found[0]`` give a ``Detection``; ``found[:5]``, ``found[mask]`` and
    ``found[indices]`` give ``Detections``. The tensors have a row for each.

    Bin k of side s of detection i lies ``k * bin_sizes[i, s]`` pixels from ``points[i]``, outwards.
    """

    boxes: Tensor  # (N, 4) float32, xyxy in pixels of the original image
    scores: Tensor  # (N,) float32 in 0..1: the expected IoU of the box with an object of its class
    labels: Tensor  # (N,) int64
    edges: Tensor  # (N, 4, K) float32, probabilities; sides left, top, right, bottom; K = 0: no distribution
    points: Tensor  # (N, 2) float32, pixels of the original image
    bin_sizes: Tensor  # (N, 4) float32, pixels of the original image per bin
    names: tuple[str, ...]  # of the model's classes, indexed by label
    size: tuple[int, int]  # height and width of the original image
    source: ImageSource | None = field(default=None, compare=False)  # of those that ``model.detect`` gives
    calibration: Calibration | None = field(default=None, compare=False)  # of those that a calibrated model gives

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        kinds = Counter(self.class_names).most_common()
        text = ", ".join(f"{count} {name}" for name, count in kinds[:5]) + ", ..." * (len(kinds) > 5)
        return f"Detections({len(self)} in {self.size[1]}x{self.size[0]} pixels{': ' * bool(text)}{text})"

    def __str__(self) -> str:
        """The line of ``repr``, and a line for each of the best 20."""
        width = max([len(name) for name in self.class_names[:20]] + [0])
        lines = [f"  {d.name:{width}} {d.score:.2f}  box {' '.join(f'{v:.0f}' for v in d.box)}" for d in self[:20]]
        more = [f"  ... {len(self) - 20} more"] * (len(self) > 20)
        return "\n".join([repr(self), *lines, *more])

    def __iter__(self) -> Iterator[Detection]:
        # One copy from the device for all, not one for each.
        boxes, scores, labels = self.boxes.tolist(), self.scores.tolist(), self.labels.tolist()
        nothing = [None] * len(self)
        stds = self.edge_std.tolist() if self.edges.shape[-1] else nothing
        intervals = self.edge_interval(COVERAGE).tolist() if self.can_promise(COVERAGE) else nothing
        calibrated = nothing if self.calibration is None else self.calibrated_scores().tolist()
        columns = zip(boxes, scores, labels, stds, intervals, calibrated, strict=True)
        for i, (box, score, label, std, interval, better) in enumerate(columns):
            spread = None if std is None else (std[0], std[1], std[2], std[3])
            four = (box[0], box[1], box[2], box[3])
            rows = self.edges[i], self.points[i], self.bin_sizes[i]
            ranges = None if interval is None else tuple((low, high) for low, high in interval)
            yield Detection(four, score, label, self.names[label], spread, *rows, ranges, better)  # type: ignore[arg-type]

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Sequence[bool] | Tensor) -> Detections: ...
    def __getitem__(self, index: Any) -> Detection | Detections:
        """One detection for an integer, counted from the end if negative; for a slice, mask or indices several."""
        if isinstance(index, slice):
            return self.select(index)
        if getattr(index, "ndim", 0) or not hasattr(index, "__index__"):
            rows = torch.as_tensor(index, device=self.boxes.device)
            return self.select(rows if len(rows) else rows.to(torch.int64))  # an empty list has no type
        place = operator.index(index)
        if not -len(self) <= place < len(self):  # also ends loops that count up
            raise IndexError(f"detection {place} of {len(self)}")
        place %= len(self)
        return next(iter(self.select(slice(place, place + 1))))

    @property
    def edge_std(self) -> Tensor:
        """Standard deviation of each edge. (N, 4), pixels of the original image; NaN without distributions.

        With ``calibration`` that of the edge's error; else that of its distribution, see ``distribution_std``.
        """
        if self.calibration is None or not self.edges.shape[-1]:
            return self.distribution_std
        return (self._spread(self.calibration) * self.calibration.std_factor).float()

    @property
    def distribution_std(self) -> Tensor:
        """Standard deviation of each edge's distribution as it is. (N, 4), pixels; NaN without distributions."""
        if not self.edges.shape[-1]:
            return torch.full_like(self.boxes, torch.nan)
        return variance_of_bins(self.edges)[0].sqrt() * self.bin_sizes

    def can_promise(self, coverage: float) -> bool:
        """Whether ``edge_interval`` has this coverage: the model is calibrated, on enough boxes."""
        return self.calibration is not None and self.calibration.can_promise(coverage)

    def edge_interval(self, coverage: float = COVERAGE, guarantee: Guarantee = "box") -> Tensor:
        """Where each edge of the object lies, as lowest and highest x (left, right) or y (top, bottom). (N, 4, 2)

        Args:
            coverage: the probability promised, 0..1.
            guarantee: ``box``: all four edges of a box lie in their intervals with this probability; ``edge``: each
                edge alone does, for which the intervals are narrower.

        Returns:
            Pixels of the original image, float32, within the image. What is promised, and for which detections:
            ``Calibration``.

        Raises:
            ValueError: the model is not calibrated (``gfocal calibrate``), or on too few boxes for this coverage.
        """
        calibration = self._calibrated()
        half = self._spread(calibration) * calibration.factors(self.labels, coverage, guarantee)  # (N, 4)
        height, width = self.size
        limit = half.new_tensor([width, height, width, height]).unsqueeze(-1)
        interval = torch.stack([self.boxes - half, self.boxes + half], -1)
        return torch.minimum(interval.clamp(min=0), limit).float()

    def outer_boxes(self, coverage: float = COVERAGE) -> Tensor:
        """Boxes that contain the object's box wherever its edges lie in ``edge_interval``. (N, 4) xyxy"""
        interval = self.edge_interval(coverage)
        return torch.cat([interval[:, :2, 0], interval[:, 2:, 1]], 1)

    def inner_boxes(self, coverage: float = COVERAGE) -> Tensor:
        """Boxes that the object's box contains wherever its edges lie in ``edge_interval``. (N, 4) xyxy

        Where the intervals of two opposite edges meet no box is sure to be inside: both are then at the middle.
        """
        interval = self.edge_interval(coverage)
        low, high = interval[:, :2, 1], interval[:, 2:, 0]
        middle = (low + high) / 2
        return torch.cat([torch.where(low < high, low, middle), torch.where(low < high, high, middle)], 1)

    def calibrated_scores(self, kind: ScoreKind = "iou") -> Tensor:
        """The IoU to be expected, 0 for a false positive, or with ``precision`` the probability to be right. (N,)

        Raises:
            ValueError: the model is not calibrated.
        """
        return self._calibrated().calibrate_scores(self.scores, self.labels, kind)

    def edge_covariance(self) -> Tensor:
        """Covariance of the errors of x1, y1, x2, y2, what trackers call R. (N, 4, 4), squared pixels.

        Raises:
            ValueError: the model is not calibrated.
        """
        calibration = self._calibrated()
        std = self.edge_std.to(widest(self.boxes.device))
        return (std.unsqueeze(2) * std.unsqueeze(1) * std.new_tensor(calibration.correlation)).float()

    def _spread(self, calibration: Calibration) -> Tensor:
        return calibration.spread(self.edges, self.bin_sizes, self.boxes, self.scores)

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise ValueError(
                "these detections are of a model that is not calibrated: 'gfocal calibrate MODEL DATA' does it, on "
                "annotated images that its training did not see"
            )
        return self.calibration

    @property
    def class_names(self) -> list[str]:
        """Name of the class of each detection."""
        return [self.names[label] for label in self.labels.tolist()]

    def select(self, index: Tensor | slice) -> Detections:
        """The detections at ``index``, a boolean mask, indices or a slice."""
        return replace(self, **{name: tensor[index] for name, tensor in self._tensors().items()})

    def to(self, device: torch.device | str) -> Detections:
        """The same on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def above(self, score_threshold: float | Sequence[float]) -> Detections:
        """The detections whose score is greater than a threshold: one for all, or one for each class, by label."""
        if not isinstance(score_threshold, Sequence):
            return self.select(self.scores > score_threshold)
        if len(score_threshold) != len(self.names):
            raise ValueError(f"{len(score_threshold)} thresholds for {len(self.names)} classes")
        return self.select(self.scores > self.scores.new_tensor(score_threshold)[self.labels])

    def relabel(self, new_labels: Sequence[int], names: tuple[str, ...]) -> Detections:
        """With other classes: label i becomes ``new_labels[i]``; those whose new label is negative are left out."""
        labels = torch.tensor(new_labels, dtype=torch.int64, device=self.labels.device)[self.labels]
        keep = labels >= 0
        calibration = None if self.calibration is None else self.calibration.relabel(new_labels)
        return replace(self.select(keep), labels=labels[keep], names=names, calibration=calibration)

    def to_dict(self) -> dict[str, Any]:
        """``image`` (its path, or None), ``width``, ``height``, and ``detections``, each as ``Detection.to_dict``."""
        image = None if self.source is None else self.source.path
        objects = [one.to_dict() for one in self]
        return {"image": image, "width": self.size[1], "height": self.size[0], "detections": objects}

    def to_json(self, indent: int | None = None) -> str:
        """``to_dict`` as json text, on one line unless ``indent`` is given."""
        return json.dumps(self.to_dict(), indent=indent)

    # Tables and drawings are made by packages that come after this one; ``gfocal`` imports its public names when
    # they are used, which is the one exception to the order of imports.

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each detection, see ``gfocal.to_pandas``, which also takes those of several images."""
        import gfocal

        return gfocal.to_pandas(self)

    def draw(self, image: Any = None, *, edges: Edges = "none", color: Color = "rgb") -> Image.Image:
        """All detections drawn on their image, see ``gfocal.draw_detections`` for further options.

        ``image`` may be left out if ``detect`` was given a path, or an object that still exists; of an array or
        tensor that is given, ``color`` is the order of the channels.

        Raises ValueError without an image, or for one of another size.
        """
        import gfocal

        return gfocal.visualize.draw_on_source(self, image, edges=edges, color=color)

    def _repr_html_(self) -> str:
        import gfocal

        return gfocal.visualize.detections_html(self)
