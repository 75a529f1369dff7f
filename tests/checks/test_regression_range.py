"""The regression range by hand, the advice on it, and the refusal of runs that would clamp edges."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gfocal.checks.advice import advise, advise_for_network, find_smallest_range
from gfocal.checks.before_training import geometry_from_config, refuse_clamped_edges, take_advice
from gfocal.checks.geometry import DetectorGeometry, assign_by_reach, read_geometry
from gfocal.checks.regression_range import (
    TOLERATED,
    LevelResult,
    RegressionRangeResult,
    check_regression_range,
    describe_clamped,
    describe_clamping,
    format_fraction,
    measure_regression_range,
)
from gfocal.cli.main import build_parser
from gfocal.cli.training_config import build_config
from gfocal.config.config import Config, ConfigError, read_config, with_changes
from gfocal.criteria.gfl import GFLCriterion
from gfocal.data.dataset import FileData, Sample
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import ClampedEdgesError
from gfocal.models.zoo import create
from gfocal.ops.distributions import GeneralDistribution
from gfocal.run import run_training
from gfocal.structures import pad_targets

STRIDES = (8, 16, 32, 64, 128)
SIZE = InputSettings(short_side=320, long_side=480)
Run = Callable[..., tuple[int, str, str]]


def data_of(*images: Sequence[Sequence[float]], size: tuple[int, int] = (320, 480)) -> FileData:
    """Images with these boxes, of the network's own size."""
    samples = []
    for i, boxes in enumerate(images):
        rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        flags = torch.zeros(len(rows), dtype=torch.bool)
        samples.append(Sample(i + 1, None, rows, torch.zeros(len(rows), dtype=torch.int64), flags, size))
    return FileData(("thing",), (1,), samples)


LONG = [20.0, 100.0, 460.0, 120.0]  # assigned to points of stride 8: over 200 pixels to an end, the range is 128
BAR = [20.0, 26.8, 60.0, 29.2]  # between points of stride 8, at 1.25 and 1.5 times too; one of stride 4 lies inside
SQUARE = [100.0, 100.0, 164.0, 164.0]


def measure(data: FileData, n: int = 16, delta: float = 1.0, **settings: int) -> RegressionRangeResult:
    return measure_regression_range(data, DetectorGeometry(STRIDES, "corner", n, delta, SIZE), **settings)


def test_the_edges_of_a_square_box_are_inside() -> None:
    result = measure(data_of([SQUARE]))
    assert result.clamped_fraction == 0
    assert result.num_boxes == 1
    assert not result.clamped
    assert not result.unassigned
    assert result.levels[0].range_pixels == 128
    assert result.levels[4].range_pixels == 2048
    assert result.num_points == 9  # the 3 x 3 points nearest to its middle
    assert float(result.distances[-1]) <= 8


def test_a_stretched_input_has_its_own_distances() -> None:
    """A box of 440 x 20 pixels in 480 x 320 is, at 160 x 160, 147 wide and 10 high."""
    data = data_of([LONG])
    size = InputSettings(short_side=160, long_side=160, stretch=True)
    result = measure_regression_range(data, DetectorGeometry(STRIDES, "corner", 16, 1.0, size))
    assert float(result.sides[0]) == pytest.approx((440 / 3 * 10) ** 0.5, rel=1e-5)
    assert result.clamped_fraction == 0  # 147 pixels, less than 16 strides of 8 from most points
    assert measure(data).clamped_fraction > 0
    assert result.size_text == "160 x 160 pixels"
    assert measure(data).size_text == "a short side of 320"
    geometry = DetectorGeometry(STRIDES, "corner", 16, 1.0, size).with_short_side(240)
    assert geometry.input_settings == replace(size, short_side=240, long_side=240)


def test_random_sizes_of_a_stretched_input_are_checked_at_the_largest() -> None:
    detector = create("gfl_r18_fpn", 1, pretrained=False, channels=32, num_convs=1)
    detector.input_settings = InputSettings(short_side=160, long_side=160, stretch=True)
    geometry = read_geometry(detector, GFLCriterion(), (96, 224))
    assert geometry is not None
    assert geometry.input_settings == InputSettings(short_side=224, long_side=224, stretch=True)


