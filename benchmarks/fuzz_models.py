"""Fuzzer of model files and configs: each loads, or is refused in one line, within 5 s and 1 GB.

    python benchmarks/fuzz_models.py --files 1000 --jobs 2

A model file is a small detector whose description, table of tensors or bytes are changed; values of absurd size are
among the changes. A config is a table with changed keys and values, or TOML made to be slow or deep, and the detector
and criterion that it asks for are built. An address is ``hf://`` and a name, with the hub out of reach. The same
``--seed`` gives the same cases. Exit code 1 if any ends otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from rich.console import Console

from fuzz_checks import AlarmError, install_alarm, set_alarm
from fuzz_grammar import WORDS, count_changes, mutate_bytes, mutate_tree, unexpected_value
from fuzz_pool import CRASH, HANG, UNCLEAR, Finding, Tally, Work, chunks, reasons_table, run, table
from gfocal.build import build_criterion, build_model
from gfocal.config.config import Config, flatten, read_config, with_changes
from gfocal.config.values import format_toml
from gfocal.console import say
from gfocal.errors import GFocalError
from gfocal.models.model_file import download_model, load_model, read_description, save_model
from gfocal.models.zoo import create
from gfocal.text import one_line

MEMORY = 1 << 30  # bytes that a case may take
SECONDS = 5.0
MAX_LINE = 4000  # characters of a message
BODY = "mobilenetv4_conv_small.e2400_r224_in1k"
SMALL = {"body": BODY, "channels": 32, "num_convs": 1}
PRESETS = {"gfl_light_fpn": SMALL | {"n": 8}, "fcos_r50_fpn": SMALL, "sapd_r50_fpn": SMALL | {"num_convs": 2}}
ABSURD: tuple[Any, ...] = (
    *(0, -1, 1, 3, 1025, 100_000, 10**6, 2**31, 2**40, 10**30, 1e-9, 1e9, float("nan"), float("inf"), -0.5),
    *("x" * 2**20, ["x" * 2**20], ["x"] * 10**6, [1] * 10**5, [0.5] * 3, "hf-hub:timm/resnet18.a1_in1k"),
    *("local-dir:/etc", "vit_base_patch16_224", "resnet18", "swin_tiny_patch4_window7_224", None, True, "", {}),
)
SIZES = (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 200, 512, 1000, 1024, 2048, 4096, 32_768, 65_536, 10**6, 0.1, 0.5, 1.0)
OPTIONS = (
    "n",
    "delta",
    "origin",
    "finest",
    "channels",
    "num_convs",
    "body",
    "box",
    "quality_branch",
    "caffe",
    "sides",
)


def absurd_change(rng: Random, tree: dict[str, Any]) -> None:
    """Set one value of a description or config, mostly an option, to one of absurd type or size."""
    tables = [value for value in tree.values() if isinstance(value, dict)]
    table = rng.choice([tree, *tables, *tables])
    options = tree.get("options", {})
    if isinstance(options, dict) and rng.random() < 0.5:
        options[rng.choice(OPTIONS)] = deepcopy(rng.choice(ABSURD))
    elif table:
        table[rng.choice(list(table))] = deepcopy(rng.choice(ABSURD))


class Seeds:
    """Whole model files, from which those of the cases are made."""

    def __init__(self, room: Path) -> None:
        self.files = []
        for name, options in PRESETS.items():
            path = room / f"{name}.safetensors"
            save_model(create(name, 3, pretrained=False, **options), path)
            content = path.read_bytes()
            end = 8 + struct.unpack("<Q", content[:8])[0]
            self.files.append((json.loads(content[8:end]), content[end:]))


def model_file(rng: Random, seeds: Seeds) -> bytes:
    """A model file with a changed description, table of tensors or bytes."""
    header, tensors = rng.choice(seeds.files)
    header = deepcopy(header)
    about = json.loads(header["__metadata__"]["gfocal"])
    way = rng.randrange(10)
    if way < 4:
        for _ in range(max(1, count_changes(rng) // 2)):
            absurd_change(rng, about)
    elif way < 8:
        for _ in range(max(1, count_changes(rng))):
            about = mutate_tree(rng, about, ("preset", "options", "names", "input", "decode", *OPTIONS))
            if not isinstance(about, dict):
                break
    text = _as_json(about)
    if way == 8 and rng.random() < 0.3:
        text = rng.choice(("[" * 100_000, '{"a":' * 50_000, "9" * 5000, '"' + "x" * 2**22, "null", "{}", ""))
    header["__metadata__"]["gfocal"] = text
    if way >= 8:
        for _ in range(count_changes(rng)):
            _change_tensor(rng, header)
    head = _as_json(header).encode("utf-8", "surrogatepass")
    length = len(head) if rng.random() < 0.95 else rng.choice((0, 1, len(head) - 9, 2**26, 2**40, 2**63, 2**64 - 1))
    if rng.random() < 0.1:
        head = mutate_bytes(rng, head, (b"{", b"}", b'"', b",", b"\0", b"\xff", b"9" * 4400, b"null"), 0.8)
    content = struct.pack("<Q", length) + head + tensors
    if rng.random() < 0.05:
        content = rng.choice((content[: rng.randrange(len(content))], content + b"\0" * 100, b"", content[:8], head))
    return content


def _as_json(tree: Any) -> str:
    return json.dumps(tree, default=str)


def _change_tensor(rng: Random, header: dict[str, Any]) -> None:
    key = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[key]
    way = rng.randrange(5)
    if way == 0:
        del header[key]
    elif way == 1:
        header["x" * rng.choice((1, 2**20))] = header.pop(key)
    elif way == 2:
        entry["dtype"] = rng.choice(("F64", "F16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X", 1))
    elif way == 3:
        entry["shape"] = rng.choice(([], [2**62], [0], [1, *entry["shape"]], entry["shape"][::-1], [-1], ["1"]))
    else:
        entry["data_offsets"] = rng.choice(([0, 0], [0, 2**62], [4, 0], entry["data_offsets"][::-1]))


BASE = {
    "model.preset": "gfl_light_fpn",
    "model.pretrained": False,
    "model.options": SMALL,
    "size.short_side": 64,
    "size.long_side": 96,
}
RAW_CONFIGS: tuple[Callable[[Random], str], ...] = (
    lambda rng: "[run]\nepochs = " + "9" * rng.choice((19, 400, 4299, 5000, 100_000)),
    lambda rng: "x = " + "[" * rng.choice((50, 900, 5000, 90_000)),
    lambda rng: "x = " + "{a = " * rng.choice((50, 900, 5000)) + "1",
    lambda rng: "[" + ".".join("a" * rng.choice((10, 400, 90_000))) + "]\nx = 1",
    lambda rng: "model.options." + ".".join("a" * rng.choice((10, 400))) + " = 1",
    lambda rng: "[run]\n" + "k" * rng.choice((100, 200_000, 2**20)) + " = 1",
    lambda rng: '[model]\npreset = "' + "k" * rng.choice((100, 200_000, 2**20)) + '"',
    lambda rng: "[model.options]\n" + "".join(f"k{i} = {i}\n" for i in range(rng.choice((10, 20_000)))),
    lambda rng: "".join(f"[a{i}]\n" for i in range(rng.choice((10, 20_000)))),
    lambda rng: "#" * 2**20,
)


def config(rng: Random, _: Seeds) -> bytes:
    """A config with changed keys and values, or one that is deep, long or slow."""
    if rng.random() < 0.2:
        return rng.choice(RAW_CONFIGS)(rng).encode()
    tree: Any = {}
    for key, value in flatten(with_changes(Config(), BASE)).items():
        section, name = key.split(".")
        if value is not None:
            tree.setdefault(section, {})[name] = list(value) if isinstance(value, tuple) else deepcopy(value)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        section = rng.choice(list(tree))
        way = rng.random()
        if way < 0.4:
            tree["model"]["options"][rng.choice(OPTIONS[:7])] = deepcopy(rng.choice(ABSURD + SIZES))
        elif way < 0.8:
            numbers = [key for key, value in tree[section].items() if isinstance(value, int | float)]
            key = rng.choice(numbers or list(tree[section]))
            tree[section][key] = rng.choice(SIZES) if rng.random() < 0.7 else unexpected_value(rng)
        else:
            tree[section][rng.choice(WORDS) or "x"] = unexpected_value(rng)
    lines = [f"[{section}]\n" + "".join(_toml_line(*item) for item in part.items()) for section, part in tree.items()]
    tokens = (b"[", b"]", b"=", b'"', b"\n", b"\0", b"\xff", b"nan", b"'''", b"1979-05-27", b"{")
    return mutate_bytes(rng, "".join(lines).encode("utf-8", "surrogatepass"), tokens, 0.1)


def _toml_line(key: str, value: Any) -> str:
    try:
        return f"{key if key.isidentifier() and key.isascii() else format_toml(key)} = {format_toml(value)}\n"
    except (ValueError, RecursionError):  # a number of thousands of digits, or deeply nested
        return f"{format_toml(key)} = {'9' * 4400}\n"


def address(rng: Random, _: Seeds) -> bytes:
    """The address of a model on the hub."""
    parts = ("a", "b" * 40, "x" * 200, "a--b", "a..b", "-a", "a.", ".", "datasets", "é", "a/b", "", "A_b.c-d", "\0")
    text = f"hf://{rng.choice(parts)}/{rng.choice(parts)}" + rng.choice(("", "", "@main", "@refs/pr/1", "@..", "@"))
    return text.encode()


GENERATORS: dict[str, Callable[[Random, Seeds], bytes]] = {
    "model file": model_file,
    "config": config,
    "address": address,
}
SHARES = {"model file": 0.6, "config": 0.35, "address": 0.05}


def load(kind: str, path: Path) -> None:
    """Load what a case wrote, as far as it can be without data."""
    if kind == "model file":
        read_description(path)
        load_model(path)
    elif kind == "address":
        download_model(path.read_text(encoding="utf-8"))
    else:
        found = with_changes(read_config(path), {"model.pretrained": False})
        build_criterion(build_model(found, ("cat", "dog")), found.method)


def run_case(kind: str, number: int, path: Path, seeds: Seeds, seed: int, out: Path) -> Tally:
    """One case."""
    path.write_bytes(GENERATORS[kind](Random(f"{seed} {kind} {number}"), seeds))
    tally = Tally(files=1, slowest_number=number)
    start = time.process_time()
    wrong = ""
    what = CRASH
    set_alarm(SECONDS)
    try:
        load(kind, path)
        tally.clean = 1
    except GFocalError as error:
        text = str(error)
        tally.refused = 1
        tally.reasons[text.replace(str(path), "FILE")[:100]] += 1
        if text != one_line(text, MAX_LINE):
            what, wrong = UNCLEAR, text[:300]
    except AlarmError:
        what, wrong = HANG, f"not done after {SECONDS:g} s"
    except BaseException as error:  # of Rust, too
        wrong = f"{type(error).__name__}: {error}"[:300]
    finally:
        set_alarm(0)
    tally.slowest = time.process_time() - start
    if wrong:
        stored = out / f"{kind.replace(' ', '-')}-{number}"
        if len(list(out.glob("*"))) < 200:
            shutil.copy(path, stored)
        tally.findings.append(Finding(kind, number, what, wrong, str(stored)))
    return tally


def make_start(room: Path, seed: int, out: Path) -> Callable[[], Work]:
    """The initialization of each process; libraries are loaded before memory and time are counted."""

    def start() -> Work:
        torch.set_num_threads(1)
        install_alarm()
        own = Path(tempfile.mkdtemp(dir=room))
        seeds = Seeds(own)
        paths = {"model file": own / "m.safetensors", "config": own / "c.toml", "address": own / "address.txt"}
        load_model(own / "gfl_light_fpn.safetensors")
        with suppress(GFocalError):
            download_model("hf://a/b")
        return lambda kind, number: run_case(kind, number, paths[kind], seeds, seed, out)

    return start


def plan(files: int, shares: Mapping[str, float] = SHARES) -> list[Any]:
    """The cases of a run, in chunks."""
    return [chunk for kind, share in shares.items() for chunk in chunks(kind, max(1, round(files * share)), 20)]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", type=int, default=1000, help="cases in all")
    arguments.add_argument("--jobs", type=int, default=1, help="processes")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="where findings are stored")
    chosen = arguments.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="gfocal-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    start = time.perf_counter()
    try:
        tallies = run(
            make_start(room, chosen.seed, chosen.out.absolute()),
            plan(chosen.files),
            chosen.jobs,
            12 * SECONDS,
            MEMORY,
        )
    finally:
        shutil.rmtree(room, ignore_errors=True)
    seconds = time.perf_counter() - start
    console = Console(width=None if sys.stdout.isatty() else 170)
    kinds = list(SHARES)
    console.print(reasons_table("most frequent messages", kinds, tallies, 30), markup=False)
    findings = [finding for tally in tallies for finding in tally.findings]
    for text, count in Counter((f.kind, f.what, f.text[:160]) for f in findings).most_common(40):
        say(console, f"{count} x {': '.join(text)}")
    for finding in findings[:20]:
        say(console, f"{finding.kind} {finding.number}: {finding.what} -> {finding.stored}")
    console.print(
        table(f"{sum(t.files for t in tallies):,} cases in {seconds:.0f} s, seed {chosen.seed}", kinds, tallies)
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
