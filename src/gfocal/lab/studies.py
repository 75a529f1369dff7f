"""The paper's ablation studies: for each row of a table, its config and the numbers that the paper prints.

To add a row, add a ``Cell``: its changes of the base config, as ``gfocal train --set`` takes them, with functions for
the common ones (``branch``, ``joint``, ``gfl`` ...). The numbers are AP, AP50, AP75 and AP of small, medium and large
objects in percent, on COCO minival with a ResNet-50 after 12 epochs.

The studies without a number are of later papers, whose methods are choices on the same axes; their numbers are those
papers' own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Literal

from gfocal.config.config import Config, with_changes
from gfocal.models.zoo import get_preset

Choice = str | int | float | bool | tuple[int, ...] | None
Changes = dict[str, Choice]
System = Literal["atss", "fcos"]
Box = Literal["dirac", "gaussian", "general"]
Measure = Literal["iou", "centerness"]

# Names in result.json, in the order in which the paper prints them.
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@dataclass(frozen=True)
class Cell:
    """One row of a table."""

    column: str  # the part of the table that the row belongs to: fcos, atss, ...
    name: str
    changes: Changes  # of the base config, with keys as in ``gfocal train --set``
    printed: str = ""  # the paper's numbers in percent, the first of METRICS or all
    schedule: Changes = field(default_factory=dict)  # further changes with budget paper: its own schedule
    slow: bool = False  # omitted in a small lab, unless its column is asked for

    @property
    def paper(self) -> dict[str, float] | None:
        """The paper's numbers by name, in percent."""
        return dict(zip(METRICS, map(float, self.printed.split()), strict=False)) or None


@dataclass(frozen=True)
class Study:
    """One table of the paper."""

    name: str  # the table's number in the paper; of a later paper, a word
    title: str
    paper_section: str
    cells: tuple[Cell, ...]
    note: str = ""  # how to read it
    needs: str = ""  # a key that the user has to set, as no config has it

    @property
    def columns(self) -> tuple[str, ...]:
        """The parts of the table; the rows of each are compared with its first row."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of METRICS that the paper prints in this table; of a study that no paper has, the first three."""
        printed = {name for cell in self.cells for name in cell.paper or ()}
        return tuple(name for name in METRICS if name in printed) or METRICS[:3]


def resolve(base: Config, cell: Cell, paper_size: bool = False) -> Config:
    """The complete config of a cell; with ``paper_size`` also its schedule.

    Options of the base config that the cell's preset does not have are left out: SSD has no FPN channels.

    Raises:
        PresetError: there is no such preset.
        ConfigError: a change names an unknown key, or a value does not fit.
    """
    preset = get_preset(str(cell.changes.get("model.preset", base.model.preset)))
    options = {key: value for key, value in base.model.options.items() if key in signature(preset).parameters}
    base = replace(base, model=replace(base.model, options=options))
    # In quotes, as "none" is a value of method.quality here, not the absence of a value.
    changes = {**cell.changes, **(cell.schedule if paper_size else {})}
    quoted = {key: json.dumps(value) if isinstance(value, str) else value for key, value in changes.items()}
    return with_changes(base, quoted)


def published(preset: str) -> Changes:
    """A preset with its published settings."""
    return {"model.preset": preset}


def no_quality(system: System) -> Changes:
    """No quality estimate: the class score alone."""
    return _detector(system, "dirac") | _method("none", None)


def branch(system: System, measure: Measure, box: Box = "dirac", *, dfl: bool = False) -> Changes:
    """A separate branch predicts the quality."""
    return _detector(system, box) | _method("branch", measure, dfl=dfl)


def guided(system: System, measure: Measure) -> Changes:
    """No quality estimate, but the quality weights the classification loss."""
    return _detector(system, "dirac") | _method("guided", measure)


def joint(system: System, measure: Measure = "iou", *, beta: float = 2.0) -> Changes:
    """Joint representation of class score and quality: QFL."""
    return _detector(system, "dirac") | _method("joint", measure) | {"method.beta": beta}


def gfl(n: int = 16, delta: float = 1.0) -> Changes:
    """QFL and DFL on ATSS: the paper's method."""
    choices = _detector("atss", "general") | _method("joint", "iou", dfl=True)
    return choices | {"method.beta": 2.0, "model.options.n": n, "model.options.delta": delta}


def varifocal(system: System) -> Changes:
    """Joint representation, trained by the Varifocal Loss in place of QFL."""
    return _detector(system, "dirac") | _method("joint", "iou") | {"method.cls_loss": "varifocal"}


def task_aligned() -> Changes:
    """QFL and DFL as in ``gfl``, on task-aligned assignment, which gives the targets itself."""
    return _detector("atss", "general") | _method("joint", None, dfl=True) | {"method.assigner": "tal"}


