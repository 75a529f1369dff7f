"""The page of a review of annotations: the most suspicious of each kind, drawn."""

from __future__ import annotations

import os

from PIL import Image

from gfocal.checks.findings import KINDS, Box
from gfocal.checks.label_review import LabelReview, describe_suspect
from gfocal.checks.suspects import SUSPECT_KINDS, Suspect, SuspectKind
from gfocal.errors import ImageError
from gfocal.reports import html
from gfocal.reports.check_images import MAX_SIDE
from gfocal.reports.html import cell, legend_key
from gfocal.visualize.drawing import as_pil_image
from gfocal.visualize.outliers import draw_compared, draw_intervals

MAX_DRAWN = 60  # of each kind
SPREADS = 2.0  # of the intervals that are drawn


def write_review_page(review: LabelReview, path: str | os.PathLike[str], title: str) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist."""
    counts = {KINDS[kind].title: f"{len(review.reported[kind]):,}" for kind in SUSPECT_KINDS}
    parts = [html.header(title, review.describe(), html.tiles(counts)), html.note(LEGEND)]
    parts += [_section(review, kind) for kind in SUSPECT_KINDS if review.reported[kind]]
    html.write_page(path, title, parts, STYLE)


def _section(review: LabelReview, kind: SuspectKind) -> str:
    suspects = review.reported[kind]
    figures = []
    for rank, one in enumerate(suspects[:MAX_DRAWN], 1):
        try:
            drawn = draw_suspect(review, one)
        except ImageError:  # a finding of its own
            continue
        figures.append(html.figure(drawn, _caption(review, one, rank), longest=MAX_SIDE))
    shown = f", the first {MAX_DRAWN} drawn" if len(suspects) > MAX_DRAWN else ""
    lead = f"{KINDS[kind].title}; {KINDS[kind].fix}. {len(suspects):,}, the most suspicious first{shown}. {HOW[kind]}"
    rows = [
        [cell(str(rank)), cell(html.text(_caption(review, one, 0)))] for rank, one in enumerate(suspects[:2000], 1)
    ]
    listed = html.details("As a list", html.table(("Rank", "What"), rows, "words"))
    return html.section(f'<span id="{kind}">{kind}</span>', html.gallery(figures) + listed, html.text(lead))


def draw_suspect(review: LabelReview, one: Suspect) -> Image.Image:
    """An annotation and what the model finds there, cut out of their image; of edges with their intervals."""
    sample = review.data.samples[one.image]
    assert sample.path is not None, "images of files have a path"
    image, _ = review.data.read(one.image)
    if one.kind != "suspect-edge":
        annotated = None if one.annotation is None else one.box
        others = [_corners(box) for k, box in enumerate(sample.boxes.tolist()) if k != one.annotation]
        return draw_compared(as_pil_image(image), annotated, one.detected_box, others)
    assert one.suggested_box is not None, "edges have detections"
    assert one.spread is not None, "edges have a spread"
    reach = [SPREADS * value for value in one.spread]
    intervals = [(edge - half, edge + half) for edge, half in zip(one.suggested_box, reach, strict=True)]
    return draw_intervals(as_pil_image(image), one.suggested_box, one.box, intervals, one.worst_side)


def _corners(box: list[float]) -> Box:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def _caption(review: LabelReview, one: Suspect, rank: int) -> str:
    sample = review.data.samples[one.image]
    split = f"{review.split_of[one.image]}: " if len(set(review.split_of)) > 1 else ""
    number = f", box {one.annotation + 1} ({review.data.names[one.label]})" if one.annotation is not None else ""
    name = sample.path.name if sample.path is not None else ""
    return f"{rank}. " * bool(rank) + f"{split}{name}{number}: {describe_suspect(one, review.data.names)}"


HOW: dict[SuspectKind, str] = {
    "suspect-class": "Ranked by the best score of another class on the box, over the best one of its own.",
    "suspect-missing-box": "Ranked by the score of the detection.",
    "suspect-extra-box": "Ranked by how little the best detection near the box scores, of any class.",
    "suspect-edge": "Ranked by the deviation of the worst edge, in spreads; bands are two spreads to either side.",
}
LEGEND = (
    legend_key("annotated", "annotation")
    + legend_key("detected", "what the model finds")
    + legend_key("others", "other annotations")
)
STYLE = """
.key .annotated{background:none;border:2px dashed #4696ff}
.key .detected{background:none;border:2px solid #f06e1e}
.key .others{background:none;border:1px solid #4696ff}
"""
