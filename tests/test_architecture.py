"""The architecture as tests: import order, file and function sizes, names, and what one training step reads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest
import torch

import gfocal

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "src" / "gfocal"

# A file imports only from steps before its own; packages of one step do not import each other. A loose file is a
# package of one file.
PACKAGES = (
    ("gfocal",),  # src/gfocal/__init__.py: the public names are imported when they are first used
    ("text",),
    ("structures", "errors", "atomic", "console", "launch", "run_folder"),
    ("limits",),
    ("ops",),
    ("losses", "assigners", "data"),
    ("models",),
    ("criteria", "evaluation"),
    ("interop", "training", "visualize"),
    ("calibration", "export"),
    ("config", "inference"),
    ("build",),
    ("checks", "selection"),
    ("run", "reports", "serving"),
    ("lab",),
    ("cli",),
    ("__main__",),
)
STEP = {package: step for step, packages in enumerate(PACKAGES) for package in packages}

# A third-party package -> the only modules that import it.
HOMES = {
    "accelerate": {"training.distributed"},
    "torch.distributed": {"training.joining"},
    "timm": {"models.backbone"},
    "faster_coco_eval": {"evaluation.coco_ap"},
    "tensorboard": set[str](),  # through accelerate, as the other trackers
    "torch.utils.tensorboard": set[str](),
    "wandb": set[str](),
    "mlflow": set[str](),
    "huggingface_hub": {"models.model_file", "models.reachable", "interop.hub"},  # download, cache, upload
    "platformdirs": {"interop.weights_cache"},
    "filelock": {"interop.weights_cache"},
    "pandas": {"interop.conversions"},
    "supervision": {"interop.conversions", "inference.tracking"},
    "trackers": {"inference.tracking"},
    "ray": {"inference.ray_engine"},
    "ray.data": {"inference.ray_engine"},
    "pyarrow": {"inference.batches", "inference.parts", "inference.ray_engine"},
    "av": {"inference.frames", "inference.video_writer"},
    "matplotlib": {"lab.figures.canvas"},
    "pycocotools": set[str](),
    "pyvips": {"data.sequential"},
    # Of files that gfocal export writes and gfocal_runtime runs; gfocal_runtime opens them.
    "onnx": {"export.onnx_file", "export.int8", "export.nms_graph"},
    "onnxscript": {"export.onnx_file"},
    "onnxruntime": {"export.onnx_file", "export.int8"},
    "openvino": {"export.openvino_file"},
    "nncf": {"export.int8"},
    "fastapi": {"serving.app", "serving.upload"},
    "starlette": {"serving.app", "serving.upload"},
    "python_multipart": {"serving.form"},
    "pydantic": {"serving.answer", "serving.upload"},
    "uvicorn": {"serving.server", "serving.connections"},
    "prometheus_client": {"serving.meters"},
}

# These packages import torch, torchvision's NMS, shape annotations and the standard library, nothing else.
TORCH_ONLY = (
    "text",
    "structures",
    "errors",
    "atomic",
    "launch",
    "run_folder",
    "limits",
    "ops",
    "losses",
    "assigners",
)

MAX_LOOSE_FILES = 12
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Functions that may be longer: full name -> reason. None may pass HARD_MAX_FUNCTION_LINES.
LONG_FUNCTIONS: dict[str, str] = {
    "inference.files.detect_files": "many arguments, each with its meaning",
    "inference.ray_engine.detect_on_ray": "many arguments, each with its meaning",
}
HARD_MAX_FUNCTION_LINES = 100

# Methods of the paper that have a file of the same name in several packages.
METHODS = {"gfl", "ssd", "sapd", "nanodet"}
METHOD_PACKAGES = {"models", "assigners", "losses", "criteria"}

# The files that tell the method, in the order in which a step runs them.
READING_PATH = (
    "training/step.py",
    "models/detector.py",
    "models/heads.py",
    "criteria/gfl.py",
    "assigners/atss.py",
    "losses/gfl.py",
)
# What a step runs beyond them.
LEAVES = {
    "structures/tensors.py",
    "ops/boxes.py",
    "ops/points.py",
    "ops/distributions.py",
    "losses/box.py",
    "losses/numerics.py",
    "losses/sparse.py",
    "models/backbone.py",
    "models/necks.py",
    "models/winograd.py",
    "models/winograd_training.py",
    "training/distributed.py",
}
MAX_STEP_LINES = 650

HEAVY = ("matplotlib", "timm", "accelerate", "tensorboard", "torchvision", "faster_coco_eval")


def module_name(file: Path) -> str:
    """``models/heads.py`` -> ``models.heads``; a package by its own name, gfocal itself as ``gfocal``."""
    parts = list(file.relative_to(SOURCE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) or "gfocal"


FILES = {module_name(file): file for file in sorted(SOURCE.rglob("*.py"))}
FOLDERS = sorted({file.parent for file in FILES.values()} - {SOURCE})


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


def own_module(name: str) -> str | None:
    """The module of gfocal that an imported name lies in; None for a third-party one."""
    if name != "gfocal" and not name.startswith("gfocal."):
        return None
    inside = name.removeprefix("gfocal").removeprefix(".")
    while inside and inside not in FILES:
        inside = inside.rpartition(".")[0]  # an attribute of the module
    return inside or "gfocal"


GRAPH = {
    module: {ours for name in imports_of(module) if (ours := own_module(name)) not in (None, module)}
    for module in FILES
}


def package_of(module: str) -> str:
    """``models.heads`` -> ``models``."""
    return module.partition(".")[0]


def is_in(module: str, package: str) -> bool:
    """Whether a module is a package or lies in it."""
    return module == package or module.startswith(f"{package}.")


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of nodes that reach each other."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting.extend(graph[node])
        return seen

    reach = {node: reachable(node) for node in graph}
    groups = {frozenset(other for other in reach[node] if node in reach[other]) for node in graph}
    return {group for group in groups if group}


def test_every_package_has_its_place_in_the_order() -> None:
    assert set(STEP) == {package_of(module) for module in FILES}


@pytest.mark.parametrize("package", sorted({package_of(module) for module in FILES}))
def test_imports_point_to_earlier_packages(package: str) -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, found in GRAPH.items()
        if package_of(module) == package
        for imported in sorted(found)
        if package_of(imported) != package and STEP[package_of(imported)] >= STEP[package]
    ]
    assert not wrong, "; ".join(wrong)


def test_no_cycles_of_packages() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for module, found in GRAPH.items():
        own = package_of(module)
        graph[own] |= {package_of(imported) for imported in found} - {own}
    assert not cycles(dict(graph))


def test_no_cycles_of_files() -> None:
    assert not cycles(GRAPH)


@pytest.mark.parametrize("package", HOMES)
def test_a_third_party_package_is_imported_in_one_place(package: str) -> None:
    users = {module for module in FILES if any(is_in(name, package) for name in imports_of(module))}
    assert users == HOMES[package]


def test_the_first_packages_need_torch_alone() -> None:
    allowed = {"gfocal", "torch", "torchvision", "jaxtyping", *sys.stdlib_module_names}
    wrong = [
        f"{module} imports {name}"
        for module in FILES
        if package_of(module) in TORCH_ONLY
        for name in imports_of(module)
        if name.partition(".")[0] not in allowed
    ]
    assert not wrong, "; ".join(wrong)


def test_few_files_lie_outside_of_packages() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= MAX_LOOSE_FILES


def test_files_are_short_and_have_names_that_say_something() -> None:
    long = {m: n for m, file in FILES.items() if (n := len(file.read_text("utf-8").splitlines())) > MAX_FILE_LINES}
    assert not long, f"over {MAX_FILE_LINES} lines: {long}"
    assert not [m for m in FILES if re.search(r"(^|\.|_)(utils?|misc|helpers?|common)$", m)]


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    """Full name and number of lines, decorators aside, of every function below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}"
            if not isinstance(child, ast.ClassDef):
                assert child.end_lineno is not None
                yield name, child.end_lineno - child.lineno + 1
            yield from functions(child, name)
        else:
            yield from functions(child, prefix)


