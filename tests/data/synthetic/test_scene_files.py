"""Scenes written as files are read again as what they were."""

from pathlib import Path

import torch

import gfocal
from gfocal.data.synthetic.scene_files import write_scenes


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    scenes = gfocal.SyntheticScenes(4, size=96, seed=3)
    write_scenes(scenes, tmp_path)
    data = gfocal.read_data(tmp_path)
    assert len(data) == 4
    assert tuple(data.names) == scenes.names
    for index in range(4):
        pixels, sample = data.read(index)
        expected_pixels, expected = scenes.read(index)
        assert torch.allclose(sample.boxes, expected.boxes, atol=0.011)
        assert torch.equal(sample.labels, expected.labels)
        assert (pixels.float() - expected_pixels.float()).abs().mean() < 6  # JPEG
