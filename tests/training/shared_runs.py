"""Whole runs that several processes share, for ``test_distributed.py``: each process runs this file, in float64.

RANK=0 WORLD_SIZE=2 ... python shared_runs.py OUT
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign, assignment]  # losses say .float()
os.fsync = lambda _: None  # type: ignore[assignment]

from gfocal.data.augmentation.pipeline import AugmentSettings  # noqa: E402
from gfocal.data.loading import evaluation_loader  # noqa: E402
from gfocal.data.preprocess import InputSettings  # noqa: E402
from gfocal.data.synthetic.scenes import SyntheticScenes  # noqa: E402
from gfocal.evaluation.detections import average_precision, detect_all  # noqa: E402
from gfocal.launch import is_main, world_size  # noqa: E402
from gfocal.models.backbone import TimmBackbone  # noqa: E402
from gfocal.models.detector import Detector  # noqa: E402
from gfocal.models.zoo import create  # noqa: E402
from gfocal.training.loop import train  # noqa: E402
from gfocal.training.optim import OptimizerSettings, ScheduleSettings  # noqa: E402
from gfocal.training.settings import RunSettings  # noqa: E402

TINY = {"body": "mobilenetv4_conv_small_035", "channels": 32, "num_convs": 1}
VAL = SyntheticScenes(5, size=96, purpose="val")


def detector(norm_eval: bool) -> Detector:
    torch.manual_seed(0)
    model = create("gfl_light_fpn", 5, names=SyntheticScenes.names, pretrained=False, **TINY)
    assert isinstance(model.backbone, TimmBackbone)
    model.backbone.freeze(0, norm_eval=norm_eval)
    model.double()
    model.input_settings = InputSettings(short_side=64, long_side=64)
    model.decode_settings = replace(model.decode_settings, score_threshold=0.0)  # much to gather
    return model


def run(folder: Path, count: int, norm_eval: bool) -> Detector:
    model = detector(norm_eval)
    result = train(
        model,
        SyntheticScenes(count, size=96),
        VAL,
        folder,
        run=RunSettings(
            epochs=2,
            batch_size=4 // world_size(),
            grad_accum_steps=2,
            num_workers=0,
            ema_decay=0.5,
            eval_batch_size=2,
            cpu=True,
        ),
        augment=AugmentSettings(flip=0.5, color=0.5),
        optimizer_settings=OptimizerSettings("adamw", lr=5e-3, lr_batch=8, clip_norm=1.0),
        schedule=ScheduleSettings("cosine", warmup_steps=0),
    )
    assert result is not None  # in every process
    (folder / f"result-{os.environ['RANK']}.json").write_text(json.dumps(result.to_json()))
    return model


def main() -> None:
    out = Path(sys.argv[1])
    for count in (7, 5):  # the last batch is of three images, or of one
        run(out / str(count), count, norm_eval=True)  # other statistics of BatchNorm would be another network
    trained = run(out / "norms", 4, norm_eval=False)
    if is_main():  # what this process alone finds with the weights that it has saved
        batches = evaluation_loader(VAL, trained.input_settings, 2)
        found = detect_all(trained, batches)
        (out / "norms" / "alone.json").write_text(json.dumps(average_precision(VAL, found).to_json()))


if __name__ == "__main__":
    main()
