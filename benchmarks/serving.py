"""gfocal serve beside ``model.detect``: throughput, latency at half load, memory, clients that are slow or vanish.

    python benchmarks/serving.py MODEL FOLDER [--seconds 15] [--requests 20000]

The service is a process of its own; the clients are one more, on the same cores. ``model.detect`` reads the same
files in batches, and goes before and after the service. Memory is measured over ``--requests`` requests of a small
image, the clients being 16 that ask again at once.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from PIL import Image

BOUNDARY = "b0undary"
CLIENTS, SLOW = 16, 100
PARTS = 10  # of the requests over which memory is measured
DETECT = """
import sys, time, gfocal
model, batch, seconds, files = gfocal.load(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
model.detect(files[:batch], batch_size=batch)
start, count = time.perf_counter(), 0
while time.perf_counter() - start < seconds:
    model.detect(files, batch_size=batch)
    count += len(files)
print(count / (time.perf_counter() - start))
"""


@dataclass
class Outcome:
    """What became of some requests."""

    seconds: list[float] = field(default_factory=list)  # of those that were answered with 200
    statuses: Counter[int] = field(default_factory=Counter)


def request_of(content: bytes) -> bytes:
    """A request with one image."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return (
        f"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Client:
    """One connection, on which a request is sent when the last one is answered."""

    def __init__(self, port: int, outcome: Outcome) -> None:
        self.port, self.outcome, self.streams = port, outcome, None

    async def ask(self, request: bytes) -> None:
        """Send a request, and note its answer."""
        start = time.perf_counter()
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, length = int(head.split()[1]), int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        await reader.readexactly(length)
        self.outcome.statuses[status] += 1
        if status == 200:
            self.outcome.seconds.append(time.perf_counter() - start)

    def close(self) -> None:
        """Leave."""
        if self.streams is not None:
            self.streams[1].close()


async def saturate(port: int, requests: Sequence[bytes], end: Any, clients: int = CLIENTS) -> Outcome:
    """Clients that ask again at once, until ``end(number of answers)``."""
    outcome = Outcome()

    async def run(number: int) -> None:
        client, i = Client(port, outcome), number
        while not end(outcome.statuses.total()):
            await client.ask(requests[i % len(requests)])
            i += clients
        client.close()

    await asyncio.gather(*map(run, range(clients)))
    return outcome


async def arrive(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> Outcome:
    """Requests that come at random moments, whether others are answered or not."""
    outcome, free, tasks = Outcome(), [], []

    async def one(request: bytes) -> None:
        client = free.pop() if free else Client(port, outcome)
        await client.ask(request)
        free.append(client)

    end, at = time.perf_counter() + seconds, time.perf_counter()
    while at < end:
        at += random.expovariate(rate)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(random.choice(requests))))
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return outcome


async def disturb(port: int, request: bytes, kind: int) -> None:
    """A client that sends a byte now and then, never reads, or leaves at once; again and again."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            if kind == 0:
                for byte in request[:600]:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.3)
            elif kind == 1:
                writer.write(request[: len(request) // 2])
                await asyncio.sleep(3)
            else:
                writer.write(request)
                await asyncio.sleep(0.5)
            writer.close()
        except OSError:
            await asyncio.sleep(0.1)


async def under_attack(port: int, requests: Sequence[bytes], seconds: float) -> Outcome:
    """The clients of ``saturate``, while others are slow or vanish."""
    tasks = [asyncio.ensure_future(disturb(port, requests[0], i % 3)) for i in range(SLOW)]
    await asyncio.sleep(0.5)
    end = time.perf_counter() + seconds
    try:
        return await saturate(port, requests, lambda _: time.perf_counter() > end)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def service(model: str, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """``gfocal serve`` in a process: its port and its id."""
    command = [sys.executable, "-m", "gfocal", "serve", model, "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            while (found := re.search(r"http://\S+?:(\d+)", read_all(log))) is None:
                assert process.poll() is None, read_all(log)
                time.sleep(0.1)
            yield int(found[1]), process.pid
            row("lines of its log", str(len(read_all(log).splitlines())))
        finally:
            process.terminate()


def read_all(file: IO[str]) -> str:
    """All that another process has written into a file."""
    return os.pread(file.fileno(), 10**8, 0).decode()


def memory_of(pid: int) -> float:
    """MiB that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def detect_speed(model: str, files: Sequence[str], batch: int, seconds: float) -> float:
    """Images per second of ``model.detect``."""
    command = [sys.executable, "-c", DETECT, model, str(batch), str(seconds), *files]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def percentiles(seconds: Sequence[float]) -> str:
    """Of latencies, in milliseconds."""
    ordered = sorted(seconds)
    return ", ".join(f"p{p} {1000 * ordered[int(p / 100 * (len(ordered) - 1))]:.0f} ms" for p in (50, 95, 99))


def row(name: str, value: str) -> None:
    print(f"| {name} | {value} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--requests", type=int, default=20_000, help="of the measurement of memory")
    parser.add_argument("--max-images", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    files = sorted(map(str, args.folder.rglob("*.jp*g")))[: args.max_images]
    requests = [request_of(Path(file).read_bytes()) for file in files]
    small = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(small, "JPEG")
    row("measured", f"{args.model}, {len(files)} images of {args.folder}, batches of {args.batch_size}")
    row("---", "---")
    seconds = args.seconds
    before = detect_speed(args.model, files, args.batch_size, seconds / 2)
    with service(args.model, ["--max-batch", str(args.batch_size)]) as (port, pid):
        asyncio.run(saturate(port, requests, lambda done: done >= 2 * CLIENTS))
        cpu, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        full = asyncio.run(saturate(port, requests, lambda _: time.perf_counter() - start > seconds))
        rate = full.statuses[200] / (time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        row(f"{CLIENTS} clients at once", f"{rate:.1f} images/s; {percentiles(full.seconds)}; {dict(full.statuses)}")
        row("the clients' share of a core", f"{used / seconds:.2f}")
        half = asyncio.run(arrive(port, requests, rate / 2, seconds))
        row("half of that, at random", f"{percentiles(half.seconds)}; {dict(half.statuses)}")
        begin = time.perf_counter()
        other = asyncio.run(under_attack(port, requests, seconds))
        speed = other.statuses[200] / (time.perf_counter() - begin)
        row(
            f"with {SLOW} slow or vanishing clients",
            f"{speed:.1f} images/s for the others; {percentiles(other.seconds)}; {dict(other.statuses)}",
        )
        held, statuses = [memory_of(pid)], Counter[int]()
        for _ in range(PARTS):
            share = args.requests // PARTS
            some = asyncio.run(saturate(port, [request_of(small.getvalue())], lambda done, n=share: done >= n))
            held.append(memory_of(pid))
            statuses += some.statuses
        row(
            f"memory over {args.requests:,} requests",
            f"{', '.join(f'{one:.0f}' for one in held)} MiB; {dict(statuses)}",
        )
    last = detect_speed(args.model, files, args.batch_size, seconds / 2)
    row(f"model.detect in batches of {args.batch_size}", f"{before:.1f} and {last:.1f} images/s")
    row("service / model.detect", f"{rate / ((before + last) / 2):.2f}")


if __name__ == "__main__":
    main()
