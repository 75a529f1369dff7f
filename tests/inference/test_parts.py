"""Parts of a large job: from folders, tables and addresses, and to parquet in folders and behind addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import tiny_detector
from gfocal.errors import DataError
from gfocal.inference.batches import DetectBatch
from gfocal.inference.ray_engine import merge_parts

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray: pip install 'gfocal[ray]'")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray.data", reason="needs the extra ray: pip install 'gfocal[ray]'")

from gfocal.inference import parts as stored  # noqa: E402, imports pyarrow

THRESHOLD = 0.0105
COUNT = 12
BROKEN = 7  # the number of an image that cannot be read
FOUND = ("width", "height", "boxes", "scores", "labels", "edge_std")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def detect() -> DetectBatch:
    return DetectBatch(tiny_detector(), THRESHOLD)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which the names have letters that an address must escape."""
    folder = tmp_path_factory.mktemp("photos #1")
    for number in range(COUNT):
        Image.effect_noise((60, 40 + number % 3), 60).convert("RGB").save(folder / f"{number:02} ü?%41.png")
    next(folder.glob(f"{BROKEN:02}*")).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def expected(detect: DetectBatch, photos: Path) -> Rows:
    return as_rows(detect({"path": sorted(map(str, photos.iterdir()))}))


def as_rows(columns: dict[str, list[Any]]) -> Rows:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def run_parts(detect: DetectBatch, source: str, out: str, size: int = 4) -> Rows:
    """A job without an engine: its parts backwards, one of them twice."""
    parts, _ = stored.list_parts([source], [], Path("out"), size)
    stored.write_run(out, {"names": list(detect.model.names), "score_threshold": THRESHOLD})
    for part in [*reversed(parts), parts[0]]:
        stored.write_part(out, detect(stored.read_part(part, size)), part["start"])
        assert stored.is_part_done(out, part["start"])
    assert list(stored.finished_parts(out)) == [part["start"] for part in parts]
    return [row for rows in stored.read_parts(out) for row in rows]


def assert_same(found: Rows, expected: Rows) -> None:
    assert [row["index"] for row in found] == list(range(len(expected)))
    for row, one in zip(found, expected, strict=True):
        assert {n: row[n] for n in FOUND} == {n: one[n] for n in FOUND}
        assert (row["error"] is None) == (one["error"] is None)


@pytest.mark.parametrize("kind", ["bytes", "path", "struct"])
def test_parts_of_a_table(detect: DetectBatch, photos: Path, expected: Rows, tmp_path: Path, kind: str) -> None:
    files = sorted(photos.iterdir())
    contents = [file.read_bytes() for file in files]
    column: Any = contents if kind == "bytes" else list(map(str, files))
    if kind == "struct":
        column = [{"bytes": one, "path": file.name} for one, file in zip(contents, files, strict=True)]
    ids = [f"id{i}" for i in range(COUNT)]
    table = pyarrow.table({"id": ids, "image" if kind == "struct" else kind: column})
    source, out = tmp_path / "images.parquet", tmp_path / "out"
    parquet.write_table(table, source, row_group_size=7)
    parts, _ = stored.list_parts([str(source)], [], out, 4)
    assert [part["count"] for part in parts] == [4, 3, 4, 1]
    found = run_parts(detect, str(source), str(out))
    assert_same(found, expected)
    assert [row["id"] for row in found] == ids
    assert merge_parts(str(out), out, ("coco",)).num_images == COUNT - 1


def test_paths_of_a_table_start_from_the_folder_of_the_command(
    detect: DetectBatch, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pyarrow.table({"file": [next(photos.glob("00*")).name, None]}), tmp_path / "a.parquet")
    monkeypatch.chdir(photos)
    parts, _ = stored.list_parts([str(tmp_path / "a.parquet")], [], tmp_path, 4)
    monkeypatch.chdir(tmp_path)  # as a worker may be anywhere
    found = as_rows(detect(stored.read_part(parts[0], 4)))
    assert found[0]["width"] == 60, found[0]["error"]
    assert found[1]["error"] == "no image: neither bytes nor a path"


def test_a_table_without_images(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column of images among id"):
        stored.list_parts([str(tmp_path / "a.parquet")], [], tmp_path, 4)


def test_an_address_of_a_folder(detect: DetectBatch, photos: Path, expected: Rows, tmp_path: Path) -> None:
    assert_same(run_parts(detect, photos.as_uri(), (tmp_path / "out").as_uri()), expected)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images and no parquet files there"):
        stored.list_parts([(tmp_path / "empty").as_uri()], [], tmp_path, 4)
    with pytest.raises(DataError, match=r"^nowhere://a"):
        stored.list_parts(["nowhere://a"], [], tmp_path, 4)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket of S3, kept by a server of this process, and what follows each address in it."""
    server = pytest.importorskip("moto.server", reason="needs a server of S3: pip install 'moto[server]'")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        yield f"s3://photos/{{}}?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=1"
    finally:
        running.stop()


def test_images_and_results_in_s3(
    detect: DetectBatch, photos: Path, expected: Rows, bucket: str, tmp_path: Path
) -> None:
    system, path = stored.file_system(bucket.format("in"))
    system.create_dir("photos")
    for file in photos.iterdir():
        with system.open_output_stream(f"{path}/{file.name}") as stream:
            stream.write(file.read_bytes())
    out = bucket.format("out")
    found = run_parts(detect, bucket.format("in"), out)
    assert_same(found, expected)
    written = merge_parts(out, tmp_path / "found", ("coco",))
    assert written.num_images == COUNT - 1
    images = json.loads((tmp_path / "found" / "detections.json").read_text())["images"]
    assert images[0]["file_name"] == found[0]["path"]
