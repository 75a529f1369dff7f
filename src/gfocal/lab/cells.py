"""What a study is made of: cells, and the words in which they choose among the paper's variants.

A cell is some changes of a base recipe. Cells of different studies may ask for the same run, such as ATSS with a
centerness branch in tables 1a, 2a and 3. The words here spell out every choice, so that equal choices give equal
recipes and the run is made once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Literal

from gfocal.configs import Recipe, with_changes
from gfocal.models.zoo import preset_named

Choice = str | int | float | bool | tuple[int, ...]
Changes = dict[str, Choice]
System = Literal["atss", "fcos"]
Box = Literal["dirac", "gaussian", "general"]
Measure = Literal["iou", "centerness"]

# Of average precision, by their names in result.json, in the order in which the paper prints them.
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@dataclass(frozen=True)
class Cell:
    """One row of a table."""

    column: str  # the part of the table that the row stands in: fcos, atss, ...
    name: str
    changes: Changes  # of the base recipe, keys as in ``gfocal train --set``
    printed: str = ""  # the paper's numbers, of 100, in the order of METRICS; it may print fewer, or none
    schedule: Changes = field(default_factory=dict)  # further changes at the paper's size: a schedule of its own
    slow: bool = False  # left out of a small lab, unless its column is asked for

    @property
    def paper(self) -> dict[str, float] | None:
        """The paper's numbers by their names, of 100."""
        return dict(zip(METRICS, map(float, self.printed.split()), strict=False)) or None


@dataclass(frozen=True)
class Study:
    """One table of the paper."""

    name: str  # the table's number in the paper
    title: str
    paper_section: str
    cells: tuple[Cell, ...]
    note: str = ""  # what one must know to read it

    @property
    def columns(self) -> tuple[str, ...]:
        """The parts of the table; each is compared with its own first row."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the paper prints in this table, some of METRICS."""
        printed = {name for cell in self.cells for name in cell.paper or ()}
        return tuple(name for name in METRICS if name in printed)


def resolved(base: Recipe, cell: Cell, paper_size: bool = False) -> Recipe:
    """The complete recipe of a cell, with its schedule where ``base`` is of the paper's size.

    Options of the base recipe that the cell's detector does not have are left out: SSD has no pyramid to narrow.

    Raises:
        PresetError: there is no such detector.
        RecipeError: a change names an unknown key, or a value does not fit.
    """
    preset = preset_named(str(cell.changes.get("model.preset", base.model.preset)))
    options = {key: value for key, value in base.model.options.items() if key in signature(preset).parameters}
    base = replace(base, model=replace(base.model, options=options))
    # In quotes a text stays the text it is: "none" is a way to say quality here, not the lack of one.
    changes = {**cell.changes, **(cell.schedule if paper_size else {})}
    quoted = {key: json.dumps(value) if isinstance(value, str) else value for key, value in changes.items()}
    return with_changes(base, quoted)


def published(preset: str) -> Changes:
    """A detector with everything that it is published with."""
    return {"model.preset": preset}


def unsaid(system: System) -> Changes:
    """The quality is not said: the class score is all."""
    return _detector(system, "dirac") | _method("none", None)


def branch(system: System, measure: Measure, box: Box = "dirac", *, dfl: bool = False) -> Changes:
    """A separate branch says the quality."""
    return _detector(system, box) | _method("branch", measure, dfl=dfl)


def guided(system: System, measure: Measure) -> Changes:
    """The quality is not said, but weighs the loss of the class score."""
    return _detector(system, "dirac") | _method("guided", measure)


def joint(system: System, measure: Measure = "iou", *, beta: float = 2.0) -> Changes:
    """The class score is the quality: QFL."""
    return _detector(system, "dirac") | _method("joint", measure) | {"method.beta": beta}


def gfl(n: int = 16, delta: float = 1.0) -> Changes:
    """QFL and DFL on ATSS: the paper's method."""
    choices = _detector("atss", "general") | _method("joint", "iou", dfl=True)
    return choices | {"method.beta": 2.0, "model.options.n": n, "model.options.delta": delta}


def _detector(system: System, box: Box) -> Changes:
    # ATSS as published regresses anchor deltas. In the studies it regresses distances to the four edges, the target
    # of section 3, so that the rows of table 2a differ in how an edge is represented and in nothing else.
    changes: Changes = {"model.preset": f"{system}_r50_fpn", "model.options.box": box}
    if system == "fcos":  # the paper's 38.5 is FCOS with centre sampling; without, it is published with 36.6
        changes["method.assigner"] = "fcos_centre"
    if box != "dirac":
        changes |= {"model.options.n": 16, "model.options.delta": 1.0}
    return changes


def _method(quality: str, measure: Measure | None, *, dfl: bool = False) -> Changes:
    changes: Changes = {"model.options.quality_branch": quality == "branch", "method.quality": quality}
    if measure is not None:
        changes["method.measure"] = measure
    return changes | {"method.dfl": dfl}
