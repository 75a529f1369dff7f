"""A page of the viewer in a real browser, as tests use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def point_at(page: Any, x: float, y: float) -> None:
    """Move the pointer to a place of the image that is shown, given in its pixels."""
    at = page.evaluate(
        "([x, y]) => { const svg = document.querySelector('.stage svg');"
        "const p = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }",
        [x, y],
    )
    page.mouse.move(*at)


class Viewer:
    """A page of the viewer, open in a browser; an error on it, or a request, fails the test that closes it."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_page(viewport={"width": 1200, "height": 800})
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("request", self._note)
        self.url = path.as_uri()
        self.page.goto(self.url)

    def _note(self, request: Any) -> None:
        if request.url != self.url and not request.url.startswith("data:"):
            self.troubles.append(request.url)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def set(self, name: str, value: float | str) -> None:
        """Give a control a value, as a user does."""
        self.page.eval_on_selector(
            f"[name={name}]",
            "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }",
            str(value),
        )

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def facts(self) -> dict[str, str]:
        """The numbers of the active edge or box."""
        terms, values = (self.page.locator(tag).all_inner_texts() for tag in ("dt", "dd"))
        return dict(zip(terms, values, strict=True))

    def point_at(self, x: float, y: float) -> None:
        point_at(self.page, x, y)

    def names(self) -> list[str]:
        """The images in the list."""
        return self.page.locator(".images [role=option] span").all_inner_texts()
