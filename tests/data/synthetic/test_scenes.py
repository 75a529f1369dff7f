"""Synthetic images: labels agree with the paint, laws with how labels are drawn; nothing depends on order."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gfocal
from gfocal.data.dataset import ImageData
from gfocal.data.synthetic.edge_laws import is_ambiguous
from gfocal.data.synthetic.objects import BARRED_STRIP_PROBABILITY, PLAIN_STRIP_PROBABILITY, make_object
from gfocal.data.synthetic.scenes import MIN_VISIBLE, SyntheticScenes
from gfocal.data.synthetic.shapes import SHAPES, draw_opacity, paint_layer, tight_box
from gfocal.errors import DataError

SCENES = SyntheticScenes(1000, seed=5)


def digest(data: SyntheticScenes, index: int) -> str:
    image, sample = data.read(index)
    parts = (image, sample.boxes, sample.labels, sample.edge_laws)
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def on_frame(layer, size: int) -> np.ndarray:
    """Pixels of the image that an object covers, written apart from the code under test."""
    frame = np.zeros((size, size), bool)
    for y, x in np.argwhere(layer.mask) + np.array(layer.corner)[::-1]:
        if 0 <= y < size and 0 <= x < size:
            frame[y, x] = True
    return frame


@pytest.mark.parametrize("size", [96, 192, 333, 640])
def test_scenes_keep_the_contract_of_image_data(size):
    data: ImageData = SyntheticScenes(5, size=size, seed=1)
    assert len(data) == 5
    assert len(data.names) == len(data.category_ids) == 5
    for index in range(5):
        image, sample = data.read(index)
        assert image.dtype == torch.uint8
        assert image.shape == (3, size, size)
        assert sample.size == (size, size)
        assert sample.image_id == index
        boxes, laws = sample.boxes, sample.edge_laws
        assert laws is not None
        assert boxes.dtype == laws.dtype == torch.float32
        assert sample.labels.dtype == torch.int64
        assert 1 <= len(boxes) <= 8
        assert laws.shape == (len(boxes), 4, 3)
        assert sample.labels.shape == sample.crowd.shape == (len(boxes),)
        assert boxes.min() >= 0
        assert boxes.max() <= size
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 4 * size / 192
        between = (laws[..., :2].amin(-1) <= boxes) & (boxes <= laws[..., :2].amax(-1))
        assert between.all()
        again = data.sample(index)
        assert torch.equal(again.boxes, boxes)
        assert torch.equal(again.edge_laws.nan_to_num(-1), laws.nan_to_num(-1))


def test_scenes_are_the_same_in_another_process_and_order():
    code = (
        "from gfocal.data.synthetic.scenes import SyntheticScenes; from test_scenes import digest\n"
        "data = SyntheticScenes(1000, seed=5); print([digest(data, i) for i in (7, 3, 900)])"
    )
    paths = [str(Path(gfocal.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    copied = pickle.loads(pickle.dumps(SCENES))
    here = [digest(copied, index) for index in (900, 3, 7)][::-1]
    assert out.stdout.strip() == str(here), out.stderr


def test_no_two_seeds_purposes_or_epochs_share_a_scene():
    sets = [SyntheticScenes(6, seed=seed, purpose=p) for seed in (0, 1, 2) for p in ("train", "val", "test")]
    sets += [sets[0].at_epoch(1), sets[0].at_epoch(2)]
    digests = [digest(data, index) for data in sets for index in range(6)]
    assert len(set(digests)) == len(digests)


def test_scenes_of_an_epoch_follow_those_of_the_previous_one():
    data = SyntheticScenes(4, seed=3)
    longer = SyntheticScenes(12, seed=3)
    assert data.at_epoch(0) == data
    assert data.at_epoch(1).at_epoch(2) == data.at_epoch(2)
    assert digest(data.at_epoch(2), 1) == digest(longer, 9)
    assert data.at_epoch(2).sample(1).image_id == 9


def test_images_of_one_scene_are_not_shared():
    image, sample = SCENES.read(0)
    image.zero_()
    sample.boxes.zero_()
    sample.edge_laws.zero_()
    fresh, fresh_sample = SCENES.read(0)
    assert fresh.sum() > 0
    assert fresh_sample.boxes.sum() > 0
    assert fresh_sample.edge_laws.nansum() > 0


def test_boxes_are_those_of_the_visible_pixels():
    """Objects are painted in the order of their layers; what a later one covers is not seen."""
    hidden_objects = touched = 0
    for index in range(60):
        layers, ground_truth = SCENES._scene(index)
        frames = [on_frame(layer, 192) for layer in layers]
        wanted = []
        for number, (layer, frame) in enumerate(zip(layers, frames, strict=True)):
            covered = np.logical_or.reduce([np.zeros_like(frame), *frames[number + 1 :]])
            visible = frame & ~covered
            touched += bool((frame & covered).any())
            if visible.sum() < MIN_VISIBLE * layer.mask.sum():
                hidden_objects += 1
            elif layer.sharp:
                wanted.append(tight_box(visible))
        sharp = ~is_ambiguous(torch.from_numpy(ground_truth.laws)).any(1).numpy()
        assert ground_truth.laws[sharp][:, :, 0].tolist() == [list(box) for box in wanted]
        assert np.array_equal(ground_truth.laws[sharp][:, :, 0], ground_truth.laws[sharp][:, :, 1])
    assert touched > 10, "the scenes are to have occlusion"
    assert hidden_objects < touched


def test_ambiguous_objects_are_whole_and_their_sides_free():
    seen = 0
    for index in range(120):
        layers, ground_truth = SCENES._scene(index)
        laws = ground_truth.laws[is_ambiguous(torch.from_numpy(ground_truth.laws)).any(1).numpy()]
        ambiguous = [layer for layer in layers if not layer.sharp]
        assert len(laws) == len(ambiguous), "an ambiguous object always has its label"
        for law, layer in zip(laws, ambiguous, strict=True):
            left, top, right, bottom = law[:, 1].astype(int).tolist()  # outermost places are whole pixels
            assert min(left, top) >= 1
            assert max(right, bottom) <= 191
            for other in layers:
                if other is layer:
                    continue
                frame = on_frame(other, 192)
                if not other.sharp:
                    assert not (frame & on_frame(layer, 192)).any()
                for side in np.flatnonzero(law[:, 0] != law[:, 1]):
                    zone = [left, top, right, bottom]
                    zone[(side + 2) % 4] = int(law[side, 0])
                    assert not frame[zone[1] : zone[3], zone[0] : zone[2]].any()
                    seen += 1
    assert seen > 50


@pytest.mark.parametrize("ambiguous", [False, True])
def test_painted_pixels_end_at_the_edges_of_the_laws(ambiguous):
    """On an even ground: sharp sides and the ends of strips to one pixel, ramps where they have faded."""
    rng = np.random.default_rng(11)
    kinds = set()
    for _ in range(150):
        obj = make_object(rng, 1.0, ambiguous)
        assert obj.layer.sharp != ambiguous
        obj.layer.corner = (20, 20)
        canvas = np.full((260, 260, 3), 128, np.uint8)
        paint_layer(rng, canvas, obj.layer, 1.0)
        change = np.linalg.norm(canvas - 128.0, axis=-1)
        inner, outer = obj.laws[:, 0] + 20, obj.laws[:, 1] + 20
        clear, faint = tight_box(change > 30), tight_box(change > 8)
        assert clear is not None
        assert faint is not None
        for side in range(4):
            share = obj.laws[side, 2]
            inwards = 1 if side < 2 else -1
            if inner[side] == outer[side]:
                assert abs(clear[side] - inner[side]) <= 1
            elif share in (np.float32(PLAIN_STRIP_PROBABILITY), np.float32(BARRED_STRIP_PROBABILITY)):
                assert abs(faint[side] - outer[side]) <= 1
                assert 7 <= inwards * (inner[side] - outer[side]) <= 35
                kinds.add(float(share))
            else:
                width = inwards * (inner[side] - outer[side])
                assert np.isnan(share)
                assert 6 <= width <= 24
                assert 0 <= inwards * (faint[side] - outer[side]) <= 2 + 0.25 * width
                kinds.add("ramp")
    assert len(kinds) == (3 if ambiguous else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_requested_extent(shape):
    for extent in (18.0, 61.5, 110.0):
        left, top, right, bottom = tight_box(draw_opacity(shape, extent, 1.3, 0.3) >= 0.5)
        assert abs(max(right - left, bottom - top) - extent) <= 2.5  # a thin tip may end within a pixel
        assert left >= 1
        assert top >= 1


def test_resampled_edges_follow_the_laws():
    places: dict[float, list[np.ndarray]] = {}
    for index in range(14):
        sample = SCENES.sample(index)
        assert torch.equal(SCENES.redraw(index, 0), sample.boxes)
        inner, outer, share = sample.edge_laws.unbind(-1)
        moving = is_ambiguous(sample.edge_laws)
        if not moving.any():
            continue
        draws = torch.stack([SCENES.redraw(index, draw) for draw in range(100)])
        assert (draws[:, ~moving] == inner[~moving]).all()
        place = (draws - inner) / (outer - inner)  # 0 inner, 1 outer; NaN for sharp edges
        for box, side in moving.nonzero().tolist():
            key = round(share[box, side].nan_to_num(-1).item(), 3)
            places.setdefault(key, []).append(place[:, box, side].numpy())
    assert set(places) == {-1, 0.3, 0.7}
    for share in (0.3, 0.7):
        drawn = np.concatenate(places[share])
        assert ((abs(drawn) < 1e-4) | (abs(drawn - 1) < 1e-4)).all()
        assert abs(drawn.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(drawn))
    drawn = np.concatenate(places[-1])
    counts = np.histogram(drawn, bins=8, range=(-1e-4, 1 + 1e-4))[0]
    assert counts.sum() == len(drawn)
    expected = len(drawn) / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # chi-square, 7 degrees of freedom, p = 0.001
    between_sides = np.corrcoef(np.stack([*places[-1], *places[0.3], *places[0.7]]))
    assert abs(between_sides - np.eye(len(between_sides))).max() < 0.45  # 100 draws: 4.5 deviations


def test_scenes_are_varied_and_not_dominated_by_small_objects():
    samples = [SCENES.sample(index) for index in range(250)]
    labels = torch.cat([sample.labels for sample in samples])
    ambiguous = is_ambiguous(torch.cat([sample.edge_laws for sample in samples]))
    boxes = torch.cat([sample.boxes for sample in samples])
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    assert labels.bincount(minlength=5).min() > 0.08 * len(labels)
    assert 0.2 <= ambiguous.any(1).float().mean() <= 0.32
    assert ambiguous.sum(1).max() == 2
    assert 3.5 <= len(labels) / len(samples) <= 5
    assert (longest < 24).float().mean() < 0.2
    assert len({len(sample.boxes) for sample in samples}) >= 6
    sharp = SyntheticScenes(40, seed=5, ambiguous_share=0)
    assert not any(is_ambiguous(sharp.sample(index).edge_laws).any() for index in range(40))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"size": 64}, "size 64"),
        ({"purpose": "valid"}, "'valid'"),
        ({"seed": -1}, "seed -1"),
        ({"num_scenes": 0}, "num_scenes"),
        ({"ambiguous_share": 1.5}, "ambiguous_share 1.5"),
    ],
)
def test_errors_name_invalid_arguments(arguments, word):
    with pytest.raises(DataError, match=word):
        SyntheticScenes(**{"num_scenes": 3, **arguments})
    with pytest.raises(IndexError):
        SyntheticScenes(3).sample(3)
