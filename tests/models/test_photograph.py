"""Every published preset learns from a real photograph for one step, and detects in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfocal.criteria.gfl import GFLCriterion
from gfocal.data.discovery import read_data
from gfocal.data.preprocess import InputSettings, normalize_batch, resize, resized_shape
from gfocal.models.predict import detect_batch
from gfocal.models.zoo import PRESETS, create
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import pad_targets
from gfocal.training.optim import OptimizerSettings, make_optimizer

GFL = [name for name in PRESETS if name.startswith("gfl_")]


@pytest.mark.slow
@pytest.mark.parametrize("preset", GFL)
def test_one_step_and_detections_on_a_photograph(preset: str, shared: Path) -> None:
    torch.manual_seed(0)
    data = read_data(shared / "data" / "coco_ccby", "train")
    image, sample = next(pair for i in range(len(data)) if len((pair := data.read(i))[1].boxes))
    settings = InputSettings(short_side=96, long_side=128)
    model = create(preset, len(data.names), names=data.names, pretrained=False, input_settings=settings).train()

    height, width = int(image.shape[1]), int(image.shape[2])
    shape = resized_shape(height, width, settings.short_side, settings.long_side)
    scale = torch.tensor([shape[1] / width, shape[0] / height]).repeat(2)
    targets = pad_targets([sample.boxes * scale], [sample.labels])
    inputs = normalize_batch([resize(image, shape)], settings)
    assert isinstance(model.box_coder, GeneralDistribution)
    criterion = GFLCriterion(model.box_coder)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = make_optimizer(model, OptimizerSettings(lr=0.01, lr_batch=1), 1)
    losses = criterion(model(inputs), targets, torch.tensor([shape]))
    losses.total.backward()
    optimizer.step()
    assert losses.total.isfinite()
    assert losses.num_positives.item() > 0
    # The residual branches of a fresh ResNet are switched off, so of the backbone only the stem is sure to move.
    stem = next(name for name in before if name.startswith("backbone."))
    moving = [name for name in before if name == stem or not name.startswith("backbone.")]
    still = [name for name in moving if torch.equal(model.get_parameter(name), before[name])]
    assert not still, f"a step left {still[0]} as it was"

    found = detect_batch(model, [image], score_threshold=0.005)[0]
    assert 0 < len(found) <= 100
    assert found.size == (height, width)
    assert (found.boxes[:, 2:] <= torch.tensor([width, height]) + 1e-3).all()
    torch.testing.assert_close(found.edges.sum(-1), torch.ones(len(found), 4))
