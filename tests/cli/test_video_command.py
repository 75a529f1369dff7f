"""gfocal detect on videos: what is said to arguments and options that do not go together."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

from gfocal.cli import USER_ERROR
from gfocal.inference.sources import video_kind

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("clip.MP4", "file"),
        ("https://example.org/clip.mov", "file"),
        ("rtsp://camera/1", "stream"),
        ("https://example.org/live.m3u8", "stream"),
        ("udp://0.0.0.0:5000", "stream"),
        ("camera", "camera"),
        ("camera:2", "camera"),
        ("/dev/video0", "camera"),
        ("photo.jpg", None),
        ("folder", None),
        ("cameras", None),
    ],
)
def test_kinds(argument: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert video_kind(argument) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch.mp4"], "nosuch.mp4: no such file"),
        (["clip.mp4", "photo.jpg"], "photo.jpg: is no video, as clip.mp4 is"),
        (["photo.jpg", "--track"], "--every and --track are of videos"),
        (["photo.jpg", "--every", "2"], "--every and --track are of videos"),
        (["clip.mp4", "--tile", "512"], "--tile: is of images"),
        (["clip.mp4", "--viewer", "page.html"], "--viewer: is of images"),
        (["clip.mp4", "--format", "yolo"], "--format: is of images"),
        (["clip.mp4"], "pip install 'gfocal[video]'"),
    ],
)
def test_what_does_not_go_together(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    (tmp_path / "photo.jpg").write_bytes(b"x")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    monkeypatch.setattr("gfocal.cli.video.find_spec", lambda name: None if name == "av" else util.find_spec(name))
    code, _, err = run("detect", "model.safetensors", *arguments)
    assert code == USER_ERROR
    assert expected in err
