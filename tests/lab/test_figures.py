"""Figures from simulation: their numbers say what the paper says, and image and csv are written."""

import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gfocal.data.dataset import FileData, Sample
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import DataError
from gfocal.lab.figures import DetectorSpeed, MissingExtraError, draw_from_runs, draw_simulated
from gfocal.lab.figures.canvas import read_table, write_table
from gfocal.lab.figures.figure_5 import (
    one_expectation,
    qfl_curves,
    qfl_table,
    regression_targets,
    targets_table,
    tilt,
)
from gfocal.lab.figures.figure_9 import three_representations
from gfocal.lab.figures.figure_10 import Perturbation, perturbation, perturbation_table
from gfocal.lab.figures.figure_11_12 import SIDES, CenternessMap, centerness_map


def test_qfl_is_least_where_the_score_is_the_quality():
    for quality in (0.3, 0.5):
        curves = qfl_curves(quality)
        for loss in curves.losses.values():
            assert abs(curves.scores[loss.argmin()] - quality) < 1e-3
    losses = curves.losses
    assert losses[0.0].min() == pytest.approx(math.log(2))  # the cross-entropy of a coin
    assert all(losses[beta].min() < 1e-12 for beta in (1.0, 2.0, 2.5, 4.0))
    assert (losses[2.0] <= losses[1.0]).all()  # a greater beta takes more weight from what is nearly right
    assert (losses[4.0] <= losses[2.5]).all()


def test_distributions_of_one_expectation_differ_in_dfl_alone():
    data = one_expectation(5.7)
    assert (data.expectations - 5.7).abs().max() < 1e-9
    assert (data.probabilities.sum(1) - 1).abs().max() < 1e-12
    named = dict(zip(data.names, data.dfl.tolist(), strict=True))
    floor = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert named["minimum of DFL"] == pytest.approx(floor, abs=1e-9)
    assert all(named[name] > floor + 0.3 for name in data.names[:-1])
    assert data.entropies.argmax() == data.names.index("flattest")
    assert data.entropies.max() > 4 * data.entropies.min()


@pytest.mark.parametrize("expectation", [0.2, 8.0, 15.9])
def test_tilting_finds_any_expectation(expectation):
    p = tilt(torch.zeros(17, dtype=torch.float64), expectation)
    assert abs(float(p @ torch.arange(17.0, dtype=torch.float64)) - expectation) < 1e-9


def one_box(*box: float, size: int = 256) -> FileData:
    boxes = torch.tensor([box])
    none = torch.zeros(1, dtype=torch.bool)
    sample = Sample(1, Path("none.png"), boxes, torch.zeros(1, dtype=torch.int64), none, (size, size))
    return FileData(("thing",), (1,), [sample])


def test_regression_targets_are_distances_in_strides():
    # A box of 8 strides of the finest level, on its grid: its middle point sees four edges at a distance of 4.
    targets = regression_targets(one_box(64, 64, 128, 128), 256, 256)
    assert (targets.distances == 4).all(1).any()
    assert targets.distances.min() > 0
    assert (targets.distances[:, 0] + targets.distances[:, 2]).unique().tolist() == [8.0]  # width, in strides
    twice = regression_targets(one_box(32, 32, 64, 64, size=128), 256, 256)  # resized to the same
    assert torch.equal(twice.distances, targets.distances)


def test_clamped_fraction_n_counts_edges():
    targets = regression_targets(one_box(64, 64, 128, 128), 256, 256)
    share = float((targets.distances > 4).double().mean())
    assert 0 < share < 1
    assert targets.clamped_fraction(4) == share
    assert targets.clamped_fraction(4) <= targets.clamped_points_fraction(4)
    table = targets_table(targets)
    assert float(sum(table["fraction"])) == pytest.approx(1)
    first_beyond = table["from_strides"].tolist().index(4.0)
    assert float(table["cumulative_fraction_from"][first_beyond]) == pytest.approx(
        float((targets.distances >= 4).double().mean())
    )


def test_regression_targets_of_images_without_objects_are_an_error():
    with pytest.raises(DataError, match="no point is positive"):
        regression_targets(one_box(5, 5, 5, 5), 256, 256)


def test_representations_have_one_mean_and_the_general_one_alone_has_two_peaks():
    data = three_representations()
    bins = torch.arange(len(data.general), dtype=torch.float64)
    step = float(data.x[1] - data.x[0])
    assert float((data.ground_truth * data.x).sum() * step) == pytest.approx(data.mean, abs=1e-6)
    assert float(data.general @ bins) == pytest.approx(data.mean)
    assert float(data.x[data.gaussian.argmax()]) == pytest.approx(data.mean, abs=step)
    p = data.general
    peaks = [i for i in range(1, len(p) - 1) if p[i] > p[i - 1] and p[i] > p[i + 1]]
    assert peaks == [4, 9]


@pytest.fixture(scope="module")
def perturbed() -> Perturbation:
    return perturbation(features=6, directions=200)


