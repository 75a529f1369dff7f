"""The house as a test: which way imports point, how long a room is, and what one training step reads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest
import torch

import gfocal

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "src" / "gfocal"

CRITERIA = ("criterion", "dense_criterion", "sapd_criterion", "ssd_criterion")

# From the bottom up. A module belongs to the entry with the longest name that fits it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("gfocal",),  # the bare package: its public names are imported when they are first used
    ("structures", "boxes", "points", "anchors", "distributions", "representations", "atomic", "launched", "words"),
    ("losses", "assigners"),
    ("data", "decoding", "models", "evaluation", *CRITERIA, "inference"),
    ("interop", "plots", "report", "evaluation_page", "training", "detect_files", "detecting", "convert"),
    ("configs", "values", "starting", "methods", "doctor", "build", "demo", "lab", "submission"),
    ("comparing", "comparing_page"),
    ("cli", "commands", "arguments", "__main__"),
)

# (module that must not import, what it must not import), both with everything below them.
NEVER = (
    ("losses", "models"),
    *(("models", criterion) for criterion in CRITERIA),
    ("models", "losses"),
    ("models", "assigners"),
    ("data", "models"),
    ("data", "training"),
    *(("data", criterion) for criterion in CRITERIA),
    ("decoding", "models"),
)

# A foreign package -> the only modules that import it.
HOMES = {
    "accelerate": {"training.distributed"},
    "torch.distributed": {"training.distributed"},
    "timm": {"models.backbone"},
    "faster_coco_eval": {"evaluation.coco_ap"},
    "tensorboard": set[str](),  # through accelerate, as the other trackers
    "torch.utils.tensorboard": set[str](),
    "wandb": set[str](),
    "mlflow": set[str](),
    "huggingface_hub": {"models.hub", "interop.hub"},
    "supervision": {"interop.supervision"},
    "matplotlib": {"lab.figures.canvas"},
    "pycocotools": set[str](),
}

# Cycles that stay, with the reason. Each must exist, else it goes from this list.
CYCLES = {
    frozenset({"data.samples", "data.images"}): "FileData.read opens images; ImageError is a DataError",
}

# What a step runs, beyond the six files of the path, that a newcomer opens out of curiosity.
PATH = (
    "training/step.py",
    "models/detector.py",
    "models/heads.py",
    "criterion.py",
    "assigners/atss.py",
    "losses/gfl.py",
)
LEAVES = {
    "structures.py",
    "boxes.py",
    "points.py",
    "distributions.py",
    "losses/iou.py",
    "losses/precision.py",
    "models/backbone.py",
    "models/necks.py",
    "training/distributed.py",
}
MOST_LINES = 450

HEAVY = ("matplotlib", "timm", "accelerate", "tensorboard", "torchvision", "faster_coco_eval")


def module_name(file: Path) -> str:
    """``models/heads.py`` -> ``models.heads``; a package by its own name, gfocal itself as ``gfocal``."""
    parts = list(file.relative_to(SOURCE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) or "gfocal"


FILES = {module_name(file): file for file in sorted(SOURCE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[str]:
    """Full names of what a module imports anywhere, in functions too, but not for type checking alone."""
    skipped: set[ast.AST] = set()
    # ast.walk goes from the outside in, so what a block skips is known before its content comes.
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for inner in node.body:
                skipped.update(ast.walk(inner))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def as_ours(name: str) -> str | None:
    """The module of gfocal that an imported name lies in; None for a foreign one."""
    if name != "gfocal" and not name.startswith("gfocal."):
        return None
    inside = name.removeprefix("gfocal").removeprefix(".")
    while inside and inside not in FILES:
        inside = inside.rpartition(".")[0]  # an attribute of the module
    return inside or "gfocal"


GRAPH = {
    module: {ours for name in imports_of(module) if (ours := as_ours(name)) not in (None, module)} for module in FILES
}


def belongs(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def layer_of(module: str) -> int:
    fitting = [i for i, rooms in enumerate(LAYERS) if any(belongs(module, room) for room in rooms)]
    assert fitting, f"{module} has no layer: enter it in LAYERS and in CONTRIBUTING.md"
    return fitting[0]


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting.extend(graph[module])
        return seen

    reach = {module: reached(module) for module in graph}
    groups = {frozenset(other for other in reach[module] if module in reach[other]) for module in graph}
    return {group for group in groups if group}


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, found in GRAPH.items()
        for imported in sorted(found)
        if layer_of(imported) > layer_of(module)
    ]
    assert not wrong, "imports that point up: " + "; ".join(wrong)


def test_no_cycles() -> None:
    assert cycles(GRAPH) == set(CYCLES)


def test_rooms_that_never_know_each_other() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, found in GRAPH.items()
        for imported in sorted(found)
        for knower, known in NEVER
        if belongs(module, knower) and belongs(imported, known)
    ]
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize("package", HOMES)
def test_a_foreign_package_is_imported_in_one_place(package: str) -> None:
    users = {module for module in FILES if any(belongs(name, package) for name in imports_of(module))}
    assert users <= HOMES[package]


def test_the_bottom_needs_torch_and_shape_annotations_alone() -> None:
    allowed = {"gfocal", "torch", "jaxtyping", *sys.stdlib_module_names}
    wrong = [
        f"{module} imports {name}"
        for module in FILES
        if layer_of(module) <= 2
        for name in imports_of(module)
        if name.partition(".")[0] not in allowed
    ]
    assert not wrong, "; ".join(wrong)


def test_every_room_is_short_and_has_a_name_that_says_something() -> None:
    long = {m: n for m, file in FILES.items() if (n := len(file.read_text("utf-8").splitlines())) > 300}
    assert not long, f"over 300 lines: {long}"
    drawers = [m for m in FILES if re.search(r"(^|\.|_)(utils?|misc|helpers?|common)$", m)]
    assert not drawers


def test_contributing_names_every_module_and_no_other() -> None:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("<!-- tree -->")[1].partition("```\n")[2].partition("```")[0]
    named: list[str] = []
    folders: dict[int, str] = {0: "", 2: ""}  # depth of indentation -> folder that its lines lie in
    for line in tree.splitlines():
        found = re.match(r"( *)([\w]+)(/|\.py|\.toml)?(?:  |$)", line)
        assert found, f"not a line of the tree: {line!r}"
        indent, name, kind = found.groups()
        if kind == "/":
            folders[len(indent) + 2] = f"{folders[len(indent)]}{name}/"
        elif kind == ".py":
            named.append(f"{folders[len(indent)]}{name}.py")
    assert len(named) == len(set(named))
    real = {file.relative_to(SOURCE).as_posix() for file in FILES.values()}
    packages = {name for name in real if name.endswith("/__init__.py")}
    assert set(named) - packages == real - packages


class Executed:
    """The functions of gfocal that Python enters, as code objects by file."""

    def __init__(self) -> None:
        self.root = Path(gfocal.__file__).resolve().parent
        self.codes: dict[str, set[CodeType]] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            code = frame.f_code
            self.codes.setdefault(code.co_filename, set()).add(code)

    def lines(self) -> dict[str, int]:
        """File below gfocal -> lines of its functions that ran; a function inside another counts once."""
        found: dict[str, int] = {}
        for file, codes in self.codes.items():
            path = Path(file).resolve()
            if path.is_relative_to(self.root):
                spans = {line for code in codes for line in span(code)}
                found[path.relative_to(self.root).as_posix()] = len(spans)
        return found


def span(code: CodeType) -> range:
    last = max([line for _, _, line in code.co_lines() if line is not None], default=code.co_firstlineno)
    return range(code.co_firstlineno, last + 1)


def test_one_training_step_is_read_in_six_files() -> None:
    from gfocal.criteria.gfl import GFLCriterion
    from gfocal.models.zoo import create
    from gfocal.structures import Batch, pad_targets
    from gfocal.training.distributed import Devices
    from gfocal.training.step import training_step

    model = create("gfl_r18_fpn", 3, pretrained=False, channels=32, num_convs=1).train()
    devices = Devices(cpu=True)
    wrapped, optimizer = devices.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    sizes = torch.tensor([[64, 64], [64, 64]])
    ground_truth = pad_targets(
        [torch.tensor([[8.0, 8.0, 56.0, 48.0]]), torch.zeros(0, 4)], [torch.tensor([1]), torch.zeros(0)]
    )
    batch = Batch(torch.randn(2, 3, 64, 64), ground_truth, sizes, sizes, (1, 2))
    criterion = GFLCriterion(sum_over_processes=devices.sum_over_processes)

    executed = Executed()
    before = sys.getprofile()
    sys.setprofile(executed)
    try:
        losses = training_step(wrapped, criterion, batch, optimizer, devices, clip_norm=1.0)
    finally:
        sys.setprofile(before)

    assert losses.num_positives > 0, "the step must meet an object, else it does not run the whole path"
    lines = executed.lines()
    told = "\n".join(f"{count:5d}  {file}" for file, count in sorted(lines.items(), key=lambda item: -item[1]))
    assert set(PATH) <= set(lines), told
    assert set(lines) - set(PATH) <= LEAVES, told
    assert sum(lines.values()) <= MOST_LINES, f"{sum(lines.values())} lines\n{told}"
    assert all(len((SOURCE / file).read_text("utf-8").splitlines()) <= 300 for file in lines), told


def test_import_is_light() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import gfocal"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if "|" in line}
    assert "gfocal" in loaded
    assert not [name for name in loaded if name.partition(".")[0] in HEAVY]


@pytest.mark.parametrize("name", gfocal.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(gfocal, name) is not None
