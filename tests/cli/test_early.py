"""What the command line answers without torch, and which words it suggests for typos."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gfocal.cli import USER_ERROR

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"

SLOW = ("torch", "torchvision", "timm", "numpy", "PIL", "accelerate", "huggingface_hub")
PROGRAM = """
import sys
from gfocal.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
sys.stderr.write("\\nloaded: " + " ".join(name for name in {slow!r} if name in sys.modules))
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("detect nosuch.jpg", "gfocal detect nanodet_plus_m_416_coco nosuch.jpg"),
        ("detect nosuch.safetensors here.jpg", "nosuch.safetensors: no such file or folder"),
        ("detect gfl_r50_1x_cocoo here.jpg", "did you mean gfl_r50_1x_coco"),
        ("detect gfl_r50_1x_coco nosuch.jpg neither.jpg", "nosuch.jpg: no such file or folder (and 1 more)"),
        ("detect gfl_r50_1x_coco clip.mp4", "clip.mp4: no such file or folder"),
        ("check nosuch", "nosuch: no such file or folder"),
        ("check here --config lihgt", "did you mean light?"),
        ("train nosuch", "nosuch: no such file or folder"),
        ("train here --val nosuch", "nosuch: no such file or folder"),
        ("train here --config nosuch.toml", "there is no config 'nosuch.toml'"),
        ("train here --init-from gfl_r50_1x_cocoo", "did you mean gfl_r50_1x_coco"),
        ("eval nosuch here", "nosuch: no such file or folder"),
        ("eval gfl_r50_1x_coco nosuch", "give any COCO, VOC or YOLO folder instead"),
        ("trian here", "did you mean train?"),
        ("train here --epcohs 3", "did you mean --epochs?"),
        ("--help", ""),
        ("train --help", ""),
        ("--version", ""),
    ],
)
def test_mistakes_are_answered_before_torch_is_imported(tmp_path: Path, arguments: str, expected: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here.jpg").touch()
    command = [sys.executable, "-c", PROGRAM.format(slow=SLOW), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    printed, _, loaded = done.stderr.rpartition("\nloaded: ")
    assert done.returncode == (USER_ERROR if expected else 0), done.stderr
    assert expected in (printed.splitlines() or [""])[-1]
    assert not loaded


def test_work_begins_with_a_line_while_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for arguments, first in (
        (["check", "here"], "reading here"),
        (["train", "here"], "reading here"),
        (["detect", "model.safetensors", "here"], "loading model.safetensors"),
    ):
        (tmp_path / "model.safetensors").touch()
        command = [sys.executable, "-m", "gfocal", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.stderr.splitlines()[0] == first
        assert done.returncode == USER_ERROR


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("trian", "x"), "did you mean train?"),
        (("train", "x", "--epcohs", "3"), "unrecognized arguments: --epcohs 3; did you mean --epochs?"),
        (("train", "x", "--epoch", "3"), "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (("train", "x", "--short-size=320"), "did you mean --short-side?"),
        (
            ("convert", "x", "--too", "yolo", "--out", "y"),
            "the following arguments are required: --to; did you mean --to?",
        ),
        (("convert", "x", "--to", "yollo", "--out", "y"), "did you mean yolo?"),
        (("lab", "rnu", "1a"), "did you mean run?"),
        (("lab", "run", "1a", "--seedz", "3"), "did you mean --seeds?"),
        (("detect", "m", "x", "--scorethreshold", "0.5"), "did you mean --score-threshold?"),
    ],
)
def test_typos_of_options_and_commands(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = run(*arguments)
    assert code == USER_ERROR
    assert expected in err.splitlines()[-1]


def test_nothing_is_suggested_for_what_resembles_nothing(run: Run) -> None:
    for arguments in (("train", "x", "--zzz"), ("train", "x", "--nope"), ("xyzzy",)):
        assert "did you mean" not in run(*arguments)[2]


def test_devices_of_training(run: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    code, _, err = run("train", tmp_path / "here", "--no-pretrained", "--device", "cuda:77")
    assert code == USER_ERROR
    assert "gfocal: --device cuda:77: not available" in err.splitlines()[-1]


def test_the_cpu_as_the_device_of_training_is_a_value_of_the_config() -> None:
    from gfocal.cli.main import build_parser
    from gfocal.cli.training_config import build_config

    arguments = ["train", "x", "--no-pretrained"]
    assert build_config(build_parser().parse_args([*arguments, "--device", "cpu"])).run.cpu
    assert not build_config(build_parser().parse_args(arguments)).run.cpu


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("clip.MP4", "a video, where images are expected; give its frames (ffmpeg -i clip.MP4 "),
        ("a b.avi", "ffmpeg -i 'a b.avi' "),
        ("rtsp://camera/1", "a video, where images are expected"),
        (Path("rtsp://camera/1"), "a video, where images are expected"),
        ("https://example.org/a.jpg", "addresses are not supported; download the image"),
        ("nosuch.jpg", "no such file or folder"),
        ("*.jpg", ""),
        (".", ""),
    ],
)
def test_what_is_no_image_is_said(argument: str | Path, expected: str) -> None:
    from gfocal.inference.sources import reason_against

    reason = reason_against(argument)
    assert expected in reason
    assert bool(reason) == bool(expected)
