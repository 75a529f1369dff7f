"""gfocal on a Ray cluster of two nodes on this machine beside two single processes: results and throughput.

    python benchmarks/ray_cluster.py MODEL [--count 20000] [--side 64]

Makes small images, detects in them by two processes side by side (a half of the images each, one thread), then by two
workers of a cluster (``ray.cluster_utils``, a raylet for each node, one CPU each), and compares all detections.
Starting processes and loading the model is not counted on the first side, and counted on the second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from PIL import Image
from ray.cluster_utils import Cluster

import gfocal
from gfocal.inference import parts
from gfocal.inference.batches import DetectBatch
from gfocal.inference.ray_engine import Workers, detect_on_ray


def alone(model: str, files: list[str], barrier: Any, results: Any) -> None:
    detect = DetectBatch(model, num_threads=1)
    detect({"path": files[:4]})
    barrier.wait()
    start = time.perf_counter()
    found = [detect({"path": files[i : i + 256]}) for i in range(0, len(files), 256)]
    results.put((files[0], time.perf_counter() - start, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images, rng = Path(folder) / "images", np.random.default_rng(0)
        images.mkdir()
        for number in range(args.count):
            pixels = rng.integers(0, 256, (args.side, args.side, 3), np.uint8)
            Image.fromarray(pixels).save(images / f"{number:06}.jpg")
        files = sorted(map(str, images.iterdir()))
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(2), context.Queue()
        halves = files[: len(files) // 2], files[len(files) // 2 :]
        processes = [context.Process(target=alone, args=(args.model, half, barrier, results)) for half in halves]
        for process in processes:
            process.start()
        done = sorted(results.get() for _ in processes)
        single = args.count / max(seconds for _, seconds, _ in done)
        print(f"two processes: {single:.1f} images/s")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        start = time.perf_counter()
        detect_on_ray(gfocal.load(args.model), [str(images)], f"{folder}/out", workers=Workers(2))
        both = args.count / (time.perf_counter() - start)
        print(f"two workers of Ray: {both:.1f} images/s, {both / single:.2f} of that")
        expected = [boxes for _, _, found in done for columns in found for boxes in columns["boxes"]]
        found = [row["boxes"] for rows in parts.read_parts(f"{folder}/out") for row in rows]
        print(f"equal to the last digit: {found == expected}")
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
