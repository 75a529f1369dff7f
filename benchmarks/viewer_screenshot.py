"""A screenshot of a page of the viewer as webp, after keys and settings of its controls.

    python benchmarks/viewer_screenshot.py viewer.html viewer.webp --keys j ArrowDown 1

Needs Chromium and playwright (extra dev).
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keys", nargs="*", default=[], help="that are pressed, by their names in browsers")
    parser.add_argument("--size", nargs=2, type=int, default=(1280, 800), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--quality", type=int, default=80)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": args.size[0], "height": args.size[1]})
        page.goto(args.page.resolve().as_uri())
        for key in args.keys:
            page.keyboard.press(key)
        shot = page.screenshot()
        browser.close()
    Image.open(io.BytesIO(shot)).convert("RGB").save(args.out, quality=args.quality, method=6)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