def test_functions_are_short_or_have_a_reason() -> None:
    lengths = {
        name: lines
        for module, file in FILES.items()
        for name, lines in functions(ast.parse(file.read_text(encoding="utf-8")), module)
    }
    assert {name: n for name, n in lengths.items() if n > HARD_MAX_FUNCTION_LINES} == {}
    long = {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES}
    assert long.keys() == LONG_FUNCTIONS.keys(), f"functions over {MAX_FUNCTION_LINES} lines: {long}"


def test_file_names_are_unique() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for module, file in FILES.items():
        if file.name != "__init__.py":
            package, _, name = module.rpartition(".")
            homes[name].add(package)

    def is_allowed(name: str, packages: set[str]) -> bool:
        if packages == {"data.readers", "data.writers"}:
            return True  # a format
        if name in METHODS and packages <= METHOD_PACKAGES:
            return True
        return len(packages - {"reports", "cli"}) <= 1  # a subject with its page and its command

    twice = {name: sorted(packages) for name, packages in homes.items() if len(packages) > 1}
    assert not {name: found for name, found in twice.items() if not is_allowed(name, set(found))}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(SOURCE).as_posix())
def test_the_docstring_of_a_package_lists_its_files(folder: Path) -> None:
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")), clean=False) or ""
    assert re.match(r"\S.*\.", docstring), "begins with a sentence on what the package is"
    listed = re.findall(r"^(?: {4})?(\w+\.py|\w+/) {2,}\S", docstring, re.M)
    assert len(listed) == len(set(listed))
    real = {file.name for file in folder.glob("*.py")} - {"__init__.py"}
    real |= {f"{file.parent.name}/" for file in folder.glob("*/__init__.py")}
    assert set(listed) == real


def test_the_readme_shows_the_tree() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    block = text.partition("```\nsrc/gfocal/\n")[2].partition("```")[0]
    listed = re.findall(r"^  (\w+(?:\.py|/)) {2,}\S", block, re.M)
    assert len(listed) == len(set(listed)) == len(block.splitlines())
    assert set(listed) == {f.name for f in SOURCE.glob("*.py")} | {
        f"{f.parent.name}/" for f in SOURCE.glob("*/__init__.py")
    }
    steps = [STEP[re.sub(r"\.py|/", "", name).replace("__init__", "gfocal")] for name in listed]
    assert steps == sorted(steps), "the README has the tree in import order"


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
    listing = "\n".join(f"{count:5d}  {file}" for file, count in sorted(lines.items(), key=lambda item: -item[1]))
    assert set(READING_PATH) <= set(lines), listing
    assert set(lines) - set(READING_PATH) <= LEAVES, listing
    assert sum(lines.values()) <= MAX_STEP_LINES, f"{sum(lines.values())} lines\n{listing}"
    assert all(len((SOURCE / file).read_text("utf-8").splitlines()) <= 300 for file in lines), listing


def test_import_is_light() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import gfocal"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if "|" in line}
    assert "gfocal" in loaded
    assert not [name for name in loaded if name.partition(".")[0] in HEAVY]


@pytest.mark.parametrize("name", gfocal.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(gfocal, name) is not None
