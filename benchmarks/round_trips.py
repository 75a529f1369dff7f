"""Boxes of one dataset after five rounds through other tools: what each shifts or loses.

    pip install gfocal supervision datumaro globox pylabel label-studio-sdk fiftyone    # those to be tried
    python benchmarks/round_trips.py

A round is: `gfocal convert` to a format, the tool reads it and writes it again, gfocal reads what the tool wrote. The
dataset has boxes with decimals and at the borders, two classes, an ignored region, an image without objects. Prints
a row for each tool and format: the largest shift of an edge after the first and the fifth round, and what is lost.
Tools that are not installed are skipped; with --python PATH they run in another environment.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from gfocal.data.convert import Target, convert
from gfocal.data.dataset import FileData, Sample
from gfocal.data.discovery import list_splits, read_data
from gfocal.errors import GFocalError
from gfocal.text import one_line

ROUNDS = 5
NAMES = ("cat", "dog")
# Image size (width, height), and class, box and whether it is ignored of its objects.
IMAGES: tuple[tuple[tuple[int, int], list[tuple[int, tuple[float, ...], bool]]], ...] = (
    ((100, 80), [(0, (10, 20, 30, 40), False), (1, (0, 0, 100, 80), False), (0, (12.25, 7.5, 51.7, 66.123), False)]),
    ((97, 61), [(1, (3.1, 4.7, 96.9, 60.2), False), (0, (5, 5, 25, 25), False), (1, (60, 10, 90, 50), True)]),
    ((64, 64), []),
)


@dataclass(frozen=True)
class Trip:
    """A tool and a format in which it reads and writes."""

    package: str  # distribution whose version is shown
    tool: str
    title: str  # of the format
    target: Target
    code: str  # run in the tool's environment: reads the folder HERE, writes the empty folder THERE
    hint: str = ""  # the gfocal.json that a user writes beside what the tool wrote


SUPERVISION = "import supervision as sv\nD = sv.DetectionDataset\n"
GLOBOX = "from globox import AnnotationSet as A\n"
PYLABEL = "from pylabel import importer\n"
DATUMARO = "import datumaro as dm\n"

TRIPS = (
    Trip(
        "supervision",
        "supervision",
        "COCO",
        "coco",
        SUPERVISION + "d = D.from_coco(f'{HERE}/images/train', f'{HERE}/annotations/instances_train.json')\n"
        "d.as_coco(f'{THERE}/train', f'{THERE}/train/_annotations.coco.json')",
    ),
    Trip(
        "supervision",
        "supervision",
        "VOC",
        "voc",
        SUPERVISION + "d = D.from_pascal_voc(f'{HERE}/JPEGImages', f'{HERE}/Annotations')\n"
        "d.as_pascal_voc(f'{THERE}/JPEGImages', f'{THERE}/Annotations')",
    ),
    Trip(
        "supervision",
        "supervision",
        "VOC from 1",
        "voc-one-based",
        SUPERVISION + "d = D.from_pascal_voc(f'{HERE}/JPEGImages', f'{HERE}/Annotations')\n"
        "d.as_pascal_voc(f'{THERE}/JPEGImages', f'{THERE}/Annotations')",
        '{"voc_one_based": true}',
    ),
    Trip(
        "supervision",
        "supervision",
        "YOLO",
        "yolo",
        SUPERVISION + "d = D.from_yolo(f'{HERE}/images/train', f'{HERE}/labels/train', f'{HERE}/data.yaml')\n"
        "d.as_yolo(f'{THERE}/images', f'{THERE}/labels', f'{THERE}/data.yaml')",
    ),
    Trip(
        "supervision",
        "supervision",
        "Create ML",
        "createml",
        SUPERVISION + "d = D.from_createml(f'{HERE}/train', f'{HERE}/train/_annotations.createml.json')\n"
        "d.as_createml(f'{THERE}/train', f'{THERE}/train/_annotations.createml.json')",
    ),
    Trip(
        "supervision",
        "supervision",
        "LabelMe",
        "labelme",
        SUPERVISION + "d = D.from_labelme(f'{HERE}/train', f'{HERE}/train')\n"
        "d.as_labelme(f'{THERE}/train', f'{THERE}/train')",
    ),
    *(
        Trip(
            "datumaro",
            "datumaro",
            title,
            cast(Target, target),
            DATUMARO + f"d = dm.Dataset.import_from(HERE, {name!r})\nd.export(THERE, {export!r}, save_media=True)",
        )
        for title, target, name, export in (
            ("COCO", "coco", "coco", "coco_instances"),
            ("VOC", "voc", "voc", "voc_detection"),
            ("YOLO to YOLO 1.1", "yolo", "yolo", "yolo"),
            ("CVAT", "cvat", "cvat", "cvat"),
            ("KITTI", "kitti", "kitti_detection", "kitti_detection"),
        )
    ),
    Trip(
        "globox",
        "globox",
        "COCO",
        "coco",
        GLOBOX + "a = A.from_coco(f'{HERE}/annotations/instances_train.json')\n"
        "a.save_coco(f'{THERE}/instances_train.json', auto_ids=True)",
    ),
    Trip(
        "globox",
        "globox",
        "VOC",
        "voc",
        GLOBOX + "a = A.from_pascal_voc(f'{HERE}/Annotations')\n"
        "import os; os.makedirs(f'{THERE}/Annotations')\na.save_pascal_voc(f'{THERE}/Annotations')",
    ),
    Trip(
        "globox",
        "globox",
        "CVAT",
        "cvat",
        GLOBOX + "a = A.from_cvat(f'{HERE}/annotations.xml')\na.save_cvat(f'{THERE}/annotations.xml')",
    ),
    Trip(
        "globox",
        "globox",
        "LabelMe",
        "labelme",
        GLOBOX + "a = A.from_labelme(f'{HERE}/train')\n"
        "import os; os.makedirs(f'{THERE}/train')\na.save_labelme(f'{THERE}/train')",
    ),
    Trip(
        "globox",
        "globox",
        "VIA",
        "via",
        GLOBOX + "import json, pathlib\n"
        "c = json.load(open(f'{HERE}/train.json'))['_via_img_metadata']\n"
        "json.dump(c, open(f'{THERE}/in.json', 'w'))\n"
        "a = A.from_via_json(f'{THERE}/in.json', label_key='class', image_folder=pathlib.Path(HERE))\n"
        "pathlib.Path(f'{THERE}/in.json').unlink()\n"
        "a.save_via_json(f'{THERE}/train.json', image_folder=pathlib.Path(HERE), label_key='class')",
    ),
    Trip(
        "pylabel",
        "pylabel",
        "COCO",
        "coco",
        PYLABEL
        + "d = importer.ImportCoco(f'{HERE}/annotations/instances_train.json', path_to_images='../images/train')\n"
        "d.export.ExportToCoco(f'{THERE}/instances_train.json')",
    ),
    Trip(
        "pylabel",
        "pylabel",
        "VOC",
        "voc",
        PYLABEL + "import os; os.makedirs(f'{THERE}/Annotations')\n"
        "d = importer.ImportVOC(f'{HERE}/Annotations', path_to_images='../JPEGImages')\n"
        "d.export.ExportToVoc(f'{THERE}/Annotations')",
    ),
    *(
        Trip(
            "label-studio-sdk",
            "label-studio-sdk",
            f"its json to {title}",
            "label-studio",
            "from label_studio_sdk.converter import Converter\n"
            "c = Converter(f'{HERE}/label_config.xml', HERE, download_resources=False)\n"
            f"c.{call}(f'{{HERE}}/train.json', THERE, is_dir=False)",
        )
        for title, call in (("COCO", "convert_to_coco"), ("YOLO", "convert_to_yolo"), ("VOC", "convert_to_voc"))
    ),
    *(
        Trip(
            "fiftyone",
            "fiftyone",
            title,
            cast(Target, target),
            f"import os\nos.environ['FIFTYONE_DO_NOT_TRACK'] = '1'\n"
            f"import fiftyone as fo, fiftyone.core.metadata as fom, fiftyone.utils.{module} as m\n"
            f"i = m.{name}Importer({arguments})\ne = m.{name}Exporter(export_dir=THERE{more})\n"
            "with i, e:\n  for path, metadata, label in i:\n"
            "    metadata = metadata or fom.ImageMetadata.build_for(path)\n"
            "    label = label.get('detections') if isinstance(label, dict) else label\n"
            f"    e.export_sample(path, {label}, metadata=metadata)\n",
        )
        for title, target, module, name, arguments, more, label in (
            (
                "COCO",
                "coco",
                "coco",
                "COCODetectionDataset",
                "data_path=f'{HERE}/images/train', labels_path=f'{HERE}/annotations/instances_train.json'",
                ", classes=['cat', 'dog']",
                "label",
            ),
            (
                "VOC",
                "voc",
                "voc",
                "VOCDetectionDataset",
                "data_path=f'{HERE}/JPEGImages', labels_path=f'{HERE}/Annotations'",
                "",
                "label",
            ),
            (
                "YOLO",
                "yolo",
                "yolo",
                "YOLOv5Dataset",
                "dataset_dir=HERE, yaml_path='data.yaml', split='train'",
                ", classes=['cat', 'dog'], split='train'",
                "label",
            ),
            (
                "CVAT",
                "cvat",
                "cvat",
                "CVATImageDataset",
                "data_path=f'{HERE}/images', labels_path=f'{HERE}/annotations.xml'",
                "",
                "{'ground_truth': label}",
            ),
        )
    ),
)


@dataclass(frozen=True)
class Losses:
    """What differs from the dataset of the start."""

    shift: float  # the most that an edge is away, in pixels
    texts: tuple[str, ...]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--python", action="append", default=[], help="interpreters in which tools are installed")
    arguments.add_argument("--keep", type=Path, help="keep all files of all rounds in this folder")
    arguments.add_argument("--only", default="", help="only tools whose name has this text")
    chosen = arguments.parse_args()
    console = Console(width=150)
    table = Table(
        "tool", "version", "format", "shift after 1 round", f"after {ROUNDS}", "lost or changed after one round"
    )
    for trip in TRIPS:
        if chosen.only not in trip.tool:
            continue
        python, version = find_tool(trip.package, [sys.executable, *chosen.python])
        if python is None:
            console.print(f"{trip.tool}: not installed, skipped")
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = (chosen.keep or Path(temporary)) / f"{trip.tool} {trip.title}".replace(" ", "_")
            table.add_row(trip.tool, version, trip.title, *run_rounds(trip, python, folder))
    console.print(table)
    for process in _running.values():
        process.kill()


def find_tool(package: str, interpreters: list[str]) -> tuple[str | None, str]:
    """The first interpreter that has a package, and the version of it."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    for python in interpreters:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return python, done.stdout.strip()
    return None, ""


