#!/usr/bin/env bash
# Guess: a color PNG of 3 x 16 bits opens in a mode that shows its depth, or is rounded to 8 bits by its range; and the
#   same 12-bit gray pixels have the same values whatever file holds them.
# Behaviour: Pillow opens a 16-bit color PNG as mode "RGB" and keeps the upper byte of each value: pixels of 12 bits
#   (0..4095) become 0..15, nearly black, without a warning; only ``image.tile`` names the depth before pixels are loaded.
#   A PGM with maxval 4095 is scaled to the full 16 bits (2048 -> 32776), while a 16-bit PNG keeps 2048.
# Versions: Pillow 13.0.0, numpy 2.4.6. Source: run here; PNG specification, color type 2 with bit depth 16.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$place"
"$place/venv/bin/python" - <<'PY'
import io, struct, zlib
from importlib.metadata import version
import numpy as np
from PIL import Image

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def png(values):  # (H, W) or (H, W, 3) uint16
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

color = Image.open(io.BytesIO(png(np.full((4, 4, 3), 4095, np.uint16))))
mode, tile = color.mode, str(color.tile[0])
brightest = int(np.asarray(color).max())
gray_png = int(np.asarray(Image.open(io.BytesIO(png(np.full((4, 4), 2048, np.uint16))))).max())
pgm = b"P5 4 4 4095 " + np.full((4, 4), 2048, ">u2").tobytes()
gray_pgm = int(np.asarray(Image.open(io.BytesIO(pgm))).max())
print("Pillow", version("pillow"))
print("16-bit color PNG of 4095:", mode, tile, "-> brightest pixel", brightest)
print("12-bit gray 2048: PNG of 16 bits ->", gray_png, " PGM with maxval 4095 ->", gray_pgm)
assert (mode, brightest) == ("RGB", 15), (mode, brightest)
assert (gray_png, gray_pgm) == (2048, 32776), (gray_png, gray_pgm)
PY
