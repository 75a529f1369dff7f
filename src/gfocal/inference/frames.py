"""Frames of a video file, a stream or a camera, one after another, upright and with their exact times."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gfocal.data.images import begins_as_video, check_size, max_pixels
from gfocal.errors import DataError, MissingExtraError
from gfocal.inference.sources import VideoKind, without_password

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

OPEN_SECONDS, READ_SECONDS = 20.0, 20.0  # until a source that says nothing, or sends no video, is given up
CLOCK_SECONDS = 1.0  # a time that is earlier than the one before by more is one of a clock that began again
USUAL_RATE = Fraction(30)  # where a source states none
QUARTER = 90  # degrees
_CAMERAS = {"linux": ("v4l2", "/dev/video"), "darwin": ("avfoundation", ""), "win32": ("dshow", "video=")}


@dataclass(frozen=True)
class Frame:
    """A decoded frame; its pixels are converted when they are asked for."""

    index: int  # among all frames of the source, from 0
    pts: int  # when it is shown, in units of the ``time_base`` of its video
    time: float  # the same in seconds
    size: tuple[int, int]  # upright height and width, pixels
    decoded: av.VideoFrame

    def read_pixels(self) -> Tensor:
        """The image as RGB, turned as players turn it by the metadata of the file. (3, H, W) uint8"""
        pixels = np.rot90(self.decoded.to_ndarray(format="rgb24"), _quarters(self.decoded))
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@dataclass
class Video:
    """An open source of frames; ``frames`` may be iterated once."""

    name: str  # as the user gave it, without a password
    kind: VideoKind
    container: InputContainer
    stream: VideoStream
    time_base: Fraction  # seconds
    rate: Fraction  # frames a second, on average as far as the source tells
    num_frames: int | None  # as the file states it, or by its duration; None: unknown
    num_broken: int = 0  # packets that could not be decoded
    num_untimed: int = 0  # frames that came without a time, or not after the one before
    failure: str = ""  # why reading ended before the end
    is_stopped: bool = False  # ``frames`` ends with the next packet, whether it has a frame or not

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded, in the order in which they are shown.

        Times increase from frame to frame: one without a time, or with one that is not later than that of the frame
        before, gets the next. Where the clock of the source begins again, they continue from the last one.
        """
        index, last, shift = 0, None, 0
        step = max(1, round(1 / (self.rate * self.time_base)))
        limit = max_pixels()
        for decoded in self._decode():
            pts = None if decoded.pts is None else decoded.pts + shift
            if pts is None or (last is not None and pts <= last):
                self.num_untimed += 1
                following = 0 if last is None else last + step
                if pts is not None and last is not None and (last - pts) * self.time_base > CLOCK_SECONDS:
                    shift += following - pts
                    pts = following
                pts = following if pts is None or last is None else max(pts, last + 1)
            size = (decoded.height, decoded.width)
            check_size(self.name, size, limit)
            upright = (size[1], size[0]) if _quarters(decoded) % 2 else size
            yield Frame(index, pts, float(pts * self.time_base), upright, decoded)
            index, last = index + 1, pts

    def stop(self) -> None:
        """End ``frames``, from another thread."""
        self.is_stopped = True

    def _decode(self) -> Iterator[av.VideoFrame]:
        import av.error

        # Of a live source packets of sound are taken too: they tell that there is no video where it says something.
        wanted = (self.stream,) if self.kind == "file" else self.container.streams.get()
        packets = self.container.demux(*wanted)
        heard = time.monotonic()
        while not self.is_stopped:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self.failure = _reason(error, heard, READ_SECONDS)
                break
            if packet is None:
                return
            if packet.stream.index != self.stream.index:
                if time.monotonic() - heard > READ_SECONDS:
                    self.failure = f"no video for {READ_SECONDS:g} seconds"
                    break
                continue
            heard = time.monotonic()
            try:
                found: list[Any] = packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                self.num_broken += 1
                continue
            yield from found
        if self.kind != "file" and not self.is_stopped:  # of a file that is resumed, these may be others
            yield from self._left_in_decoder()

    def _left_in_decoder(self) -> list[av.VideoFrame]:
        import av.error

        try:
            return self.stream.codec_context.decode(None)
        except av.error.FFmpegError:
            return []


