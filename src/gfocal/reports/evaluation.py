"""The page of ``gfocal eval --report``: error types, worst images, score thresholds, curves, confusion matrix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gfocal.calibration.coverage import Coverage
from gfocal.calibration.measure import Trust
from gfocal.calibration.verdict import describe_scores
from gfocal.data.dataset import ImageData
from gfocal.errors import ImageError
from gfocal.evaluation.coco_ap import FEW_OBJECTS, ClassAP
from gfocal.evaluation.curves import most_confused
from gfocal.evaluation.error_analysis import MEANINGS, TYPE_NAMES
from gfocal.evaluation.evaluate import Evaluation
from gfocal.evaluation.thresholds import ThresholdChoice
from gfocal.reports import html
from gfocal.reports.demo import ap_tiles, few_kind
from gfocal.reports.html import CaptionedImage, bar, cell, legend_key, number
from gfocal.text import pluralize
from gfocal.visualize.evaluation_charts import (
    MAX_CURVES,
    f1_chart,
    miss_rate_chart,
    precision_recall_charts,
    reliability_chart,
)
from gfocal.visualize.mistakes import draw_mistakes

MAX_CHARTS = 12  # precision-recall curves in sight, the rest behind a click
MAX_ROWS = 24  # classes of the confusion matrix


def write_evaluation_page(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    title: str,
    lead: str = "",
    images: Sequence[CaptionedImage] = (),
    viewer: str = "",
    trust: Trust | None = None,
    facts: Mapping[str, float | int | str | None] | None = None,
) -> None:
    """Write the page to ``path``, whole or not at all; the folder must exist.

    Args:
        path: the html file.
        evaluation: the numbers.
        title: heading of the page.
        lead: what was evaluated.
        images: those with the most errors, drawn by ``draw_worst_images``, worst first.
        viewer: the same images to look through, of ``viewer_section``; browsers without scripts then show ``images``.
        trust: how far edges and scores can be trusted; None: unknown.
        facts: names and values of the evaluation.
    """
    parts = [
        html.header(title, lead, ap_tiles(evaluation.ap, evaluation.intervals)),
        html.section("Error types", _error_table(evaluation), ERRORS),
    ]
    if images:
        drawn = html.gallery((html.figure(image.image, image.caption) for image in images), "wide")
        body = f"{viewer}<noscript>{drawn}</noscript>" if viewer else drawn
        parts.append(html.section("Images with the most errors", body, _describe_images(evaluation)))
    parts += [
        html.section("Score thresholds", _thresholds(evaluation), _describe_thresholds(evaluation)),
        html.section("AP per class", _class_table(evaluation), CLASSES),
        html.section("Precision-recall curves", _charts(precision_recall_charts(evaluation)), CURVES),
        html.section("Confusion matrix", _confusion_matrix(evaluation), _describe_confusion(evaluation)),
    ]
    if trust is not None:
        parts.append(html.section("Edges and scores", _trust_table(trust), TRUST))
    if facts:
        parts.append(html.section("Details", html.facts(facts)))
    html.write_page(path, title, parts, STYLE)


def draw_worst_images(data: ImageData, evaluation: Evaluation, most: int) -> list[CaptionedImage]:
    """The images with the most errors, drawn; one that cannot be read is left out."""
    index_of = {int(data.sample(i).image_id): i for i in range(len(data))}
    images = []
    for one in evaluation.worst_images(most):
        try:
            image, sample = data.read(index_of[one.image_id])
        except ImageError:
            continue
        kinds = ", ".join(
            f"{count} {kind}" for kind, count in Counter(w.kind for w in one.false_positives).most_common()
        )
        name = sample.path.name if sample.path else f"image {one.image_id}"
        caption = (
            f"{name}: {pluralize(len(one.false_positives), 'false positive')}{f' ({kinds})' * bool(kinds)}, "
            f"{len(one.missed)} missed, {pluralize(len(one.true_positives), 'true positive')}"
        )
        images.append(CaptionedImage(draw_mistakes(image, one, data.names), caption))
    return images


def _error_table(evaluation: Evaluation) -> str:
    errors = evaluation.errors
    largest = max([cost for cost in errors.cost.values() if cost is not None] + [1e-9])

    def row(name: str, meaning: str, count: int | None, cost: float | None) -> list[str]:
        heading = f"<b>{html.text(name)}</b><br><span class=soft>{html.text(meaning)}</span>"
        share = None if count is None else (cost or 0.0) / largest
        return [heading, number(count), number(cost), bar(share)]

    ordered = sorted(errors.cost, key=lambda name: -(errors.cost[name] or 0.0))
    rows = [
        row(name, MEANINGS[name] + AT_ANY_SCORE * (name == "missed"), errors.counts[name], errors.cost[name])
        for name in ordered
    ]
    rows.append(row("all false positives", "every wrong detection, whatever its type", None, errors.false_positives))
    rows.append(row("all false negatives", "every object that was not found", None, errors.false_negatives))
    return html.table(("Type", "Errors", "AP50 lost", ""), rows)


def _thresholds(evaluation: Evaluation) -> str:
    charts = [f1_chart(evaluation), miss_rate_chart(evaluation), reliability_chart(evaluation)]
    classes = zip(evaluation.boxes.names, evaluation.at_thresholds, strict=True)
    rows = [["all classes", *_choice_cells(evaluation.best_thresholds.overall)]]
    rows += [[html.text(name), *_choice_cells(one)] for name, one in classes if one.recall is not None]
    head = ("Class", "Objects", "Threshold", "Precision", "Recall", "F1", "")
    return html.charts(charts) + html.table(head, rows)


def _choice_cells(one: ThresholdChoice) -> list[str]:
    metrics = map(number, (one.precision, one.recall, one.f1))
    return [number(one.num_ground_truth), cell(f"{one.threshold:g}"), *metrics, cell(html.text(one.note), "remark")]


def _describe_thresholds(evaluation: Evaluation) -> str:
    rate, gap = evaluation.miss_rate(), evaluation.reliability.error
    counts = (
        f"{pluralize(evaluation.num_true_positives, 'true positive')}, "
        f"{pluralize(evaluation.num_false_positives, 'false positive')} ({evaluation.fppi:.2f} per image)"
    )
    sentences = [
        "The rows of the classes, the confusion matrix and the images are at "
        f"{html.text(evaluation.thresholds_source)}: {counts}. The first row is one threshold for all classes, "
        f"chosen on these images by the rule {html.text(evaluation.best_thresholds.rule)}."
    ]
    if rate is not None:
        sentences.append(
            f"The log-average miss rate, between 0.01 and 1 false positives per image, is {rate:.0%} of the objects."
        )
    if gap is not None:
        sentences.append(f"Scores predict the IoU; the two differ by {gap:.3f} on average.")
    if len(evaluation.boxes.names) > MAX_CURVES:
        sentences.append(f"Charts show the {MAX_CURVES} classes with the most objects.")
    return " ".join(sentences)


def _describe_images(evaluation: Evaluation) -> str:
    """The legend, and how many false positives above the thresholds may be objects that nobody annotated."""
    matching = evaluation.matching
    wrong = evaluation.selected & ~matching.true_positive & ~matching.ignored
    kinds = Counter(TYPE_NAMES[kind] for kind in evaluation.errors.kind[wrong].tolist())
    background = kinds["background"]
    if not background:
        return IMAGES
    return (
        f"Background: {background:,} of {pluralize(evaluation.num_false_positives, 'false positive')} at "
        f"{html.text(evaluation.thresholds_source)}. {UNANNOTATED} {IMAGES}"
    )


def _trust_table(trust: Trust) -> str:
    def row(name: str, value: float | None, digits: int, meaning: str) -> list[str]:
        return [name, number(value, digits), cell(meaning, "remark")]

    def covered(one: Coverage) -> str:
        return "all four edges are in their intervals" + (f"; {one.chance.describe()}" if one.chance else "")

    kind = "calibrated" if trust.is_calibrated else "not calibrated"
    scores = describe_scores(trust.score_threshold)
    rows = [
        row("True positives", trust.num_boxes, 0, f"detections {scores} that match an object"),
        row("Error of an edge, pixels", trust.rms_error, 1, "root mean square"),
        row("edge_std, pixels", trust.mean_std, 1, f"the error that the model expects, {kind}; in the mean"),
        row("ENCE", trust.ence, 2, "share by which edge_std is off from the errors; 0 is perfect"),
        row(
            "CRPS, pixels", trust.crps, 2, "how far the predicted distribution of an edge is from the annotated edge"
        ),
        *(row(f"Boxes covered, {one.nominal:.0%} promised", one.boxes, 3, covered(one)) for one in trust.boxes),
        row("LaECE", trust.la_ece, 3, "by how much scores are off from the IoU; 0 for a false positive"),
        row("D-ECE", trust.d_ece, 3, "by how much scores are off from the share of detections that is right"),
    ]
    if trust.calibrated_la_ece is not None:
        rows.append(row("LaECE, calibrated", trust.calibrated_la_ece, 3, "of the calibrated scores"))
        rows.append(row("D-ECE, calibrated", trust.calibrated_d_ece, 3, "of the calibrated scores"))
    advice = html.text("".join(f" {one[0].upper()}{one[1:]}." for one in trust.advice).strip())
    return html.table(("Measure", "Value", ""), rows) + html.note(advice)


def _class_table(evaluation: Evaluation) -> str:
    def row(name: str, one: ClassAP) -> list[str]:
        metrics = (one.ap50, one.ap75, one.ap_small, one.ap_medium, one.ap_large)
        interval = evaluation.intervals.per_class.get(name)
        words = cell("–" if interval is None else f"{interval.low:.2f} – {interval.high:.2f}")
        return [html.text(name), number(one.num_ground_truth), number(one.ap), words, *map(number, metrics)]

    shown = [(name, one) for name, one in evaluation.ap.per_class.items() if one.num_ground_truth]
    omitted = len(evaluation.ap.per_class) - len(shown)
    head = ("Class", "Objects", "AP", "95 % interval", "AP50", "AP75", "AP small", "AP medium", "AP large")
    words = f"{pluralize(omitted, 'class', 'classes')} without ground truth omitted." if omitted else ""
    kinds = [few_kind(one.num_ground_truth) for _, one in shown]
    return html.table(head, [row(name, one) for name, one in shown], row_kinds=kinds) + html.note(words)


def _charts(drawings: Sequence[str]) -> str:
    shown, hidden = drawings[:MAX_CHARTS], drawings[MAX_CHARTS:]
    summary = pluralize(len(hidden), "more class", "more classes")
    return html.charts(shown) + (html.details(summary, html.charts(hidden)) if hidden else "")


def _confused_classes(evaluation: Evaluation) -> list[int]:
    """The classes with the most errors in their row and column, in the order of the data."""
    matrix = evaluation.confusion
    weight = (matrix.sum(0) + matrix.sum(1))[:-1]
    errors = weight - 2 * np.diag(matrix)[:-1]
    present = [c for c in np.lexsort((-weight, -errors)).tolist() if weight[c]]
    return sorted(present[:MAX_ROWS])


def _confusion_matrix(evaluation: Evaluation) -> str:
    names, matrix = [html.text(name) for name in evaluation.boxes.names], evaluation.confusion
    shown = [*_confused_classes(evaluation), len(names)]
    totals = matrix.sum(1)

    def count_cell(i: int, j: int) -> str:
        count = int(matrix[i, j])
        if i == j == len(names):
            return cell("")
        if not count:
            return cell("·")
        color, share = "c2" if i == j else "c1", 75 * count / int(totals[i])
        return f'<td style="background:color-mix(in srgb,var(--{color}) {share:.0f}%,transparent)">{count:,}</td>'

    head = ["ground truth ↓ &nbsp; predicted →", *(names[j] for j in shown[:-1]), "missed"]
    rows = [[[*names, "background"][i], *(count_cell(i, j) for j in shown)] for i in shown]
    confused = (
        f"{html.text(a)} as {html.text(b)}: {count:,}"
        for a, b, count in most_confused(matrix, evaluation.boxes.names)
    )
    most = "; ".join(confused)
    return html.table(head, rows, "matrix") + html.note(f"Most often confused: {most}." if most else "")


def _describe_confusion(evaluation: Evaluation) -> str:
    matrix = evaluation.confusion
    present = int((matrix.sum(0) + matrix.sum(1) > 0)[:-1].sum())
    omitted = present - len(_confused_classes(evaluation))
    return CONFUSION + (
        f" {pluralize(omitted, 'class', 'classes')} with fewer errors omitted." if omitted > 0 else ""
    )


ERRORS = (
    "The error types of TIDE (Bolya et al. 2020). <i>AP50 lost</i> is how much AP at IoU 0.5 would rise without the "
    "errors of one type. Types hide one another, so the numbers do not add up. Errors are counted over all "
    "detections, also those of low score, which cost little."
)
IMAGES = (
    "Worst first: by the scores of the false positives, and half a point for every missed object. "
    + legend_key("hit", "true positive")
    + legend_key("wrong", "false positive")
    + legend_key("missed", "missed")
    + legend_key("crowd", "crowd region, ignored")
)
UNANNOTATED = (
    "Some may be objects that nobody annotated: look at the images, and if so, complete the annotations, since "
    "precision and AP are too low until then (docs/evaluation.md, error types)."
)
AT_ANY_SCORE = "; at any score, so fewer than the objects missed at the thresholds, below"
TRUST = (
    "How far edges lie off, whether edge_std says so, and what scores stand for. <i>gfocal calibrate</i> makes them "
    "mean what they say; lower is better but for coverage, which is to be what was promised."
)
CLASSES = (
    "AP is the mean over IoU thresholds from 0.50 to 0.95. Small objects have at most 32 x 32 pixels, large ones at "
    "least 96 x 96; – where there are none. The interval is how far AP may lie off because the images are few. Gray: "
    f"fewer than {FEW_OBJECTS} objects, whose AP is mostly chance."
)
CURVES = "The area under a curve is AP at that IoU. A curve ends at the highest recall that the detector reaches."
CONFUSION = (
    "Objects of each class (row) by the class they are detected as (column), at IoU 0.5 and the thresholds in use. "
    "The darker a cell, the larger its share of the row."
)

STYLE = """
.key .hit{background:none;border:2px solid #00be82}
.key .wrong{background:#f04628}.key .missed{background:none;border:2px dashed #4696ff}
.key .crowd{background:none;border:2px dotted #9a9a9a}
td.remark{text-align:left;color:var(--soft);font-size:.88rem}
.matrix td{text-align:center;min-width:3.2em}
.matrix thead th{text-align:center;max-width:9em;white-space:normal;overflow-wrap:anywhere;vertical-align:bottom}
.matrix thead th:first-child{text-align:left;white-space:nowrap}
"""
