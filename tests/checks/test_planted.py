"""Every planted fault is found, by its code and at its place, and nothing else is."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made import HEIGHT, WIDTH, CocoSet, texture, voc_set, write_xml, yolo_set
from PIL import Image

Run = Callable[..., tuple[int, str, str]]
Planted = list[tuple[str, str, str]]  # code, split, and a part of what names file and record
GOOD = [40.0, 30.0, 50.0, 40.0]
OTHER = [20.0, 16.0, 60.0, 50.0]


def found_in(run: Run, folder: Path, *options: str) -> list[dict[str, Any]]:
    file = folder.parent / "found.json"
    code, _, error = run("check", folder, "--json", file, *options)
    assert code in (0, 1), error
    findings: list[dict[str, Any]] = json.loads(file.read_text())["findings"]
    return findings


def assert_found(findings: list[dict[str, Any]], planted: Planted) -> None:
    """Each planted fault is one finding, and there is no further one."""
    left = list(findings)
    for code, split, part in planted:
        fitting = [
            f
            for f in left
            if f["code"] == code and f["split"] == split and part in f"{Path(f['file']).name}, {f['record']}"
        ]
        seen = [f for f in findings if f["code"] == code]
        assert len(fitting) == 1, f"{code} of {split} at {part}: {len(fitting)} of {seen}"
        left.remove(fitting[0])
    assert not left, f"invented: {left}"


def bomb(path: Path, side: int = 20_000) -> None:
    """A PNG whose header speaks of 400 million pixels, and that has none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(start + struct.pack(">I", 4) + b"IDAT")


def test_clean_sets_give_no_finding(run: Run, tmp_path: Path) -> None:
    assert_found(found_in(run, CocoSet(tmp_path / "coco").write()), [])
    assert_found(found_in(run, yolo_set(tmp_path / "yolo")), [])
    assert_found(found_in(run, voc_set(tmp_path / "voc")), [])


