"""What the service answers, as types that OpenAPI describes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from gfocal.serving.batcher import Timings as Seconds
from gfocal.structures import Detections

Four = Annotated[list[float], Field(min_length=4, max_length=4)]
Two = Annotated[list[float], Field(min_length=2, max_length=2)]
DIGITS = 4  # decimals of pixels: as in the files of gfocal detect


class Distributions(BaseModel):
    """The distribution behind each edge: bin k of an edge lies k * bin_sizes pixels from the point, outwards."""

    probabilities: list[list[float]] = Field(description="of the edges left, top, right, bottom; each sums to 1")
    point: Two = Field(description="x, y in pixels of the image")
    bin_sizes: Four = Field(description="pixels of the image per bin, of each edge")


class DetectedObject(BaseModel):
    """An object in an image."""

    name: str = Field(description="of its class")
    label: int = Field(ge=0, description="index of its class among the model's names")
    score: float = Field(ge=0, le=1, description="the expected IoU of the box with an object of its class")
    box: Four = Field(description="x1, y1, x2, y2 in pixels of the image, upright")
    edge_std: Four | None = Field(
        None, description="standard deviation of the edges left, top, right, bottom in pixels; null: no distributions"
    )
    edge_interval: list[Two] | None = Field(
        None,
        description="of a calibrated model, lowest and highest x or y of each edge: all four edges lie inside with "
        "the probability that `coverage` of the answer says",
    )
    calibrated_score: float | None = Field(
        None, description="of a calibrated model, the expected IoU, 0 for a false positive"
    )
    distributions: Distributions | None = Field(None, description="where the request asks for them")


class Timings(BaseModel):
    """Where the time of an image went, in milliseconds."""

    queue: float = Field(ge=0, description="waiting, for a thread that reads and for the network")
    read: float = Field(ge=0, description="decoding the file, resizing, normalizing")
    network: float = Field(ge=0, description="the pass through the network, shared with the others of its batch")
    batch_size: int = Field(ge=1, description="images that went through the network together")


class ImageAnswer(BaseModel):
    """The objects of one image, best first."""

    name: str = Field(description="of the file, as the client gave it")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    detections: list[DetectedObject]
    timings: Timings


class ModelAnswer(BaseModel):
    """The model of the service, and what it was built with."""

    name: str = Field(description="as it was named at the start")
    digest: str = Field(description="of its weights, 16 characters of a sha256")
    preset: str
    precision: str = Field(description="number format of the network")
    engine: str = Field(description="torch, onnxruntime or openvino, with its version")
    gfocal: str = Field(description="version of gfocal")


class ModelDescription(BaseModel):
    """The model of the service, its classes, and what may be asked of it."""

    model: ModelAnswer
    names: list[str] = Field(description="of the classes, by label")
    has_distributions: bool = Field(description="whether edges have distributions")
    coverage: float | None = Field(description="of intervals where a request asks for none; null: no intervals")
    score_thresholds: list[float] = Field(description="of each class, where a request states none")
    max_images: int = Field(description="of one request")
    max_body: int = Field(description="bytes of one request")
    max_megapixels: float | None = Field(description="of one image")


class Answer(BaseModel):
    """The answer to ``POST /detect``: the images in the order of the request."""

    images: list[ImageAnswer]
    coverage: float | None = Field(None, description="of the intervals of edges; null: no intervals")
    model: ModelAnswer
    total_ms: float = Field(ge=0, description="from the first byte of the request to this answer, in milliseconds")


class State(BaseModel):
    """Whether the service works."""

    status: str


class Problem(BaseModel):
    """Why a request was refused, in a line."""

    detail: str


def describe_image(
    name: str, found: Detections, seconds: Seconds, coverage: float | None, distributions: bool
) -> ImageAnswer:
    """The answer for one image.

    Args:
        name: of the image.
        found: its detections.
        seconds: where its time went.
        coverage: of the intervals; None: no intervals.
        distributions: whether each edge's distribution is told.
    """
    nothing: list[Any] = [None] * len(found)
    has_edges = bool(found.edges.shape[-1])
    columns = zip(
        found.boxes.tolist(),
        found.scores.tolist(),
        found.labels.tolist(),
        found.edge_std.tolist() if has_edges else nothing,
        nothing if coverage is None else found.edge_interval(coverage).tolist(),
        nothing if found.calibration is None else found.calibrated_scores().tolist(),
        describe_distributions(found) if has_edges and distributions else nothing,
        strict=True,
    )
    objects = [
        DetectedObject.model_construct(
            name=found.names[label],
            label=label,
            score=_short(score),
            box=_rounded(box),
            edge_std=None if std is None else _rounded(std),
            edge_interval=None if interval is None else [_rounded(two) for two in interval],
            calibrated_score=None if calibrated is None else _short(calibrated),
            distributions=shape,
        )
        for box, score, label, std, interval, calibrated, shape in columns
    ]
    timings = Timings(
        queue=milliseconds(seconds.queue),
        read=milliseconds(seconds.read),
        network=milliseconds(seconds.network),
        batch_size=seconds.batch_size,
    )
    return ImageAnswer(name=name, width=found.size[1], height=found.size[0], detections=objects, timings=timings)


def describe_distributions(found: Detections) -> list[Distributions]:
    """The distributions of each detection."""
    columns = zip(found.edges.tolist(), found.points.tolist(), found.bin_sizes.tolist(), strict=True)
    return [
        Distributions.model_construct(
            probabilities=[[round(p, 5) for p in edge] for edge in edges],
            point=_rounded(point),
            bin_sizes=_rounded(sizes),
        )
        for edges, point, sizes in columns
    ]


def milliseconds(seconds: float) -> float:
    """Rounded to microseconds."""
    return round(1000 * max(seconds, 0.0), 3)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def _short(score: float) -> float:
    return float(f"{score:.7g}")
