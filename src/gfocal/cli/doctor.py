"""gfocal doctor: what a bug report needs to say about the machine and the installation."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import __version__
from gfocal.cli import DONE
from gfocal.cli.inputs import standard_output
from gfocal.console import say
from gfocal.text import pluralize

if TYPE_CHECKING:
    from rich.console import Console

Row = tuple[str, str]  # what, and its value

# Instructions of x86 and ARM that compute in a precision, by their names in /proc/cpuinfo.
_NATIVE = {"bf16": {"avx512_bf16", "amx_bf16", "bf16"}, "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"}}

REQUIRED = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "safetensors",
    "huggingface_hub",
    "faster-coco-eval",
    "numpy",
    "pillow",
    "rich",
)
EXTRAS = {  # as pyproject.toml has them, without those for changing the code
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "lab": ("matplotlib",),
    "supervision": ("supervision",),
    "pandas": ("pandas",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "large": ("pyvips",),
    "openvino": ("openvino", "nncf"),
    "video": ("av",),
    "ray": ("ray",),
    "track": ("trackers",),
    "serve": ("fastapi", "uvicorn", "python-multipart", "prometheus-client"),
}
# Variables that change what gfocal does. Of those that may hold passwords only their presence is printed.
VARIABLES = (
    "GFOCAL_CACHE",
    "GFOCAL_OFFLINE",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "TORCH_HOME",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "WORLD_SIZE",
)
SECRET_VARIABLES = (
    "GFOCAL_MIRROR",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
)


def add(commands: Any) -> None:
    """Declare the command."""
    doctor = commands.add_parser(
        "doctor",
        help="versions, devices, precisions, threads, cache and memory, for a bug report",
        description="Print what a bug report needs: versions, devices and the precisions that they compute natively, "
        "threads, the cache, which extras are installed, free disk and memory. It sends nothing anywhere, and prints "
        "no password: of proxies and tokens only whether they are set.",
    )
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal doctor."""
    output = standard_output()
    for rows in (installation(), packages(), memory_and_disk(), environment(), devices()):
        for name, value in rows:
            say(output, f"{name:<18} {value}".rstrip())
    return DONE


def installation() -> Iterator[Row]:
    """gfocal, Python and the system; without torch, which may be what does not work."""
    yield "gfocal", f"{__version__} ({Path(__file__).parents[1]})"
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    yield "system", f"{platform.platform()}, {platform.machine()}"
    yield "CPU", f"{_cpu_name()}, {_usable_cores()} of {os.cpu_count()} cores usable"


def packages() -> Iterator[Row]:
    """Versions of the packages that gfocal needs, and of those of each extra."""
    for name in REQUIRED:
        yield name, version_of(name) or "not installed: pip install gfocal installs it"
    for extra, names in EXTRAS.items():
        found = {name: version_of(name) for name in names}
        there = ", ".join(f"{name} {version}" for name, version in found.items() if version)
        missing = ", ".join(name for name, version in found.items() if not version)
        text = f"{there}; without {missing}" if there and missing else there or f"not installed ({missing})"
        yield f"extra {extra}", text


def memory_and_disk() -> Iterator[Row]:
    """The cache of published weights, free disk space and memory, open files."""
    from gfocal.interop.weights_cache import CACHE, cache_folder
    from gfocal.limits import open_file_limit

    folder = cache_folder()
    files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    size = sum(file.stat().st_size for file in files)
    yield (
        "cache",
        f"{folder} ({pluralize(len(files), 'file')}, {size / 1e6:.0f} MB; {_free(folder)}; {CACHE} moves it)",
    )
    yield "current folder", f"{Path.cwd()} ({_free(Path.cwd())})"
    total, available = _memory()
    if total:
        yield "memory", f"{total / 2**30:.1f} GiB" + (f", {available / 2**30:.1f} available" if available else "")
    yield "open files", str(open_file_limit() or "unlimited")


def environment() -> Iterator[Row]:
    """Variables of the environment that change what gfocal does."""
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]
    for name in SECRET_VARIABLES:
        if name in os.environ:
            yield name, "set"


def devices() -> Iterator[Row]:
    """Threads, GPUs, and which precisions each device computes natively; or why torch cannot be imported."""
    try:
        import torch
    except Exception as error:
        yield "torch", f"cannot be imported: {type(error).__name__}: {error}"
        return
    yield "threads", f"{torch.get_num_threads()} of torch (OMP_NUM_THREADS sets them)"
    yield "cpu", f"{_cpu_precisions()} ({torch.backends.cpu.get_cpu_capability()})"
    if torch.cuda.is_available():
        yield "CUDA", f"{torch.version.cuda or torch.version.hip}, cuDNN {torch.backends.cudnn.version()}"
        for k in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(k)
            bf16 = ", bf16" if about.major >= 8 or torch.version.hip else ""  # since Ampere
            fp16 = ", fp16" if about.major >= 7 or torch.version.hip else ""
            yield f"cuda:{k}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB: float32{bf16}{fp16}"
    elif torch.version.cuda:
        yield "CUDA", f"torch is built for {torch.version.cuda}, and finds no GPU"
    else:
        yield "CUDA", "none: torch is built for CPUs"
    if torch.backends.mps.is_available():
        yield "mps", "Apple GPU"


def version_of(package: str) -> str:
    """The version of an installed package; empty for one that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_lines(name: str) -> list[str]:
    """The values of a field of /proc/cpuinfo, one for each core; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]


def _cpu_name() -> str:
    return next(iter(_cpu_lines("model name")), platform.processor() or "unknown")


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_precisions() -> str:
    """The precisions of --precision for which this CPU has instructions, as Linux lists them."""
    lines = _cpu_lines("flags") or _cpu_lines("Features")  # of ARM
    if not lines:
        return "float32; whether bf16 and fp16 are native is not known here"
    flags = set(lines[0].split())
    native = [name for name, needed in _NATIVE.items() if flags & needed]
    return ", ".join(["float32", *native])


def _free(folder: Path) -> str:
    """Free space on the disk of a folder, which need not exist."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(there).free / 1e9:.1f} GB free"


def _memory() -> tuple[int, int]:
    """Bytes of memory, and those available; 0 where the system does not say."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0, 0
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        available = 0
    return total, available
