"""Small videos for tests, what is in them, and servers of streams on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra video: pip install 'gfocal[video]'")

MILLISECOND, TICK = Fraction(1, 1000), Fraction(1, 90000)
LOW = ("--score-threshold", "0.0101", "--max-detections", "9", "--num-workers", "1")
TS_PACKET, RTP_PAYLOAD = 188, 7 * 188  # bytes

Part = bytes | float  # of what a server sends: content, or seconds of silence


def make_video(path: Path, times: Sequence[int], time_base: Fraction, size: tuple[int, int] = (48, 64)) -> Path:
    """Noise, red in the upper left quarter; ``size`` is height and width."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if path.suffix == ".avi" else "libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        for pts in times:
            pixels = generator.integers(0, 120, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
            pixels = pixels.repeat(4, 0).repeat(4, 1)
            pixels[: size[0] // 2, : size[1] // 2] = (250, 0, 0)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = pts, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def lines_of(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header, *lines, end = map(json.loads, path.read_text().splitlines())
    assert end == {"done": {"failed": 0}}
    return header["journal"], lines


@contextmanager
def serve(talk: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a server that talks to one client, and then leaves."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    talk(connection)
                except OSError:  # the client left
                    return

        thread = Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


def sender(parts: Iterable[Part]) -> Callable[[socket.socket], None]:
    """Sends content, with silence between, as it is."""

    def talk(connection: socket.socket) -> None:
        for part in parts:
            if isinstance(part, bytes):
                connection.sendall(part)
            else:
                sleep(part)

    return talk


def paced(content: bytes, seconds: float = 0.01) -> Iterator[Part]:
    """Content in pieces that do not end with a packet."""
    for start in range(0, len(content), 20_000):
        yield content[start : start + 20_000]
        yield seconds


def rtsp_camera(content: bytes, end: str) -> Callable[[socket.socket], None]:
    """An RTSP server (RFC 2326) that plays an MPEG transport stream over the same connection (RFC 2250).

    It then says that this was the end (``bye``, RFC 3550 section 6.6), or resets the connection (``reset``).
    """
    sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
    answers = {
        "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""),
        "DESCRIBE": ("Content-Type: application/sdp\r\n", sdp),
        "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
        "PLAY": ("Session: 1\r\n", ""),
    }

    def talk(connection: socket.socket) -> None:
        file, method = connection.makefile("rb"), ""
        while method != "PLAY":
            request = iter(file.readline, b"\r\n")
            method = next(request).split()[0].decode()
            number = next(line for line in request if line.lower().startswith(b"cseq")).decode()
            for _ in request:
                pass
            head, body = answers[method]
            connection.sendall(f"RTSP/1.0 200 OK\r\n{number}{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        for index, start in enumerate(range(0, len(content), RTP_PAYLOAD)):
            head = bytes([0x80, 33]) + index.to_bytes(2, "big") + (index * 900).to_bytes(4, "big") + b"\0\0\0\1"
            packet = head + content[start : start + RTP_PAYLOAD]
            connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
            sleep(0.002)
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
            file.close()
        else:
            connection.sendall(b"$\1\0\10\x81\xcb\0\1\0\0\0\1")

    return talk


def with_sound(path: Path, video_seconds: int, sound_seconds: int) -> Path:
    """A transport stream whose sound goes on after the last image."""
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("mp2", rate=48000)
        for second in range(max(video_seconds, sound_seconds)):
            for i in range(25 * (second < video_seconds)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40, np.uint8), "rgb24")
                frame.pts, frame.time_base = 25 * second + i, Fraction(1, 25)
                container.mux(video.encode(frame))
            if second + 1 == video_seconds:
                container.mux(video.encode(None))
            for i in range(40 * (second < sound_seconds)):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1200), np.int16), "s16", "stereo")
                samples.sample_rate, samples.pts = 48000, 48000 * second + 1200 * i
                container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    return path


def all_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of frames of the one video in a folder, whether the run ended or not."""
    (path,) = folder.glob("*.jsonl")
    lines = map(json.loads, path.read_text().splitlines())
    return [line for line in lines if "frame" in line]