def run_rounds(trip: Trip, python: str, folder: Path) -> tuple[str, str, str]:
    """Cells of the table: shift after one round and after all, and what is lost in one."""
    first = make_dataset(folder / "start")
    data = first
    found: list[Losses] = []
    for number in range(ROUNDS):
        here, there = folder / f"{number}_in", folder / f"{number}_out"
        there.mkdir(parents=True)
        try:
            convert({"train": data}, trip.target, here)
            error = run_tool(python, trip.code, here, there)
            if error:
                return *shifts(found), f"round {number + 1}: {error}"
            if trip.hint:
                (there / "gfocal.json").write_text(trip.hint, encoding="utf-8")
            data = read_written(here, there)
        except GFocalError as error:
            return *shifts(found), f"round {number + 1}: " + str(error).splitlines()[0].replace(str(folder), "...")[
                :300
            ]
        found.append(compare(first, data))
    return *shifts(found), "; ".join(found[0].texts) or "nothing"


SERVER = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    code, here, there = json.loads(line)
    os.chdir(there)
    error = ""
    try:
        exec(code, {"HERE": here, "THERE": there})
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
    print(json.dumps(error), file=answers, flush=True)
"""
_running: dict[str, subprocess.Popen[str]] = {}  # one process for each interpreter: imports take seconds


def run_tool(python: str, code: str, here: Path, there: Path) -> str:
    """Run the code of a tool in its environment; returns what went wrong, or nothing."""
    if python not in _running:
        _running[python] = subprocess.Popen(
            [python, "-c", SERVER],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    process = _running[python]
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps([code, str(here), str(there)]), file=process.stdin, flush=True)
    answer = process.stdout.readline()
    return one_line(json.loads(answer), max_length=200) if answer else "the tool's process ended"


def shifts(found: list[Losses]) -> tuple[str, str]:
    """The shifts of the first and of the last round, as text."""
    return (f"{found[0].shift:.3g}" if found else "", f"{found[-1].shift:.3g}" if len(found) == ROUNDS else "")


def make_dataset(folder: Path) -> FileData:
    """The dataset of the start."""
    folder.mkdir(parents=True)
    samples = []
    for number, ((width, height), objects) in enumerate(IMAGES, 1):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{number}.jpg")
        samples.append(
            Sample(
                image_id=number,
                path=folder / f"image_{number}.jpg",
                boxes=torch.tensor([box for _, box, _ in objects], dtype=torch.float32).reshape(-1, 4),
                labels=torch.tensor([label for label, *_ in objects], dtype=torch.int64),
                crowd=torch.tensor([is_ignored for *_, is_ignored in objects], dtype=torch.bool),
                size=(height, width),
            )
        )
    return FileData(NAMES, (1, 2), samples)


def read_written(here: Path, there: Path) -> FileData:
    """What a tool wrote, as gfocal reads it; with the images, where the tool copies none."""
    if not any(there.rglob("*.jpg")):
        place = next(
            (p for p in sorted(there.rglob("*")) if p.name in ("Annotations", "labels") and p.is_dir()), None
        )
        target = there / ("JPEGImages" if place is not None and place.name == "Annotations" else "images")
        target.mkdir(exist_ok=True)
        for file in sorted(here.rglob("*.jpg")):
            shutil.copy(file, target / file.name)
    splits = list_splits(there)
    return read_data(there, splits[0] if splits else None)


def compare(first: FileData, data: FileData) -> Losses:
    """Match the objects of each image with the nearest of the same class."""
    by_name = {sample.path.stem: sample for sample in data.samples if sample.path is not None}
    shift, texts = 0.0, []
    if set(data.names) != set(first.names):
        texts.append(f"classes are {', '.join(data.names)}")
    for sample in first.samples:
        assert sample.path is not None
        other = by_name.get(sample.path.stem)
        if other is None:
            texts.append("image " + ("without objects" if not len(sample.boxes) else sample.path.name) + " lost")
            continue
        left = {(data.names[label], bool(crowd), tuple(box)) for box, label, crowd in rows(other)}
        count = len(left)
        for box, label, crowd in rows(sample):
            near = [
                row for row in left if row[0] == first.names[label] and max(map(abs, np.subtract(row[2], box))) < 8
            ]
            if not near:
                texts.append(("ignored region" if crowd else "object") + " lost")
                continue
            best = min(near, key=lambda row: max(map(abs, np.subtract(row[2], box))))
            left.remove(best)
            shift = max(shift, float(max(map(abs, np.subtract(best[2], box)))))
            if best[1] != bool(crowd):
                texts.append("ignored region is an object" if crowd else "object is an ignored region")
        if count > len(sample.boxes):
            texts.append(f"{count - len(sample.boxes)} more objects in {sample.path.name}")
    counted = dict.fromkeys(texts)
    return Losses(
        shift, tuple(f"{texts.count(text)} x {text}" if texts.count(text) > 1 else text for text in counted)
    )


def rows(sample: Sample) -> list[tuple[list[float], int, bool]]:
    """Box, label and flag of each object."""
    return list(zip(sample.boxes.tolist(), sample.labels.tolist(), sample.crowd.tolist(), strict=True))


if __name__ == "__main__":
    main()
