"""gfocal detect on streams: those that end, break off, start late, fall silent, or change in the middle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from videos import (
    LOW,
    TICK,
    all_lines,
    lines_of,
    make_video,
    paced,
    rtsp_camera,
    sender,
    serve,
    times_of,
    with_sound,
)

from conftest import tiny_detector
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.inference import frames as frames_module
from gfocal.models.model_file import save_model

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
SECOND = 30 * 3003  # thirty frames


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(tiny_detector(), path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three seconds as a transport stream."""
    path = tmp_path_factory.mktemp("clip") / "clip.ts"
    return make_video(path, [3003 * i for i in range(90)], TICK).read_bytes()


def test_a_stream_is_read_to_its_end(run: Run, model: Path, tmp_path: Path, clip: bytes) -> None:
    with serve(sender(paced(clip))) as port:
        address = f"tcp://127.0.0.1:{port}"
        code, out, err = run("detect", model, address, "--out", tmp_path / "out", *LOW)
    assert code == DONE, out + err
    (found,) = (tmp_path / "out").glob("*.jsonl")
    numbers = [line["frame"] for line in lines_of(found)[1]]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 89  # the newest is never left out
    assert len(times_of(found.with_suffix(".mp4"))) == len(numbers)
    code, _, err = run("detect", model, address, "--out", tmp_path / "out", "--resume")
    assert code == USER_ERROR
    assert "cannot be resumed" in err


@pytest.mark.parametrize("end", ["bye", "reset"])
def test_a_camera_by_rtsp(run: Run, model: Path, tmp_path: Path, clip: bytes, end: str) -> None:
    """What came before the connection was lost is kept, and no password is shown."""
    with serve(rtsp_camera(clip, end)) as port:
        address = f"rtsp://me:secret@127.0.0.1:{port}/live"
        code, out, err = run("detect", model, address, "--out", tmp_path / "out", *LOW)
    assert code in (DONE, SOME_FAILED), out + err  # FFmpeg says of a lost connection that it is the end
    lines = all_lines(tmp_path / "out")
    assert end == "reset" or lines[-1]["frame"] >= 80
    (drawn,) = (tmp_path / "out").glob("*.mp4")
    assert len(times_of(drawn)) == len(lines)
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert "secret" not in out + err + drawn.name
    assert b"secret" not in written
    assert f"rtsp://me:***@127.0.0.1:{port}/live" in err


def test_a_stream_that_breaks_off_in_a_packet(run: Run, model: Path, tmp_path: Path, clip: bytes) -> None:
    with serve(sender(paced(clip[: len(clip) // 2 + 77]))) as port:
        code, out, err = run("detect", model, f"tcp://127.0.0.1:{port}", "--out", tmp_path / "out", *LOW)
    assert code in (DONE, SOME_FAILED), out + err
    lines = all_lines(tmp_path / "out")
    assert 30 < lines[-1]["frame"] < 60
    (drawn,) = (tmp_path / "out").glob("*.mp4")
    assert len(times_of(drawn)) == len(lines)


def test_a_stream_that_starts_late_and_one_that_never_does(
    run: Run, model: Path, tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(sender([1.5, *paced(clip)])) as port:
        code, out, err = run("detect", model, f"tcp://127.0.0.1:{port}", "--out", tmp_path / "late", *LOW)
    assert code == DONE, out + err
    assert all_lines(tmp_path / "late")[-1]["frame"] == 89
    monkeypatch.setattr(frames_module, "OPEN_SECONDS", 0.5)
    with serve(sender([2.0])) as port:
        code, _, err = run("detect", model, f"tcp://127.0.0.1:{port}", "--out", tmp_path / "never", *LOW)
    assert code == USER_ERROR
    assert "cannot be opened as video: silent for 0.5 seconds" in err


def test_a_stream_whose_sound_goes_on_without_video_ends(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames_module, "READ_SECONDS", 1.0)
    content = with_sound(tmp_path / "sound.ts", 2, 30).read_bytes()
    step = len(content) // 200
    parts = [part for start in range(0, len(content), step) for part in (content[start : start + step], 0.05)]
    start = monotonic()
    with serve(sender(parts)) as port:
        code, out, err = run("detect", model, f"tcp://127.0.0.1:{port}", "--out", tmp_path / "out", *LOW)
        assert monotonic() - start < 9  # and not the ten seconds that it is sent for
    assert code == SOME_FAILED, out + err
    assert "no video for 1 seconds" in err
    assert all_lines(tmp_path / "out")[-1]["frame"] >= 46  # the last one ends where the next begins


def test_a_stream_whose_size_changes_and_whose_clock_begins_again(
    run: Run, model: Path, tmp_path: Path, clip: bytes
) -> None:
    """As of a camera that is set to another size: it starts again, from time 0."""
    other = make_video(tmp_path / "other.ts", [3003 * i for i in range(90)], TICK, (64, 96)).read_bytes()
    with serve(sender([*paced(clip), *paced(other)])) as port:
        code, out, err = run("detect", model, f"tcp://127.0.0.1:{port}", "--out", tmp_path / "out", *LOW)
    assert code == DONE, out + err
    lines = all_lines(tmp_path / "out")
    assert {tuple(line["size"]) for line in lines} == {(48, 64), (64, 96)}
    pts = [line["pts"] for line in lines]
    assert pts == sorted(set(pts))
    assert abs(pts[-1] - pts[0] - 3003 * (lines[-1]["frame"] - lines[0]["frame"])) < SECOND / 10
    (drawn,) = (tmp_path / "out").glob("*.mp4")
    assert len(times_of(drawn)) == len(lines)
