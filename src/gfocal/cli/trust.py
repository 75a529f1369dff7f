"""What 'gfocal eval' says of how far edges and scores can be trusted."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from gfocal.cli.inputs import standard_output
from gfocal.cli.seen_images import warn_of_calibration_images
from gfocal.console import note, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from gfocal.calibration.measure import Trust
    from gfocal.data.dataset import ImageData
    from gfocal.models.exported import AnyDetector


def report_trust(
    model: AnyDetector | None,
    data: ImageData,
    detections: Mapping[int, Any],
    args: argparse.Namespace,
    console: Console,
) -> Trust | None:
    """Print calibration of edges and scores, and return it for --out and --report.

    None where detections have no distributions: those of a file, or that several processes exchanged.
    """
    from gfocal.calibration.measure import measure_trust
    from gfocal.structures import Detections

    found = {key: one for key, one in detections.items() if isinstance(one, Detections)}
    if model is not None and len(found) < len(detections):
        note(console, "how far edges and scores can be trusted is measured by a single process")
    if model is None or len(found) < len(detections):
        return None
    warn_of_calibration_images(model, data, console)
    threshold = threshold_of(model, data.names)
    trust = measure_trust(
        data, found, threshold, model_name=shlex.quote(str(args.model)), data_name=shlex.join(map(str, args.data))
    )
    output = standard_output()
    for line in trust.describe():
        say(output, line)
    return trust


def threshold_of(model: AnyDetector, names: Sequence[str]) -> float | tuple[float, ...]:
    """A model's thresholds for the classes of the data, which may be some of the model's, or all of them as one."""
    from gfocal.models.predict import resolve_threshold

    threshold = resolve_threshold(model, None)
    if not isinstance(threshold, tuple):
        return threshold
    of_class = dict(zip(model.names, threshold, strict=True))
    return tuple(of_class.get(name, min(threshold)) for name in names)
