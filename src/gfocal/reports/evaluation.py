"""One self-contained page about an evaluation: what goes wrong, where, and from which score on to believe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from gfocal.atomic import atomic_write
from gfocal.data.dataset import ImageData
from gfocal.errors import ImageError
from gfocal.evaluation.coco_ap import ClassAP
from gfocal.evaluation.curves import most_confused
from gfocal.evaluation.error_analysis import MEANINGS
from gfocal.evaluation.evaluate import Evaluation
from gfocal.evaluation.thresholds import Choice
from gfocal.reports.demo import STYLE, CaptionedImage, Cell, fact_list, headline, image_tag
from gfocal.text import counted
from gfocal.visualize.evaluation_charts import (
    MOST_CURVES,
    f1_chart,
    miss_rate_chart,
    precision_recall_charts,
    reliability_chart,
)
from gfocal.visualize.mistakes import draw_mistakes

MOST_CHARTS = 12  # precision-recall charts in sight, the rest behind a click
MOST_ROWS = 24  # classes of the confusion matrix

Row = Sequence[str]


def write_evaluation_page(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    title: str,
    lead: str = "",
    images: Sequence[CaptionedImage] = (),
    facts: Mapping[str, Cell] | None = None,
) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist.

    Args:
        path: the html file.
        evaluated: the numbers.
        title: heading of the page.
        lead: a sentence that says what was evaluated.
        images: those with the heaviest mistakes, drawn by ``gfocal.visualize.draw_mistakes``, worst first.
        facts: name and value of what else should be known.

    All text is escaped. No scripts, and nothing from the network.
    """
    parts = [
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{headline(evaluation.ap)}</header>',
        _section("What goes wrong", _errors(evaluation), ERRORS_NOTE),
    ]
    if images:
        figures = "".join(image_tag(image.image, image.caption) for image in images)
        parts.append(_section("The worst images", f'<div class="gallery wide">{figures}</div>', IMAGES_NOTE))
    parts.append(_section("From which score on?", _thresholds(evaluation), _thresholds_note(evaluation)))
    parts.append(_section("Class by class", _classes(evaluation), CLASSES_NOTE))
    parts.append(_section("Precision and recall", _charts(precision_recall_charts(evaluation)), CURVES_NOTE))
    parts.append(_section("What is taken for what", _confusion(evaluation), _confusion_note(evaluation)))
    if facts:
        parts.append(_section("Facts", fact_list(facts)))
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}{MORE_STYLE}</style></head>\n<body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def mistakes_drawn(data: ImageData, evaluation: Evaluation, most: int) -> list[CaptionedImage]:
    """The images with the heaviest mistakes, drawn; one that cannot be read is left out."""
    place = {int(data.sample(i).image_id): i for i in range(len(data))}
    images = []
    for one in evaluation.worst(most):
        try:
            image, sample = data.read(place[one.image_id])
        except ImageError:
            continue
        kinds = Counter(wrong.kind for wrong in one.wrong)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        name = sample.path.name if sample.path else f"image {one.image_id}"
        caption = f"{name}: {len(one.wrong)} wrong{f' ({told})' * bool(told)}, {len(one.missed)} not found, "
        images.append(CaptionedImage(draw_mistakes(image, one, data.names), f"{caption}{len(one.hits)} right"))
    return images


def _section(heading: str, body: str, note: str = "") -> str:
    return f'<section><h2>{escape(heading)}</h2><p class="note">{note}</p>{body}</section>'


