"""Time and memory of the readers: the same boxes in each format, relative to COCO.

    python benchmarks/reader_speed.py [--images 2000] [--boxes 50]

Every reader runs in a process of its own, which reads the dataset once; printed are the seconds of processor time
(the least of some rounds, in which the formats take turns), the peak memory above that of the imports, and both as
ratios to COCO. The images have 64 x 64 pixels, so that their headers, which every reader reads too, cost little.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

SIDE = 64
NAMES = ("cat", "dog", "owl")
Row = tuple[float, float, str, int, int]  # seconds, MB, format, boxes, problems
Boxes = dict[str, list[tuple[int, int, int, int, int]]]  # file name -> class, x1, y1, x2, y2


def make_boxes(images: int, boxes: int) -> Boxes:
    """Random integer boxes of every image."""
    rng = random.Random(0)
    found: Boxes = {}
    for i in range(images):
        rows = []
        for _ in range(boxes):
            x, y, w, h = rng.randrange(50), rng.randrange(50), rng.randrange(2, 14), rng.randrange(2, 14)
            rows.append((rng.randrange(len(NAMES)), x, y, x + w, y + h))
        found[f"{i:06d}.jpg"] = rows
    return found


def save_images(folder: Path, names: list[str]) -> None:
    """The same small image under every name."""
    folder.mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE), (90, 120, 60)).save(folder / "first.tmp", "JPEG")
    for name in names:
        (folder / name).hardlink_to(folder / "first.tmp")
    (folder / "first.tmp").unlink()


def write_coco(root: Path, boxes: Boxes) -> None:
    """One COCO file, from which gfocal convert makes the formats that it writes."""
    save_images(root / "images", list(boxes))
    notes = [
        {"image_id": i, "category_id": c + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        | {"area": (x2 - x1) * (y2 - y1)}
        for i, rows in enumerate(boxes.values(), 1)
        for c, x1, y1, x2, y2 in rows
    ]
    content = {
        "images": [{"id": i, "file_name": name, "width": SIDE, "height": SIDE} for i, name in enumerate(boxes, 1)],
        "annotations": [note | {"id": i} for i, note in enumerate(notes, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)],
    }
    (root / "annotations.json").write_text(json.dumps(content))


def write_visdrone(root: Path, boxes: Boxes) -> None:
    """One text file an image."""
    save_images(root / "images", list(boxes))
    (root / "annotations").mkdir()
    for name, rows in boxes.items():
        lines = [f"{x1},{y1},{x2 - x1},{y2 - y1},1,{c + 1},0,0" for c, x1, y1, x2, y2 in rows]
        (root / "annotations" / f"{Path(name).stem}.txt").write_text("\n".join(lines) + "\n")


def write_crowdhuman(root: Path, boxes: Boxes) -> None:
    """One line of json an image."""
    save_images(root / "Images", list(boxes))
    lines = []
    for name, rows in boxes.items():
        objects = [
            {"tag": "person", "fbox": [x1, y1, x2 - x1, y2 - y1], "vbox": [x1, y1, x2 - x1, y2 - y1], "extra": {}}
            for _, x1, y1, x2, y2 in rows
        ]
        lines.append(json.dumps({"ID": Path(name).stem, "gtboxes": objects}))
    (root / "annotation_train.odgt").write_text("\n".join(lines) + "\n")


def write_widerface(root: Path, boxes: Boxes) -> None:
    """One text file for all images."""
    save_images(root / "WIDER_train" / "images" / "0--Parade", list(boxes))
    (root / "wider_face_split").mkdir()
    parts = []
    for name, rows in boxes.items():
        parts += [f"0--Parade/{name}", str(len(rows))]
        parts += [f"{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0 " for _, x1, y1, x2, y2 in rows]
    (root / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text("\n".join(parts) + "\n")


def write_openimages(root: Path, boxes: Boxes) -> None:
    """The table of boxes, one row each."""
    save_images(root / "train", list(boxes))
    rows = [
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    ]
    for name, own in boxes.items():
        for c, x1, y1, x2, y2 in own:
            numbers = f"{x1 / SIDE},{x2 / SIDE},{y1 / SIDE},{y2 / SIDE}"
            rows.append(f"{Path(name).stem},xclick,/m/{NAMES[c]},1,{numbers},0,0,0,0,0")
    (root / "train-annotations-bbox.csv").write_text("\n".join(rows) + "\n")


def write_bdd100k(root: Path, boxes: Boxes) -> None:
    """The list of frames of det_20."""
    save_images(root / "images" / "100k" / "train", list(boxes))
    (root / "labels" / "det_20").mkdir(parents=True)
    frames = [
        {
            "name": name,
            "labels": [
                {"id": str(i), "category": NAMES[c], "box2d": {"x1": x1, "y1": y1, "x2": x2 - 1, "y2": y2 - 1}}
                for i, (c, x1, y1, x2, y2) in enumerate(rows)
            ],
        }
        for name, rows in boxes.items()
    ]
    (root / "labels" / "det_20" / "det_train.json").write_text(json.dumps(frames))


def write_supervisely(root: Path, boxes: Boxes) -> None:
    """One json an image."""
    save_images(root / "train" / "img", list(boxes))
    (root / "train" / "ann").mkdir()
    (root / "meta.json").write_text(
        json.dumps(
            {"classes": [{"title": name, "shape": "rectangle", "color": "#112233"} for name in NAMES], "tags": []}
        )
    )
    for name, rows in boxes.items():
        objects = [
            {
                "classTitle": NAMES[c],
                "geometryType": "rectangle",
                "points": {"exterior": [[x1, y1], [x2 - 1, y2 - 1]], "interior": []},
                "tags": [],
            }
            for c, x1, y1, x2, y2 in rows
        ]
        content = {"size": {"height": SIDE, "width": SIDE}, "tags": [], "objects": objects, "description": ""}
        (root / "train" / "ann" / f"{name}.json").write_text(json.dumps(content))


def write_megadetector(root: Path, boxes: Boxes) -> None:
    """One json of detections."""
    save_images(root / "images", list(boxes))
    images = [
        {
            "file": f"images/{name}",
            "detections": [
                {
                    "category": str(c + 1),
                    "conf": 0.9,
                    "bbox": [x1 / SIDE, y1 / SIDE, (x2 - x1) / SIDE, (y2 - y1) / SIDE],
                }
                for c, x1, y1, x2, y2 in rows
            ],
        }
        for name, rows in boxes.items()
    ]
    categories = {str(i): name for i, name in enumerate(NAMES, 1)}
    info = {"format_version": "1.3"}
    (root / "md.json").write_text(json.dumps({"info": info, "detection_categories": categories, "images": images}))


OWN: dict[str, Callable[[Path, Boxes], None]] = {
    "coco": write_coco,
    "visdrone": write_visdrone,
    "crowdhuman": write_crowdhuman,
    "widerface": write_widerface,
    "openimages": write_openimages,
    "bdd100k": write_bdd100k,
    "supervisely": write_supervisely,
    "megadetector": write_megadetector,
}


def peak_memory() -> float:
    """The peak of this process in MB. Not ru_maxrss, which starts from the peak of the process that launched it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def read_once(folder: str) -> None:
    """In a process of its own: read a dataset, and print seconds, memory in MB, format and boxes as json."""
    from gfocal.data.discovery import detect_format, list_splits, read_data

    before = peak_memory()
    start = time.process_time()
    splits = list_splits(folder)
    data = read_data(folder, splits[0] if splits else None)
    seconds = time.process_time() - start
    memory = peak_memory() - before
    assert data.files is not None
    row = (seconds, memory, detect_format(folder), len(data.files.table.boxes), len(data.files.problems))
    sys.stdout.write(json.dumps(row))