def test_planted_faults_of_files(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco")
    train, val, folder = made.train, made.val, made.train.folder / "train"
    planted: Planted = []

    def plant(code: str, image_id: int, part: str, split: str = "train") -> None:
        (train if split == "train" else val).box(image_id, GOOD)
        planted.append((code, split, part))

    plant("missing-image", train.listed("gone.png"), "gone.png")
    broken = train.save_image(texture(1), "broken.png")
    data = (folder / "broken.png").read_bytes()
    (folder / "broken.png").write_bytes(data[: len(data) // 2])  # the header is whole, the pixels are not
    plant("unreadable-image", broken, "broken.png")
    bomb(folder / "bomb.png")
    plant("decompression-bomb", train.listed("bomb.png", 20_000, 20_000), "bomb.png")
    plant("unsafe-path", train.listed("../../outside.png"), "outside.png")
    plant("wrong-extension", train.save_image(texture(2), "liar.jpg", format="PNG"), "liar.jpg")
    plant("image-size-mismatch", train.save_image(texture(3), "other_size.png"), "other_size.png")
    train.images[-1]["width"] = 320
    deep = Image.fromarray(np.asarray(texture(4).convert("L"), dtype=np.uint16) * 257)
    plant("high-bit-depth", train.save_image(deep, "deep.png"), "deep.png")
    cyan = Image.fromarray(np.dstack([np.asarray(texture(17).convert("L"))] * 4), "CMYK")
    plant("unusual-pixel-format", train.save_image(cyan, "printed.jpg", quality=95), "printed.jpg")
    train.annotations[-1]["bbox"] = OTHER
    frames = [texture(5).convert("P"), texture(6).convert("P")]
    film = train.save_image(frames[0], "film.gif", save_all=True, append_images=frames[1:], duration=100)
    plant("multi-frame-image", film, "film.gif")
    exif = Image.Exif()
    exif[0x0112] = 3
    plant("exif-rotated-image", train.save_image(texture(7), "turned.jpg", exif=exif, quality=95), "turned.jpg")
    train.box(train.save_image(texture(8, 30, 24), "tiny.png"), [4.0, 4.0, 16.0, 14.0])
    planted.append(("tiny-image", "train", "tiny.png"))
    plant("blank-image", train.save_image(Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)), "blank.png"), "blank.png")
    train.box(train.save_image(texture(9, 8000, 6000), "huge.jpg", quality=30), [2000.0, 1500.0, 2500.0, 2000.0])
    planted.append(("huge-image", "train", "huge.jpg"))
    train.images.append(dict(train.images[0], file_name="listed_again.png"))
    planted.append(("duplicate-record", "train", "listed_again.png"))

    train.box(train.save_image(texture(10), "one.png"), GOOD)
    plant("duplicate-image", train.save_image(texture(10), "two.png"), "two.png")
    train.box(train.save_image(texture(11), "three.png"), OTHER)
    plant("duplicate-image-other-boxes", train.save_image(texture(11), "four.png"), "four.png")
    train.box(train.save_image(texture(12), "sharp.png"), GOOD)
    pressed = texture(12).resize((120, 90)).resize((WIDTH, HEIGHT))
    plant("near-duplicate-image", train.save_image(pressed, "pressed.jpg", quality=40), "pressed.jpg")
    train.box(train.save_image(texture(13), "leak.png"), GOOD)
    plant("duplicate-across-splits", val.save_image(texture(13), "leaked.png"), "leaked.png", "val")
    train.box(train.save_image(texture(14), "seen.png"), GOOD)
    darker = texture(14).point(lambda value: int(value * 0.8))
    plant("near-duplicate-across-splits", val.save_image(darker, "darker.jpg"), "darker.jpg", "val")
    train.box(train.save_image(texture(15), "same_name.png"), GOOD)
    val.box(val.save_image(texture(16), "same_name.png"), GOOD)  # other content: no finding

    assert len(planted) == 19
    assert_found(found_in(run, made.write()), planted)
    # Headers alone show neither broken nor blank pixels, nor what nearly equals.
    hidden = ("unreadable-image", "blank-image")
    fast = [one for one in planted if one[0] not in hidden and not one[0].startswith("near-")]
    assert_found(found_in(run, made.folder, "--fast"), fast)


def test_planted_faults_of_labels(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco", ("cat", "dog", "owl", "Dog ", "unicorn", "yeti", "class7", "lynx"))
    train, val = made.train, made.val
    planted: Planted = [
        ("similar-class-names", "", "coco, Dog "),
        ("class-without-boxes", "", "coco, unicorn"),
        ("class-not-in-training", "", "coco, yeti"),
        ("placeholder-class-name", "", "coco, class7"),
        ("rare-class", "", "coco, lynx"),
        ("class-not-evaluated", "val", "coco, lynx"),
    ]
    for i in range(12):
        image_id = train.save_image(texture(300 + i), f"more{i}.png")
        train.box(image_id, [10.0 + i, 12.0, 50.0, 44.0], 4)
        train.box(image_id, [84.0, 60.0 + i, 56.0, 40.0], 7)
    image_id = val.save_image(texture(320), "yeti.png")
    for x, category in ((4.0, 6), (56.0, 4), (106.0, 7)):
        val.box(image_id, [x, 30.0, 46.0, 44.0], category)

    def plant(
        code: str, *boxes: list[Any], category: int = 1, keys: tuple[str, ...] = (), at: str = "", lost: bool = False
    ) -> None:
        """An image of its own with these boxes, the last of which is wrong; ``lost``: it has no other object."""
        image_id = train.save_image(texture(400 + len(planted)), f"{code}.png")
        number = 0
        for box in boxes:
            number = train.box(image_id, box, category)
        if keys:
            train.annotations[-1].update(dict.fromkeys(keys, 99))
        planted.append((code, "train", at or f"annotation {number}"))
        if lost:
            planted.append(("image-not-trained", "train", f"{code}.png"))

    plant("zero-area-box", [50.0, 40.0, 0.0, 30.0], lost=True)
    plant("inverted-box", [90.0, 40.0, -30.0, 30.0], lost=True)
    plant("box-outside-image", [200.0, 40.0, 30.0, 30.0], lost=True)
    plant("box-exceeds-image", [130.0, 40.0, 50.0, 44.0])
    plant("non-finite-box", [50.0, math.nan, 30.0, 30.0], lost=True)
    plant("malformed-box", [50.0, 40.0, 30.0], lost=True)
    plant("unknown-class", GOOD, keys=("category_id",), lost=True)
    plant("annotation-without-image", GOOD, keys=("image_id",))
    train.annotations[-1]["image_id"] = 9999
    plant("duplicate-box", GOOD, GOOD)
    plant("near-duplicate-box", GOOD, [41.0, 30.0, 50.0, 40.0])
    plant("tiny-box", OTHER, [100.0, 100.0, 1.0, 12.0], at="tiny-box.png, box 2 (cat)")
    plant("whole-image-box", [0.0, 0.0, WIDTH, HEIGHT], at="whole-image-box.png, box 1 (cat)")
    plant("extreme-aspect-ratio", [30.0, 28.5, 63.0, 3.0], at="extreme-aspect-ratio.png, box 1 (cat)")
    plant("conflicting-labels", GOOD, at="conflicting-labels.png, box 2 (dog)")
    train.box(len(train.images), GOOD, 2)
    crowd = train.save_image(texture(500), "crowded.png")
    for k in range(108):
        train.box(crowd, [2.0 + 13 * (k % 12), 2.0 + 13 * (k // 12), 11.0, 11.0], 1 + k % 3)
    planted.append(("too-many-objects", "train", "crowded.png"))
    lynx = train.save_image(texture(501), "lynx.png")
    train.box(lynx, GOOD, 8)
    train.box(lynx, [0.0, 80.0, 100.0, 40.0], 1, iscrowd=1)
    planted.append(("ignored-regions", "train", "coco, train"))

    assert len(planted) == 28
    assert_found(found_in(run, made.write(), "--config", "light"), planted)


def test_planted_faults_of_the_regression_range(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco")
    flat = made.train.save_image(texture(1), "flat.png")
    made.train.box(flat, [5.0, 58.0, 150.0, 7.6])  # 200 pixels to its ends at stride 8, where the range is 128
    small = made.train.save_image(texture(2), "small.png")
    made.train.box(small, [30.5, 30.5, 2.4, 2.4])  # 6.4 pixels at the input, between the points at 80 and 88
    thin = made.train.save_image(texture(3, 640, 480), "thin.png")
    made.train.box(thin, [200.0, 142.5, 60.0, 3.4])  # 2.3 pixels high at the input, on points
    planted: Planted = [
        ("edges-outside-regression-range", "train", "flat.png, box 1 (cat)"),
        ("unassigned-box", "train", "small.png, box 1 (cat)"),
        ("many-unassigned-boxes", "train", "coco, train"),
        ("small-box-at-input", "train", "thin.png, box 1 (cat)"),
    ]
    assert_found(found_in(run, made.write(), "--config", "light"), planted)


def test_planted_faults_of_yolo(run: Run, tmp_path: Path) -> None:
    folder = yolo_set(tmp_path / "yolo")
    yaml = folder / "data.yaml"
    yaml.write_text(yaml.read_text() + "test: images/test\nnc: 5\n")
    with (folder / "labels" / "train" / "train0.txt").open("a") as file:
        file.write("0 80 60 40 30\none line of words\n")
    (folder / "labels" / "train" / "nobody.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    for i in range(6):
        (folder / "labels" / "val" / f"val{i}.txt").write_text("0 0.5 0.4 0.3 0.3\n")
    planted: Planted = [
        ("unnormalized-box", "train", "train0.txt, train0.png, line 5"),
        ("invalid-record", "train", "train0.txt, line 6"),
        ("annotation-without-image", "train", "nobody.txt"),
        ("missing-split", "train", "data.yaml"),
        ("missing-split", "val", "data.yaml"),
        ("unusual-record", "train", "data.yaml, nc 5"),
        ("unusual-record", "val", "data.yaml, nc 5"),
        ("same-box-everywhere", "val", "val0.png, box 1 (cup)"),
        ("class-not-evaluated", "val", "yolo, plate"),
    ]
    assert_found(found_in(run, folder), planted)


def test_planted_faults_of_voc(run: Run, tmp_path: Path) -> None:
    folder = voc_set(tmp_path / "voc")
    texture(1).save(folder / "train" / "lonely.png")
    texture(2).save(folder / "train" / "half.png")
    (folder / "train" / "half.xml").write_text("<annotation><object>")
    # As of one who writes y before x: high boxes at the right of a wide image.
    rows = [(4 + 3 * k, 100 + 2 * k, 40 + 3 * k, 150 + 2 * k) for k in range(5)]
    objects = "".join(
        f"<object><name>fork</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for x1, y1, x2, y2 in rows
    )
    texture(3).save(folder / "train" / "swapped.png")
    write_xml(folder / "train" / "swapped.xml", "swapped.png", objects)
    planted: Planted = [
        ("image-without-annotation", "train", "lonely.png"),
        ("unreadable-annotation", "train", "half.xml"),
        *(("box-exceeds-image", "train", f"swapped.png, object {k + 1}") for k in range(5)),
        ("swapped-axes", "train", "swapped.xml, swapped.png, object 1"),
    ]
    assert_found(found_in(run, folder), planted)
