"""The files of a run directory: the one place that knows their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """A directory that a training run writes into. A path says where a file is to be, not that it is there."""

    path: Path

    @property
    def config(self) -> Path:
        """Every value of the config."""
        return self.path / "config.toml"

    @property
    def description(self) -> Path:
        """Versions, machine, command, data and network."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def matches(self) -> Path:
        """Which detections of the best epoch match which validation objects: for intervals and differences of AP."""
        return self.path / "matches.npz"

    @property
    def page(self) -> Path:
        """The run as a page: curves, detections, config."""
        return self.path / "report.html"

    @property
    def result(self) -> Path:
        """The COCO numbers of the last evaluation; there once the run is finished."""
        return self.path / "result.json"

    @property
    def best_result(self) -> Path:
        """The COCO numbers of the epoch with the best AP so far."""
        return self.path / "best_result.json"

    @property
    def split(self) -> Path:
        """The training images that were held out for validation, where the data have no split val."""
        return self.path / "split.json"

    @property
    def training_images(self) -> Path:
        """Digests of the images that were trained on, so that nothing is measured on them by mistake."""
        return self.path / "training_images.json"

    @property
    def test_result(self) -> Path:
        """The COCO numbers on the split test, once the run is finished; only where val was held out of train."""
        return self.path / "test_result.json"

    @property
    def best(self) -> Path:
        """Model file of the epoch with the best AP."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Model file of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def state(self) -> Path:
        """All that the next training step depends on."""
        return self.path / "state.pt"

    @property
    def previous_state(self) -> Path:
        """The state saved before ``state``."""
        return self.path / "state-previous.pt"

    @property
    def tracker_ids(self) -> Path:
        """The ids under which experiment trackers know the run."""
        return self.path / "trackers.json"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains here."""
        return self.path / ".run.lock"

    @property
    def has_state(self) -> bool:
        """Whether there is a run here that can be resumed."""
        return self.state.is_file() or self.previous_state.is_file()

    @property
    def model_files(self) -> list[Path]:
        """The model files that are there, the best one first."""
        return [path for path in (self.best, self.last) if path.is_file()]
