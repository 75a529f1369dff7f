"""Ctrl-C while libraries are loaded, and names of files that hold control characters."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from gfocal.cli import main as command_line
from gfocal.console import fail, note, report_error, say, warn

# Ctrl-C, at the first import of a module whose name is the first argument; what comes of it depends on the way.
INTERRUPTED = """
import os, signal, sys
module, way, *command = sys.argv[1:]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            if way == "hidden":  # compiled code reports an error of its own
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except KeyboardInterrupt:
                    raise SystemError("initialization raised unreported exception") from None
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from gfocal.__main__ import run
sys.argv[1:] = command
sys.exit(run())
"""


def interrupted(module: str, way: str, *command: str) -> subprocess.CompletedProcess[str]:
    """The end of a command that gets Ctrl-C at the import of a module."""
    arguments: Sequence[str] = [sys.executable, "-c", INTERRUPTED, module, way, *command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(os.name != "posix", reason="needs os.kill of a process group leader")
@pytest.mark.parametrize("way", ["plain", "hidden"])
@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("gfocal.cli.main", "check"),
        ("rich.console", "check"),
        ("torch", "check"),
        ("torch.nn.functional", "train"),
        ("torchvision", "eval"),
        ("gfocal.training.stopping", "train"),
    ],
)
def test_ctrl_c_while_libraries_are_loaded_is_one_line(module: str, command: str, way: str, tmp_path: Path) -> None:
    if way == "hidden" and module in ("gfocal.cli.main", "rich.console"):
        pytest.skip("no compiled code")
    data, model = tmp_path / "x", tmp_path / "a.safetensors"  # what is not there is answered before libraries load
    data.mkdir()
    (data / "a.jpg").touch()
    model.touch()
    arguments = {"check": [data], "train": [data, "--out", tmp_path / "run"], "eval": [model, data]}
    done = interrupted(module, way, command, *map(str, arguments[command]))
    assert done.returncode == 130, done.stderr
    *before, last = done.stderr.strip().splitlines()
    assert last in ("stopped", "stopped before a state was saved; start again")
    # The first word of a command, and of train what it starts from where the weights cannot be had.
    assert all(line.startswith(("reading ", "loading ", "note: ")) for line in before), done.stderr
    assert done.stdout == ""


def test_the_handler_of_ctrl_c_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    with command_line.note_interruptions() as found:
        assert signal.getsignal(signal.SIGINT) is not before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert found.is_made
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("function", [say, note, warn, fail, report_error])
def test_what_is_printed_moves_no_cursor(function: object) -> None:
    shown = io.StringIO()
    assert callable(function)
    function(
        Console(file=shown, force_terminal=True, width=200, color_system=None), "a\x1b[2Jb\x9bc\u202ed :smile: [b]"
    )
    text = shown.getvalue().replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert text.strip().endswith("a\\x1b[2Jb\\x9bc\\u202ed :smile: [b]")


@pytest.mark.skipif(os.name != "posix", reason="such a name is no file elsewhere")
def test_convert_escapes_the_names_in_its_notes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\u202e"
    for folder in ("train/images", "train/labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "data/train/images" / f"{name}.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "data/train/images" / f"{name}.bmp")
    (tmp_path / "data/train/labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data/data.yaml").write_text("train: train/images\nnames: [cat]\n")
    for images in ("--copy", "--no-images"):
        out = tmp_path / f"out{images}"
        command_line.main(["convert", str(tmp_path / "data"), "--to", "voc", "--out", str(out), images])
    told = "".join(capfd.readouterr())
    assert "\\x1b[2J" in told
    assert "\x1b[2J" not in told
    assert "\u202e" not in told


def test_a_run_stopped_at_once_says_whether_something_was_saved(tmp_path: Path) -> None:
    args = argparse.Namespace(command="train", out=tmp_path, resume=False, auto_resume=False)
    at_once = KeyboardInterrupt("stopped at once; what was saved before is whole")
    said = command_line.describe_interruption(args, at_once, None)
    assert said == "stopped before a state was saved; start again"
    (tmp_path / "state.pt").touch()
    assert command_line.describe_interruption(args, at_once, None) == str(at_once)
