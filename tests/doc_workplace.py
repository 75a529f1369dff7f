"""The files that the commands of the pages name: made small, and put where a page expects them.

Nothing is trained for long. The annotations are what an untrained detector finds, a little moved, so that there are
true positives to evaluate, to calibrate on and to look through.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

import gfocal
from conftest import TINY
from gfocal.cli.main import main
from gfocal.data.coco_names import COCO_NAMES
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector

OPTIONS = {"body": "test_resnet.r160_in1k", "channels": 32, "num_convs": 1}  # the smallest of timm
NAMES = ("pedestrian", "King", "person")
SPLITS = {"train": 6, "val": 10, "test": 4}
PUBLISHED = "nanodet_plus_m_416_coco"  # whose weights are in the cache, though random ones
DATASETS = ("photos", "others", "street", "corrected", "cards", "bccd", "coco", "monday", "tuesday", "DIR")
# The first part of a name on a page -> the kind of thing that it is, a method below.
KINDS = {
    **dict.fromkeys(DATASETS, "dataset"),
    **dict.fromkeys(("new", "slides"), "images"),
    **dict.fromkeys(("photo.jpg", "a.jpg", "b.jpg"), "image"),
    **dict.fromkeys(("calibrated.safetensors", "gfl_r50.safetensors", "cards.safetensors"), "model"),
    **dict.fromkeys(("train.json", "val.json", "instances_val2017.json"), "coco_json"),
    "survey.tif": "large_image",
    "shots": "folder_of_images",
    "list.txt": "list_of_images",
    "data.yaml": "yolo",
    "night": "csv",
    "tasks.json": "tasks",
    "other_detector.json": "results",
    "found": "found",
    "clip.mp4": "clip",
}


class Workplace:
    """A folder with one thing of each kind, each made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.detector = _make_detector()
        for split, count in SPLITS.items():
            self._annotate(split, count)
        self._command("train", folder / "dataset", "--out", folder / "run", *TINY, "--set", "run.precision=no")
        for name in ("best", "last"):
            gfocal.save(self.detector, folder / "run" / f"{name}.safetensors")
        (folder / "cache" / "checkpoints").mkdir(parents=True)
        published = gfocal.create("nanodet_plus_m", 80, names=COCO_NAMES, pretrained=False, auxiliary=False)
        gfocal.save(published, folder / "cache" / "checkpoints" / f"{PUBLISHED}.safetensors")

    def put(self, name: str, target: Path) -> bool:
        """Put what a page calls ``name`` into the folder ``target``; False for an unknown name."""
        name = name.removeprefix("@").rstrip("/")
        first = name.split("/")[0]
        if first == "runs":
            if name != "runs/detect/predict/labels":
                self.copy_run(target / name)
                return True
            shutil.copytree(self._made("found", self._found) / "labels", target / name)
            shutil.copy(self.folder / "found" / "classes.txt", target / name)
            return True
        if first not in KINDS:
            return False
        kind = KINDS[first]
        make: Callable[[Path], None] = getattr(self, f"_{kind}", lambda path: None)
        source = self._made(kind, make)
        place = target / ("DIR/bccd" if first == "DIR" else first)
        if kind in ("yolo", "coco_json", "list_of_images", "tasks"):  # with images beside the file
            shutil.copytree(source, target, dirs_exist_ok=True)
            if kind == "coco_json":
                (target / "one.json").rename(place)
        elif source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy(source, place)
        return True

    def copy_run(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        """A finished run, of a detector of these classes."""
        shutil.copytree(self.folder / "run", folder, dirs_exist_ok=True)
        if tuple(names) != NAMES:
            for file in ("best", "last"):
                gfocal.save(_make_detector(names), folder / f"{file}.safetensors")

    def unsplit(self, target: Path) -> None:
        """A dataset without splits, as photos/, in place of what is there."""
        shutil.rmtree(target / "photos", ignore_errors=True)
        shutil.copytree(self.folder / "dataset" / "train", target / "photos" / "images")
        content = json.loads((self.folder / "dataset" / "annotations" / "instances_train.json").read_text())
        (target / "photos" / "annotations.json").write_text(json.dumps(content))

    def _made(self, kind: str, make: Callable[[Path], None]) -> Path:
        path = self.folder / kind
        if not path.exists():
            make(path)
        return path

    def _annotate(self, split: str, count: int) -> None:
        folder = self.folder / "dataset"
        (folder / split).mkdir(parents=True)
        (folder / "annotations").mkdir(exist_ok=True)
        scenes = gfocal.SyntheticScenes(count, size=96, purpose=split)
        images, annotations = [], []
        for index in range(count):
            pixels, _ = scenes.read(index)
            file = folder / split / f"{split}{index}.png"
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
            images.append({"id": index + 1, "file_name": file.name, "height": 96, "width": 96})
            for one in self.detector.detect(file, score_threshold=0.05)[:3]:
                x1, y1, x2, y2 = (min(max(value + index % 3, 0.0), 95.0) for value in one.box)
                if x2 - x1 > 4 and y2 - y1 > 4:
                    box, label = [x1, y1, x2 - x1, y2 - y1], NAMES.index(one.name) + 1
                    number = len(annotations) + 1
                    annotations.append({"id": number, "image_id": index + 1, "category_id": label, "bbox": box})
        categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
        content = {"images": images, "categories": categories, "annotations": annotations}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))

    def _command(self, *words: object) -> None:
        assert main([str(word) for word in words]) == 0, words

    def _image(self, path: Path) -> None:
        with Image.open(self.folder / "dataset" / "test" / "test0.png") as image:
            image.save(path, "JPEG")

    def _images(self, path: Path) -> None:
        path.mkdir()
        for number in range(3):
            with Image.open(self.folder / "dataset" / "test" / f"test{number}.png") as image:
                image.rotate(90).save(path / f"{number}.jpg")

    def _folder_of_images(self, path: Path) -> None:
        shutil.copytree(self._made("images", self._images), path / "monday")

    def _list_of_images(self, path: Path) -> None:
        shutil.copytree(self._made("images", self._images), path / "images")
        (path / "list.txt").write_text("images/0.jpg\nimages/1.jpg\n")

    def _large_image(self, path: Path) -> None:
        with Image.open(self.folder / "dataset" / "test" / "test0.png") as image:
            image.resize((1200, 1100)).save(path, "TIFF")

    def _model(self, path: Path) -> None:
        gfocal.save(self.detector, path)

    def _coco_json(self, path: Path) -> None:
        shutil.copytree(self.folder / "dataset" / "val", path)
        shutil.copy(self.folder / "dataset" / "annotations" / "instances_val.json", path / "one.json")

    def _yolo(self, path: Path) -> None:
        self._command("convert", self.folder / "dataset", "--to", "yolo", "--out", path)

    def _csv(self, path: Path) -> None:
        self._command("convert", self.folder / "dataset", "--split", "val", "--to", "csv", "--out", path)
        table = next(path.rglob("*.csv"))
        table.rename(path / "annotations.csv")

    def _tasks(self, path: Path) -> None:
        self._command("convert", self.folder / "dataset", "--to", "label-studio", "--split", "val", "--out", path)
        next(path.rglob("*.json")).rename(path / "tasks.json")

    def _results(self, path: Path) -> None:
        self._command("eval", self.folder / "run", self.folder / "dataset", "--num-workers", 0, "--results", path)

    def _found(self, path: Path) -> None:
        data = self.folder / "dataset" / "test"
        self._command("detect", self.folder / "run", data, "--out", path, "--format", "coco,yolo", "--no-images")

    def _clip(self, path: Path) -> None:
        import av

        image, _ = gfocal.SyntheticScenes(1, size=96).read(0)
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image.permute(1, 2, 0).numpy(), "rgb24")))
            container.mux(stream.encode(None))


def _make_detector(names: Sequence[str] = NAMES) -> Detector:
    torch.manual_seed(0)
    detector = gfocal.create("gfl_light_fpn", len(names), names=tuple(names), pretrained=False, **OPTIONS)
    detector.input_settings = InputSettings(short_side=64, long_side=96)
    detector.state_dict()["head.cls_out.bias"].fill_(-0.3)  # so that something is found
    return detector.eval()
