#!/usr/bin/env bash
# Guess: a wheel whose FFmpeg calls itself "LGPL version 3 or later" has no x264 and no x265, which are GPL version 2 or
#   later: FFmpeg's configure takes --enable-libx264 with --enable-gpl only, and av_license then says GPL.
# Behaviour: FFmpeg in the wheel of PyAV for Linux says "LGPL version 3 or later"; its configuration has
#   --enable-libx264 and --enable-libx265 and no --enable-gpl; both libraries lie in av.libs, and libx264 encodes. No
#   text in the wheel (its license is PyAV's own, BSD-3-Clause) names x264, or the General Public License. Who passes
#   the wheel on and reads these and the string of FFmpeg does not learn that x264 and x265 are in it.
# Versions: av 18.1.0, Linux x86_64. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0
cd "$place"
"$place/venv/bin/python" - <<'PY'
import importlib.metadata
import io
from pathlib import Path

import av
import av._core

about = av._core.library_meta["libavcodec"]
options = about["configuration"].split()
libraries = sorted(path.name.split("-")[0] for path in (Path(av.__file__).parents[1] / "av.libs").glob("libx26*"))
texts = [file.locate().read_text() for file in importlib.metadata.files("av") if file.name.endswith((".txt", ".rst"))]
with av.open(io.BytesIO(), "w", format="mp4") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    packets = stream.encode(av.VideoFrame(64, 48, "yuv420p")) + stream.encode(None)
print("av", av.__version__, " FFmpeg says:", about["license"])
print("configured with:", [one for one in options if one in ("--enable-gpl", "--enable-libx264", "--enable-libx265")])
named = any("x264" in text or "General Public License" in text for text in texts)
print("libraries:", libraries, " named by a text in the wheel:", named, " packets encoded:", len(packets))
assert about["license"] == "LGPL version 3 or later", about["license"]
assert "--enable-gpl" not in options and {"--enable-libx264", "--enable-libx265"} <= set(options), options
assert libraries == ["libx264", "libx265"] and texts and not named and len(packets) == 1, (libraries, named)
PY
