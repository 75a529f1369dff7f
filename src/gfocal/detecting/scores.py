"""Which scores count: those that the user says, else those stored with the model, else one for all."""

from __future__ import annotations

from gfocal.models.detector import Detector

SCORE = 0.3  # least score, where neither the user nor the model says another


def score_threshold_of(model: Detector, score: float | None) -> float | tuple[float, ...]:
    """The score that detections must exceed: one for all classes, or the model's own of each."""
    own = model.class_thresholds
    if score is None and own is not None:
        return tuple(own)
    return SCORE if score is None else float(score)


def told_of_scores(threshold: float | tuple[float, ...]) -> str:
    """That, in words."""
    if isinstance(threshold, float):
        return f"scores above {threshold:g} (--score)"
    least, most = min(threshold), max(threshold)
    return f"scores above the model's own threshold of each class, {least:.2f} to {most:.2f} (--score for another)"