def _table(head: Row, rows: Iterable[Row], kind: str = "") -> str:
    """Cells are html already, the first of each row its heading."""
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    body = "".join(f"<tr><th scope=row>{row[0]}</th>{''.join(row[1:])}</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _cell(value: float | int | None, digits: int = 3) -> str:
    if value is None:
        return "<td>–</td>"
    return f"<td>{value:,}</td>" if isinstance(value, int) else f"<td>{value:.{digits}f}</td>"


def _errors(evaluation: Evaluation) -> str:
    errors = evaluation.errors
    largest = max([cost for cost in errors.cost.values() if cost is not None] + [1e-9])

    def row(name: str, meaning: str, count: int | None, cost: float | None) -> Row:
        share = min(100.0, max(0.0, 100 * (cost or 0.0) / largest))
        bar = f'<td class=bar><i style="width:{share:.1f}%"></i></td>' if count is not None else "<td></td>"
        told = f"<b>{escape(name)}</b><br><span class=soft>{escape(meaning)}</span>"
        return [told, _cell(count), _cell(cost), bar]

    ordered = sorted(errors.cost, key=lambda name: -(errors.cost[name] or 0.0))
    rows = [row(name, MEANINGS[name], errors.counts[name], errors.cost[name]) for name in ordered]
    rows.append(row("all false positives", "every wrong detection, whatever its type", None, errors.false_positives))
    rows.append(row("all false negatives", "every object that was not found", None, errors.false_negatives))
    return _table(("Type", "Errors", "AP50 lost", ""), rows)


def _thresholds(evaluation: Evaluation) -> str:
    charts = [f1_chart(evaluation), miss_rate_chart(evaluation), reliability_chart(evaluation)]
    at = evaluation.at_thresholds
    whole = evaluation.chosen.overall
    rows = [["all classes together", *_choice_cells(whole)]]
    rows += [
        [escape(name), *_choice_cells(one)]
        for name, one in zip(evaluation.boxes.names, at, strict=True)
        if one.recall is not None
    ]
    head = ("Class", "Objects", "Score above", "Precision", "Recall", "F1", "")
    return _charts(charts) + _table(head, rows, "notes")


def _choice_cells(one: Choice) -> list[str]:
    figures = [
        _cell(one.num_ground_truth),
        f"<td>{one.threshold:g}</td>",
        *map(_cell, (one.precision, one.recall, one.f1)),
    ]
    return [*figures, f"<td>{escape(one.note)}</td>"]


def _thresholds_note(evaluation: Evaluation) -> str:
    rate, promise = evaluation.miss_rate(), evaluation.reliability.error
    told = [
        f"The rows of the classes, the confusion matrix and the images are at {escape(evaluation.in_use_from)}: "
        f"{counted(evaluation.num_hits, 'detection')} right, {evaluation.num_false:,} wrong, "
        f"{evaluation.fppi:.2f} wrong ones per image. The first row is one threshold for all classes, "
        f"chosen on these images by the rule {escape(evaluation.chosen.rule)}."
    ]
    if rate is not None:
        told.append(
            f"Between 0.01 and 1 false positives per image {rate:.0%} of the objects are missed "
            "(log-average miss rate)."
        )
    if promise is not None:
        told.append(f"A score is the IoU to expect; scores and measured IoU differ by {promise:.3f} on average.")
    if len(evaluation.boxes.names) > MOST_CURVES:
        told.append(f"Charts show the {MOST_CURVES} classes with the most objects.")
    return " ".join(told)


def _classes(evaluation: Evaluation) -> str:
    def figures(name: str, one: ClassAP) -> Row:
        aps = (one.ap, one.ap50, one.ap75, one.ap_small, one.ap_medium, one.ap_large)
        return [escape(name), _cell(one.num_ground_truth), *map(_cell, aps)]

    shown = [(name, one) for name, one in evaluation.ap.per_class.items() if one.num_ground_truth]
    left_out = len(evaluation.ap.per_class) - len(shown)
    head = ("Class", "Objects", "AP", "AP50", "AP75", "small", "medium", "large")
    note = (
        f'<p class="note">{counted(left_out, "class", "classes")} without ground truth left out.</p>'
        if left_out
        else ""
    )
    return _table(head, [figures(name, one) for name, one in shown]) + note


def _charts(charts: Sequence[str]) -> str:
    def row(some: Sequence[str]) -> str:
        return '<div class="charts">' + "".join(f"<div>{chart}</div>" for chart in some) + "</div>"

    shown, hidden = charts[:MOST_CHARTS], charts[MOST_CHARTS:]
    more = f"<details><summary>{counted(len(hidden), 'more class', 'more classes')}</summary>{row(hidden)}</details>"
    return row(shown) + (more if hidden else "")


def _shown_in_confusion(evaluation: Evaluation) -> list[int]:
    """The classes with the most in their row and column beside the diagonal, in the order of the data."""
    matrix = evaluation.confusion
    weight = (matrix.sum(0) + matrix.sum(1))[:-1]
    errors = weight - 2 * np.diag(matrix)[:-1]
    present = [c for c in np.lexsort((-weight, -errors)).tolist() if weight[c]]
    return sorted(present[:MOST_ROWS])


def _confusion(evaluation: Evaluation) -> str:
    names, matrix = evaluation.boxes.names, evaluation.confusion
    shown = [*_shown_in_confusion(evaluation), len(names)]
    totals = matrix.sum(1)

    def cell(i: int, j: int) -> str:
        count = int(matrix[i, j])
        if i == j == len(names):
            return "<td></td>"
        color = "c2" if i == j else "c1"
        share = 100 * count / max(1, int(totals[i]))
        shade = f' style="background:color-mix(in srgb,var(--{color}) {0.75 * share:.0f}%,transparent)"'
        return f"<td{shade if count else ''}>{f'{count:,}' if count else '·'}</td>"

    head = ["ground truth ↓ &nbsp; found as →", *(escape(names[j]) for j in shown[:-1]), "not found"]
    rows = [[escape(names[i]) if i < len(names) else "nothing there", *(cell(i, j) for j in shown)] for i in shown]
    body = _table(head, rows, "matrix")
    if confused := most_confused(matrix, names):
        told = "; ".join(f"{escape(a)} taken for {escape(b)}: {count:,}" for a, b, count in confused)
        body += f'<p class="note">Most often: {told}.</p>'
    return body


def _confusion_note(evaluation: Evaluation) -> str:
    left_out = int((evaluation.confusion.sum(0) + evaluation.confusion.sum(1) > 0)[:-1].sum()) - len(
        _shown_in_confusion(evaluation)
    )
    more = f" {counted(left_out, 'class', 'classes')} with fewer errors left out." if left_out > 0 else ""
    return CONFUSION_NOTE + more


ERRORS_NOTE = (
    "The error types of TIDE (Bolya et al. 2020). <i>AP50 lost</i> is how much AP at IoU 0.5 would rise were the "
    "errors of one type gone and all else as it is. The types hide one another, so the numbers do not add up. Errors "
    "are counted over all detections, also those of low score, which cost little."
)
IMAGES_NOTE = (
    "Worst first: by the scores of the wrong detections, and half a point for every object not found. "
    '<span class="key"><i class="hit"></i>right</span> '
    '<span class="key"><i class="wrong"></i>wrong</span> '
    '<span class="key"><i class="missed"></i>not found</span> '
    '<span class="key"><i class="crowd"></i>region that does not count</span>'
)
CLASSES_NOTE = (
    "AP is the mean over IoU 0.50 to 0.95. Small are objects of at most 32 x 32 pixels, large those of at least "
    "96 x 96; – where there are none."
)
CURVES_NOTE = (
    "The area under a curve is AP at that IoU. A curve ends where the recall ends: what follows is not found."
)
CONFUSION_NOTE = (
    "How many objects of each class (row) are found as which class (column), at IoU 0.5 and the thresholds in use. "
    "The darker a cell, the larger its share of the row."
)

MORE_STYLE = """
.soft{color:var(--soft);font-size:.88rem}
.gallery.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr))}
.key .hit{background:none;border:2px solid #00be82}
.key .wrong{background:#f04628}.key .missed{background:none;border:2px dashed #4696ff}
.key .crowd{background:none;border:2px dotted #9a9a9a}
.notes td:last-child{text-align:left;color:var(--soft);font-size:.88rem}
.matrix td{text-align:center;min-width:3.2em}
.matrix thead th{text-align:center;max-width:9em;white-space:normal;overflow-wrap:anywhere;vertical-align:bottom}
.matrix thead th:first-child{text-align:left;white-space:nowrap}
.charts+.scroll{margin-top:16px}
details{margin-top:16px}summary{cursor:pointer;color:var(--soft);margin-bottom:12px}
"""
