"""How much a service takes: bytes, images, seconds."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
MAX_IMAGES = 32  # of one request


@dataclass(frozen=True)
class Bounds:
    """The bounds of a service; every one of them is refused beyond, with the status beside it."""

    max_batch: int = 8  # images that go through the network together
    max_wait: float = 0.005  # seconds that a batch waits for images that are being read
    max_queue: int = 64  # images in the service; 503
    max_body: int = 32 * MIB  # bytes of a request; 413
    max_bodies: int = 512 * MIB  # bytes of all requests that are being received; 503
    body_seconds: float = 20.0  # for a request to arrive; 408
    answer_seconds: float = 30.0  # from then to the answer; 504
    max_connections: int = 1000  # 503
    readers: int = 2  # threads that decode images

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 and name != "max_wait":
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.max_wait < 0 or self.max_queue < self.max_batch or self.max_bodies < self.max_body:
            raise ValueError("max_wait >= 0, max_queue >= max_batch and max_bodies >= max_body must hold")

    @property
    def max_images(self) -> int:
        """Images of one request; 413."""
        return min(MAX_IMAGES, self.max_queue)