def main() -> None:
    """Write all formats, read each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--boxes", type=int, default=50, help="of each image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read_once(args.read)
        return
    from gfocal.data.convert import WRITERS, convert
    from gfocal.data.discovery import read_data

    boxes = make_boxes(args.images, args.boxes)
    table = Table("format", "read as", "boxes", "problems", "seconds", "MB", "time / COCO", "memory / COCO")
    with tempfile.TemporaryDirectory() as place:
        for name, write in OWN.items():
            (Path(place) / name).mkdir()
            write(Path(place) / name, boxes)
        data = read_data(Path(place) / "coco")
        for target in WRITERS:
            if target not in ("coco", "voc-one-based"):
                convert({"train": data}, target, Path(place) / target, images="link")
                (Path(place) / target / "gfocal.json").unlink(missing_ok=True)  # no tool's own export has one
        folders = sorted(Path(place).iterdir(), key=lambda folder: (folder.name != "coco", folder.name))
        rows: dict[str, list[Row]] = {folder.name: [] for folder in folders}
        for _ in range(args.rounds):
            for folder in folders:
                command = [sys.executable, __file__, "--read", str(folder)]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                rows[folder.name].append(json.loads(run.stdout))
    base = [min(row[i] for row in rows["coco"]) for i in (0, 1)]
    for name, own in rows.items():
        seconds, memory = (min(row[i] for row in own) for i in (0, 1))
        _, _, kind, count, problems = own[0]
        ratios = f"{seconds / base[0]:.2f}", f"{memory / base[1]:.2f}"
        table.add_row(name, kind, f"{count:,}", f"{problems:,}", f"{seconds:.2f}", f"{memory:.0f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
