"""Annotation files and images as an enemy, or a bad disk, would write them: read, or refused in clear words.

The long runs are ``benchmarks/fuzz_readers.py`` and ``benchmarks/fuzz_images.py``; here are a few hundred cases of
their grammar, hypothesis's own, and what they have found so far.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.convert import TARGETS, convert
from gfocal.data.dataset import FileData, Problem
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.images import image_size, read_image
from gfocal.data.readers.coco import read_coco
from gfocal.data.readers.csv import read_csv
from gfocal.data.readers.voc import read_voc
from gfocal.data.readers.yolo import read_yolo
from gfocal.data.validation import OBJECTS_DROPPED
from gfocal.errors import DataError, ImageError
from gfocal.text import one_line, printable

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SIZE = (30, 40)
BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20]}
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarm here")


@pytest.fixture
def fuzzing(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The modules of the benchmarks, by name."""
    names = ["fuzz_grammar", "fuzz_files", "fuzz_pool", "fuzz_checks", "fuzz_readers"]
    names += ["fuzz_images", "fuzz_markup", "fuzz_kinds", "fuzz_formats", "fuzz_lines", "image_seeds"]
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGPROF)}
    yield {name: __import__(name) for name in names}
    for number, handler in before.items():
        signal.signal(number, handler)
    for name in names:
        sys.modules.pop(name, None)


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE[::-1]).save(path)
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def coco(folder: Path, **changes: Any) -> Path:
    """A json of one image and one box; ``changes`` of its parts."""
    image(folder / "a.png")
    tree = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [BOX],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return text(folder / "a.json", json.dumps(tree | changes))


def yolo(folder: Path, yaml: str = "train: images\nnames: [cat, dog]\n", labels: str = "1 0.5 0.5 0.5 0.5") -> Path:
    image(folder / "images" / "a.png")
    text(folder / "labels" / "a.txt", labels)
    return text(folder / "data.yaml", yaml)


def test_generated_files_give_no_findings(fuzzing: dict[str, Any], tmp_path: Path) -> None:
    readers = fuzzing["fuzz_readers"]
    work = readers.make_start(tmp_path, 1, 10.0, tmp_path / "out")()
    for name, kind in readers.KINDS.items():
        for number in range(3 if len(kind.files) > 1 else 60):
            tally = work(name, number)
            assert tally.findings == [], [f"{f.what}: {f.text}" for f in tally.findings]
            assert tally.clean + tally.with_problems + tally.refused == len(kind.files)


def test_mutated_images_are_read_or_refused(fuzzing: dict[str, Any], tmp_path: Path) -> None:
    images = fuzzing["fuzz_images"]
    kinds = images.seeds()
    assert set(kinds) == {"jpeg", "png", "gif", "webp", "tiff", "bmp", "ppm", "jpeg2000"}
    fuzzing["fuzz_checks"].install_alarm()
    path, read = tmp_path / "a.jpg", 0
    for kind, originals in kinds.items():
        for original in originals:
            path.write_bytes(original)
            assert image_size(path) in (SIZE, (24, 40), (40, 24), (2, 2), (2, 3)), kind
        for number in range(25):
            path.write_bytes(images.mutate(fuzzing["fuzz_readers"].Random(f"{kind} {number}"), kinds, kind))
            read += images.run_case(path, 10.0)[0]
    assert 20 < read < 180, "of 200 images, some are to be read and some not"


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda home: {}["x"], "crash"),
        (lambda home: (_ for _ in ()).throw(MemoryError), "crash"),
        (lambda home: [None for _ in iter(int, 1)], "hang"),
        (lambda home: (_ for _ in ()).throw(DataError("something is wrong with it")), "unclear"),
        (lambda home: (_ for _ in ()).throw(DataError(f"{home}: ")), "unclear"),
        (lambda home: (_ for _ in ()).throw(DataError(f"{home}: no good: {'x' * 900}")), "unclear"),
        (lambda home: FileData(("cat",), (1, 2), []), "invalid data"),
    ],
)
def test_wrong_results_of_a_reader_are_found(
    fuzzing: dict[str, Any], tmp_path: Path, wrong: Callable[[Path], Any], kind: str
) -> None:
    checks = fuzzing["fuzz_checks"]
    checks.install_alarm()
    checks.set_alarm(0.3)
    try:
        with pytest.raises(checks.FindingError) as caught:
            checks.check_reader(lambda: wrong(tmp_path), tmp_path, SIZE)
    finally:
        checks.set_alarm(0)
    assert caught.value.args[0] == kind


