"""gfocal detect on videos: every frame once, at its exact time, upright; killed runs end with the same files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from videos import LOW, MILLISECOND, TICK, lines_of, make_video, times_of

from conftest import tiny_detector
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.errors import DataError
from gfocal.inference import video as video_module
from gfocal.inference.journal import read_header
from gfocal.inference.video_lines import drawable, open_lines
from gfocal.models.model_file import save_model
from gfocal.visualize.annotate import DrawStyle
from gfocal.visualize.drawing import as_pil_image

av = pytest.importorskip("av", reason="needs the extra video: pip install 'gfocal[video]'")

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
UNEVEN = [0, 33, 67, 100, 250, 251, 252, 400, 1000, 1033]  # milliseconds


def turn(path: Path) -> None:
    """State in an MP4 file that players are to turn it a quarter clockwise, as phones do (ISO 14496-12, tkhd)."""
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 4
    place += 4 + (20 if content[place] == 0 else 32) + 16
    content[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def pixels_of(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(tiny_detector(), path)
    return path


@pytest.mark.parametrize(
    ("name", "times", "time_base"),
    [
        ("uneven.mkv", UNEVEN, MILLISECOND),
        ("uneven.mp4", [1001 * t for t in (0, 1, 2, 5, 6, 30, 31)], Fraction(1, 30000)),
        ("late.ts", [270000 + 3003 * i for i in range(40)], TICK),
        ("plain.avi", list(range(8)), Fraction(1001, 30000)),
    ],
)
def test_frames_in_are_frames_out_at_exact_times(
    run: Run, model: Path, tmp_path: Path, name: str, times: list[int], time_base: Fraction
) -> None:
    clip = make_video(tmp_path / name, times, time_base)
    expected = [pts * time_base for pts in times]
    assert times_of(clip) == expected
    code, out, _ = run("detect", model, clip, "--out", tmp_path / "out", *LOW, "--batch-size", "3")
    assert code == DONE, out
    found = tmp_path / "out" / clip.stem
    header, lines = lines_of(found.with_suffix(".jsonl"))
    assert [line["pts"] * Fraction(header["video"]["time_base"]) for line in lines] == expected
    assert [line["time"] for line in lines] == [float(t) for t in expected]
    assert [line["frame"] for line in lines] == list(range(len(times)))
    assert times_of(found.with_suffix(".mp4")) == expected
    assert all(len(line["boxes"]) == len(line["names"]) == len(line["edge_std"]) for line in lines)
    assert any(line["boxes"] for line in lines)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{clip.stem}.jsonl", f"{clip.stem}.mp4"]


def test_turned_frames_and_odd_sizes(run: Run, model: Path, tmp_path: Path) -> None:
    """Frames are upright as players show them; the annotated video is padded to even sizes, the boxes are not."""
    clip = make_video(tmp_path / "phone.mp4", UNEVEN, MILLISECOND)
    turn(clip)
    assert run("detect", model, clip, "--out", tmp_path / "out", "--score-threshold", "1")[0] == DONE
    _, lines = lines_of(tmp_path / "out" / "phone.jsonl")
    assert {tuple(line["size"]) for line in lines} == {(64, 48)}
    drawn = pixels_of(tmp_path / "out" / "phone.mp4")
    assert {image.shape for image in drawn} == {(64, 48, 3)}
    assert drawn[3][8, 40, 0] > 200  # the red quarter, now at the upper right
    assert drawn[3][8, 8, 0] < 160
    from PIL import Image

    from gfocal.inference.video_writer import VideoWriter

    with VideoWriter(tmp_path / "odd", MILLISECOND, Fraction(30)) as writer:
        for pts in (-5, 7, 11):
            writer.add(Image.new("RGB", (33, 47), (200, 30, 60)), pts)
    assert times_of(tmp_path / "odd") == [0, 12 * MILLISECOND, 16 * MILLISECOND]
    for image in pixels_of(tmp_path / "odd"):
        assert image.shape == (48, 34, 3)
        assert np.abs(image[-1, -1].astype(int) - (200, 30, 60)).max() < 8


def test_every_third_frame(run: Run, model: Path, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mkv", UNEVEN, MILLISECOND)
    options = (*LOW, "--batch-size", "2", "--out")
    assert run("detect", model, clip, *options, tmp_path / "all")[0] == DONE
    assert run("detect", model, clip, *options, tmp_path / "third", "--every", "3")[0] == DONE
    _, lines = lines_of(tmp_path / "all" / "clip.jsonl")
    assert lines_of(tmp_path / "third" / "clip.jsonl")[1] == lines[::3]
    assert times_of(tmp_path / "third" / "clip.mp4") == [t * MILLISECOND for t in UNEVEN[::3]]


@pytest.mark.parametrize("extra", [(), ("--track",), ("--track", "--no-images"), ("--edges", "std")])
def test_a_killed_run_ends_as_an_undisturbed_one(
    run: Run, model: Path, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    if "--track" in extra:
        pytest.importorskip("trackers", reason="needs the extra track: pip install 'gfocal[track]'")
    clip = make_video(tmp_path / "clip.mkv", UNEVEN, MILLISECOND)
    command = ("detect", model, clip, *LOW, *extra, "--out", tmp_path / "out")
    lines, drawn = tmp_path / "out" / "clip.jsonl", tmp_path / "out" / "clip.mp4"
    assert run(*command)[0] == DONE
    whole, picture = lines.read_bytes(), drawn.read_bytes() if drawn.exists() else b""
    assert ("track_ids" in json.loads(whole.splitlines()[3])) == ("--track" in extra)
    lines.write_bytes(b"\n".join(whole.split(b"\n")[:6])[:-20])  # killed while it wrote the fifth frame
    drawn.unlink(missing_ok=True)

    code, _, err = run(*command)
    assert code == USER_ERROR
    assert "stopped here after 4 frames" in err
    code, _, err = run(*command, "--every", "2", "--resume")
    assert code == USER_ERROR
    assert "every was 1 and is 2" in err
    assert run(*command, "--resume")[0] == DONE
    assert lines.read_bytes() == whole
    assert (drawn.read_bytes() if drawn.exists() else b"") == picture
    code, out, err = run(*command, "--resume")
    assert code == DONE
    assert "is done already" in out + err


def test_a_finished_run_is_not_replaced_by_another(run: Run, model: Path, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mkv", UNEVEN[:3], MILLISECOND)
    command = ("detect", model, clip, *LOW, "--no-images", "--out", tmp_path / "out")
    lines = tmp_path / "out" / "clip.jsonl"
    assert run(*command)[0] == DONE
    whole = lines.read_bytes()
    assert run(*command)[0] == DONE, "the same again"
    code, _, err = run(*command, "--every", "2")
    assert code == USER_ERROR
    assert "clip.jsonl: of a finished run with other settings: every was 1 and is 2; name another folder (--out)" in (
        " ".join(err.split())
    )
    assert lines.read_bytes() == whole
    with pytest.raises(DataError, match=r"of a finished run of a live source; name another folder \(--out\)"):
        open_lines(lines, read_header(lines), resume=False, is_live=True)
    assert lines.read_bytes() == whole
    lines.unlink()
    assert run(*command, "--every", "2")[0] == DONE


def test_ctrl_c_leaves_what_there_is(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_video(tmp_path / "clip.mkv", UNEVEN, MILLISECOND)
    make_line = video_module.make_line

    def stop(frame: Any, *rest: Any) -> Any:
        if frame.index == 6:
            raise KeyboardInterrupt
        return make_line(frame, *rest)

    monkeypatch.setattr(video_module, "make_line", stop)
    _, _, err = run("detect", model, clip, "--out", tmp_path / "out", *LOW)
    assert "stopped after 6 frames" in err
    assert len(times_of(tmp_path / "out" / "clip.mp4")) == 6
    monkeypatch.undo()
    assert run("detect", model, clip, "--out", tmp_path / "out", *LOW, "--resume")[0] == DONE
    assert times_of(tmp_path / "out" / "clip.mp4") == [t * MILLISECOND for t in UNEVEN]


def test_damaged_files(run: Run, model: Path, tmp_path: Path) -> None:
    """Frames that can be read are; the exit code says that not all can."""
    whole = make_video(tmp_path / "whole.mp4", UNEVEN, MILLISECOND).read_bytes()
    for name, content, reason in (
        ("text.mp4", b"not a video", "its content is not one"),
        ("empty.mp4", b"", "empty file"),
        ("half.mp4", whole[: len(whole) // 2], "begins as one and is not whole"),
    ):
        (tmp_path / name).write_bytes(content)
        code, _, err = run("detect", model, tmp_path / name, "--out", tmp_path / "out")
        assert code == USER_ERROR
        assert f"{name}: cannot be opened as video: {reason}" in " ".join(err.split())
    clip = make_video(tmp_path / "clip.avi", list(range(30)), Fraction(1, 30))
    content = bytearray(clip.read_bytes())
    middle = content.find(b"00dc", len(content) // 2) + 8
    content[middle : middle + 40] = b"\0" * 40
    clip.write_bytes(content)
    code, _, err = run("detect", model, clip, "--out", tmp_path / "out", *LOW)
    lines = [json.loads(line) for line in (tmp_path / "out" / "clip.jsonl").read_text().splitlines()[1:-1]]
    assert (code == SOME_FAILED) == ("could not be decoded" in err)
    assert len(lines) >= 20
    assert len(times_of(tmp_path / "out" / "clip.mp4")) == len(lines)


def test_videos_that_are_not_named_as_such(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a.mkv", "b.avi", "c.mp4"):
        clip = make_video(tmp_path / "videos" / name, list(range(3)), Fraction(1, 30))
        renamed = tmp_path / f"{name}.bin"
        renamed.write_bytes(clip.read_bytes())
        code, _, err = run("detect", model, renamed, "--out", tmp_path / "out")
        assert code != DONE
        assert f"{name}.bin: not an image, but begins as a video does" in " ".join(err.split())
    code, _, err = run("detect", model, tmp_path / "videos", "--out", tmp_path / "out")
    assert code != DONE
    assert f"3 videos, which are named one by one: {tmp_path / 'videos'}/*.mkv" in " ".join(err.split())


def test_a_playlist_named_as_a_video_reads_no_other_file(run: Run, model: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "secret.ts", [3003 * i for i in range(40)], TICK)
    playlist = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "clip.mp4").write_text(playlist)
    code, _, err = run("detect", model, tmp_path / "clip.mp4", "--out", tmp_path / "out", *LOW)
    assert code == USER_ERROR
    assert "clip.mp4" in err


def test_a_slow_network_gets_the_newest_frame() -> None:
    from gfocal.inference.frames import Frame, take_newest

    def arriving() -> Any:
        for index in range(50):
            sleep(0.004)
            yield Frame(index, index, float(index), (1, 1), None)  # type: ignore[arg-type]

    seen = []
    for frame in take_newest(arriving()):
        seen.append(frame.index)
        sleep(0.02)
    assert seen == sorted(set(seen))
    assert seen[-1] == 49
    assert len(seen) < 40


def test_boxes_that_only_continue_a_track_are_neither_drawn_nor_counted(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ten frames have a sure box, the others the same one at a low score."""
    pytest.importorskip("trackers", reason="needs the extra track: pip install 'gfocal[track]'")
    drawn: list[tuple[list[float], Any]] = []

    def find(_: Any, batches: Any, *__: Any) -> Any:
        for batch in batches:
            (frame, _image) = batch.keys[0]
            score = 0.8 if frame.index < 10 else 0.2
            record = {"labels": [1], "scores": [score], "boxes": [[8, 8, 40, 40]], "size": [48, 64]}
            yield batch, [replace(drawable(record, ("cat", "dog")), bin_sizes=torch.ones(1, 4))]

    def draw(_: Any, image: Any, found: Any, ids: Any = None) -> Any:
        drawn.append((found.scores.tolist(), ids))
        return as_pil_image(image, found.size)

    monkeypatch.setattr(video_module, "predict", find)
    monkeypatch.setattr(DrawStyle, "draw", draw)
    clip = make_video(tmp_path / "clip.mkv", [40 * i for i in range(20)], MILLISECOND)
    code, _, err = run("detect", model, clip, "--out", tmp_path / "out", "--track", "--num-workers", "0")
    assert code == DONE
    assert "10 boxes, 1 track of at least 5 (1 dog), in 20 frames of" in " ".join(err.split())
    _, lines = lines_of(tmp_path / "out" / "clip.jsonl")
    assert [line["track_ids"] for line in lines] == [[None]] + [[1]] * 19
    assert [line["is_sure"] for line in lines] == [[True]] * 10 + [[False]] * 10
    assert [len(scores) for scores, _ in drawn] == [1] * 10 + [0] * 10
    assert [ids for _, ids in drawn] == [[None]] + [[1]] * 9 + [[]] * 10
