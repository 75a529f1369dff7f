"""Coverage-guided fuzzing of the annotation readers with atheris (``pip install atheris``).

    python benchmarks/atheris_readers.py --seconds 300
    python benchmarks/atheris_readers.py --only "voc xml" --seconds 300

Where ``fuzz_readers.py`` follows a grammar, this follows the branches of the readers: a file that reaches a new line
is kept in ``--corpus`` and changed further. It starts from files of the grammar and holds to the same evaluate. A kind
that is read 40 files at a time there is read one at a time here. Ends at the first finding, with exit code 1 and a
file ``crash-...`` in ``--out`` that ``--replay`` tries again.
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
    arguments.add_argument("--only", metavar="KIND", action="append", help="'coco json', 'voc xml', ...; all else")
    arguments.add_argument("--seconds", type=int, default=60, help="for each kind")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--corpus", type=Path, default=Path("atheris-corpus"), help="files that reach new lines")
    arguments.add_argument("--out", type=Path, default=Path("atheris-findings"), help="where findings are stored")
    arguments.add_argument("--replay", type=Path, metavar="FILE", help="try one file again; needs --only")
    chosen = arguments.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install atheris (Linux and macOS, CPython)", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["gfocal.data"]):  # not torch: its lines tell nothing here
        from fuzz_readers import KINDS
    kinds = chosen.only or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        arguments.error(f"no such kind: {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    if chosen.replay is not None and len(kinds) != 1:
        arguments.error("--replay needs --only KIND")
    if len(kinds) > 1:  # libFuzzer ends its process, so that each kind has one
        own = [sys.executable, __file__, "--seconds", str(chosen.seconds), "--seed", str(chosen.seed)]
        own += ["--corpus", str(chosen.corpus), "--out", str(chosen.out)]
        return max(subprocess.run([*own, "--only", kind]).returncode != 0 for kind in kinds)
    fuzz(kinds[0], chosen)
    return 0


def fuzz(name: str, chosen: argparse.Namespace) -> None:
    """Fuzz one kind; never returns."""
    import atheris
    import torch

    from fuzz_files import GROW
    from fuzz_judging import WrongError, listen
    from fuzz_readers import KINDS, call, lay_out

    kind = KINDS[name]
    if len(kind.files) > 1:
        kind = replace(kind, files=kind.files[:1], images=kind.images[:1])
    room = tempfile.TemporaryDirectory(
        prefix="gfocal-atheris-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    home = lay_out(Path(room.name), kind)
    torch.set_num_threads(1)
    count, started = 0, time.monotonic()

    def one(content: bytes) -> None:
        nonlocal count
        count += 1
        (home / kind.files[0]).write_bytes(content)
        listen()  # libFuzzer takes it for itself at the start
        try:
            call(kind, home, Random(zlib.crc32(content)), 5.0)  # which decides the way of calling
        except WrongError as wrong:
            print(f"{name}: {wrong.args[0]}: {wrong.args[1]}")
            raise
        if time.monotonic() - started > chosen.seconds:
            print(f"{name}: {count:,} files in {chosen.seconds} s, nothing found", flush=True)
            room.cleanup()
            os._exit(0)

    if chosen.replay is not None:
        one(chosen.replay.read_bytes())
        return
    corpus = chosen.corpus / name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for number in range(200):
        content = GROW[name](Random(f"{chosen.seed} {name} {number}"))
        if len(content) < 4096:
            (corpus / f"seed-{number}").write_bytes(content)
    options = ["-max_len=4096", f"-seed={chosen.seed}", f"-artifact_prefix={chosen.out}/", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *options, "-timeout=30", "-print_final_stats=1", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
