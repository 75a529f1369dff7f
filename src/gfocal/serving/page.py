"""The page at ``/``: one file of HTML around the viewer, whose policy lets the browser load nothing else."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from gfocal.serving.service import Service
from gfocal.visualize.viewer.pack import pack_calibration
from gfocal.visualize.viewer.viewer_page import ViewerSettings, pack_settings, viewer_parts

FOLDER = Path(__file__).parent / "page"


class Page:
    """The HTML and its headers. The policy names the hashes of the script and the style that are inside."""

    def __init__(self) -> None:
        viewer = viewer_parts()
        style = viewer.style + _read("page.css")
        script = (
            f'"use strict";\n(() => {{\nconst startViewer = () => {{\n{viewer.script}\n{_read("live.js")}}};\n'
            f"{_read('page.js')}}})();\n"
        )
        parts = {"/*style*/": style, "/*script*/": script, "<!--viewer-->": viewer.markup.replace("@DATA@", "")}
        self.html = _read("page.html")
        for place, part in parts.items():
            self.html = self.html.replace(place, part)
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


def page_settings(service: Service) -> dict[str, Any]:
    """What the viewer has to know of the model."""
    about = service.description
    coverage = about.coverage or 0.9
    calibration = pack_calibration(service.calibration, len(about.names), coverage)
    return pack_settings(ViewerSettings("", about.names, about.score_thresholds, calibration, coverage))


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
