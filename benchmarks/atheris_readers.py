"""Coverage-guided fuzzing of the annotation readers with atheris (``pip install atheris``).

    python benchmarks/atheris_readers.py --seconds 300
    python benchmarks/atheris_readers.py --only "voc xml" --seconds 300

Where ``fuzz_readers.py`` follows a grammar, this is guided by the coverage of the readers: a file that reaches a new
line is kept in ``--corpus`` and mutated further. It starts from files of the grammar and applies the same checks.
Kinds that are read 40 files at a time there are read one at a time here. It ends at the first finding, with exit code
1 and a file ``crash-...`` in ``--out``, which can be replayed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", metavar="KIND", action="append", help="'coco json', ... (default: all)")
    arguments.add_argument("--seconds", type=int, default=60, help="for each kind")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--corpus", type=Path, default=Path("atheris-corpus"), help="files that reach new lines")
    arguments.add_argument("--out", type=Path, default=Path("atheris-findings"), help="where findings are stored")
    arguments.add_argument("--replay", type=Path, metavar="FILE", help="replay one file; needs --only")
    chosen = arguments.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install atheris (Linux and macOS, CPython)", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["gfocal.data"]):  # without torch, whose coverage does not matter
        from fuzz_readers import KINDS
    kinds = chosen.only or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        arguments.error(f"no such kind: {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    if chosen.replay is not None and len(kinds) != 1:
        arguments.error("--replay needs --only KIND")
    if len(kinds) > 1:  # libFuzzer ends its process, so each kind needs one
        own = [sys.executable, __file__, "--seconds", str(chosen.seconds), "--seed", str(chosen.seed)]
        own += ["--corpus", str(chosen.corpus), "--out", str(chosen.out)]
        return max(subprocess.run([*own, "--only", kind]).returncode != 0 for kind in kinds)
    fuzz(kinds[0], chosen)
    return 0


def fuzz(name: str, chosen: argparse.Namespace) -> None:
    """Fuzz one kind; never returns."""
    import atheris
    import torch

    from fuzz_checks import FindingError, install_alarm
    from fuzz_readers import GENERATORS, KINDS, call, create_dataset

    kind = KINDS[name]
    if len(kind.files) > 1:
        kind = replace(kind, files=kind.files[:1], images=kind.images[:1])
    room = tempfile.TemporaryDirectory(
        prefix="gfocal-atheris-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    home = create_dataset(Path(room.name), kind)
    torch.set_num_threads(1)
    count, started = 0, time.monotonic()

    def one(content: bytes) -> None:
        nonlocal count
        count += 1
        (home / kind.files[0]).write_bytes(content)
        install_alarm()  # libFuzzer replaces the handlers at its start
        try:
            call(kind, home, Random(zlib.crc32(content)), 5.0)  # selects the arguments of the reader
        except FindingError as error:
            print(f"{name}: {error.args[0]}: {error.args[1]}")
            raise
        if time.monotonic() - started > chosen.seconds:
            print(f"{name}: {count:,} files in {chosen.seconds} s, no findings", flush=True)
            room.cleanup()
            os._exit(0)

    if chosen.replay is not None:
        one(chosen.replay.read_bytes())
        return
    corpus = chosen.corpus / name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for number in range(200):
        content = GENERATORS[name](Random(f"{chosen.seed} {name} {number}"))
        if len(content) < 4096:
            (corpus / f"seed-{number}").write_bytes(content)
    options = ["-max_len=4096", f"-seed={chosen.seed}", f"-artifact_prefix={chosen.out}/", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *options, "-timeout=30", "-print_final_stats=1", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
