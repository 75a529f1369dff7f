"""A small detector behind an application, and images for it."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fastapi.testclient import TestClient
from PIL import Image

from calibrations import calibration
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector
from gfocal.models.precision import digest_weights
from gfocal.models.zoo import create
from gfocal.serving.app import create_app
from gfocal.serving.bounds import Bounds
from gfocal.serving.service import make_service
from gfocal.structures import Detections

TOKEN = "a-token-of-many-letters"


def make_model(calibrated: bool = True) -> Detector:
    """Random weights that find something."""
    torch.manual_seed(0)
    model = create(
        "gfl_light_fpn",
        3,
        names=("a", "b", "c"),
        pretrained=False,
        body="test_resnet.r160_in1k",
        channels=32,
        num_convs=1,
        finest=4,
        input_settings=InputSettings(short_side=96, long_side=160),
    ).eval()
    for parameter in model.head.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    model.class_thresholds = (0.02, 0.02, 0.02)
    if calibrated:
        model.calibration = calibration(digest_weights(model), 3)
    return model


def make_image(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    """Blobs of random colors."""
    values = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The content of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_client(model: Any, bounds: Bounds | None = None, token: str = "", **options: Any) -> TestClient:
    """A client of an application in this process; use it as a context, which starts and ends the service."""
    return TestClient(
        create_app(make_service(model, "small", bounds, token=token, **options)), raise_server_exceptions=False
    )


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """A form with images."""
    return [("images", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]


class Slow:
    """A detector whose network takes its time; tells the sizes of its batches."""

    def __init__(self, seconds: float = 0.0, fails_on: int | None = None) -> None:
        self.inner, self.seconds, self.fails_on = make_model(), seconds, fails_on
        self.metadata = SimpleNamespace(precision="float32")
        self.batches: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def predict_batch(self, batch: Any, settings: Any) -> Sequence[Detections]:
        """As an exported file has it."""
        self.batches.append(tuple(batch.images.shape))
        time.sleep(self.seconds)
        widths = batch.original_sizes[:, 1].tolist()
        if self.fails_on in widths:
            raise RuntimeError("made to fail")
        from gfocal.models.predict import predict

        [(_, found)] = predict(self.inner, [batch], settings.score_threshold)
        return [replace(one, calibration=self.inner.calibration) for one in found]
