"""The page at / in a real browser: a file, the camera, edges below the pointer, a token, and a policy that holds.

Needs Chromium, which GFOCAL_CHROMIUM may name, and the package playwright; neither downloads anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from served import TOKEN, encode, make_image, make_model
from test_connections import running

from viewer_browser import point_at


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "blobs <b>.png"
    path.write_bytes(encode(make_image()))
    return path


class Page:
    """The page of a service; an error on it, or a request to elsewhere, is a trouble."""

    def __init__(self, browser: Any, port: int) -> None:
        self.page = browser.new_page(viewport={"width": 1200, "height": 800})
        self.troubles: list[str] = []
        self.address = f"http://127.0.0.1:{port}/"
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("request", self._note)
        self.page.goto(self.address)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.troubles.append(request.url)

    def choose(self, *paths: Path) -> None:
        self.page.set_input_files("input[type=file]", [str(path) for path in paths])
        self.page.wait_for_selector(".stage svg rect.frame", state="attached")

    def point_at(self, x: float, y: float) -> None:
        point_at(self.page, x, y)


def test_an_image_is_shown_with_boxes_edges_and_timings(browser: Any, image: Path) -> None:
    model = make_model()
    wanted = model.detect(str(image))
    first = wanted[0]
    with running(model) as (port, _):
        shown = Page(browser, port)
        shown.page.wait_for_selector(".model:has-text('small, 3 classes')")
        shown.choose(image)
        assert image.name in shown.page.inner_text(".caption")
        assert "network" in shown.page.inner_text(".timing")
        shown.page.locator(".detections li").first.click()
        assert f"{first.score:.3f}" in shown.page.inner_text(".about")
        shown.page.keyboard.press("3")
        facts = shown.page.inner_text("dl")
        assert first.edge_interval is not None
        low, high = first.edge_interval[2]
        assert f"{low:.1f} to {high:.1f} px" in facts
        assert shown.page.locator(".chart .bar").count() > 0
        shown.choose(image, image)
        shown.page.wait_for_selector(".images [role=option] >> nth=2")
        shown.page.eval_on_selector(
            "[name=score]", "(one) => { one.value = 1; one.dispatchEvent(new Event('input', { bubbles: true })); }"
        )
        assert shown.page.locator(".detections li").count() == 0
        assert shown.troubles == []
        shown.page.close()


def test_what_cannot_be_read_is_said(browser: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"hello")
    with running(make_model()) as (port, _):
        shown = Page(browser, port)
        shown.page.set_input_files("input[type=file]", str(broken))
        shown.page.wait_for_selector(".problem:has-text('not an image')")
        shown.page.close()


def test_the_camera_is_detected_in_until_it_is_stopped(browser: Any) -> None:
    with running(make_model()) as (port, service):
        shown = Page(browser, port)
        shown.page.click(".camera")
        shown.page.wait_for_selector(".stage svg image", state="attached")
        shown.page.wait_for_timeout(500)
        assert shown.page.locator(".images [role=option]").count() == 1, "each frame takes the place of the last"
        shown.page.click(".camera")
        assert shown.page.inner_text(".camera") == "Start camera"
        assert shown.troubles == []
        assert service.batcher.num_inside <= 1
        shown.page.close()


def test_a_token_is_asked_for(browser: Any, image: Path) -> None:
    with running(make_model(), token=TOKEN) as (port, _):
        shown = Page(browser, port)
        shown.page.fill(".token input", TOKEN)
        shown.page.click(".token button")
        shown.page.wait_for_selector(".token", state="hidden")
        shown.choose(image)
        assert len(shown.troubles) == 1, "the first question"
        assert "401" in shown.troubles[0]
        shown.page.close()