def _detector(system: System, box: Box) -> Changes:
    # ATSS as published regresses anchor deltas. In the studies it regresses distances to the four edges, the target
    # of section 3, so that the rows of table 2a differ in how an edge is represented and in nothing else.
    changes: Changes = {"model.preset": f"{system}_r50_fpn", "model.options.box": box}
    if system == "fcos":  # the paper's 38.5 is FCOS with center sampling; without, it is published with 36.6
        changes["method.assigner"] = "fcos_center"
    if box != "dirac":
        changes |= {"model.options.n": 16, "model.options.delta": 1.0}
    return changes


def _method(quality: str, measure: Measure | None, *, dfl: bool = False) -> Changes:
    changes: Changes = {"model.options.quality_branch": quality == "branch", "method.quality": quality}
    if measure is not None:
        changes["method.measure"] = measure
    return changes | {"method.dfl": dfl}


COLUMNS = {
    "fcos": "FCOS",
    "gfl": "GFL",
    "atss": "ATSS",
    "foveabox": "FoveaBox",
    "retinanet": "RetinaNet",
    "ssd512": "SSD512",
    "bins": "ATSS, n fixed at 16",
    "range": "ATSS, range fixed at 16 strides",
}

QUALITY = Study(
    "1a",
    "Localization quality estimation",
    "section 4, table 1a, figure 6",
    (
        Cell("fcos", "none", no_quality("fcos"), "37.8 56.2 40.8 21.2 42.1 48.2"),
        Cell("fcos", "centerness-branch", branch("fcos", "centerness"), "38.5 56.8 41.6 22.4 42.4 49.1"),
        Cell("fcos", "IoU-branch", branch("fcos", "iou"), "38.7 56.7 42.0 21.6 43.0 50.3"),
        Cell("fcos", "centerness-guided", guided("fcos", "centerness"), "37.9 56.7 40.7 21.2 42.1 49.4"),
        Cell("fcos", "IoU-guided", guided("fcos", "iou"), "38.2 57.0 41.1 22.5 42.2 48.9"),
        Cell("fcos", "joint centerness", joint("fcos", "centerness")),
        Cell("fcos", "joint IoU (QFL)", joint("fcos"), "39.0 57.8 41.9 22.0 43.1 51.0"),
        Cell("atss", "none", no_quality("atss"), "38.0 56.5 40.7 20.6 42.1 49.1"),
        Cell("atss", "centerness-branch", branch("atss", "centerness"), "39.2 57.4 42.2 23.0 42.8 51.1"),
        Cell("atss", "IoU-branch", branch("atss", "iou"), "39.6 57.6 43.0 23.3 43.7 51.2"),
        Cell("atss", "centerness-guided", guided("atss", "centerness"), "38.2 56.2 41.0 21.5 41.9 49.7"),
        Cell("atss", "IoU-guided", guided("atss", "iou"), "38.9 57.4 41.8 22.8 42.4 50.6"),
        Cell("atss", "joint centerness", joint("atss", "centerness")),
        Cell("atss", "joint IoU (QFL)", joint("atss"), "39.9 58.5 43.0 22.4 43.9 52.7"),
    ),
    "Joint centerness is not in the paper.",
)

JOINT: Changes = {"method.quality": "joint", "method.beta": 2.0}
# SSD has its own input size; QFL needs sigmoids instead of the softmax.
SSD: Changes = published("ssd512_vgg16") | {"size.short_side": 512, "size.long_side": 512}
SSD_QFL: Changes = SSD | JOINT | {"model.options.softmax": False}
# The schedule of SSD512 in MMDetection, which the paper uses: 24 times 5 epochs, 8 images per GPU.
SSD_SCHEDULE: Changes = {
    "augment.color": 0.5,
    "augment.crop": 0.8,
    "augment.zoom_out": 0.5,
    "optimizer.lr": 2e-3,
    "optimizer.lr_batch": 64,
    "optimizer.weight_decay": 5e-4,
    "schedule.milestones": (80, 110),
    "run.epochs": 120,
    "run.batch_size": 8,
}
DETECTORS = Study(
    "1b",
    "QFL on other detectors",
    "section 4, table 1b",
    (
        Cell("foveabox", "as published", published("foveabox_r50_fpn"), "36.4 55.8 38.8 19.4 40.4 47.7"),
        Cell("foveabox", "QFL", published("foveabox_r50_fpn") | JOINT, "37.0 55.7 39.6 20.2 41.2 48.8"),
        Cell("retinanet", "as published", published("retinanet_r50_fpn"), "35.6 55.5 38.1 20.1 39.4 46.8"),
        Cell("retinanet", "QFL", published("retinanet_r50_fpn") | JOINT, "36.4 56.3 39.1 20.4 40.0 48.7"),
        Cell("ssd512", "as published", SSD, "29.4 49.1 30.6 11.4 34.1 44.9", SSD_SCHEDULE, slow=True),
        Cell("ssd512", "QFL", SSD_QFL, "30.2 50.3 31.7 13.3 34.4 45.5", SSD_SCHEDULE, slow=True),
        Cell("fcos", "centerness-branch", branch("fcos", "centerness"), "38.5 56.8 41.6 22.4 42.4 49.1"),
        Cell("fcos", "QFL", joint("fcos"), "39.0 57.8 41.9 22.0 43.1 51.0"),
        Cell("atss", "centerness-branch", branch("atss", "centerness"), "39.2 57.4 42.2 23.0 42.8 51.1"),
        Cell("atss", "QFL", joint("atss"), "39.9 58.5 43.0 22.4 43.9 52.7"),
    ),
    "FCOS and ATSS repeat rows of table 1a. SSD512 is VGG-16 on 512 pixels, seconds per image without a GPU: a small "
    "lab omits it without --column ssd512.",
)

