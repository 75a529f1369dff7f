"""Fuzzed annotation files over the readers of gfocal: no crash, no hang, only clear errors, only sane data.

    python benchmarks/fuzz_readers.py --files 1000000 --jobs 2
    python benchmarks/fuzz_readers.py --replay fuzz-findings/voc-xml-4711

Files are grown by a grammar for each format, bent in their structure and struck in their bytes; the same ``--seed``
gives the same files. Nothing is simulated: files are written (to memory, where the system has /dev/shm), images
beside them are real, the public readers read. A call reads one json, yaml, list or csv, or a folder of 40 label files
or xml files. What must not be is stored in ``--out`` and can be tried again. Exit code 1 if there is any such case.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch
from PIL import Image
from rich.console import Console

from fuzz_files import GROW
from fuzz_grammar import CANARY, IMAGES, OUTSIDE, SECRET
from fuzz_judging import TooLong, WrongError, alarm, evaluation, listen
from fuzz_pool import CRASH, HANG, Finding, Tally, Work, chunks, reasons_table, run, table
from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data
from gfocal.data.readers.coco import read_coco
from gfocal.data.readers.csv import read_csv
from gfocal.data.readers.voc import read_voc
from gfocal.data.readers.yolo import read_yolo

SIZE = (30, 40)  # height and width of every image
MANY = 40  # files of one call, where a folder holds a file for each image
MEMORY = 1 << 30
STUCK = 20.0  # seconds until a call that hears no alarm is killed
Reader = Callable[[Path, Random], FileData]


@dataclass(frozen=True)
class Kind:
    """How files of a kind lie, and are read."""

    files: tuple[str, ...]  # the fuzzed ones
    images: tuple[str, ...]
    read: Reader
    share: float  # of all files
    fixed: tuple[tuple[str, str], ...] = ()  # other files of the dataset


def _coco(home: Path, rng: Random) -> FileData:
    file = home / "_annotations.coco.json"
    way = rng.randrange(4)
    names = ["dog", "cat"] if way == 2 else None
    return read_data(home) if way == 3 else read_coco(file, home if way == 1 else None, names)


def _yolo(home: Path, rng: Random) -> FileData:
    way = rng.randrange(3)
    return (
        read_yolo(home / "data.yaml") if way == 1 else read_data(home, "train") if way else read_yolo(home, "train")
    )


def _voc(home: Path, rng: Random) -> FileData:
    names = ["dog", "cat", "bird"] if rng.random() < 0.05 else None
    return read_voc(home, "train" if rng.random() < 0.5 else None, names)


def _voc_list(home: Path, rng: Random) -> FileData:
    return read_voc(home, "train")


def _csv(home: Path, rng: Random) -> FileData:
    split = rng.choice((None, None, None, "train"))
    return read_csv(home if rng.random() < 0.3 else home / "_annotations.csv", split)


NUMBERED = [f"{number:02d}" for number in range(MANY)]
_YAML = "train: train/images\nval: valid/images\nnames: [cat, dog]\n"
_XML = "<annotation><filename>{}.png</filename><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin>\
<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
_IN_TRAIN = tuple(f"train/images/{name}" for name in IMAGES)
_SPLITS = (*_IN_TRAIN, "valid/images/a.png")
_LABELS = tuple((f"{s}/labels/a.txt", "1 0.5 0.5 0.25 0.5\n") for s in ("train", "valid"))
_IN_VOC = tuple(f"JPEGImages/{name}" for name in IMAGES)
_XMLS = tuple((f"Annotations/{Path(name).stem}.xml", _XML.format(Path(name).stem)) for name in IMAGES)
KINDS = {
    "coco json": Kind(("_annotations.coco.json",), IMAGES, _coco, 0.3),
    "yolo labels": Kind(
        tuple(f"train/labels/{n}.txt" for n in NUMBERED),
        tuple(f"train/images/{n}.png" for n in NUMBERED),
        _yolo,
        0.26,
        (("data.yaml", "train: train/images\nnames: [cat, dog]\n"),),
    ),
    "yolo yaml": Kind(("data.yaml",), _SPLITS, _yolo, 0.06, (*_LABELS, ("train.txt", "./train/images/a.png\n"))),
    "yolo list": Kind(
        ("train.txt",), _SPLITS, _yolo, 0.02, (*_LABELS, ("data.yaml", _YAML.replace("train/images", "train.txt")))
    ),
    "voc xml": Kind(
        tuple(f"train/{n}.xml" for n in NUMBERED),
        tuple(f"train/{n}.png" for n in NUMBERED),
        _voc,
        0.27,
        (("valid/x.xml", _XML.format("x")),),
    ),
    "voc list": Kind(("ImageSets/Main/train.txt",), _IN_VOC, _voc_list, 0.02, _XMLS),
    "gfocal.json of yolo": Kind(("gfocal.json",), _SPLITS, _yolo, 0.02, (*_LABELS, ("data.yaml", _YAML))),
    "gfocal.json of voc": Kind(
        ("gfocal.json",), _IN_VOC, _voc_list, 0.01, (*_XMLS, ("ImageSets/Main/train.txt", "a\nb\n"))
    ),
    "csv": Kind(("_annotations.csv",), IMAGES, _csv, 0.06, (("classes.csv", "dog,0\nbird,1\n"),)),
}


def lay_out(root: Path, kind: Kind) -> Path:
    """The folder of a kind without its fuzzed files; above it what no reader may touch."""
    home = root / "data"
    Image.new("L", SIZE[::-1], 90).save(_ready(root / OUTSIDE))
    (root / "secret.txt").write_text(SECRET)
    for name in kind.images:
        os.link(root / OUTSIDE, _ready(home / name))
    for name, text in kind.fixed:
        _ready(home / name).write_text(text)
    for name in kind.files:
        _ready(home / name)
    return home


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def begin_in(room: Path, seed: int, limit: float, out: Path) -> Callable[[], Work]:
    """What each process does first: a folder of its own for every kind."""

    def begin() -> Work:
        torch.set_num_threads(1)
        listen()
        own = Path(tempfile.mkdtemp(dir=room))
        homes = {name: lay_out(own / name.replace(" ", "-"), kind) for name, kind in KINDS.items()}
        return lambda name, number: tried(name, number, homes[name], seed, limit, out)

    return begin


def tried(name: str, number: int, home: Path, seed: int, limit: float, out: Path) -> Tally:
    """One call of a reader."""
    kind = KINDS[name]
    write(kind, name, number, home, seed)
    tally = Tally(files=len(kind.files), slowest_number=number)
    start = time.process_time()
    try:
        data, tally.reasons = call(kind, home, Random(f"{seed} {name} {number} way"), limit)
    except WrongError as wrong:
        tally.slowest = time.process_time() - start
        found = Finding(name, number, wrong.args[0], wrong.args[1])
        found.stored = stored(found, home, seed, out)
        tally.findings.append(found)
        return tally
    tally.slowest = time.process_time() - start
    if data is None:
        tally.refused = len(kind.files)
        return tally
    with_problems = {problem.file for problem in data.problems}
    tally.told = sum(str(home / file) in with_problems for file in kind.files)
    tally.clean = len(kind.files) - tally.told
    return tally


def write(kind: Kind, name: str, number: int, home: Path, seed: int) -> None:
    """The fuzzed files of a case."""
    rng = Random(f"{seed} {name} {number}")
    for file in kind.files:
        with open(home / file, "wb") as stream:
            stream.write(GROW[name](rng))


def call(kind: Kind, home: Path, rng: Random, limit: float) -> tuple[FileData | None, Counter[str]]:
    """Read and evaluate under the alarm."""
    alarm(limit)
    try:
        data, told = evaluation(lambda: kind.read(home, rng), home, SIZE)
    except TooLong:  # while it was evaluated
        raise WrongError(HANG, "the alarm rang") from None
    finally:
        alarm(0)
    if os.path.exists(home.parent / CANARY) or os.path.exists(CANARY):
        raise WrongError(CRASH, "a command in the file was run")
    return data, told


def stored(found: Finding, home: Path, seed: int, out: Path) -> str:
    """A copy of the dataset of a case, and how it was read."""
    folder = out / f"{found.kind.replace(' ', '-')}-{found.number}"
    if len(list(out.glob("*"))) < 200:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(home, folder / "data")
        case = {"kind": found.kind, "number": found.number, "seed": seed, "what": found.what, "text": found.text}
        (folder / "case.json").write_text(json.dumps(case, indent=1))
    return str(folder)


def replay(folder: Path, limit: float) -> int:
    """Try a stored case again."""
    case = json.loads((folder / "case.json").read_text())
    kind = KINDS[case["kind"]]
    listen()
    with tempfile.TemporaryDirectory() as room:
        home = lay_out(Path(room), kind)
        shutil.copytree(folder / "data", home, dirs_exist_ok=True)
        way = f"{case['seed']} {case['kind']} {case['number']} way"
        try:
            data, told = call(kind, home, Random(way), limit)
        except WrongError as wrong:
            print(f"{wrong.args[0]}: {wrong.args[1]}")
            if wrong.__cause__ is not None:
                raise wrong.__cause__ from None
            return 1
    print(f"{data!r}" if data is not None else "refused", *told, sep="\n  ")
    return 0


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", type=int, default=50_000, help="annotation files in all")
    arguments.add_argument("--only", choices=list(KINDS), action="append", help="this kind alone; may be repeated")
    arguments.add_argument("--jobs", type=int, default=1, help="processes")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--limit", type=float, default=2.0, help="seconds of the processor that a call may take")
    arguments.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="where findings are stored")
    arguments.add_argument("--replay", type=Path, metavar="FOLDER", help="try a stored finding again")
    chosen = arguments.parse_args()
    if chosen.replay is not None:
        return replay(chosen.replay, chosen.limit)
    names = [n for n in KINDS if n in (chosen.only or KINDS)]
    whole = sum(KINDS[n].share for n in names)
    plan = []
    for name in names:
        calls = max(1, round(chosen.files * KINDS[name].share / whole / len(KINDS[name].files)))
        plan += chunks(name, calls, 40 if len(KINDS[name].files) > 1 else 500)
    chosen.out.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="gfocal-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    start = time.perf_counter()
    try:
        begin = begin_in(room, chosen.seed, chosen.limit, chosen.out.absolute())
        tallies = run(begin, plan, chosen.jobs, max(STUCK, 3 * chosen.limit), MEMORY)
        for finding in (f for tally in tallies for f in tally.findings if not f.stored):  # its process is no more
            home = lay_out(room / f"again-{finding.kind}-{finding.number}", KINDS[finding.kind])
            write(KINDS[finding.kind], finding.kind, finding.number, home, chosen.seed)
            finding.stored = stored(finding, home, chosen.seed, chosen.out.absolute())
    finally:
        shutil.rmtree(room, ignore_errors=True)
    seconds = time.perf_counter() - start
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(reasons_table("what was told most often", names, tallies), markup=False)
    findings = [finding for tally in tallies for finding in tally.findings]
    for text, count in Counter((f.kind, f.what, f.text[:120]) for f in findings).most_common(40):
        console.print(f"{count} x {': '.join(text)}", markup=False, highlight=False, soft_wrap=True)
    for finding in findings[:20]:
        where = f"{finding.kind} {finding.number}: {finding.what}: {finding.text} -> {finding.stored}"
        console.print(ascii(where)[1:-1], markup=False, highlight=False, soft_wrap=True)
    files = sum(tally.files for tally in tallies)
    speed = (
        f"{files:,} files in {seconds:.0f} s: {files / seconds:,.0f} a second, seed {chosen.seed}, {chosen.jobs} jobs"
    )
    console.print(table(speed, names, tallies))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
