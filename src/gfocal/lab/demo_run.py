"""``gfocal demo``: train the light preset on synthetic images, evaluate it, and write a report."""

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
from gfocal.evaluation.detections import average_precision, detect_all, explain_no_detections
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.reports.demo import EdgeExample, write_demo_page
from gfocal.reports.html import CaptionedImage
from gfocal.run import read_run_config, run_training
from gfocal.run_folder import RunFolder
from gfocal.structures import Detections
from gfocal.text import pluralize
from gfocal.training.metrics_log import read_metrics
from gfocal.visualize import draw_detections, draw_edge_distributions, edge_panel_svg
from gfocal.visualize.edges import ground_truth_edges

TRAIN_IMAGES_PER_EPOCH = 950
TEST_IMAGES = 200
EVAL_BATCH_SIZE = 8
REPORT_FILE = "report.html"
LEAD = (
    "A detector trained from random weights on synthetic images, and its detections in images that are not in the "
    "training set. The labels of some edges are ambiguous, sampled from a known distribution, which is compared with "
    "the distribution that the detector predicts."
)


def run_demo(folder: Path, *, seed: int = 0, epochs: int | None = None, console: Console | None = None) -> CocoResult:
    """Train, evaluate on 200 test images, and write ``result.json`` and ``report.html`` into a folder.

    Needs no data, no pretrained weights and no network: images are synthetic. An unfinished demo in the folder is
    resumed, with its own number of epochs if ``epochs`` is None.

    Raises:
        ResumeError: the folder holds a finished demo, one with another seed or number of epochs, or another
            run.
        ConfigError: ``seed`` or ``epochs`` are out of range.
    """
    console = console or Console(stderr=True)
    resume = RunFolder(folder).has_state
    config = _choose_config(folder, seed, epochs, resume)
    size = config.size.short_side
    assert size is not None, "the config of the demo has the size of its images"
    train_data = SyntheticScenes(TRAIN_IMAGES_PER_EPOCH, size, seed, "train")
    test_data = SyntheticScenes(TEST_IMAGES, size, seed, "test")
    say(
        console,
        f"{pluralize(config.run.epochs, 'epoch')} of {pluralize(len(train_data), 'new synthetic image')} each on "
        f"{pluralize(torch.get_num_threads(), 'thread')}; the report will be {folder / REPORT_FILE}",
    )
    run_training(config, train_data, None, folder, resume=resume, data_name="synthetic", console=console)
    model = load_model(folder)
    say(console, f"evaluating {len(test_data)} test images")
    found = detect_all(model, evaluation_loader(test_data, model.input_settings, EVAL_BATCH_SIZE))
    result = average_precision(test_data, found)
    if why := explain_no_detections(result, model.decode_settings):
        say(console, why)
    with atomic_write(RunFolder(folder).result) as temporary:
        temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    write_demo_page(
        folder / REPORT_FILE,
        title="gfocal demo",
        lead=LEAD,
        result=result,
        rows=read_metrics(RunFolder(folder).metrics),
        images=draw_test_images(test_data, found),
        edges=draw_edge_examples(test_data, found),
        facts=describe_run(config, model, folder),
    )
    return result


def _choose_config(folder: Path, seed: int, epochs: int | None, resume: bool) -> Config:
    """The config of a new demo, or of the one to resume. ResumeError if the folder holds anything else."""
    config = read_config("demo")
    if resume and (folder / REPORT_FILE).exists():
        raise ResumeError(
            f"{folder}: holds a finished demo; look at {folder / REPORT_FILE}, "
            "or name another folder with --out for a new one"
        )
    if epochs is None:
        epochs = read_run_config(folder).run.epochs if resume else config.run.epochs
    config = with_changes(config, {"run.seed": seed, "run.epochs": epochs})
    if resume and read_run_config(folder) != config:
        raise ResumeError(
            f"{folder}: holds another run, or a demo with another seed or number of epochs; "
            "name another folder with --out"
        )
    return config


def draw_test_images(data: SyntheticScenes, found: dict[int, Detections], count: int = 12) -> list[CaptionedImage]:
    """The first images, not the best ones, with their detections."""
    images = []
    for i in range(min(count, len(data))):
        image, sample = data.read(i)
        drawn = draw_detections(image, found[sample.image_id], 0.3, edges="std", colors="score", min_side=480)
        images.append(CaptionedImage(drawn, f"image {i}, {pluralize(len(sample.boxes), 'object')}"))
    return images


def draw_edge_examples(data: SyntheticScenes, found: dict[int, Detections], count: int = 8) -> list[EdgeExample]:
    """The first detected objects: three with an ambiguous edge for each one with sharp edges."""
    examples: list[EdgeExample] = []
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
            examples.append(_draw_edge_example(image, one, laws, f"{one.class_names[0]} in image {i}"))
            break
    return examples


def _draw_edge_example(image: torch.Tensor, one: Detections, laws: torch.Tensor, title: str) -> EdgeExample:
    deviations = ", ".join(
        f"{side} ±{predicted:.1f} px (labels ±{true:.1f})"
        for side, predicted, true in zip(
            ("left", "top", "right", "bottom"),
            one.edge_std[0].tolist(),
            law_std(laws[0]).tolist(),
            strict=True,
        )
    )
    drawn = draw_edge_distributions(image, one, laws=laws, crop=True, min_side=520)
    panel = edge_panel_svg(
        one.edges[0].tolist(), ground_truth_edges(one, laws)[0], bin_sizes=one.bin_sizes[0].tolist()
    )
    return EdgeExample(CaptionedImage(drawn, f"{title}: {deviations}"), panel)


def describe_run(config: Config, model: Detector, folder: Path) -> dict[str, str]:
    """Network, data, time and environment of the run."""
    last = read_metrics(RunFolder(folder).metrics)[-1]
    minutes = float(last["seconds"]) / 60
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "network": f"{config.model.preset}, {parameters / 1e6:.2f} M parameters, from random weights",
        "training images": f"{config.run.epochs * TRAIN_IMAGES_PER_EPOCH:,}",
        "training time": f"{minutes:.1f} minutes on {pluralize(torch.get_num_threads(), 'thread')}",
        "input": f"{model.input_settings.short_side} x {model.input_settings.long_side} pixels",
        "seed": str(config.run.seed),
        "torch": torch.__version__,
    }
