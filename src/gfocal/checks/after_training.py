"""What the result of a run says about its config: classes that it lost, and what keeps them."""

from __future__ import annotations

from pathlib import Path

from gfocal.config.config import MethodSettings
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.models.published_settings import PublishedSettings
from gfocal.text import pluralize
from gfocal.training.metrics_log import read_metrics

LOST, FOUND = 0.05, 0.5  # AP50 at most and at least
FEW = 5  # objects by which nothing can be said of a class
SHORT = 500  # steps of a run in which classes may just not have been learned yet


def count_steps(metrics: Path) -> int | None:
    """Steps of the run of a metrics.csv; None where somebody deleted or changed it."""
    try:
        return int(float(read_metrics(metrics)[-1]["step"]))
    except (OSError, ValueError, LookupError):
        return None


def explain_lost_classes(
    result: CocoResult, method: MethodSettings, published: PublishedSettings, steps: int | None
) -> str:
    """Classes that a detector does not find while it finds others, in a line; empty if there are none.

    It ends with what keeps them: a longer run; or, where classes are trained by QFL as published, what helps there.

    Args:
        result: on validation images.
        method: of the config that it was trained by.
        published: of its preset, which count where ``method`` says nothing.
        steps: of the run; None: not known.
    """
    classes = {name: ap for name, ap in result.per_class.items() if ap.num_ground_truth >= FEW}
    lost = [name for name, ap in classes.items() if (ap.ap50 or 0.0) <= LOST]
    if not lost or all((ap.ap50 or 0.0) < FOUND for ap in classes.values()):
        return ""
    parts = [f"{name} (AP50 {classes[name].ap50:.2f}, {classes[name].num_ground_truth:,} boxes)" for name in lost[:5]]
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    line = f"hardly found, while other classes are: {', '.join(parts)}{more}; "
    if steps is not None and steps < SHORT:
        return line + f"{pluralize(steps, 'step')} are few: train for {SHORT} or more"
    has_choices = published.criterion in ("gfl", "dense")
    joint = (method.quality or published.quality) == "joint" and method.cls_loss != "varifocal"
    if has_choices and joint and not method.beta_warmup:
        near = "--set model.initial_distance=3 " * (published.criterion == "gfl")  # others may have no distributions
        return line + (
            f"the Quality Focal Loss can lose classes of small or rare objects, which {near}"
            "--set method.beta_warmup=1.0 --set method.box_weights=equal keep (docs/training.md, Rare classes)"
        )
    return line + "more images of them, --repeat-threshold 0.1 or a larger input (docs/training.md) help"