def test_every_number_is_checked(fuzzing: dict[str, Any], tmp_path: Path) -> None:
    checks, data = fuzzing["fuzz_checks"], read_coco(coco(tmp_path))
    checks.check_data(data, tmp_path, SIZE)
    for column, value in (("boxes", 99.0), ("boxes", float("nan")), ("labels", 1), ("sizes", 7), ("image_ids", 1)):
        image(tmp_path / "b.png")
        broken = read_coco(coco(tmp_path, images=[{"id": i, "file_name": f"{'ab'[i - 1]}.png"} for i in (1, 2)]))
        getattr(broken.table, column)[..., -1:] = value
        with pytest.raises(checks.FindingError):
            checks.check_data(broken, tmp_path, SIZE)
    with pytest.raises(checks.FindingError):
        checks.check_data(data, tmp_path / "elsewhere", SIZE)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["a.png", "cat"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "bbox", "name"]), inner),
    max_leaves=8,
)
quiet = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@quiet
@given(image=anything, box=anything, category=anything, whole=st.binary(max_size=60) | st.none())
def test_any_values_of_a_coco_json(
    tmp_path: Path, image: object, box: object, category: object, whole: bytes | None
) -> None:
    changes = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": image, "file_name": "a.png", "width": image}, image],
        "annotations": [BOX | {"bbox": box, "area": box, "iscrowd": image}, BOX | {"image_id": image}, box],
        "categories": [{"id": 1, "name": "cat"}, category],
    }
    file = coco(tmp_path, **changes) if whole is None else text(tmp_path / "a.json", whole)
    sane_or_refused(lambda: read_coco(file), tmp_path)


@quiet
@given(st.binary(max_size=80) | st.text("01 .-einfa\t\n\r\x00\u2028", max_size=80), st.binary(max_size=40))
def test_any_labels_and_any_yaml(tmp_path: Path, labels: str | bytes, yaml: bytes) -> None:
    yolo(tmp_path)
    text(tmp_path / "labels" / "a.txt", labels)
    sane_or_refused(lambda: read_yolo(tmp_path), tmp_path)
    text(tmp_path / "data.yaml", b"names: [cat]\ntrain: images\n" + yaml)
    sane_or_refused(lambda: read_yolo(tmp_path), tmp_path)


@quiet
@given(
    st.lists(
        st.sampled_from(
            [
                "<object>",
                "</object>",
                "<name>cat</name>",
                "<bndbox>",
                "</bndbox>",
                "<xmin>1</xmin>",
                "<ymin>2</ymin>",
                "<xmax>9</xmax>",
                "<ymax>8</ymax>",
                "<size/>",
                "&x;",
                "nan",
                "<!-- ",
                "\x00",
            ]
        ),
        max_size=14,
    )
)
def test_any_elements_of_an_xml(tmp_path: Path, parts: list[str]) -> None:
    image(tmp_path / "a.png")
    text(tmp_path / "a.xml", f"<annotation>{''.join(parts)}</annotation>")
    sane_or_refused(lambda: read_voc(tmp_path), tmp_path)


@quiet
@given(st.text("abc.png,;\t\"'\n\r0159-einf\x00", max_size=80) | st.binary(max_size=60), st.booleans())
def test_any_rows_of_a_csv(tmp_path: Path, rows: str | bytes, headed: bool) -> None:
    image(tmp_path / "a.png")
    content = rows if isinstance(rows, bytes) else rows.encode()
    file = text(tmp_path / "a.csv", b"filename,class,xmin,ymin,xmax,ymax\n" * headed + content)
    sane_or_refused(lambda: read_csv(file), tmp_path)


def sane_or_refused(read: Callable[[], FileData], home: Path) -> None:
    refused = ""
    try:
        data = read()
    except DataError as error:
        refused = str(error)
    if refused:
        assert str(home) in refused
        assert len(refused) < 700
        return
    boxes = data.table.boxes
    assert boxes.isfinite().all()
    assert ((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:])).all()
    assert (boxes[:, 2] <= SIZE[1]).all()
    assert (boxes[:, 3] <= SIZE[0]).all()
    assert len(data.table.image_ids.unique()) == len(data)
    assert all(printable(str(problem), max_length=5000) == str(problem) for problem in data.problems)


# What the fuzzers have found.


