"""How large the viewer is, and how fast a browser shows it: the images of a folder again and again, boxes at random.

    python benchmarks/viewer.py photos/ 2000 --detections 20

Needs Chromium and playwright (extra dev). Times are medians and maxima in milliseconds, from a change to the second
frame after it; the frames themselves take 33.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from gfocal.data.images import read_pixels
from gfocal.structures import Detections
from gfocal.visualize.viewer.pack import PackedImage, choose_side, pack_image, pack_pixels
from gfocal.visualize.viewer.viewer_page import MAX_BYTES, ViewerSettings, write_viewer

NUM_BINS = 8
SCRIPT = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done)), found = {};
  async function measure(name, act) {
    const all = [];
    for (let k = 0; k < 30; k++) {
      const start = performance.now();
      act(k);
      await frame();
      await frame();
      all.push(performance.now() - start);
    }
    all.sort((a, b) => a - b);
    found[name] = [all[15], all[29]];
  }
  function set(name, value) {
    const control = document.querySelector(`[name=${name}]`);
    control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const list = document.querySelector(".images");
  await measure("next image", () => press("j"));
  await measure("list scrolled", (k) => { list.scrollTop = 2600 * k + 13; });
  await measure("score changed", (k) => set("score", 0.3 + k / 60));
  set("score", 0.3);
  set("width", 20);
  await measure("coverage changed, images filtered by it", (k) => set("coverage", 10 + k));
  return found;
}"""


def boxes_at_random(count: int, size: tuple[int, int], generator: torch.Generator) -> Detections:
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([size[1], size[0]]) * 0.6
    boxes = torch.cat([corner, corner + 20 + 100 * torch.rand(count, 2, generator=generator)], 1)
    scores = 0.3 + 0.7 * torch.rand(count, generator=generator)
    return Detections(
        boxes=boxes,
        scores=scores.sort(descending=True).values,
        labels=torch.arange(count) % 2,
        edges=(2 * torch.randn(count, 4, NUM_BINS, generator=generator)).softmax(-1),
        points=(boxes[:, :2] + boxes[:, 2:]) / 2,
        bin_sizes=torch.full((count, 4), 12.0),
        names=("a", "b"),
        size=size,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", type=int)
    parser.add_argument("--detections", type=int, default=20, help="of each image")
    args = parser.parse_args()
    side = choose_side(args.images, MAX_BYTES)
    pixels = [read_pixels(str(file)) for file in sorted(args.folder.glob("*.jpg"))[:200]]
    sources = [(pack_pixels(one, side), (one.shape[1], one.shape[2])) for one in pixels]
    generator = torch.Generator().manual_seed(0)

    def packed() -> Iterator[PackedImage]:
        for k in range(args.images):
            jpeg, size = sources[k % len(sources)]
            yield pack_image(f"{k}.jpg", boxes_at_random(args.detections, size, generator), size) | {"jpeg": jpeg}

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "viewer.html"
        written = write_viewer(path, ViewerSettings("Benchmark", ("a", "b")), packed())
        size = f"{written.num_bytes / 1e6:.0f} MB"
        print(f"{args.images} images of {side} pixels, {args.detections} detections each: {size}")
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 850})
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector(".images img")
        print(f"loaded in {time.perf_counter() - start:.1f} s")
        for name, (middle, most) in page.evaluate(SCRIPT).items():
            print(f"{name}: {middle:.0f} ms, at most {most:.0f}")
        browser.close()


if __name__ == "__main__":
    main()
