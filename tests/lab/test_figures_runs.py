"""Figures of trained detectors, tested with scripted and with tiny untrained ones."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from gfocal.data.dataset import FileData, Sample
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import DataError
from gfocal.lab.figures import DetectorSpeed, draw_from_runs
from gfocal.lab.figures.canvas import read_table
from gfocal.lab.figures.figure_2 import confident_background, score_and_quality, score_and_quality_table
from gfocal.lab.figures.figure_3 import edges_in_images, edges_in_images_table
from gfocal.lab.figures.figure_7 import most_occluded, side_by_side, side_by_side_table
from gfocal.lab.figures.figure_11_12 import quality_labels
from gfocal.lab.figures.trained import as_data, correlation, read_points
from gfocal.models.detector import Detector
from gfocal.models.model_file import save_model
from gfocal.models.zoo import create
from gfocal.ops.points import make_points
from gfocal.structures import HeadOutputs

SIZE = 128
BOXES = (
    [[8.0, 8.0, 56.0, 56.0], [40.0, 24.0, 120.0, 104.0]],
    [[16.0, 32.0, 112.0, 96.0]],
    [[8.0, 8.0, 40.0, 40.0], [72.0, 72.0, 120.0, 120.0]],
)
SURE_AT = 5 + 16 * 15  # a point of the finest level, in the lowest row: column 5


@pytest.fixture
def images(tmp_path) -> FileData:
    """Even images whose brightness tells them apart."""
    samples = []
    for i, boxes in enumerate(BOXES):
        Image.new("RGB", (SIZE, SIZE), (60 * i,) * 3).save(tmp_path / f"{i}.png")
        none = torch.zeros(len(boxes), dtype=torch.bool)
        labels = torch.arange(len(boxes))
        samples.append(
            Sample(i + 1, tmp_path / f"{i}.png", torch.tensor(boxes), labels, none, (SIZE, SIZE)),
        )
    return FileData(("one", "two"), (1, 2), samples)


class ScriptedDetector(Detector):
    """Not a network: it finds every object of ``BOXES`` at every point inside, with the given uncertainty."""

    def __init__(self, stds: tuple[float, ...] = (0.4, 0.4, 0.4), branch: bool = False) -> None:
        settings = InputSettings((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), SIZE, SIZE)
        like = create("gfl_r18_fpn", 2, names=("one", "two"), pretrained=False, channels=32, num_convs=1)
        nothing = torch.nn.Linear(1, 1)
        super().__init__(nothing, nothing, nothing, like.names, like.box_coder, settings, {}, like.published)
        self.stds, self.branch = stds, branch

    def forward(self, images: Tensor) -> HeadOutputs:
        number = round(float(images.mean()) / 60)
        points = make_points([(-(-SIZE // s), -(-SIZE // s)) for s in (8, 16, 32, 64, 128)], (8, 16, 32, 64, 128))
        cls_logits = torch.full((1, len(points.xy), 2), -6.0)
        box_logits = torch.zeros(1, len(points.xy), 4, 17)
        for k, box in enumerate(torch.tensor(BOXES[number])):
            ltrb = torch.cat((points.xy - box[:2], box[2:] - points.xy), 1) / points.strides[:, None]
            inside = (ltrb.amin(1) > 0.01) & (ltrb.amax(1) < 15.9)
            cls_logits[0, inside] = -6.0
            cls_logits[0, inside, k] = 1.0 + 0.1 * ltrb[inside].amin(1)
            # Half of each edge's mass lies on either side of it, at the given distance.
            away = torch.minimum(torch.minimum(ltrb, 16 - ltrb), torch.tensor(self.stds[number]))
            p = (self.box_coder.two_hot(ltrb - away) + self.box_coder.two_hot(ltrb + away)) / 2
            box_logits[0, inside] = p[inside].clamp(min=1e-9).log()
        box_logits[0, SURE_AT, :, 0] = 20.0  # a box of hardly any size
        # Sure of all points within objects, most of which are no positives; and of one point outside.
        quality = torch.where(cls_logits.amax(-1) > 0, 4.0, 0.0)
        quality[0, SURE_AT] = 3.0
        return HeadOutputs(cls_logits, box_logits, points, quality if self.branch else None)


def test_readings_are_of_positives_and_of_some_background(images):
    readings = read_points(ScriptedDetector(), images, background=7)
    assert (~readings.positive).sum() == 3 * 7
    assert readings.iou[readings.positive].min() > 0.98  # of the box that it is given
    assert readings.iou[~readings.positive].max() <= 1
    assert readings.class_score[readings.positive].min() > 0.7
    assert readings.quality.isnan().all()
    labels = readings.centerness[readings.positive]
    assert labels.min() > 0
    assert labels.max() <= 1
    assert readings.centerness[~readings.positive].isnan().all()
    again = read_points(ScriptedDetector(), images, background=7)
    assert torch.equal(readings.point, again.point)  # drawn with a seed
    assert len(read_points(ScriptedDetector(), images, at_most=1).image.unique()) == 1


def test_correlation_is_pearsons():
    x = torch.tensor([0.1, 0.4, 0.2, 0.9])
    assert correlation(x, 3 * x + 1) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    y = torch.tensor([1.0, 0.0, 2.0, 2.0])
    assert correlation(x, y) == pytest.approx(float(torch.corrcoef(torch.stack((x, y)))[0, 1]))


def test_figure_2_tells_the_two_kinds_apart(images):
    separate, joint = ScriptedDetector(branch=True), ScriptedDetector()
    data = score_and_quality(images, separate, joint)
    table = score_and_quality_table(data)
    assert set(table["detector"]) == {"separate", "joint"}
    assert len(table["iou"]) == len(table["detector"])
    with pytest.raises(DataError, match="no quality branch"):
        score_and_quality(images, separate=joint)
    with pytest.raises(DataError, match="beside its score"):
        score_and_quality(images, joint=separate)
    with pytest.raises(DataError, match="needs a detector"):
        score_and_quality(images)


def test_the_most_confident_background_is_found(images):
    found = confident_background(ScriptedDetector(branch=True), images)
    assert len(found) == len(BOXES)
    assert all(one.quality == pytest.approx(0.9526, abs=1e-3) for one in found)
    assert all(one.point == (5 * 8, 15 * 8) for one in found)
    assert max(one.iou for one in found) <= 0.1
    with pytest.raises(DataError, match="needs a detector"):
        confident_background(ScriptedDetector(), images)


def test_labels_of_a_perfect_detector_are_one(images):
    labels = quality_labels(ScriptedDetector(), images)
    assert labels.num_images == 3
    assert labels.iou.mean() > 0.99
    assert labels.centerness.mean() < 0.9


def test_the_most_occluded_images_come_first(images):
    assert most_occluded(images, 5) == (0, 2)  # the second has one object, so nothing can hide it
    shown = side_by_side({"a": ScriptedDetector(), "b": ScriptedDetector((2.0, 2.0, 2.0))}, images, count=1)
    assert shown.images == (0,)
    rows = side_by_side_table(shown)
    assert set(rows["class"]) == {"one", "two"}
    assert all(iou > 0.9 for iou in rows["iou"])
    assert rows["representation"].count("a") == len(shown.found["a"][0])


def test_edges_are_sorted_by_their_spread_in_bins(images):
    shown = edges_in_images(ScriptedDetector((0.3, 2.5, 1.0)), images, count=1)
    assert [(one.kind, one.image) for one in shown] == [("ambiguous", 1), ("sharp", 0)]
    assert shown[0].std_in_bins > 1.5 > 0.7 > shown[1].std_in_bins
    table = edges_in_images_table(shown)
    assert len(table["side"]) == 8
    assert sum(table[f"p{i}"][0] for i in range(17)) == pytest.approx(1, abs=1e-5)


def test_images_of_other_classes_are_an_error(images):
    with pytest.raises(DataError, match="its own classes"):
        as_data(SyntheticScenes(2), ScriptedDetector())
    assert as_data(images, ScriptedDetector()) is images


def tiny(preset: str, path: Path, **options: object) -> Path:
    settings = InputSettings(short_side=96, long_side=96)
    torch.manual_seed(0)
    model = create(
        preset,
        5,
        names=SyntheticScenes.names,
        pretrained=False,
        input_settings=settings,
        channels=32,
        num_convs=1,
        **options,
    )
    torch.nn.init.normal_(model.head.cls_out.bias, 0.0, 1.0)  # untrained, but it finds something
    save_model(model, path)
    return path


def test_all_figures_of_model_files_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    # An untrained detector finds no object but by luck: whatever it finds counts as one.
    monkeypatch.setattr("gfocal.lab.figures.figure_3.box_iou", lambda a, b: torch.ones(len(a), len(b)))
    body = {"body": "resnet18.tv_in1k", "quality_branch": False}
    general = tiny("gfl_r18_fpn", tmp_path / "joint.safetensors")
    written = draw_from_runs(
        tmp_path / "figures",
        data=SyntheticScenes(3, 96),
        joint=general,
        separate=tiny("atss_r50_fpn", tmp_path / "a.safetensors", body="resnet18.tv_in1k", box="dirac"),
        dirac=tiny("atss_r50_fpn", tmp_path / "b.safetensors", box="dirac", **body),
        gaussian=tiny("atss_r50_fpn", tmp_path / "c.safetensors", box="gaussian", **body),
        general=general,
        speeds=[DetectorSpeed("tiny", 0.01, 99.0)],
        machine="a test",
    )
    assert [path.stem for path in written[::2]] == [
        "figure_02a_confident_background",
        "figure_02b_score_and_quality",
        "figure_03_edges_in_images",
        "figure_07_side_by_side",
        "figure_08_speed",
        "figure_12_quality_labels",
    ]
    for figure in written[::2]:
        with Image.open(figure) as image:
            assert (image.format, image.width) == ("PNG", 912)
        assert len(next(iter(read_table(figure.with_suffix(".csv")).values()))) > 0
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())


def test_a_dirac_detector_has_no_edges_to_show(tmp_path):
    from gfocal.models.model_file import load_model

    model = load_model(tiny("atss_r50_fpn", tmp_path / "d.safetensors", box="dirac", body="resnet18.tv_in1k"))
    with pytest.raises(DataError, match="a Dirac edge has none"):
        edges_in_images(model, SyntheticScenes(1, 96))


def test_nothing_to_draw_from_is_an_error(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(DataError, match="nothing to draw from"):
        draw_from_runs(tmp_path)
    with pytest.raises(DataError, match="need data"):
        draw_from_runs(tmp_path, joint=ScriptedDetector())
