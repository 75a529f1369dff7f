"""gfocal on a Ray cluster of two nodes on this machine beside two single processes: results, throughput, kills.

    python benchmarks/ray_cluster.py MODEL [--count 20000] [--side 64]
    python benchmarks/ray_cluster.py MODEL --kills 3 --lose-node --kill-driver

Makes small images, detects in them by two processes side by side (a half of the images each, one thread), then by two
workers of a cluster (``ray.cluster_utils``, a raylet for each node, one CPU each), and compares all rows. Throughput
is that after both have finished their first part: without the start of processes, which is printed too. With kills,
workers end by SIGKILL at random moments, a node is removed (another one takes its place), and the command itself is
killed and resumed. Exit code 1 if anything is lost, there twice, or differs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from gfocal.inference import parts
from gfocal.inference.batches import DetectBatch
from gfocal.inference.ray_engine import PART_SIZE

Rows = list[dict[str, Any]]


def make_images(folder: Path, count: int, side: int) -> list[str]:
    """Rectangles on noise, and some images that cannot be read; those of an earlier run stay."""
    if folder.is_dir():
        return sorted(map(str, folder.iterdir()))
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8) // 4
        for x1, y1 in rng.integers(0, 2 * side // 3, (2, 2)):
            x2, y2 = rng.integers((x1 + side // 8, y1 + side // 8), side)
            pixels[y1:y2, x1:x2] = rng.integers(64, 256, 3)
        Image.fromarray(pixels).save(folder / f"{number:06}.jpg")
    for number in range(500, count, 1000):
        (folder / f"{number:06}.jpg").write_bytes(b"no image")
    return sorted(map(str, folder.iterdir()))


def alone(model: str, threshold: float, size: int, files: list[str], barrier: Any, results: Any) -> None:
    """One of the two processes: rows, and when each part was finished."""
    detect = DetectBatch(model, threshold, num_threads=1)
    barrier.wait()
    rows, times = [], []
    for start in range(0, len(files), size):
        found = detect({"path": files[start : start + size]})
        rows += [dict(zip(found, one, strict=True)) for one in zip(*found.values(), strict=True)]
        times.append((time.time(), len(files[start : start + size])))
    results.put((files[0], times, rows))


def two_processes(args: argparse.Namespace, files: list[str]) -> tuple[float, Rows]:
    """Images per second, and the rows of all files."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    halves = files[: len(files) // 2], files[len(files) // 2 :]
    same = (args.model, args.threshold, args.part_size)
    processes = [context.Process(target=alone, args=(*same, half, barrier, results)) for half in halves]
    for process in processes:
        process.start()
    done = sorted(results.get() for _ in processes)
    for process in processes:
        process.join()
    return throughput([one for _, times, _ in done for one in times]), [row for *_, rows in done for row in rows]


def throughput(times: list[tuple[float, int]]) -> float:
    """Images per second after both sides have finished their first part; of each part its end and its images."""
    times = sorted(times)
    return sum(count for _, count in times[2:]) / (times[-1][0] - times[1][0])


def command(args: argparse.Namespace, address: str, images: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "gfocal", "detect", args.model, str(images), "--engine", "ray"]
    words += ["--address", address, "--workers", "2", "--out", str(out), "--score-threshold", str(args.threshold)]
    return [*words, "--part-size", str(args.part_size)]


def workers_of(cluster: Cluster) -> list[int]:
    """Process ids of the workers that detect: children of the raylets of this cluster."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"DetectPart" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] * (parent in raylets)
        except OSError:
            continue
    return found


def disturb(
    cluster: Cluster, args: argparse.Namespace, driver: subprocess.Popen[bytes], out: Path, total: int
) -> None:
    """Kill at random moments while the job runs; returns when all is done, or the job has ended."""
    what = ["worker"] * args.kills + ["node"] * args.lose_node + ["driver"] * args.kill_driver
    moments = sorted(random.Random(args.seed).sample(range(1, int(0.9 * total)), len(what)))
    random.Random(args.seed + 1).shuffle(what)
    what.sort(key=lambda one: one == "driver")  # the last
    for moment, one in zip(moments, what, strict=True):
        while len(parts.finished_parts(str(out))) < moment or not workers_of(cluster):
            if driver.poll() is not None:
                raise SystemExit(f"the job ended with {driver.returncode} before {one} was killed")
            time.sleep(0.05)
        time.sleep(random.Random(moment).random())  # anywhere within a part
        if one == "worker":
            os.kill(random.Random(moment).choice(workers_of(cluster)), signal.SIGKILL)
        elif one == "node":
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            cluster.add_node(num_cpus=1)
        else:
            driver.kill()
        print(f"after {len(parts.finished_parts(str(out)))} of {total} parts: killed a {one}", flush=True)


def on_cluster(args: argparse.Namespace, images: Path, out: Path) -> tuple[float, float]:
    """Images per second of the job, without its start and with it; raises SystemExit where a part was done twice."""
    total = -(-args.count // args.part_size)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    start = time.time()
    words = command(args, cluster.address, images, out)
    driver = subprocess.Popen(words)
    if args.kills or args.lose_node or args.kill_driver:
        disturb(cluster, args, driver, out, total)
    driver.wait()
    if args.kill_driver:
        while workers_of(cluster):  # which may still finish a part
            time.sleep(0.1)
        before = {file: os.stat(file).st_mtime_ns for file in parts.finished_parts(str(out)).values()}
        subprocess.run([*words, "--resume"], check=False)
        again = sum(os.stat(file).st_mtime_ns != when for file, when in before.items())
        print(f"resumed: {len(before)} parts were done, {total - len(before)} were not; {again} done again")
    files = parts.finished_parts(str(out))
    times = [(os.stat(file).st_mtime, min(args.part_size, args.count - first)) for first, file in files.items()]
    ray.shutdown()
    cluster.shutdown()
    return throughput(times), args.count / (max(times)[0] - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--threshold", type=float, default=0.05)
    parser.add_argument("--part-size", type=int, default=PART_SIZE)
    parser.add_argument("--kills", type=int, default=0, help="of workers")
    parser.add_argument("--lose-node", action="store_true")
    parser.add_argument("--kill-driver", action="store_true", help="and resume")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for images and expected rows, used again by the next run")
    args = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # as the processes beside it have
    is_disturbed = args.kills or args.lose_node or args.kill_driver
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        known = folder / "expected.pickle"
        if known.exists():
            single, expected = pickle.loads(known.read_bytes())
        else:
            folder.mkdir(exist_ok=True)
            single, expected = two_processes(args, make_images(folder / "images", args.count, args.side))
            known.write_bytes(pickle.dumps((single, expected)))
        print(f"two processes: {single:.1f} images/s", flush=True)
        out = Path(temporary) / "out"
        both, with_start = on_cluster(args, folder / "images", out)
        if not is_disturbed:
            print(
                f"two workers of Ray: {both:.1f} images/s, {both / single:.3f} of that ({with_start:.1f} with start)"
            )
        found = [row for rows in parts.read_parts(str(out)) for row in rows]
        is_complete = [row.pop("index") for row in found] == list(range(args.count))
        objects = sum(len(row["labels"]) for row in expected)
        print(
            f"{len(found)} rows, each image once and in order: {is_complete}; {objects} objects, "
            f"{sum(row['error'] is not None for row in expected)} images that cannot be read; "
            f"equal to the last digit: {found == expected}"
        )
        return int(not is_complete or found != expected)


if __name__ == "__main__":
    sys.exit(main())
