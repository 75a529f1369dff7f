#!/usr/bin/env bash
# Guess: four frames written to an MP4 file at the times -1001, 0, 1001 and 2002 (of 1/30000 s) come back as four, as
#   they do from a Matroska file, be it at shifted times.
# Behaviour: the file states four frames and holds four packets, and decoding gives three, the first at 0: the writer
#   puts an edit list into the file that begins at 0, and the reader discards what lies before. There is no error and no
#   warning. Matroska shifts all times, and gives four.
# Versions: av 18.1.0 (FFmpeg 8), numpy 2.4.0. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.0
cd "$place"
"$place/venv/bin/python" - <<'PY'
from fractions import Fraction

import av
import numpy as np

TICK, TIMES = Fraction(1, 30000), (-1001, 0, 1001, 2002)

def write_and_read(name):
    with av.open(name, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICK
        for pts in TIMES:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = pts, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(name) as container:
        stated = container.streams.video[0].frames
        return stated, [round(float(frame.time), 3) for frame in container.decode(video=0)]

print("av", av.__version__, " written:", [round(float(pts * TICK), 3) for pts in TIMES])
found = {name: write_and_read(name) for name in ("four.mp4", "four.mkv")}
for name, (stated, times) in found.items():
    print(f"{name}: states {stated} frames (0: none stated), decoded at {times}")
assert found["four.mp4"] == (4, [0.0, 0.033, 0.067]), found
assert len(found["four.mkv"][1]) == 4, found
PY
