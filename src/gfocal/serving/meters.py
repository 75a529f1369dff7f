"""What Prometheus reads at ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Meters:
    """The counts and times of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "gfocal_requests",
            "requests of POST /detect with a valid token and valid parameters, by status",
            ["status"],
            registry=self.registry,
        )
        self.images = Counter("gfocal_images", "images that were detected in", registry=self.registry)
        self.objects = Counter("gfocal_objects", "objects that were answered", registry=self.registry)
        self.vanished = Counter(
            "gfocal_clients_gone", "clients that left before their answer", registry=self.registry
        )
        self.waiting = Gauge("gfocal_images_inside", "images that wait or are computed", registry=self.registry)
        self.seconds = Histogram(
            "gfocal_request_seconds",
            "from the first byte of a request to its answer, of answers of status 200",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.read = Histogram(
            "gfocal_read_seconds", "decoding and resizing an image", buckets=SECONDS, registry=self.registry
        )
        self.network = Histogram(
            "gfocal_network_seconds", "a batch in the network", buckets=SECONDS, registry=self.registry
        )
        self.sizes = Histogram("gfocal_batch_size", "images of a batch", buckets=SIZES, registry=self.registry)

    def count_inside(self, count: Callable[[], int]) -> None:
        """Ask for the number of images inside when it is read."""
        self.waiting.set_function(count)

    def image_read(self, seconds: float) -> None:
        """An image was decoded."""
        self.read.observe(seconds)

    def batch_done(self, size: int, seconds: float) -> None:
        """A batch passed the network."""
        self.images.inc(size)
        self.sizes.observe(size)
        self.network.observe(seconds)

    def text(self) -> bytes:
        """All of them, in the format of Prometheus."""
        return generate_latest(self.registry)
