"""gfocal demo: train the light preset on synthetic images, evaluate it on unseen ones, and write a report."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console
from torchvision.ops import box_iou

from gfocal.atomic import atomic_write
from gfocal.config.config import Config, read_config, with_changes
from gfocal.console import say
from gfocal.data.loading import evaluation_loader
from gfocal.data.synthetic.edge_laws import is_ambiguous, law_std
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import ResumeError
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.evaluation.detections import average_precision, detect_all, nothing_found
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.reports.demo import CaptionedImage, EdgeStudy, write_report
from gfocal.run import run_config, saved_config
from gfocal.run_folder import RunFolder
from gfocal.structures import Detections
from gfocal.text import counted
from gfocal.training.checkpoints import has_state
from gfocal.training.metrics_log import read_metrics
from gfocal.visualize import draw_detections, draw_edge_distributions, edge_panel_svg
from gfocal.visualize.edges import true_edges

TRAIN_SCENES_PER_EPOCH = 950
UNSEEN_SCENES = 200
EVAL_BATCH_SIZE = 8
REPORT_FILE = "report.html"
LEAD = (
    "A detector trained from random weights on synthetic images, and what it finds in scenes it never saw. "
    "Some edges of these scenes are honestly ambiguous, by a law that is known: the second part sets what "
    "the detector says of each edge beside that law."
)


def demo(folder: Path, *, seed: int = 0, epochs: int | None = None, console: Console | None = None) -> CocoResult:
    """Train, evaluate on 200 unseen scenes, and write ``result.json`` and ``report.html`` into a folder.

    Everything is drawn: no data, no weights and no network are needed. A folder that holds an unfinished
    demo is gone on with; ``epochs`` of None are then its own.

    Raises:
        ResumeError: the folder holds a finished demo, one with another seed or number of epochs, or another
            run.
        ConfigError: ``seed`` or ``epochs`` are out of range.
    """
    console = console or Console(stderr=True)
    config = read_config("demo")
    resume = has_state(folder)
    if resume and (folder / REPORT_FILE).exists():
        raise ResumeError(
            f"{folder}: a finished demo lies here; look at {folder / REPORT_FILE}, "
            "or name another folder with --out for a new one"
        )
    if epochs is None:
        epochs = saved_config(folder).run.epochs if resume else config.run.epochs
    config = with_changes(config, {"run.seed": seed, "run.epochs": epochs})
    if resume and saved_config(folder) != config:
        raise ResumeError(
            f"{folder}: holds another run, or a demo with another seed or number of epochs; "
            "name another folder with --out"
        )
    size = config.size.short_side
    assert size is not None, "the demo's config states the size of its scenes"
    train_data = SyntheticScenes(TRAIN_SCENES_PER_EPOCH, size, seed, "train")
    unseen = SyntheticScenes(UNSEEN_SCENES, size, seed, "test")
    say(
        console,
        f"{counted(config.run.epochs, 'epoch')} of {counted(len(train_data), 'new scene')} each on "
        f"{counted(torch.get_num_threads(), 'thread')}; the report will be {folder / REPORT_FILE}",
    )
    run_config(config, train_data, None, folder, resume=resume, data_name="synthetic", console=console)
    model = load_model(folder)
    console.print(f"evaluating it on {len(unseen)} unseen scenes")
    found = detect_all(model, evaluation_loader(unseen, model.input_settings, EVAL_BATCH_SIZE))
    result = average_precision(unseen, found)
    if why := nothing_found(result, model.decode_settings):
        say(console, why)
    with atomic_write(RunFolder(folder).result) as temporary:
        temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    write_report(
        folder / REPORT_FILE,
        title="gfocal demo",
        lead=LEAD,
        result=result,
        rows=read_metrics(RunFolder(folder).metrics),
        images=gallery(unseen, found),
        studies=studies(unseen, found),
        facts=facts(config, model, folder),
    )
    return result


def gallery(data: SyntheticScenes, found: dict[int, Detections], count: int = 12) -> list[CaptionedImage]:
    """The first scenes, not the best ones."""
    images = []
    for i in range(min(count, len(data))):
        image, sample = data.read(i)
        drawn = draw_detections(image, found[sample.image_id], 0.3, edges="std", colors="score", least_side=480)
        images.append(CaptionedImage(drawn, f"scene {i}: {counted(len(sample.boxes), 'object')} labelled"))
    return images


def studies(data: SyntheticScenes, found: dict[int, Detections], count: int = 8) -> list[EdgeStudy]:
    """Objects in order of appearance, three with an ambiguous edge to each one whose edges are all sharp."""
    result: list[EdgeStudy] = []
    wanted = {True: count - count // 4, False: count // 4}
    for i in range(len(data)):
        if not any(wanted.values()):
            break
        image, sample = data.read(i)
        detections = found[sample.image_id].above(0.3)
        assert sample.edge_laws is not None
        if not len(detections) or not len(sample.boxes):
            continue
        overlap, matched = box_iou(sample.boxes, detections.boxes).max(1)
        same_class = detections.labels[matched] == sample.labels
        for g in torch.nonzero((overlap > 0.5) & same_class).flatten().tolist():
            ambiguous = bool(is_ambiguous(sample.edge_laws[g]).any())
            if not wanted[ambiguous]:
                continue
            wanted[ambiguous] -= 1
            one = detections.select(matched[g : g + 1])
            laws = sample.edge_laws[g : g + 1]
            result.append(_study(image, one, laws, f"{one.class_names[0]} in scene {i}"))
            break
    return result


def _study(image: torch.Tensor, one: Detections, laws: torch.Tensor, what: str) -> EdgeStudy:
    said = ", ".join(
        f"{side} ±{learned:.1f} px (law ±{true:.1f})"
        for side, learned, true in zip(
            ("left", "top", "right", "bottom"),
            one.edge_std[0].tolist(),
            law_std(laws[0]).tolist(),
            strict=True,
        )
    )
    drawn = draw_edge_distributions(image, one, laws=laws, crop=True, least_side=520)
    panel = edge_panel_svg(one.edges[0].tolist(), true_edges(one, laws)[0], bin_sizes=one.bin_sizes[0].tolist())
    return EdgeStudy(CaptionedImage(drawn, f"{what}: {said}"), panel)


def facts(config: Config, model: Detector, folder: Path) -> dict[str, str]:
    """What else one should know of the run."""
    last = read_metrics(RunFolder(folder).metrics)[-1]
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "network": f"{config.model.preset}, {parameters / 1e6:.2f} M parameters, from random weights",
        "scenes seen in training": f"{config.run.epochs * TRAIN_SCENES_PER_EPOCH:,}",
        "training time": f"{float(last['seconds']) / 60:.1f} minutes on {counted(torch.get_num_threads(), 'thread')}",
        "input": f"{model.input_settings.short_side} x {model.input_settings.long_side} pixels",
        "seed": str(config.run.seed),
        "torch": torch.__version__,
    }