def test_clamped_edges_of_a_long_box_are_counted() -> None:
    result = measure(data_of([SQUARE], [LONG]))
    (box,) = result.clamped
    assert (box.image, box.box, box.stride) == (1, 0, 8)
    assert result.levels[0].num_clamped == int((result.distances > 16).sum()) > 0
    assert box.max_distance == pytest.approx(float(result.distances[-1]))
    assert box.max_distance * 8 > 200
    # Twice the values, or twice their distance, and no edge is outside.
    assert measure(data_of([LONG]), 32).clamped_fraction == 0
    assert measure(data_of([LONG]), 16, 2.0).clamped_fraction == 0
    assert measure(data_of([LONG]), 32, 0.5).clamped_fraction > 0


def test_very_few_clamped_edges_are_said_once_as_a_fraction() -> None:
    levels = (LevelResult(8, 128.0, 100_000, 10, 3), LevelResult(16, 256.0, 100_000, 10, 0))
    result = replace(measure(data_of([SQUARE])), levels=levels)
    said = describe_clamping(result)
    assert said.startswith("under 0.01% of the edges lie outside")
    assert said.endswith(": 3 edges at stride 8 (range 128 pixels)")
    assert [describe_clamped(level) for level in levels] == ["3 edges", "0%"]
    assert describe_clamped(replace(levels[0], num_clamped=40)) == "0.01%"


def test_the_clamped_edges_are_those_of_the_criterion() -> None:
    """The edges counted are those of the positives of a real step whose target is past the last value."""
    detector = create("gfl_r18_fpn", 1, pretrained=False, channels=32, num_convs=1, n=4)
    boxes = torch.tensor([LONG, SQUARE, [300.0, 10.0, 470.0, 310.0]])
    seen: list[torch.Tensor] = []

    def spying(points, targets, taking_part):  # type: ignore[no-untyped-def]
        assignment = GFLCriterion().assign(points, targets, taking_part)
        owner = assignment.gt_index[0]
        positive = owner >= 0
        xy, ground_truth = points.xy[positive], targets.boxes[0][owner[positive]]
        ltrb = torch.cat((xy - ground_truth[:, :2], ground_truth[:, 2:] - xy), 1) / points.strides[positive, None]
        seen.append(ltrb > 4)
        return assignment

    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, 320, 480))
    targets = pad_targets([boxes], [torch.zeros(3, dtype=torch.int64)])
    GFLCriterion(GeneralDistribution(4), assign=spying)(outputs, targets, torch.tensor([[320, 480]]))
    result = measure(data_of(boxes.tolist()), 4)
    assert sum(level.num_clamped for level in result.levels) == int(seen[0].sum()) > 0
    assert result.num_points == len(seen[0])


def test_boxes_between_the_points_are_unassigned_until_the_input_grows() -> None:
    data = data_of([[1.0, 1.0, 7.0, 7.0], SQUARE])
    geometry = DetectorGeometry(STRIDES, "corner", 16, 1.0, SIZE)
    result = measure_regression_range(data, geometry)
    assert [(box.image, box.box) for box in result.unassigned] == [(0, 0)]
    assert result.unassigned_fraction == 0.5
    (advice,) = advise(data, geometry, result)
    short_side = advice.changes["size.short_side"]
    assert measure_regression_range(data, geometry.with_short_side(short_side)).unassigned_fraction == 0
    assert advice.changes["size.long_side"] == round(480 * short_side / 320)
    assert short_side == 400  # the first of the sizes that are tried
    # Crowd regions and boxes of less than a pixel are not trained on, so they are not measured.
    thin = data_of([[1.0, 1.0, 7.0, 1.5], SQUARE])
    assert measure_regression_range(thin, geometry).num_boxes == 1
    crowd = data_of([SQUARE, LONG])
    marked = replace(crowd.samples[0], crowd=torch.tensor([False, True]))
    assert measure_regression_range(FileData(crowd.names, crowd.category_ids, [marked]), geometry).num_boxes == 1


