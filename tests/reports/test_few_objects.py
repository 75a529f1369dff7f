"""AP of a handful of objects is marked, in the terminal and on pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from gfocal.data.dataset import FileData, Sample
from gfocal.evaluation.coco_ap import coco_ap
from gfocal.evaluation.evaluate import Evaluation, evaluate
from gfocal.reports.evaluation import write_evaluation_page
from gfocal.reports.tables import coco_table


def grid(count: int, side: int, label: int) -> tuple[list[list[float]], list[int]]:
    return [[10.0 * k, 100.0 * label, 10.0 * k + side, 100.0 * label + side] for k in range(count)], [label] * count


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    samples, found = [], {}
    for image_id in (1, 2):
        boxes, labels = zip(grid(12, 9, 0), grid(1, 50, 1), strict=True)
        rows = torch.tensor([box for part in boxes for box in part])
        classes = torch.tensor([label for part in labels for label in part])
        crowd = torch.zeros(len(rows), dtype=torch.bool)
        samples.append(Sample(image_id, Path(f"{image_id}.jpg"), rows, classes, crowd, (400, 400)))
        scores = torch.linspace(0.9, 0.1, len(rows))
        found[image_id] = SimpleNamespace(boxes=rows + 0.5 * image_id, scores=scores, labels=classes)
    return evaluate(FileData(("common", "rare"), (1, 2), samples), found)


def shown(result) -> str:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(coco_table(result))
    return capture.get()


def test_in_the_terminal(evaluation: Evaluation) -> None:
    lines = shown(evaluation.ap).splitlines()
    (medium,) = (line for line in lines if line.strip().startswith("medium"))
    (rare,) = (line for line in lines if line.strip().startswith("rare"))
    (common,) = (line for line in lines if line.strip().startswith("common"))
    assert "few 2" in medium
    assert "few 2" in rare
    assert "few" not in common
    assert "few: fewer than 20 objects; this AP is mostly chance" in " ".join(shown(evaluation.ap).split())
    assert max(map(len, lines)) <= 80


def test_enough_objects_are_not_marked(evaluation: Evaluation) -> None:
    many = replace(evaluation.ap, num_medium=20, per_class={"common": evaluation.ap.per_class["common"]})
    assert "few" not in shown(many)
    nothing = coco_ap(
        [Sample(1, None, torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), (9, 9))], {}, "a"
    )
    assert "few" not in shown(nothing)


def test_on_the_page(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation_page(tmp_path / "page.html", evaluation, title="a page")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<span>AP medium, few objects</span>" in text
    assert "<span>AP small</span>" in text
    assert text.count('<tr class="few">') == 1
    assert "95 % confidence intervals, by a bootstrap over the images: AP " in text
    assert "<th scope=col>95 % interval</th>" in text