@pytest.mark.parametrize("area", ["1" + "0" * 400, "Infinity", "NaN", "true", '"12"', "1e308"])
def test_area_beyond_float_range_is_not_stated(tmp_path: Path, area: str) -> None:
    file = coco(tmp_path, annotations=[BOX | {"area": "AREA"}])
    file.write_text(file.read_text().replace('"AREA"', area))
    data = read_coco(file)
    assert len(data.samples[0].boxes) == 1
    assert data.samples[0].areas is None


@pytest.mark.parametrize("key", [2**63, -(2**63) - 1, 10**400, True, 1.5])
def test_ids_are_64_bit_integers(tmp_path: Path, key: object) -> None:
    images = [{"id": 1, "file_name": "a.png"}, {"id": key, "file_name": "a.png"}]
    data = read_coco(coco(tmp_path, images=images))
    assert data.table.image_ids.tolist() == [1]
    assert [p.reason for p in data.problems] == ["image without 'id'"]
    with pytest.raises(DataError, match="needs an 'id'"):
        read_coco(coco(tmp_path, categories=[{"id": key, "name": "cat"}]))


def test_strings_and_records_are_not_boxes(tmp_path: Path) -> None:
    boxes = ["1234", {"1": 0, "2": 0, "3": 0, "4": 0}]
    data = read_coco(coco(tmp_path, annotations=[BOX | {"bbox": box} for box in boxes]))
    assert [p.reason for p in data.problems] == ["not a box of finite numbers"] * 2 + [OBJECTS_DROPPED]


BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))
LISTS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        (f"{BOMB}names: [*a29]\ntrain: images\n", "aliases .* are not supported"),
        (f"{LISTS}names: [*a29]\ntrain: images\n", "aliases .* are not supported"),
        ("names: [cat]\ntrain: images\n? [x]\n: y\n", "broken yaml at line 3"),
        (f"names: [cat]\ntrain: {'[' * 5000}\n", "cannot be read as yaml: RecursionError"),
        (f"names: [cat]\ntrain: 0x{'f' * 5000}\n", "none of its splits"),
        (f"names:\n  ? {'9' * 5000}\n  : cat\ntrain: images\n", "'names' must be"),
        ("names: [cat]\ntrain: !!python/object/apply:os.system ['touch canary']\n", "none of its splits"),
        ("names: [cat]\ntrain: pipe\n", "none of its splits"),
        ("names: [cat]\npath: /dev\ntrain: zero\n", "none of its splits"),
        ("names: [cat]\npath: /\ntrain: tmp\n", "none of its splits"),
    ],
)
def test_yaml_that_expands_too_much(tmp_path: Path, yaml: str, told: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=told):
        read_yolo(yolo(tmp_path, yaml), "train")
    assert not list(Path().glob("canary"))


@pytest.mark.parametrize("tag", ["!!bool x", "!!timestamp x", "!!int ''", "!!python/object/apply:os.abort []"])
def test_tags_of_a_yaml_mean_nothing(tmp_path: Path, tag: str) -> None:
    assert read_yolo(yolo(tmp_path, f"names: [cat]\ntrain: images\nx: {tag}\n"), "train").names == ("cat",)


def test_star_in_a_name_is_not_an_alias(tmp_path: Path) -> None:
    assert read_yolo(yolo(tmp_path, "train: images\nnames: ['*a', 'b*']\n")).names == ("*a", "b*")


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        ({"splits": {"train": {"images/a.png": {"id": 3}, "images/b.png": {"id": 3}}}}, "image id 3 occurs twice"),
        ({"category_ids": [4, 4]}, "category id 4 occurs twice"),
        ({"splits": {"train": {"images/a.png": {"size": [1]}}}}, "height and width"),
        ({"splits": {"train": {"images/a.png": {"id": 10**30}}}}, "64-bit integer"),
    ],
)
def test_a_broken_sidecar_is_refused(tmp_path: Path, sidecar: object, told: str) -> None:
    yolo(tmp_path)
    text(tmp_path / "gfocal.json", json.dumps(sidecar))
    with pytest.raises(DataError, match=told):
        read_yolo(tmp_path)


def test_image_added_later_gets_an_unused_id(tmp_path: Path) -> None:
    yolo(tmp_path)
    image(tmp_path / "images" / "b.png")
    text(tmp_path / "gfocal.json", json.dumps({"splits": {"train": {"images/b.png": {"id": 1}}}}))
    found = {s.path.name: s.image_id for s in read_yolo(tmp_path).samples if s.path is not None}
    assert found == {"a.png": 2, "b.png": 1}


