"""Fuzzer of ``read_image`` and ``image_size`` with mutated images: no crash, no hang, clear errors, equal sizes.

    python benchmarks/fuzz_images.py --images 10000 --jobs 2
    python benchmarks/fuzz_images.py --replay image-findings/png-4711.bin

Seeds are generated (``image_seeds.py``): JPEG, PNG, GIF, WebP, TIFF, BMP, PPM and JPEG 2000, each in unusual
variants. Bits are flipped, files are truncated and spliced, numbers in headers and chunk lengths are replaced by huge
ones. An image that takes 3 GiB, more than its pixels can need, is a finding; a decoder that crashes ends only its own
process. PIL's limits are unchanged. Exit code 1 if there are findings.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch
from rich.console import Console

from fuzz_checks import AlarmError, FindingError, check_message, install_alarm, normalize_message, set_alarm
from fuzz_pool import CRASH, HANG, INVALID, Finding, Tally, Work, chunks, reasons_table, run, table
from gfocal.console import say
from gfocal.data.images import image_header, image_size, read_image
from gfocal.errors import ImageError
from image_seeds import seeds

MAX_IN_USE = 3 << 30  # bytes; the largest image that PIL allows needs less, including the copies for RGB
MEMORY = 16 << 30  # of mapped memory: a length in a file may allocate 4 GiB at once that are never used
STUCK = 30.0


HUGE = (0, 1, 2, 255, 256, 32767, 65500, 65535, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 9000, 14000, 100000)


def mutate(rng: Random, kinds: dict[str, list[bytes]], kind: str) -> bytes:
    """An image of a kind with one to four changes."""
    content = rng.choice(kinds[kind])
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(_MUTATIONS)(rng, content, kinds)
    if kind == "png" and rng.random() < 0.6:
        content = fix_checksums(content)
    return content


def _place(rng: Random, content: bytes) -> int:
    """A random offset, more often in the header than behind it."""
    return rng.randrange(min(len(content), rng.choice((64, 256, 1 << 30, 1 << 30))) or 1)


def _flip(rng: Random, content: bytes, _: Any) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(rng: Random, content: bytes, _: Any) -> bytes:
    """Replace a number in the header, in either byte order: sizes, lengths, counts, offsets."""
    at, value = _place(rng, content), rng.choice(HUGE)
    form = rng.choice(("<H", ">H", "<I", ">I", "B"))
    size = struct.calcsize(form)
    return content[:at] + struct.pack(form, value & (256**size - 1)) + content[at + size :]


def _truncate(rng: Random, content: bytes, _: Any) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _cut(rng: Random, content: bytes, _: Any) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.choice((1, 2, 4, 16, 200)) :]


def _double(rng: Random, content: bytes, _: Any) -> bytes:
    at, size = _place(rng, content), rng.choice((1, 4, 12, 60))
    return content[:at] + content[at : at + size] * rng.choice((2, 2, 3, 500)) + content[at + size :]


def _splice(rng: Random, content: bytes, kinds: dict[str, list[bytes]]) -> bytes:
    other = rng.choice(kinds[rng.choice(list(kinds))])
    at, start = _place(rng, content), rng.randrange(len(other))
    return content[:at] + other[start : start + rng.choice((8, 64, 1 << 30))] + content[at + rng.choice((0, 8, 64)) :]


def _noise(rng: Random, content: bytes, _: Any) -> bytes:
    at = _place(rng, content)
    noise = rng.choice((rng.randbytes(8), b"\xff" * 8, b"\0" * 8, b"\xff\xd8\xff\xe1\xff\xff", rng.randbytes(300)))
    return content[:at] + noise + content[at + rng.choice((0, len(noise))) :]


def _words(rng: Random, content: bytes, _: Any) -> bytes:
    """Replace a number written in digits, as in PPM."""
    found = list(re.finditer(rb"\d+", content[:64]))
    if not found:
        return _number(rng, content, None)
    start, end = rng.choice(found).span()
    return content[:start] + rng.choice((b"0", b"-1", b"99999", b"9" * 30, b"1e3", b"", b"65536")) + content[end:]


_MUTATIONS: tuple[Callable[[Random, bytes, Any], bytes], ...] = (
    *(_flip, _flip, _flip, _number, _number, _number, _truncate, _cut, _double, _splice, _noise, _words),
)


def fix_checksums(content: bytes) -> bytes:
    """A PNG with correct checksums of its chunks, so that mutations are not detected by these."""
    done, rest = content[:8], content[8:]
    while len(rest) >= 12:
        length = int.from_bytes(rest[:4], "big")
        if length > len(rest) - 12:
            break
        body = rest[4 : 8 + length]
        done += rest[:4] + body + struct.pack(">I", zlib.crc32(body))
        rest = rest[12 + length :]
    return done + rest


def run_case(path: Path, limit: float) -> tuple[bool, Counter[str]]:
    """Read an image and its size. Returns whether it was read, and the messages. Raises FindingError."""
    outcomes: list[Any] = []
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory in use
    messages: Counter[str] = Counter()
    for read in (image_size, image_header, read_image):
        set_alarm(limit)
        try:
            outcomes.append(read(path))
        except ImageError as error:
            check_message(str(error), path)
            if isinstance(error.__cause__, MemoryError) and outcomes and outcomes[0] is not None:
                raise FindingError(CRASH, f"{read.__name__}: an image of {outcomes[0]} ran out of memory") from error
            messages[normalize_message(str(error), path)] += 1
            outcomes.append(None)
        except AlarmError:
            raise FindingError(HANG, f"{read.__name__}: the alarm rang") from None
        except BaseException as error:
            raise FindingError(CRASH, f"{read.__name__}: {type(error).__name__}: {str(error)[:200]}") from error
        finally:
            set_alarm(0)
    size, _, pixels = outcomes
    status = Path("/proc/self/status").read_text()
    peak, now = (int(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) << 10 for key in ("VmHWM", "VmRSS"))
    if peak - now > MAX_IN_USE:
        raise FindingError(CRASH, f"{(peak - now) / 2**30:.1f} GiB in use for an image of {size}")
    if pixels is not None and (
        not size or min(size) < 1 or (pixels.shape, pixels.dtype) != ((3, *size), torch.uint8)
    ):
        raise FindingError(
            INVALID, f"image_size says {size}, read_image gives {tuple(pixels.shape)} of {pixels.dtype}"
        )
    return pixels is not None, messages


def make_start(room: Path, seed: int, limit: float, out: Path) -> Callable[[], Work]:
    """The initialization of each process."""

    def start() -> Work:
        torch.set_num_threads(1)
        install_alarm()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes there for every broken code word
        kinds = seeds()
        path = Path(tempfile.mkdtemp(dir=room)) / "image.jpg"  # the content selects the decoder, not the name

        def work(kind: str, number: int) -> Tally:
            path.write_bytes(mutate(Random(f"{seed} {kind} {number}"), kinds, kind))
            tally = Tally(files=1, slowest_number=number)
            start = time.process_time()
            try:
                was_read, tally.reasons = run_case(path, limit)
                tally.clean, tally.refused = int(was_read), int(not was_read)
            except FindingError as error:
                found = Finding(kind, number, error.args[0], error.args[1], stored=str(out / f"{kind}-{number}.bin"))
                shutil.copy(path, found.stored)
                tally.findings.append(found)
            tally.slowest = time.process_time() - start
            return tally

        return work

    return start


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=2000, help="images in all")
    arguments.add_argument("--jobs", type=int, default=1, help="processes")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--limit", type=float, default=5.0, help="processor time that a call may take, in seconds")
    arguments.add_argument("--out", type=Path, default=Path("image-findings"), help="where findings are stored")
    arguments.add_argument("--replay", type=Path, metavar="FILE", help="replay a stored image")
    chosen = arguments.parse_args()
    if chosen.replay is not None:
        install_alarm()
        print(*run_case(chosen.replay.absolute(), chosen.limit))
        return 0
    kinds = seeds()
    plan = [part for kind in kinds for part in chunks(kind, -(-chosen.images // len(kinds)), 50)]
    chosen.out.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="gfocal-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    start = time.perf_counter()
    try:
        start_work = make_start(room, chosen.seed, chosen.limit, chosen.out.absolute())
        tallies = run(start_work, plan, chosen.jobs, max(STUCK, 3 * chosen.limit), MEMORY)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    seconds = time.perf_counter() - start
    findings = [finding for tally in tallies for finding in tally.findings]
    for finding in (f for f in findings if not f.stored):  # their processes have ended
        content = mutate(Random(f"{chosen.seed} {finding.kind} {finding.number}"), kinds, finding.kind)
        finding.stored = str(chosen.out / f"{finding.kind}-{finding.number}.bin")
        Path(finding.stored).write_bytes(content)
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(reasons_table("most frequent messages", list(kinds), tallies, 5))
    for finding in findings[:30]:
        text = f"{finding.kind} {finding.number}: {finding.what}: {finding.text} -> {finding.stored}"
        say(console, ascii(text)[1:-1])
    title = f"{chosen.images / seconds:,.0f} images a second, {seconds:.0f} s, seed {chosen.seed}"
    console.print(table(title, list(kinds), tallies))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
