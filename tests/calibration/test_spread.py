"""The rule for the spread of edges: fitted where that helps, and of images of any size alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from calibrations import scenes, true_positives
from gfocal.calibration.matched import TruePositives, match_detections
from gfocal.calibration.spread import choose_spread_rule, fit_spread_rule, fold_of_images, relative_spread
from gfocal.structures.calibration import FEATURES, SpreadRule


def enlarged(found: TruePositives, factor: float) -> TruePositives:
    """The same in images stored larger, of which the network sees the same."""
    changed = {name: getattr(found, name) * factor for name in ("boxes", "gt_boxes", "bin_sizes", "points", "sizes")}
    return replace(found, **changed)


def sum_of_lengths(rule: SpreadRule) -> float:
    return sum(w for w, name in zip(rule.weights, FEATURES, strict=True) if name != "doubt")


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_images_stored_larger_have_spreads_as_much_larger(factor: float):
    found = true_positives(40)
    for rule in (SpreadRule(), fit_spread_rule(found)):
        assert sum_of_lengths(rule) == pytest.approx(1)
        larger = relative_spread(rule, enlarged(found, factor))
        assert torch.allclose(larger, factor * relative_spread(rule, found), rtol=1e-6)


def test_a_rule_fitted_to_larger_images_is_the_same():
    found = true_positives(40)
    same = fit_spread_rule(enlarged(found, 4.0))
    assert same.weights == pytest.approx(fit_spread_rule(found).weights, abs=1e-3)


def test_images_of_mixed_sizes_do_not_change_that():
    found = true_positives(40)
    factors = torch.where(found.image % 2 == 0, 1.0, 5.0).unsqueeze(1)
    names = ("boxes", "gt_boxes", "bin_sizes", "points")
    mixed = replace(found, **{name: getattr(found, name) * factors for name in names})
    assert fit_spread_rule(mixed).weights == pytest.approx(fit_spread_rule(found).weights, abs=1e-3)


def test_a_fitted_rule_finds_what_the_errors_follow():
    # Errors are in proportion to the deviation of the distribution; sides and scores have nothing to do with them.
    found = true_positives(300)
    rule = fit_spread_rule(found)
    assert abs(rule.weights[FEATURES.index("doubt")]) < 0.35
    logs = [relative_spread(one, found).log().flatten() for one in (rule, SpreadRule())]
    errors = found.errors.clamp(min=1e-3).log().flatten()
    fitted, standard = (float(torch.corrcoef(torch.stack([one, errors]))[0, 1]) for one in logs)
    assert fitted > standard


def test_the_fitted_rule_is_chosen_where_it_is_better():
    assert choose_spread_rule(true_positives(300)) != SpreadRule()


def test_many_boxes():
    # More than a calibration keeps order statistics of.
    assert len(true_positives(450)) > 2800
    assert choose_spread_rule(true_positives(450), 0.95).weights


@pytest.mark.parametrize("num_images", [1, 2])
def test_few_images_have_the_standard_rule(num_images: int):
    assert choose_spread_rule(true_positives(num_images)) == SpreadRule()


def test_boxes_without_area_and_edges_of_bfloat16_have_a_spread():
    data, several = scenes(3)
    found, _ = match_detections(data, several, 0.3)
    flat = replace(found, boxes=found.boxes[:, [0, 1, 0, 1]], edges=found.edges.bfloat16())
    spread = relative_spread(SpreadRule(), flat)
    assert spread.isfinite().all()
    assert (spread > 0).all()
    assert relative_spread(SpreadRule(), found.select(torch.zeros(0, dtype=torch.int64))).shape == (0, 4)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_all_boxes_of_an_image_are_in_one_fold(folds: int):
    image = torch.randint(0, 40, (500,), generator=torch.Generator().manual_seed(0)) * 3
    fold = fold_of_images(image, folds, seed=1)
    of_image = {int(i): fold[image == i].unique().tolist() for i in image.unique()}
    assert all(len(folds) == 1 for folds in of_image.values())
    counts = torch.tensor([folds[0] for folds in of_image.values()]).bincount()
    assert int(counts.max() - counts.min()) <= 1
    assert torch.equal(fold, fold_of_images(image, folds, seed=1))
    assert not torch.equal(fold, fold_of_images(image, folds, seed=2))