def test_a_finer_level_is_advised_where_it_costs_less_than_the_input_that_helps() -> None:
    """Inputs of 1.25 and 1.5 times the size are tried before: neither helps this one."""
    data = data_of([BAR])
    coarse = DetectorGeometry(STRIDES, "corner", 16, 1.0, SIZE)
    assert measure_regression_range(data, coarse).unassigned_fraction == 1
    for short_side in (400, 480):
        assert measure_regression_range(data, coarse.with_short_side(short_side)).unassigned_fraction == 1
    (advice, *_) = advise(data, replace(coarse, supports_finer_level=True), measure_regression_range(data, coarse))
    assert advice.changes == {"model.options.finest": 4}
    assert "100.0% of the boxes are unassigned at a short side of 320, 0.0% with a level of stride 4" in advice.why
    finer = replace(coarse, supports_finer_level=True).with_finer_level()
    assert (finer.strides, finer.supports_finer_level) == ((4, *STRIDES), False)
    assert measure_regression_range(data, finer).unassigned_fraction == 0
    # A preset without such a level is given a larger input.
    (advice, *_) = advise(data, coarse, measure_regression_range(data, coarse))
    assert advice.changes.keys() == {"size.short_side", "size.long_side"}


def test_auto_takes_a_level_and_prints_where_nothing_helps() -> None:
    said = io.StringIO()
    config = with_changes(Config(), {"size.short_side": 320, "size.long_side": 480})
    data = data_of([BAR])
    found = take_advice(config, data, Console(file=said, width=1000))
    assert found.model.options["finest"] == 4
    assert "auto: model.options.finest = 4 (was 8): " in said.getvalue()
    geometry = geometry_from_config(found)
    assert geometry is not None
    assert geometry.strides == (4, *STRIDES)
    # The network of a model file is not changed: an input at which n would have to grow is not taken either.
    said.truncate(0)
    started = with_changes(config, {"model.init_from": "some.safetensors", "model.options.n": 4})
    changed = take_advice(started, data, Console(file=said, width=1000))
    assert "cannot be changed: nothing is changed" in said.getvalue()
    assert changed == started
    # Too thin for every input that is tried.
    said.truncate(0)
    data = data_of(*([[20.0, y, 400.0, y + 1.0]] for y in (97.1, 105.1, 113.1)), size=(3200, 4800))
    assert take_advice(config, data, Console(file=said, width=1000)) == config
    assert "auto: 100.0% of the boxes are unassigned at a short side of 320; no input" in said.getvalue()
    assert "nothing to change" not in said.getvalue()


def test_the_finding_on_unassigned_boxes_is_true_of_each_assigner_and_of_its_advice() -> None:
    """Fact, effect, then advice that can be taken; where there is none, why."""
    data = data_of([[1.0, 1.0, 7.0, 7.0], SQUARE])
    of_atss = DetectorGeometry(STRIDES, "corner", 16, 1.0, SIZE)
    by_reach = partial(assign_by_reach, regression_range=16.0)
    of_nanodet = replace(of_atss, assign=by_reach, by_predictions=True)
    for geometry, says, says_not in (
        (of_atss, "get no point assigned at a short side of 320: nothing is trained", "predictions"),
        (of_nanodet, "predictions decide in training whether they get one all the same", "nothing is trained"),
    ):
        result = measure_regression_range(data, geometry)
        found = check_regression_range(result, data, "train", "photos", 0.05)
        (finding,) = [one for one in found if one.code == "many-unassigned-boxes"]
        assert finding.text.startswith("1 of 2 boxes (50.0%) ")
        assert says in finding.text
        assert says_not not in finding.text
        assert finding.text.endswith("hardly found")
        assert finding.command == "gfocal train DATA --auto"
    given, why_not = advise_for_network(data, of_atss, result, None, "some.safetensors")
    assert given
    assert not why_not
    narrow = replace(of_atss, n=2)
    result = measure_regression_range(data, narrow)
    given, why_not = advise_for_network(data, narrow, result, None, "some.safetensors")
    assert not given
    assert why_not.endswith("the network of some.safetensors cannot be changed")
    found = check_regression_range(result, data, "train", "photos", 0.05, why_not, why_not)
    general = [one for one in found if one.code.startswith(("many-", "too-many-"))]
    assert {one.code for one in general} == {"too-many-edges-outside-regression-range", "many-unassigned-boxes"}
    assert {(one.fix, one.command) for one in general} == {(why_not, "")}


