"""Classes that a run lost, and what the line about them advises."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from gfocal.checks.after_training import count_steps, explain_lost_classes
from gfocal.config.config import MethodSettings
from gfocal.evaluation.coco_ap import ClassAP, CocoResult
from gfocal.models.published_settings import PublishedSettings

QFL = PublishedSettings(criterion="gfl", assigner="atss", quality="joint")


def result_of(**classes: tuple[float | None, int]) -> CocoResult:
    """A result in which each class has an AP50 and a number of objects."""
    numbers = {field.name: 0 for field in fields(CocoResult) if field.name.startswith("num_")}
    shares = {field.name: 0.5 for field in fields(CocoResult) if field.name.startswith(("ap", "ar"))}
    per_class = {name: ClassAP(ap50, ap50, count) for name, (ap50, count) in classes.items()}
    return CocoResult(**shares, per_class=per_class, **numbers)  # type: ignore[arg-type]


def test_a_lost_class_is_named_with_what_keeps_it() -> None:
    line = explain_lost_classes(result_of(RBC=(0.8, 900), Platelets=(0.0, 76)), MethodSettings(), QFL, 500)
    assert "Platelets (AP50 0.00, 76 boxes)" in line
    assert "RBC" not in line
    assert "--set model.initial_distance=3 --set method.beta_warmup=1.0 --set method.box_weights=equal" in line


@pytest.mark.parametrize(
    "method",
    [
        MethodSettings(quality="none"),
        MethodSettings(beta_warmup=1.0, box_weights="equal"),
        MethodSettings(cls_loss="varifocal"),
    ],
)
def test_another_loss_has_other_advice(method: MethodSettings) -> None:
    line = explain_lost_classes(result_of(RBC=(0.8, 900), Platelets=(0.0, 76)), method, QFL, 500)
    assert "beta_warmup" not in line
    assert "--repeat-threshold" in line


def test_a_detector_without_these_choices_has_other_advice() -> None:
    nanodet = PublishedSettings(criterion="nanodet", assigner="dsla", quality="joint")
    line = explain_lost_classes(result_of(RBC=(0.8, 900), Platelets=(0.0, 76)), MethodSettings(), nanodet, 500)
    assert "beta_warmup" not in line
    assert "--repeat-threshold" in line


def test_the_advice_fits_boxes_without_distributions() -> None:
    fcos = PublishedSettings(criterion="dense", assigner="fcos", quality="branch")
    line = explain_lost_classes(
        result_of(RBC=(0.8, 900), Platelets=(0.0, 76)), MethodSettings(quality="joint"), fcos, None
    )
    assert "--set method.beta_warmup=1.0" in line
    assert "initial_distance" not in line


def test_the_steps_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    assert count_steps(file) is None
    file.write_text("epoch,step\n")
    assert count_steps(file) is None
    file.write_text("epoch,step\n1,26\n2,52\n")
    assert count_steps(file) == 52
    file.write_text("epoch;step\n1;26\n")
    assert count_steps(file) is None


def test_a_short_run_may_be_the_reason() -> None:
    line = explain_lost_classes(result_of(RBC=(0.8, 900), Platelets=(0.0, 76)), MethodSettings(), QFL, 499)
    assert line.endswith("; 499 steps are few: train for 500 or more")


@pytest.mark.parametrize(
    "classes",
    [
        {"a": (0.9, 50), "b": (0.3, 50)},  # found, if badly
        {"a": (0.04, 50), "b": (0.0, 50)},  # nothing is found yet: not this
        {"a": (0.9, 50), "b": (0.0, 4)},  # too few to say so
        {"a": (0.9, 50), "b": (None, 0)},
        {},
    ],
)
def test_other_results_have_no_line(classes: dict[str, tuple[float | None, int]]) -> None:
    assert explain_lost_classes(result_of(**classes), MethodSettings(), QFL, 500) == ""


def test_many_lost_classes_are_counted() -> None:
    lost = {f"part{i}": (0.0, 9) for i in range(8)}
    assert "part4 (AP50 0.00, 9 boxes) and 3 more" in explain_lost_classes(
        result_of(sound=(0.9, 50), **lost), MethodSettings(), QFL, 500
    )
