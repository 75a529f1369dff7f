"""Files are whole or not there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gfocal.atomic import atomic_folder, atomic_write, set_aside


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="needs modes and a umask")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_others_may_read_it_as_any_new_file_or_as_the_one_it_replaces(tmp_path: Path, umask: int):
    def private(path: Path) -> None:  # as safetensors writes
        path.write_text("new")
        path.chmod(0o600)

    before = os.umask(umask)
    try:
        for name in ("new", "old"):
            if name == "old":
                (tmp_path / name).touch()
                (tmp_path / name).chmod(0o640)
            with atomic_write(tmp_path / name) as temporary:
                private(temporary)
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "old")]
    assert modes == [0o666 & ~umask, 0o640]


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_kill_in_the_middle_leaves_the_old_content(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import sys, time\nfrom gfocal.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as t:\n    t.write_text('half')\n"
        "    print('in', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "in"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    assert target.read_text() == "old"


def test_a_folder_is_whole_or_not_there(tmp_path: Path):
    target = tmp_path / "set"
    target.mkdir()
    with atomic_folder(target) as work:
        (work / "a.txt").write_text("a")
        assert os.listdir(target) == []
    assert os.listdir(target) == ["a.txt"]

    def fail():
        with atomic_folder(tmp_path / "other") as work:
            (work / "a.txt").write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == ["set"]


FILL = """
import sys, time
from pathlib import Path
from gfocal.atomic import atomic_folder
with atomic_folder(sys.argv[1]) as work:
    (work / "a.txt").write_text("a")
    Path(sys.argv[1] + ".ready").touch()
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, and locks")
def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path):
    mine = tmp_path / ".notes.0123abcd.tmp"
    mine.mkdir()
    children = [subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path / name)]) for name in ("killed", "alive")]
    try:
        end = time.monotonic() + 60
        while len(list(tmp_path.glob("*.ready"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        children[0].kill()
        children[0].wait()
        assert len(list(tmp_path.glob(".*.gfocal-tmp"))) == 2
        with atomic_folder(tmp_path / "new") as work:
            (work / "a.txt").write_text("a")
        left = [path.name for path in tmp_path.glob(".*")]
        assert len(left) == 2
        assert mine.name in left
        assert any(name.startswith(".alive.") for name in left)
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_file_that_is_set_aside_replaces_none(tmp_path: Path):
    for number in (1, 2):
        (tmp_path / "run.json").write_text(str(number))
        assert set_aside(tmp_path / "run.json") == tmp_path / f"run.aside-{number}.json"
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["1", "2"]
