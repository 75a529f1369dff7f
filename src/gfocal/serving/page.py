"""The page at ``/``: one file of HTML, whose policy lets the browser load nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


class Page:
    """The HTML and its headers. The policy names the hashes of the script and the style that are inside."""

    def __init__(self) -> None:
        folder = files("gfocal.serving") / "page"
        read = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
        style, script = read["page.css"], read["page.js"]
        self.html = read["page.html"].replace("/*style*/", style).replace("/*script*/", script)
        policy = (
            "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
            f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        self.headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