BETA = Study(
    "1c",
    "beta of QFL",
    "section 4, table 1c",
    (
        Cell("atss", "beta 0", joint("atss", beta=0.0), "37.6 55.4 40.3"),
        Cell("atss", "beta 1", joint("atss", beta=1.0), "39.0 58.1 41.7"),
        Cell("atss", "beta 2", joint("atss", beta=2.0), "39.9 58.5 43.0"),
        Cell("atss", "beta 2.5", joint("atss", beta=2.5), "39.7 58.1 42.7"),
        Cell("atss", "beta 4", joint("atss", beta=4.0), "38.2 55.4 41.6"),
    ),
)

EDGES = Study(
    "2a",
    "Box representation",
    "section 4, table 2a, table 5",
    (
        Cell("fcos", "Dirac", branch("fcos", "centerness"), "38.5 56.8 41.6 22.4 42.4 49.1"),
        Cell("fcos", "Gaussian", branch("fcos", "centerness", "gaussian"), "38.6 56.5 41.6 21.7 42.5 50.0"),
        Cell("fcos", "General", branch("fcos", "centerness", "general"), "38.8 56.6 42.0 22.5 42.9 49.8"),
        Cell(
            "fcos", "General, DFL", branch("fcos", "centerness", "general", dfl=True), "39.0 57.0 42.3 22.6 43.0 50.6"
        ),
        Cell("atss", "Dirac", branch("atss", "centerness"), "39.2 57.4 42.2 23.0 42.8 51.1"),
        Cell("atss", "Gaussian", branch("atss", "centerness", "gaussian"), "39.3 57.0 42.4 23.6 42.9 51.0"),
        Cell("atss", "General", branch("atss", "centerness", "general"), "39.3 57.1 42.5 23.5 43.0 51.2"),
        Cell(
            "atss", "General, DFL", branch("atss", "centerness", "general", dfl=True), "39.5 57.3 42.8 23.6 43.2 51.2"
        ),
    ),
    "All rows have a centerness branch.",
)

RANGE = Study(
    "2b",
    "n (reg_max) of the General distribution",
    "section 4, table 2b",
    (
        Cell("atss", "n 12", gfl(n=12), "40.1 58.4 43.1 23.1 43.8 52.5"),
        Cell("atss", "n 14", gfl(n=14), "40.2 58.3 43.6 23.3 44.2 52.2"),
        Cell("atss", "n 16", gfl(n=16), "40.2 58.6 43.4 23.0 44.3 53.0"),
        Cell("atss", "n 18", gfl(n=18), "40.1 58.1 43.1 22.6 43.9 52.6"),
    ),
    "QFL and DFL; Delta is 1.",
)

SPACING = Study(
    "2c",
    "Delta of the General distribution",
    "section 4, table 2c",
    (
        # The point of this row is a short regression range, so it is not refused.
        Cell("bins", "Delta 0.5", gfl(16, 0.5) | {"run.max_clamped_fraction": 1.0}, "40.2 58.4 43.0 22.3 43.8 53.1"),
        Cell("bins", "Delta 1", gfl(16, 1.0), "40.2 58.6 43.4 23.0 44.3 53.0"),
        Cell("bins", "Delta 2", gfl(16, 2.0), "39.9 58.3 42.9 22.5 43.8 51.8"),
        Cell("bins", "Delta 4", gfl(16, 4.0), "39.8 58.5 42.8 22.8 43.4 52.3"),
        Cell("range", "Delta 0.5", gfl(32, 0.5), "40.2 58.4 43.0 22.3 43.8 53.1"),
        Cell("range", "Delta 1", gfl(16, 1.0), "40.2 58.6 43.4 23.0 44.3 53.0"),
        Cell("range", "Delta 2", gfl(8, 2.0), "39.9 58.3 42.9 22.5 43.8 51.8"),
        Cell("range", "Delta 4", gfl(4, 4.0), "39.8 58.5 42.8 22.8 43.4 52.3"),
    ),
    "QFL and DFL. The paper fixes n at 16 while Delta changes, which has two readings: n = 16, so that at Delta 0.5 "
    "the regression range is 8 strides; or a regression range of 16 strides, so that n = 16 / Delta. Both are here, "
    "each compared with the paper's one column of numbers.",
)

