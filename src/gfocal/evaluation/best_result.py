"""The COCO numbers of the best epoch of a run, in a file: a resumed run has them too."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gfocal.atomic import atomic_write
from gfocal.evaluation.coco_ap import ClassAP, CocoResult


@dataclass(frozen=True)
class BestResult:
    """The evaluation of the epoch with the best AP."""

    epoch: int
    result: CocoResult


def write_best_result(path: Path, epoch: int, result: CocoResult) -> None:
    """Write the numbers of an epoch as json, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"epoch": epoch} | result.to_json(), indent=1) + "\n", encoding="utf-8")


def read_best_result(path: Path) -> BestResult | None:
    """What ``write_best_result`` wrote; None if there is no file, as in a run of an older gfocal, or another one."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values = {f.name: content[f.name] for f in fields(CocoResult)}
        values["per_class"] = {name: ClassAP(**one) for name, one in values["per_class"].items()}
        return BestResult(int(content["epoch"]), CocoResult(**values | {"limited": None}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
