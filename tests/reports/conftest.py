"""A browser that is installed, and pages of the viewer in it.

Needs Chromium, which GFOCAL_CHROMIUM may name, and the package playwright; neither downloads anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gfocal.visualize.viewer.viewer_page import ViewerSettings, write_viewer
from viewer_browser import Viewer

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright, of the extra dev")
    named = os.environ.get("GFOCAL_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named is None:
        pytest.skip("no Chromium: install it, or name its program in GFOCAL_CHROMIUM")
    with api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=named, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Any]:
    opened: list[Viewer] = []

    def open_it(images: list[dict[str, Any]], made: ViewerSettings) -> Viewer:
        path = tmp_path / "viewer.html"
        write_viewer(path, made, images)
        opened.append(Viewer(browser, path))
        return opened[-1]

    yield open_it
    for one in opened:
        assert one.troubles == []
        one.page.close()