def test_perturbation_of_dirac_and_gaussian_grows_with_the_target_and_of_general_does_not(perturbed):
    dirac, gaussian = perturbed.mean_error("own", "Dirac"), perturbed.mean_error("own", "Gaussian")
    general = perturbed.mean_error("own", "General")
    assert dirac[2] / dirac[0] == pytest.approx(3.5 / 1.5, rel=0.1)  # in proportion to the weights
    assert dirac[1] / dirac[0] == pytest.approx(2.5 / 1.5, rel=0.1)
    assert torch.allclose(gaussian, dirac, rtol=0.05)
    assert general.max() / general.min() < 1.4
    assert general.max() < 0.1 * dirac.min()


def test_dirac_error_is_that_of_its_least_weights(perturbed):
    # w = y x / |x|^2, and a direction of norm 0.1 in 256 dimensions: |w d| has a mean of 0.1 y sqrt(2 / (256 pi)).
    expected = 0.1 * torch.tensor([1.5, 2.5, 3.5], dtype=torch.float64) * math.sqrt(2 / (256 * math.pi))
    assert torch.allclose(perturbed.mean_error("own", "Dirac"), expected, rtol=0.1)


def test_one_layer_for_all_targets_takes_most_of_the_lead(perturbed):
    dirac, general = perturbed.mean_error("shared", "Dirac"), perturbed.mean_error("shared", "General")
    assert torch.allclose(dirac, dirac[:1].expand(3))  # the same weights for all
    assert (general > 10 * perturbed.mean_error("own", "General")).all()
    assert (general < dirac).all()
    exp = perturbed.mean_error("shared", "Dirac, exp")
    assert exp[2] / exp[0] == pytest.approx(3.5 / 1.5, rel=0.05)


def test_every_layer_gives_its_targets(perturbed):
    for edges in perturbed.before.values():
        assert (edges - torch.tensor(perturbed.targets)).abs().max() < 0.01
    assert set(perturbation_table(perturbed)["layer"]) == {"own", "shared"}


@pytest.fixture(scope="module")
def labels() -> CenternessMap:
    return centerness_map(boxes=400)


def test_centerness_is_small_over_the_area_of_a_box_and_iou_is_not(labels):
    assert float(labels.centerness.mean()) == pytest.approx((math.pi / 2 - 1) ** 2, abs=1e-3)
    low, low_iou = labels.fraction_below(0.2)
    assert low > 0.3
    assert low_iou == 0
    assert 0.8 < labels.iou.mean() < 0.9
    assert labels.mean_iou.std() < 0.02  # it does not depend on the place


def test_small_boxes_have_no_central_point(labels):
    medians = labels.best_centerness.median(1).values
    assert (medians.diff() > 0).all()
    assert medians[SIDES.index(1.0)] < 0.4 < 0.8 < medians[SIDES.index(8.0)]


def test_csv_reads_back_as_written(tmp_path):
    table = qfl_table(qfl_curves())
    write_table(tmp_path / "a.csv", table)
    back = read_table(tmp_path / "a.csv")
    assert list(back) == list(table)
    for name, column in back.items():
        assert column == table[name].tolist()
    write_table(tmp_path / "a.csv", {"name": ["with, comma", 'and "quotes"'], "count": [1, 2]})
    assert read_table(tmp_path / "a.csv") == {"name": ["with, comma", 'and "quotes"'], "count": [1, 2]}
    with pytest.raises(ValueError, match="different length"):
        write_table(tmp_path / "b.csv", {"a": [1], "b": [1, 2]})
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_simulated_figures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    written = draw_simulated(tmp_path / "figures", SyntheticScenes(20, 192))
    assert [path.stem for path in written[::2]] == [
        "figure_05a_qfl_curves",
        "figure_05b_one_expectation",
        "figure_05c_regression_targets",
        "figure_09_representations",
        "figure_10_perturbation",
        "figure_11_centerness",
    ]
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())  # no temporary file is left
    for figure in written[::2]:
        with Image.open(figure) as image:
            assert (image.format, image.width) == ("PNG", 912)
            assert len(image.convert("RGB").getcolors(1 << 24)) > 20
        assert len(next(iter(read_table(figure.with_suffix(".csv")).values()))) > 0


def test_accuracy_and_speed(tmp_path):
    pytest.importorskip("matplotlib")
    speeds = [
        DetectorSpeed("a", 0.31, 12.5, "GFL"),
        DetectorSpeed("b", 0.34, 8.0, "GFL"),
        DetectorSpeed("c", 0.3, 12.0),
    ]
    figure, table = draw_from_runs(tmp_path, speeds=speeds)
    assert read_table(table)["images_per_second"] == [12.5, 8.0, 12.0]
    with Image.open(figure) as image:
        assert image.width == 912
    with pytest.raises(ValueError, match="above 0"):
        draw_from_runs(tmp_path, speeds=[DetectorSpeed("a", 0.3, 0.0)])


def test_without_matplotlib_the_error_names_the_extra_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gfocal\[lab\]'"):
        draw_simulated(tmp_path / "figures")
    with pytest.raises(MissingExtraError, match=r"pip install 'gfocal\[lab\]'"):
        draw_from_runs(tmp_path / "figures", speeds=[DetectorSpeed("a", 0.3, 1.0)])
    assert not (tmp_path / "figures").exists()