PARTS = Study(
    "3",
    "QFL and DFL, separately and combined",
    "section 4, table 3",
    (
        Cell("atss", "neither", branch("atss", "centerness"), "39.2 57.4 42.2"),
        Cell("atss", "QFL", joint("atss"), "39.9 58.5 43.0"),
        Cell("atss", "DFL", branch("atss", "centerness", "general", dfl=True), "39.5 57.3 42.8"),
        Cell("atss", "QFL and DFL", gfl(), "40.2 58.6 43.4"),
    ),
    "Rows without QFL have a centerness branch.",
)

VFL_JOINT: Changes = {"method.quality": "joint", "method.cls_loss": "varifocal"}
CLS_LOSS = Study(
    "vfl",
    "The Varifocal Loss in place of QFL",
    "Zhang et al. 2021 (VarifocalNet), the results in its repository",
    (
        Cell("atss", "FL, centerness-branch", branch("atss", "centerness"), "39.3"),
        Cell("atss", "QFL", joint("atss")),
        Cell("atss", "VFL", varifocal("atss"), "40.2"),
        Cell("foveabox", "FL", published("foveabox_r50_fpn"), "36.3"),
        Cell("foveabox", "QFL", published("foveabox_r50_fpn") | JOINT),
        Cell("foveabox", "VFL", published("foveabox_r50_fpn") | VFL_JOINT, "37.2"),
        Cell("retinanet", "FL", published("retinanet_r50_fpn"), "36.5"),
        Cell("retinanet", "QFL", published("retinanet_r50_fpn") | JOINT),
        Cell("retinanet", "VFL", published("retinanet_r50_fpn") | VFL_JOINT, "37.4"),
    ),
    "The repository has no rows with QFL; tables 1a and 1b have those of Li et al.",
)

ASSIGNMENT = Study(
    "tal",
    "Task-aligned assignment in place of ATSS",
    "Feng et al. 2021 (TOOD)",
    (
        Cell("atss", "ATSS", gfl()),
        Cell("atss", "TAL", task_aligned()),
    ),
    "QFL and DFL. TOOD has 42.5 with a head of its own, which is not here, so its numbers are no row's.",
)

# The network of ``gfl``, by the preset that has the part; at full size the one of the published numbers.
GFL_HEAD: Changes = published("gfl_r18_fpn")
R50: Changes = {"model.preset": "gfl_r50_fpn"}
DGQP = Study(
    "gflv2",
    "Quality read from the edge distributions",
    "Li et al. 2021 (GFLv2), the results in its repository",
    (
        Cell("gfl", "GFL", GFL_HEAD, "40.2", R50),
        Cell("gfl", "GFL, DGQP", GFL_HEAD | {"model.options.dgqp": True}, "41.0", R50),
    ),
)

LD = Study(
    "ld",
    "Localization distillation",
    "Zheng et al. 2022 (LD), the results in its repository",
    (
        Cell("gfl", "GFL", GFL_HEAD | {"distill.teacher": None}, "40.1", R50),
        Cell("gfl", "GFL with a teacher", GFL_HEAD, "41.1", R50),
    ),
    "The published teacher is GFL with a ResNet-101.",
    needs="distill.teacher",
)

WARMUP: Changes = {"method.beta_warmup": 1.0}
EQUAL: Changes = {"method.box_weights": "equal"}
NEAR: Changes = {"model.initial_distance": 3.0}
RARE = Study(
    "rare",
    "What keeps rare classes from being lost",
    "none",
    (
        Cell("atss", "GFL", gfl()),
        Cell("atss", "warm-up of beta, equal box weights", gfl() | WARMUP | EQUAL),
        Cell("atss", "warm-up of beta", gfl() | WARMUP),
        Cell("atss", "equal box weights", gfl() | EQUAL),
        Cell("atss", "edges begin at 3 strides", gfl() | NEAR),
        Cell("atss", "all three", gfl() | WARMUP | EQUAL | NEAR),
    ),
)

STUDIES: dict[str, Study] = {
    s.name: s for s in (QUALITY, DETECTORS, BETA, EDGES, RANGE, SPACING, PARTS, CLS_LOSS, ASSIGNMENT, DGQP, LD, RARE)
}
