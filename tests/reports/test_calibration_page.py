"""The page of a calibration: its figures are those of other images, and it does without classes and images."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from calibrations import Annotated, scenes
from gfocal.calibration.calibrate import calibrate, divide_images
from gfocal.calibration.guarantees import guarantees
from gfocal.calibration.held_out import SPLITS, hold_out, pit_of_calibration, pit_of_distributions
from gfocal.calibration.measure import coverage_of
from gfocal.calibration.spread import fold_of_images, relative_spread
from gfocal.data.dataset import Sample
from gfocal.errors import ImageError
from gfocal.reports import calibration as page_module
from gfocal.reports.calibration import levels_of, write_calibration_page
from gfocal.structures.calibration import least_count


@dataclass(frozen=True)
class Painted(Annotated):
    """Images of one gray; the first cannot be read."""

    def read(self, index: int) -> tuple[torch.Tensor, Sample]:
        if index == 0:
            raise ImageError("broken")
        sample = self.sample(index)
        assert sample.size is not None
        return torch.full((3, *sample.size), 128, dtype=torch.uint8), sample


def test_the_page_has_every_part(tmp_path: Path):
    data, found = scenes(60)
    painted = Painted(data.samples, ("a", "<b>"))
    renamed = {key: replace(one, names=painted.names) for key, one in found.items()}
    result = calibrate(painted, renamed, 0.3, "made up", "digest")
    write_calibration_page(tmp_path / "page.html", result, painted, 0.9, "Calibration", 0)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("Coverage", "Where it holds", "Scores", "The widest intervals", "The most wrong edges", "Details"):
        assert f"<h2>{part}</h2>" in page
    assert "&lt;b&gt;" in page
    assert "<b>a</b>" not in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)
    assert page.count("<figure>") > 6


def test_too_few_boxes_for_halves_leave_the_rest_of_the_page(tmp_path: Path):
    data, found = scenes(2, per_image=6)
    result = calibrate(data, found, 0.3, "made up", "digest")
    assert len(result.found) < 2 * least_count(0.9)
    write_calibration_page(tmp_path / "page.html", result, data, 0.9, "Calibration", 0)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The widest intervals" not in page
    assert "Where it holds" in page


def test_the_page_has_the_figures_and_the_warning_of_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, found = scenes(25)
    painted = Painted(data.samples, data.names)
    result = calibrate(painted, found, 0.3, "made up", "digest", seed=3)
    assert result.held_out is not None
    assert not result.calibration.is_fitted
    figures = result.held_out.summary()
    charts: list[list[tuple[float, float]]] = []
    monkeypatch.setattr(page_module, "coverage_chart", lambda *series: charts.extend(series) or "")
    write_calibration_page(tmp_path / "page.html", result, painted, 0.9, "Calibration", 3)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<b>{figures.boxes:.1%}</b><span>boxes covered, 90% promised</span>" in page
    assert f"<b>{figures.width:.1f}</b><span>pixels, mean width of an interval</span>" in page
    assert dict(charts[0])[0.9] == figures.boxes
    assert "Boxes of one image err alike: of 25 images the promise is rough; annotate 30 or more." in page
    assert result.describe_rule() in page
    data, found = scenes(40)
    painted = Painted(data.samples, data.names)
    many = calibrate(painted, found, 0.3, "made up", "digest")
    write_calibration_page(tmp_path / "page.html", many, painted, 0.9, "Calibration", 0)
    assert "the promise is rough" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_summary_is_that_of_each_division():
    """Against each half counted by the guarantees of the other, one by one."""
    data, found = scenes(30)
    result = calibrate(data, found, 0.3, "made up", "digest")
    positives, measured = result.found, []
    ratios = positives.errors / relative_spread(result.calibration.spread, positives)
    for seed in range(SPLITS):
        half = fold_of_images(positives.image, 2, seed) == 0
        for mask in (half, ~half):
            boxes, edges, own = guarantees(ratios[mask], positives.labels[mask], least_count(0.9))
            one = replace(result.calibration, boxes=boxes, edges=edges, boxes_of_class=own)
            (coverage,) = coverage_of(positives.select(~mask), one, [0.9], "box")
            measured.append(coverage)
    assert result.held_out is not None
    summary = result.held_out.summary()
    assert (summary.nominal, summary.count) == (0.9, len(positives))
    for name in ("boxes", "edges", "width", "interval_score"):
        total = sum(getattr(one, name) * one.count for one in measured)
        assert getattr(summary, name) == pytest.approx(total / sum(one.count for one in measured), rel=1e-5), name


def test_held_out_coverage_is_what_was_promised():
    data, found = scenes(150)
    result = calibrate(data, found, 0.3, "made up", "digest")
    _, rest = divide_images(result.found, least_count(0.9))
    for guarantee in ("box", "edge"):
        for one in hold_out(rest, result.calibration, (0.5, 0.9), guarantee):
            share = one.boxes if guarantee == "box" else one.edges
            assert float(share.nanmean()) == pytest.approx(one.nominal, abs=0.05)
    narrow, wide = hold_out(rest, result.calibration, (0.5, 0.9), "box")
    assert (narrow.width <= wide.width + 1e-6).all()
    assert (narrow.boxes <= narrow.edges.amin(1) + 1e-6).all()


def test_coverages_that_halves_are_too_few_for_are_left_out():
    data, found = scenes(20)
    result = calibrate(data, found, 0.3, "made up", "digest")
    assert [one.nominal for one in hold_out(result.found, result.calibration, (0.5, 0.999), "box")] == [0.5]


def test_pit_of_right_distributions_is_uniform():
    """Edges whose ground truth is drawn from their own distributions."""
    data, found = scenes(100)
    positives = calibrate(data, found, 0.3, "made up", "digest").found
    generator = torch.Generator().manual_seed(0)
    bins = torch.multinomial(positives.edges.flatten(0, 1).double(), 1, generator=generator).view(-1, 4)
    distance = (bins + torch.rand(bins.shape, generator=generator) - 0.5) * positives.bin_sizes
    gt = torch.cat([positives.points - distance[:, :2], positives.points + distance[:, 2:]], 1).double()
    values = pit_of_distributions(replace(positives, gt_boxes=gt))
    assert torch.histc(values.float(), 5, 0, 1).div(values.numel()).sub(0.2).abs().max() < 0.03


def test_pit_of_a_calibration_is_uniform():
    data, found = scenes(150)
    result = calibrate(data, found, 0.3, "made up", "digest")
    values = pit_of_calibration(result.found, result.calibration)
    assert torch.histc(values.float(), 5, 0, 1).div(values.numel()).sub(0.2).abs().max() < 0.04


def test_levels_are_bins_of_like_size():
    data, found = scenes(5)
    positives = calibrate(data, found, 0.3, "made up", "digest").found
    twice = positives.bin_sizes * torch.where(torch.arange(len(positives)) % 2 == 0, 1.0, 2.0).unsqueeze(1)
    level, names = levels_of(replace(positives, bin_sizes=twice))
    assert names == ["bins of 4.0 pixels", "bins of 8.0 pixels"]
    assert torch.equal(level, torch.arange(len(positives)) % 2)
