"""The table of published weights is consistent in itself, and with the presets."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from gfocal.models.published import PUBLISHED, PublishedWeights
from gfocal.models.zoo import PRESETS, create


def test_the_known_families_are_there():
    assert {name.partition("_")[0] for name in PUBLISHED} == {
        "nanodet",
        "gfl",
        "ld",
        "atss",
        "fcos",
        "foveabox",
        "retinanet",
    }
    aps = {name: weights.ap for name, weights in PUBLISHED.items()}
    assert aps["gfl_r50_1x_coco"] == 40.2
    assert aps["gfl_x101_32x4d_dcn_2x_coco"] == 48.1
    assert aps["ld_r18_1x_coco"] == 36.5
    assert aps["nanodet_plus_m_416_coco"] == 30.4


@pytest.mark.parametrize("weights", PUBLISHED.values(), ids=PUBLISHED)
def test_every_entry_can_be_downloaded_and_checked(weights: PublishedWeights):
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*_coco", weights.name)
    assert weights.preset in PRESETS
    assert weights.license == "Apache-2.0"
    assert weights.source.startswith("https://github.com/")
    for download in weights.downloads:
        assert urlsplit(download.address).scheme == "https"
        if download.digest is not None:
            assert re.fullmatch(r"sha256:[0-9a-f]{8,64}|sha384:[0-9a-f]{96}", download.digest)
    assert weights.file_name.endswith((".pth", ".ckpt"))
    if "openmmlab" in weights.downloads[0].address:
        stem, digest = weights.file_name.removesuffix(".pth"), weights.downloads[0].digest
        assert digest == f"sha256:{stem[-8:]}"


def test_files_and_names_are_different():
    files = [name for weights in PUBLISHED.values() for name in (weights.file_name, *weights.other_files)]
    assert len(set(files)) == len(files)
    digests = [weights.downloads[0].digest for weights in PUBLISHED.values() if weights.downloads[0].digest]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("weights", PUBLISHED.values(), ids=PUBLISHED)
def test_the_size_is_that_of_the_tensors(weights: PublishedWeights):
    with torch.device("meta"):
        model = create(weights.preset, 80, pretrained=False, **weights.options)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values()) / 1e6
    if weights.preset.startswith("nanodet"):
        size *= 2  # the weights of the last step, and their average
    assert weights.megabytes == pytest.approx(size, rel=0.02)


def test_the_page_lists_all_of_them():
    page = Path(__file__).resolve().parents[2] / "docs" / "models.md"
    found = re.findall(r"^\| `(\w+_coco)` \|(.*)\|$", page.read_text(encoding="utf-8"), re.M)
    assert [name for name, _ in found] == list(PUBLISHED)
    for name, row in found:
        weights = PUBLISHED[name]
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[:3] == ["" if ap is None else f"{ap:.1f}" for ap in (weights.ap, weights.ap50, weights.ap75)]
        assert cells[3:6] == [f"{weights.megabytes:.0f}", f"`{weights.preset}`", weights.training]
        assert cells[6] == f"[`{weights.file_name}`]({weights.downloads[0].address})"
        assert f"]({weights.source})" in cells[7]