def test_of_two_boxes_in_one_place_the_second_is_no_unassigned_box() -> None:
    twice = measure(data_of([SQUARE, SQUARE]))
    assert twice.num_boxes == 2
    assert not twice.unassigned


def test_advice_on_n_is_the_smallest_that_suffices() -> None:
    data = data_of([LONG], [SQUARE])
    geometry = DetectorGeometry(STRIDES, "corner", 16, 1.0, SIZE)
    result = measure_regression_range(data, geometry)
    assert result.clamped_fraction > TOLERATED
    (advice,) = advise(data, geometry, result)
    n = advice.changes["model.options.n"]
    assert advice.changes == {"model.options.n": n}
    assert n % 4 == 0
    assert advice.as_options() == f"--set model.options.n={n}"
    assert result.fraction_beyond(n) <= TOLERATED < result.fraction_beyond(n - 4)
    assert advise(data_of([SQUARE]), geometry, measure_regression_range(data_of([SQUARE]), geometry)) == []


@given(
    st.lists(st.floats(0, 300, width=32), min_size=1, max_size=40), st.integers(1, 40), st.sampled_from([0.5, 1.0])
)
def test_the_smallest_range_always_suffices(distances: list[float], n: int, delta: float) -> None:
    empty = measure(data_of(), n, delta)
    result = type(empty)(**{**vars(empty), "distances": torch.tensor(distances).sort().values})
    wanted, spacing = find_smallest_range(result)
    assert result.fraction_beyond(wanted * spacing) <= TOLERATED
    assert wanted >= n
    assert spacing >= delta
    assert result.fraction_beyond(1000.0) == 0
    assert result.fraction_beyond(-1.0) == 1


def test_sampled_images_are_spread_evenly() -> None:
    data = data_of(*([SQUARE] if i % 2 else [LONG] for i in range(100)))
    whole, some = measure(data), measure(data, max_images=25)
    assert (whole.num_images, some.num_images, some.num_images_total) == (100, 25, 100)


def test_the_geometry_of_a_config_is_that_of_its_detector() -> None:
    geometry = geometry_from_config(read_config("light"))
    assert geometry is not None
    assert (geometry.strides, geometry.n, geometry.delta, geometry.origin) == (STRIDES, 16, 1.0, "corner")
    assert (geometry.input_settings.short_side, geometry.input_settings.long_side) == (320, 427)
    assert geometry.supports_finer_level
    started = geometry_from_config(with_changes(read_config("light"), {"model.init_from": "some.safetensors"}))
    assert started is not None
    assert not started.supports_finer_level  # its network stays as it is
    assert geometry_from_config(with_changes(Config(), {"model.preset": "atss_r50_fpn"})) is None
    assert geometry_from_config(with_changes(Config(), {"model.preset": "ssd512_vgg16"})) is None
    assert geometry_from_config(with_changes(Config(), {"model.preset": "sapd_r50_fpn"})) is None
    general = with_changes(Config(), {"model.preset": "fcos_r50_fpn", "model.options": {"box": "general", "n": 9}})
    found = geometry_from_config(general)
    assert found is not None
    assert (found.n, found.origin) == (9, "center")
    largest = geometry_from_config(with_changes(read_config("light"), {"augment.short_sides": [200, 400]}))
    assert largest is not None
    assert largest.input_settings.short_side == 400


