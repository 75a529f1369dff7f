"""Writes a video with frames at exact times; sizes that are odd are padded, as most players need even ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from av.video.stream import VideoStream

CODECS = ("libx264", "mpeg4")  # the first that this FFmpeg has
QUALITY = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}


class VideoWriter:
    """An MP4 file in the making; it can be read once it is closed.

    The size is that of the first frame, with one more row or column where it is odd; others are resized to it. A
    video whose first time is negative, which players would not show, begins at 0 instead: see ``offset``.

    Args:
        path: the file, whatever its suffix.
        time_base: the unit of times, seconds.
        rate: frames a second, which is no more than a hint.
    """

    def __init__(self, path: Path, time_base: Fraction, rate: Fraction) -> None:
        import av

        self.time_base = time_base
        self.offset = 0  # is added to all times
        self._rate = rate
        self._size = (0, 0)  # width and height of images, before padding
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: VideoStream | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no frame was added."""
        return self._stream is None

    def add(self, image: Image.Image, pts: int) -> None:
        """Add a frame, at a later time than the one before, in units of the time base."""
        import av

        if self._stream is None:
            self._size, self.offset = image.size, max(0, -pts)
            self._stream = self._begin(image.size)
        if image.size != self._size:
            image = image.resize(self._size, Image.Resampling.BILINEAR)
        pixels = np.asarray(image.convert("RGB"))
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = pts + self.offset, self.time_base
        self._container.mux(self._stream.encode(frame))

    def _begin(self, size: tuple[int, int]) -> VideoStream:
        import av
        from av.video.stream import VideoStream

        codec = next((name for name in CODECS if name in av.codecs_available), CODECS[-1])
        stream = self._container.add_stream(codec, rate=self._rate, options=dict(QUALITY[codec]))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self.time_base
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709, limited
        return stream

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
