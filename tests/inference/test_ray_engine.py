"""Detection on a Ray cluster of two nodes: the results of one process, whatever is killed, and jobs that resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import tiny_detector
from gfocal.cli import SOME_FAILED, USER_ERROR
from gfocal.errors import DataError
from gfocal.inference.batches import DetectBatch
from gfocal.inference.files import detect_files
from gfocal.inference.ray_engine import Workers, detect_on_ray, merge_parts
from gfocal.models.detector import Detector
from gfocal.models.model_file import save_model

ray = pytest.importorskip("ray", reason="needs the extra ray: pip install 'gfocal[ray]'")
pytest.importorskip("ray.data", reason="needs the extra ray: pip install 'gfocal[ray]'")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from gfocal.inference import parts as stored  # noqa: E402, imports pyarrow

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
Rows = list[dict[str, Any]]
THRESHOLD = 0.0105
COUNT = 120
BROKEN = 17  # the number of an image that cannot be read
TWO = Workers(count=2, part_size=4)


@pytest.fixture(scope="module")
def model() -> Detector:
    return tiny_detector()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (40 + number % 7, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    (folder / f"{BROKEN:04}.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def expected(model: Detector, photos: Path) -> Rows:
    """What one process finds."""
    files = sorted(map(str, photos.iterdir()))
    return as_rows(DetectBatch(model, THRESHOLD)({"index": list(range(COUNT)), "path": files}))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a CPU each; connected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # not 15, with which workers wait for all else on a busy machine
        yield from start_cluster()


def start_cluster() -> Iterator[Any]:
    memory = 100 * 2**20
    nodes = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False},
    )
    nodes.add_node(num_cpus=1, object_store_memory=memory)
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def finished(cluster: Any, model: Detector, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished job."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert detect_on_ray(model, [str(photos)], str(out), workers=TWO, score_threshold=THRESHOLD) == 1
    return out


def as_rows(columns: dict[str, list[Any]]) -> Rows:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def found_in(folder: Path) -> Rows:
    return [row for rows in stored.read_parts(str(folder)) for row in rows]


def start_when(is_time: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Do something in a thread of its own at the right moment."""

    def wait() -> None:
        end = time.monotonic() + 120
        while not is_time() and time.monotonic() < end:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def workers_of(nodes: Any) -> list[int]:
    """Process ids of the workers that detect: children of the raylets of this cluster."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes.list_all_nodes()}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"DetectPart" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] * (parent in raylets)
        except OSError:
            continue
    return found


def test_two_nodes_find_what_one_process_finds(
    model: Detector, photos: Path, expected: Rows, finished: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    assert found_in(out) == expected
    assert expected[BROKEN]["error"] is not None
    assert sum(len(row["labels"]) for row in expected) > COUNT
    # From there to the files of gfocal detect: the same as of one process.
    merge_parts(str(out), out, ("coco", "csv"))
    assert detect_files(model, [photos], tmp_path / "one", score_threshold=THRESHOLD, formats=("coco", "csv")) == 1
    ours, other = (json.loads((f / "detections.json").read_text()) for f in (out, tmp_path / "one"))
    assert ours["annotations"] == other["annotations"]
    ours, other = ([i["file_name"] for i in found["images"]] for found in (ours, other))
    assert ours == other
    assert (out / "detections.csv").read_text() == (tmp_path / "one" / "detections.csv").read_text()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_killed_workers_lose_nothing(
    cluster: Any, model: Detector, photos: Path, expected: Rows, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed = []

    def kill() -> None:
        for pid in workers_of(cluster)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    threads = [
        start_when(lambda n=n: len(stored.finished_parts(str(out))) >= n and bool(workers_of(cluster)), kill)
        for n in (1, 8, 16)
    ]
    detect_on_ray(model, [str(photos)], str(out), workers=TWO, score_threshold=THRESHOLD)
    for thread in threads:
        thread.join(120)
    assert len(killed) == 3
    assert found_in(out) == expected


def test_a_resumed_job_does_only_the_rest(
    model: Detector, photos: Path, expected: Rows, finished: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    files = sorted((out / "parts").iterdir())
    times = {file: file.stat().st_mtime_ns for file in files}
    lost = files[3::7]
    for file in lost:
        file.unlink()
    with pytest.raises(DataError, match="--resume"):
        detect_on_ray(model, [str(photos)], str(out), workers=TWO, score_threshold=THRESHOLD)
    with pytest.raises(DataError, match="score_threshold was"):
        detect_on_ray(model, [str(photos)], str(out), workers=TWO, score_threshold=0.5, resume=True)
    other = Workers(count=2, part_size=100)  # the size of parts stays that of the job
    detect_on_ray(model, [str(photos)], str(out), workers=other, score_threshold=THRESHOLD, resume=True)
    assert found_in(out) == expected
    assert {f for f in files if f.stat().st_mtime_ns != times[f]} == set(lost)


def test_ray_maps_the_class_as_it_is(cluster: Any, model: Detector, expected: Rows, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.safetensors")
    rows = [{"id": row["index"], "path": row["path"]} for row in expected[10:20]]
    found = ray.data.from_items(rows, override_num_blocks=3).map_batches(
        DetectBatch,
        fn_constructor_args=[str(tmp_path / "model.safetensors"), THRESHOLD],
        fn_constructor_kwargs={"num_threads": 1},
        concurrency=1,
        num_cpus=1,
    )
    for row in found.take_all():
        one = expected[row["id"]]
        assert {k: row[k] for k in ("boxes", "scores", "labels", "error")} == {
            k: one[k] for k in ("boxes", "scores", "labels", "error")
        }


def test_the_command(run: Run, model: Detector, photos: Path, finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    sorted((out / "parts").iterdir())[3].unlink()
    save_model(model, tmp_path / "m.safetensors")
    options = ("--engine", "ray", "--score-threshold", THRESHOLD, "--out", out, "--workers", 2)
    code, _, err = run("detect", tmp_path / "m.safetensors", photos, *options, "--resume")
    assert code == SOME_FAILED, err
    assert f"{BROKEN:04}.png" in err
    assert f"{COUNT - 4} images done before" in err
    assert f"in {COUNT - 1} images, 1 failed" in err
    code, _, err = run("detect", "--merge", out, "--format", "yolo")
    assert code == SOME_FAILED
    assert len(list((out / "labels").iterdir())) == COUNT - 1, err


def test_a_lost_node_loses_nothing(
    cluster: Any, model: Detector, photos: Path, expected: Rows, tmp_path: Path
) -> None:
    """The last test of this cluster."""
    out = tmp_path / "out"
    second = cluster.list_all_nodes()[-1]
    thread = start_when(
        lambda: len(stored.finished_parts(str(out))) >= 5,
        lambda: cluster.remove_node(second, allow_graceful=False),
    )
    detect_on_ray(model, [str(photos)], str(out), workers=TWO, score_threshold=THRESHOLD)
    thread.join(120)
    assert found_in(out) == expected


@pytest.mark.parametrize("option", ["--workers", "--part-size", "--threads"])
def test_options_of_a_cluster_alone(run: Run, option: str) -> None:
    code, _, err = run("detect", "m.safetensors", "a.jpg", option, 2)
    assert code == USER_ERROR
    assert f"{option}: is of a cluster; add --engine ray" in err


def test_options_of_one_process(run: Run) -> None:
    code, _, err = run("detect", "m.safetensors", "a.jpg", "--engine", "ray", "--tile", 1024)
    assert code == USER_ERROR
    assert "--tile: not with --engine ray" in err