def test_the_refusal_names_the_place_and_the_fix() -> None:
    geometry = DetectorGeometry(STRIDES, "corner", 16, 1.0, SIZE)
    data, said = data_of([LONG], [SQUARE]), io.StringIO()
    console = Console(file=said, width=1000)
    with pytest.raises(ClampedEdgesError) as caught:
        refuse_clamped_edges(geometry, data, 0.05, console, "photos")
    text = str(caught.value)
    assert text.startswith("photos: ")
    assert "\n" not in text
    assert "at stride 8 (range 128 pixels)" in text
    assert "--auto" in text
    assert "--set model.options.n=32" in text
    assert "run.max_clamped_fraction=1" in text
    assert said.getvalue() == ""
    result = refuse_clamped_edges(geometry, data, 1.0, console)
    assert result is not None
    assert said.getvalue().startswith("note: ")
    assert format_fraction(result.clamped_fraction) in said.getvalue()
    said.truncate(0)
    assert refuse_clamped_edges(geometry, data_of([SQUARE]), 0.0, console) is not None
    assert not said.getvalue().strip("\0")
    assert refuse_clamped_edges(None, data, 0.0, console) is None


SHORT = {
    "model.preset": "gfl_r18_fpn",
    "model.pretrained": False,
    "model.options": {"n": 2, "channels": 32, "num_convs": 1},
    "size.short_side": 128,
    "size.long_side": 128,
}


def test_a_run_starts_only_inside_the_regression_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[float] = []
    monkeypatch.setattr("gfocal.run.train", lambda *_, run, **__: started.append(run.max_clamped_fraction))
    config = with_changes(Config(), SHORT | {"run.batch_size": 4})
    scenes, console = SyntheticScenes(4, 128), Console(file=io.StringIO())
    with pytest.raises(ClampedEdgesError, match="n = reg_max = 2"):
        run_training(config, scenes, None, tmp_path / "refused", console=console)
    assert not started
    assert not (tmp_path / "refused").exists()
    run_training(
        with_changes(config, {"run.max_clamped_fraction": 1.0}), scenes, None, tmp_path / "allowed", console=console
    )
    run_training(take_advice(config, scenes, console), scenes, None, tmp_path / "auto", console=console)
    assert started == [1.0, 0.05]


def test_train_auto(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfocal.run.train", lambda *_, **__: None)
    options = [f"--set={key}={value}" for key, value in SHORT.items() if not isinstance(value, dict)]
    command = ["train", "synthetic", "--no-pretrained", *options[:1], *options[2:]]
    command += ["--set=model.options={n=2,channels=32,num_convs=1}", "--out", tmp_path / "run"]
    code, _, error = run(*command)
    assert code == 2
    assert "--auto" in error
    assert error.count("\n") <= 4
    code, _, error = run(*command, "--auto")
    assert code == 0, error
    assert "auto: model.options.n = " in error
    assert "(was 2)" in error
    config = read_config(tmp_path / "run" / "config.toml")
    assert config.model.options["n"] > 2
    assert config.model.options["n"] % 4 == 0
    # The same command with --resume continues with the config that was made.
    (tmp_path / "run" / "state.pt").touch()
    for more in ([], ["--set=model.options.n=2", "--short-side=100"]):
        line = [str(word) for word in (*command[:-3], *more, *command[-2:])]
        assert build_config(build_parser().parse_args([*line, "--auto", "--resume"])) == config
    with pytest.raises(ConfigError, match=r"model\.options\.n"):
        build_config(build_parser().parse_args([*line, "--resume"]))


def test_auto_does_not_change_the_network_of_a_model_file() -> None:
    said = io.StringIO()
    config = with_changes(Config(), SHORT | {"model.init_from": "some.safetensors"})
    data = data_of([[10.0, 10.0, 470.0, 310.0]])
    changed = take_advice(config, data, Console(file=said, width=1000))
    assert changed.model.options["n"] == 2
    assert "cannot be changed: nothing is changed" in said.getvalue()
    assert (
        take_advice(
            with_changes(config, {"model.preset": "atss_r50_fpn", "model.options": {}}), data, Console(file=said)
        ).model.options
        == {}
    )