@pytest.mark.parametrize("name", ["a.xml", "Annotations/a.xml", "a.json", "data.yaml", "a.csv"])
def test_pipe_is_not_an_annotation_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / name)
    refused: list[str] = []

    def read() -> None:
        with pytest.raises(DataError, match="no annotated images found") as caught:
            read_data(tmp_path)
        refused.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert refused, "it waits for the pipe"


def test_pipe_is_not_a_list_of_a_split(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "a.png")
    text(tmp_path / "Annotations" / "a.xml", "<annotation/>")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    os.mkfifo(tmp_path / "ImageSets" / "Main" / "train.txt")
    assert list_splits(tmp_path) == []


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_of_a_csv_may_end_in_any_way(tmp_path: Path, ends: str) -> None:
    image(tmp_path / "a.png")
    file = text(tmp_path / "a.csv", ends.join(["filename,class,xmin,ymin,xmax,ymax", "a.png,cat,1,2,3,4", ""]))
    assert read_csv(file).table.boxes.tolist() == [[1, 2, 3, 4]]


def test_cells_of_a_csv_that_are_too_long(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    head = "filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,2,3,4\n"
    assert len(read_csv(text(tmp_path / "a.csv", f"{head}{'d/' * 3000}a.png,cat,1,2,3,4\n"))) == 1
    for content in (head + "x" * 200_000, '"' + "x" * 200_000):
        with pytest.raises(DataError, match="broken csv: field larger"):
            read_csv(text(tmp_path / "a.csv", content))


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    evil = "\x1b[2J\x07\u202e\x9b\ud800\nx"
    problem = Problem(str(tmp_path), f"line 1: {evil}", "odd", "dropped")
    assert problem.record == "line 1: \\x1b[2J\\x07\\u202e\\x9b\\ud800 x"
    assert str(DataError(f"{tmp_path}: {evil}")) == f"{tmp_path}: \\x1b[2J\\x07\\u202e\\x9b\\ud800\nx"
    assert str(ImageError("a\x1b.png: odd")) == "a\\x1b.png: odd"
    data = read_yolo(yolo(tmp_path, labels=f"{evil} 1 1 1 1"))
    assert "\x1b" not in "".join(map(str, data.problems))
    assert "\\x1b[2J" in str(data.problems[0])
    with pytest.raises(DataError, match=r"\\x1b\[2J"):
        read_coco(coco(tmp_path, images=[{"id": 1, "file_name": evil}]))


@pytest.mark.parametrize("split", ["../../evil", "/tmp/evil", "..", ".x", "a/b", "a\\b", "a\x1b"])
def test_split_of_a_table_cannot_lead_outside(tmp_path: Path, split: str) -> None:
    """gfocal convert names files after splits, and a CSV has them as words in its rows."""
    image(tmp_path / "in" / "a.png")
    text(tmp_path / "in" / "a.csv", f"filename,class,xmin,ymin,xmax,ymax,split\na.png,cat,1,2,3,4,{split}\n")
    data = read_csv(tmp_path / "in")
    for target in TARGETS:
        with pytest.raises(DataError, match="not a valid file name"):
            convert({split: data}, target, tmp_path / "x" / "y" / "out")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.csv", "a.png", "in"]


def test_splits_of_a_table_are_listed_in_one_line(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    rows = 'filename,class,xmin,ymin,xmax,ymax,split\na.png,cat,1,2,3,4,train\na.png,cat,1,2,3,4,"b\nc"\n'
    with pytest.raises(DataError, match=r"there are: train, b c$"):
        read_csv(text(tmp_path / "a.csv", rows))


def test_long_texts_are_shortened_in_the_middle() -> None:
    assert printable("a" * 300) == "a" * 300
    assert printable("a" * 200 + "b" * 200, max_length=10) == "aaaaa ... bbbbb"
    assert one_line("café\u00a0名\n\tx") == "café\u00a0名  x"


def test_image_that_needs_more_memory_than_available(tmp_path: Path) -> None:
    box = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + b"\0\0\0\x01jp2h" + (2**62).to_bytes(8, "big")
    path = text(tmp_path / "a.jp2", box)
    for read in (image_size, read_image):
        with pytest.raises(ImageError, match="more memory than is available"):
            read(path)
