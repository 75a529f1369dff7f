"""Two runs never write into one folder, and a run that was killed holds nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gfocal.errors import RunFolderInUseError
from gfocal.run_folder import RunFolder
from gfocal.training.environment import lock_folder

pytest.importorskip("fcntl", reason="this system has no locks that go with a process")
HOLD = """
import os, sys, time
from pathlib import Path
from gfocal.run_folder import RunFolder
from gfocal.training.environment import lock_folder
with lock_folder(RunFolder(Path(sys.argv[1]))):
    child = os.fork()  # as a process that loads images is
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that trains here; it has a child, whose number it says."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            subprocess.run(["kill", "-9", str(child)], check=False)


def test_a_folder_is_for_one_run_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        with (
            pytest.raises(RunFolderInUseError, match=r"another process is training here .* --out "),
            lock_folder(RunFolder(tmp_path)),
        ):
            pytest.fail("two at once")
        process.kill()
        process.wait()
        with lock_folder(RunFolder(tmp_path)):  # its child lives on, and holds nothing
            pass
    with lock_folder(RunFolder(tmp_path)):
        pass


def test_twice_in_one_process(tmp_path: Path) -> None:
    with lock_folder(RunFolder(tmp_path)):
        with pytest.raises(RunFolderInUseError, match="this process"), lock_folder(RunFolder(tmp_path / "." / "")):
            pytest.fail("two at once")
        (tmp_path / "other").mkdir()
        with lock_folder(RunFolder(tmp_path / "other")):
            pass
    with lock_folder(RunFolder(tmp_path)):
        pass


def test_a_lock_file_that_cannot_be_opened_blocks_nobody(tmp_path: Path) -> None:
    """Another user's file, for instance; for the superuser, who may write it, a folder in its place."""
    (tmp_path / ".run.lock").mkdir()
    with lock_folder(RunFolder(tmp_path)):
        pass


def test_train_is_refused_where_another_run_is_at_work(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "run"
    out.mkdir()
    with held(out):
        code, _, err = run(
            *("train", "synthetic", "--preset", "gfl_light_fpn", "--no-pretrained", "--epochs", 1, "--out", out)
        )
    assert code == 2
    assert err.splitlines()[-1].startswith(f"gfocal: {out}: another process is training here at this moment")
    assert [file.name for file in out.iterdir()] == [".run.lock"]