@contextmanager
def open_video(name: str, kind: VideoKind) -> Iterator[Video]:
    """Open a video by its name, see ``gfocal.inference.sources.video_kind``.

    A file may not refer to others, nor to addresses, as playlists do.

    Raises:
        MissingExtraError: PyAV is not installed.
        DataError: it cannot be opened, or has no video in it.
    """
    import_av(name)
    import av.error

    shown = without_password(name)
    path, file_format, options = name, None, {"protocol_whitelist": "file"}
    if kind == "camera":
        path, file_format = _camera(name)
        options = {}
    elif kind == "stream" or "://" in name:
        options = {"rtsp_transport": "tcp", "allowed_media_types": "video"} if name.lower().startswith("rtsp") else {}
    start = time.monotonic()
    try:
        container = av.open(path, format=file_format, options=options, timeout=(OPEN_SECONDS, READ_SECONDS))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = _reason(error, start, OPEN_SECONDS)
        if os.path.isfile(path) and isinstance(error, av.error.InvalidDataError):
            reason = _reason_against_file(path)
        raise DataError(f"{shown}: cannot be opened as video: {reason}") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{shown}: has no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO" if kind == "file" else "SLICE"  # threads for whole frames hold some of them back
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        time_base = stream.time_base or 1 / rate
        yield Video(shown, kind, container, stream, time_base, rate, _count(container, stream, rate, kind))


def import_av(name: str) -> None:
    """Raise MissingExtraError, which names the extra, if PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{name}: video needs the package av ({error}): pip install 'gfocal[video]'"
        ) from error


def take_newest(frames: Iterator[Frame], stop: Callable[[], object] = lambda: None) -> Iterator[Frame]:
    """The newest frame whenever one is asked for: of a live source, those that came meanwhile are left out.

    A thread reads, so that the source never waits for the network. ``stop`` is called when no more are wanted, and
    ends ``frames`` soon.
    """
    changed = Condition()
    newest: list[Frame] = []  # one at most
    errors: list[BaseException] = []
    is_over = is_unwanted = False

    def read() -> None:
        nonlocal is_over
        try:
            for frame in frames:
                with changed:
                    newest[:] = [frame]
                    changed.notify()
                    if is_unwanted:
                        return
        except Exception as error:
            errors.append(error)
        finally:
            with changed:
                is_over = True
                changed.notify()

    reader = Thread(target=read, name="frames", daemon=True)
    reader.start()
    try:
        while True:
            with changed:
                while not newest and not is_over:
                    changed.wait(0.5)  # not forever, so that Ctrl-C is seen on every system
                if not newest:
                    break
                frame = newest.pop()
            yield frame
        if errors:
            raise errors[0]
    finally:
        is_unwanted = True
        stop()
        reader.join()  # the source must not be closed under it; it ends with the next frame, or the time limit


def _quarters(decoded: av.VideoFrame) -> int:
    """How many quarters of a turn, counterclockwise, make a frame upright."""
    return round(decoded.rotation / QUARTER)


def _count(container: InputContainer, stream: VideoStream, rate: Fraction, kind: VideoKind) -> int | None:
    if kind != "file":
        return None
    if stream.frames:
        return stream.frames
    container_seconds = (container.duration or 0) / 1e6
    seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else container_seconds
    return round(seconds * rate) or None


def _camera(name: str) -> tuple[str, str]:
    """What FFmpeg calls a camera on this system, and the format by which it reads it."""
    kind, prefix = next((v for k, v in _CAMERAS.items() if sys.platform.startswith(k)), _CAMERAS["linux"])
    _, _, which = name.partition(":")
    if os.path.isabs(name):
        return name, kind
    if sys.platform == "win32" and not which:
        raise DataError(f"{name}: on Windows, cameras have names: camera:NAME, as the device manager shows it")
    return f"{prefix}{which or 0}", kind


def _reason_against_file(path: str) -> str:
    """Why the content of a file is no video."""
    if not os.path.getsize(path):
        return "empty file"
    if begins_as_video(path):
        return "begins as one and is not whole, as a recording or copy that was stopped: copy or record it again"
    return "its content is not one, or its start is broken"


def _reason(error: BaseException, since: float, limit: float) -> str:
    """Why reading failed; FFmpeg says many things where it was only too slow."""
    if time.monotonic() - since >= limit:
        return f"silent for {limit:g} seconds"
    return getattr(error, "strerror", None) or str(error)
