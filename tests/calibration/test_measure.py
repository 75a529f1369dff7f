"""What edges and scores are worth: measured alike with and without a calibration."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from calibrations import calibration, scenes
from gfocal.calibration.calibrate import calibrate
from gfocal.calibration.matched import match_detections
from gfocal.calibration.measure import edge_std, measure_trust
from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration


def calibrated(found: dict[int, Detections], how: Calibration) -> dict[int, Detections]:
    return {image_id: replace(one, calibration=how) for image_id, one in found.items()}


def test_without_calibration():
    data, found = scenes(30)
    trust = measure_trust(data, found, 0.3)
    assert not trust.is_calibrated
    assert trust.boxes == trust.edges == ()
    assert trust.calibrated_la_ece is None
    assert min(trust.rms_error, trust.mean_std, trust.crps) > 0
    lines = trust.describe()
    assert "(not calibrated)" in lines[0]
    assert lines[-1].startswith("scores: LaECE")


def test_a_calibration_makes_numbers_mean_what_they_say():
    how = calibrate(*scenes(120), 0.3, "made up", "").calibration
    data, found = scenes(120, seed=4)
    before, after = measure_trust(data, found, 0.3), measure_trust(data, calibrated(found, how), 0.3)
    assert after.is_calibrated
    assert after.ence < before.ence / 2
    assert after.mean_std == pytest.approx(after.rms_error, rel=0.15)
    assert after.calibrated_la_ece is not None
    assert after.calibrated_la_ece < before.la_ece
    for one in after.boxes:
        assert one.boxes == pytest.approx(one.nominal, abs=0.05)
        assert one.edges >= one.boxes
    for one in after.edges:
        assert one.edges == pytest.approx(one.nominal, abs=0.04)
    assert [one.width for one in after.boxes] == sorted(one.width for one in after.boxes)
    assert (before.crps, before.rms_error) == (after.crps, after.rms_error)


def test_what_cannot_be_promised_is_left_out():
    how = calibration(count=12)
    trust = measure_trust(*((data := scenes(5))[0], calibrated(data[1], how)), 0.3, (0.5, 0.9, 0.95))
    assert [one.nominal for one in trust.boxes] == [0.5, 0.9]


def test_deviations_are_those_of_detections():
    data, found = scenes(10)
    how = calibration()
    for one in (None, how):
        several = {key: replace(value, calibration=one) for key, value in found.items()}
        positives, _ = match_detections(data, several, 0.3)
        stds = edge_std(positives, one)
        for row in range(len(positives)):
            own = several[int(positives.image[row])]
            place = int((own.boxes.double() - positives.boxes[row]).abs().sum(1).argmin())
            assert torch.allclose(own.edge_std[place].double(), stds[row], rtol=1e-5)


def test_nothing_found_is_no_error_and_is_json():
    data, found = scenes(3)
    none = {key: one.select(slice(0, 0)) for key, one in found.items()}
    for several in ({}, none, calibrated(none, calibration())):
        trust = measure_trust(data, several, 0.3)
        assert trust.num_boxes == 0
        text = json.dumps(trust.to_json(), allow_nan=False)
        assert json.loads(text)["la_ece"] is None
        assert not any("nan" in line for line in trust.describe())


def test_detections_without_distributions_have_errors_of_scores():
    data, found = scenes(5)
    bare = {key: replace(one, edges=torch.zeros(len(one), 4, 0)) for key, one in found.items()}
    trust = measure_trust(data, bare, 0.3)
    assert trust.to_json()["mean_std"] is None
    assert trust.la_ece == measure_trust(data, found, 0.3).la_ece
