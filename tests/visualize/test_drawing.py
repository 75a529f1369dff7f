"""Drawings: bars lie where their bins lie, text stays inside, any size of image works."""

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.data.synthetic.edge_laws import law_probabilities
from gfocal.structures import Detections
from gfocal.visualize import draw_detections, draw_edge_distributions
from gfocal.visualize.annotate import LABEL_TEXTS, choose_sizes, labeling_order
from gfocal.visualize.axes import GROUND_TRUTH
from gfocal.visualize.bands import bin_bands, bin_positions
from gfocal.visualize.drawing import PALETTE, class_color, contrast_color, draw_box, relative_luminance, score_color
from gfocal.visualize.edges import ground_truth_edges

K = 17
NAN = float("nan")


def detections(boxes: list[list[float]], size: tuple[int, int], bin_size: float = 8.0, **given) -> Detections:
    """Boxes of which every edge is two-hot, at a point 3 pixels off the middle."""
    at = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    points = (at[:, :2] + at[:, 2:]) / 2 + 3
    steps = torch.full_like(at, bin_size)
    sharp = torch.stack([at, at, torch.ones_like(at)], -1)  # (N, 4, 3)
    parts = [law_probabilities(sharp[:, s], points[:, s % 2], steps[:, s], K - 1, s) for s in range(4)]
    values = {
        "scores": torch.linspace(0.9, 0.4, len(at)),
        "labels": torch.arange(len(at)),
        "edges": torch.stack(parts, 1),
        "names": tuple(f"class {i}" for i in range(max(1, len(at)))),
        **given,
    }
    return Detections(boxes=at, points=points, bin_sizes=steps, size=size, **values)


def gray(height: int, width: int) -> Tensor:
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def has_color(image: Image.Image, color: tuple[int, int, int]) -> bool:
    return any(c == color for _, c in image.getcolors(1 << 24) or [])


def test_box_and_label_are_drawn_in_the_color_of_the_class():
    found = detections([[40, 50, 160, 150]], (200, 300))
    image = draw_detections(gray(200, 300), found)
    assert image.size == (300, 200)
    assert image.getpixel((100, 50)) == image.getpixel((40, 120)) == class_color(0)
    assert image.getpixel((159, 120)) == image.getpixel((100, 149)) == class_color(0)
    assert image.getpixel((100, 100)) == (128, 128, 128)


def test_the_image_given_is_not_changed():
    image = gray(60, 80)
    draw_detections(image, detections([[10, 10, 50, 50]], (60, 80)), edges="std")
    assert torch.equal(image, gray(60, 80))


def test_detections_not_above_the_threshold_are_left_out():
    found = detections([[5, 5, 50, 50]], (60, 80), scores=torch.tensor([0.3]))
    assert draw_detections(gray(60, 80), found).getcolors() == [(60 * 80, (128, 128, 128))]
    assert has_color(draw_detections(gray(60, 80), found, 0.29), class_color(0))


@pytest.mark.parametrize("edges", ["none", "std", "distribution"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (200, 12000), (1500, 3)])
def test_any_size_of_image(height: int, width: int, edges):
    boxes = [[0.0, 0.0, float(width), float(height)], [-20.0, -20.0, width + 20.0, height + 20.0]]
    found = detections(boxes, (height, width))
    assert draw_detections(gray(height, width), found, edges=edges).size == (width, height)


def test_no_detections():
    found = detections([], (40, 50))
    assert draw_detections(gray(40, 50), found, edges="distribution").getcolors() == [(2000, (128, 128, 128))]
    assert draw_edge_distributions(gray(40, 50), found, laws=torch.zeros(0, 4, 3)).width >= 760


def test_a_small_image_is_enlarged_on_demand():
    found = detections([[10, 10, 30, 30]], (40, 50))
    image = draw_detections(gray(40, 50), found, min_side=500)
    assert image.size == (500, 400)
    assert image.getpixel((200, 101)) == class_color(0)


def test_scores_color_from_red_to_green():
    assert score_color(-1) == score_color(0) != score_color(0.5)
    assert score_color(2) == score_color(1)
    red, green = score_color(0.1), score_color(0.95)
    assert red[0] > red[1]
    assert green[1] > green[0]


def test_what_stands_at_a_box_is_chosen():
    found = detections([[40, 60, 260, 180]], (200, 300))
    images = {kind: draw_detections(gray(200, 300), found, labels=kind) for kind in LABEL_TEXTS}
    assert len({image.tobytes() for image in images.values()}) == 4
    ground = {kind: image.crop((0, 30, 300, 59)).histogram()[128] for kind, image in images.items()}
    assert ground["none"] > ground["score"] > ground["name"] > ground["name+score"]
    with pytest.raises(ValueError, match="edges is one of none, std, distribution, interval, not 'sdt'"):
        draw_detections(Image.new("RGB", (100, 100)), detections([], (100, 100)), edges="sdt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"labels is one of none, name, score, name\+score, not 'all'"):
        draw_detections(gray(200, 300), found, labels="all")  # type: ignore[arg-type]


def test_width_of_lines_and_size_of_text_are_chosen():
    found = detections([[40, 60, 260, 180]], (200, 300))

    def count(**given) -> int:
        pixels = draw_detections(gray(200, 300), found, **given).getdata()
        return sum(pixel == class_color(0) for pixel in pixels)

    assert count(labels="none", line_width=1) == 2 * (220 + 120) - 4
    assert count(labels="none", line_width=4) > 3.8 * count(labels="none", line_width=1)
    assert count(line_width=1, font_size=30) > 3 * count(line_width=1, font_size=12)
    for size in (1, 10**6):
        draw_detections(gray(200, 300), found, line_width=size, font_size=size)


def test_lines_and_text_grow_with_the_image_and_shrink_in_crowds():
    few = ["person 0.90"] * 3
    sizes = [choose_sizes(size, few) for size in ((160, 120), (640, 480), (1920, 1080), (6000, 4000))]
    assert sizes == sorted(sizes)
    assert sizes[0][0] >= 10
    assert sizes[1] == (15, 2)
    assert 6000 / sizes[-1][0] > 60  # letters
    assert 1500 * sizes[-1][0] / 6000 > 12  # pixels, where the image is shown 1500 pixels wide
    crowd = choose_sizes((1280, 853), ["person 0.90"] * 300)
    alone = choose_sizes((1280, 853), few)
    assert crowd[0] < alone[0]
    assert crowd[1] < alone[1]


def test_the_best_of_each_class_is_labeled_first():
    found = detections([[0, 0, 9, 9]] * 5, (40, 50), labels=torch.tensor([0, 0, 1, 0, 1]), names=("a", "b"))
    assert labeling_order(found) == [0, 2, 1, 3, 4]


def test_small_objects_have_thin_frames():
    canvas = Image.new("RGB", (100, 100), (128, 128, 128))
    draw_box(ImageDraw.Draw(canvas), (20, 20, 32, 32), (255, 0, 0), 6)
    inside = canvas.crop((23, 23, 29, 29)).getcolors()
    assert inside == [(36, (128, 128, 128))]


def test_text_is_readable_on_every_color():
    for color in [*PALETTE, (128, 128, 128)]:
        high, low = sorted((relative_luminance(color), relative_luminance(contrast_color(color))))[::-1]
        assert (high + 0.05) / (low + 0.05) > 4.5


@pytest.mark.parametrize(
    "seen",  # linear RGB of those without red and without green cones, Machado et al. 2009, severity 1
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ],
)
def test_the_first_colors_differ_without_red_or_green(seen: list[list[float]]):
    colors = torch.tensor(PALETTE[:8]) / 255
    linear = torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    perceived = (linear @ torch.tensor(seen).T).clamp(0, 1) ** (1 / 2.4)
    distances = torch.cdist(perceived, perceived) + 9 * torch.eye(8)
    assert distances.min() > 0.12


def test_every_kind_of_image_that_detect_takes(tmp_path: Path):
    found = detections([[5, 5, 30, 30]], (40, 50))
    tensor = torch.randint(256, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    array = tensor.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "a.png")
    kinds = (tensor, tensor / 255, array, Image.fromarray(array), tmp_path / "a.png", str(tmp_path / "a.png"))
    for draw in (draw_detections, draw_edge_distributions):
        images = [draw(image, found).tobytes() for image in kinds]
        assert len(set(images)) == 1


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (torch.full((3, 40, 50), -2.1), r"float tensor must hold values in 0\.\.1"),
        (torch.zeros(40, 50, 3, dtype=torch.uint8), "a tensor must have shape"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "a tensor must have shape"),
        (None, "not an image: NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: Tensor | None, told: str):
    for draw in (draw_detections, draw_edge_distributions):
        with pytest.raises(ValueError, match=told):
            draw(image, detections([], (40, 50)))


def test_an_image_of_another_size_is_refused():
    found = detections([[1, 1, 9, 9]], (40, 50))
    for draw in (draw_detections, draw_edge_distributions):
        with pytest.raises(ValueError, match=r"\(40, 50\).*\(50, 40\)"):
            draw(gray(50, 40), found)


def test_the_mean_of_bin_positions_is_the_edge():
    found = detections([[20, 30, 80, 110], [50, 10, 90, 90]], (200, 200), bin_size=4.0)
    mean = (bin_positions(found) * found.edges).sum(-1)
    torch.testing.assert_close(mean, found.boxes)
    assert (bin_positions(found)[:, :2].diff() < 0).all()
    assert (bin_positions(found)[:, 2:].diff() > 0).all()


def test_bands_of_bins_leave_out_what_holds_next_to_nothing():
    edges = torch.zeros(1, 4, K)
    edges[..., 3], edges[..., 5], edges[..., 7] = 0.9, 0.004, 0.096
    found = detections([[20, 30, 80, 110]], (200, 200), edges=edges)
    assert len(bin_bands(found)) == 8


@pytest.mark.parametrize("crop", [False, True])
def test_bars_are_drawn_learned_before_true(crop: bool):
    found = detections([[60, 60, 140, 170]], (240, 320))
    laws = torch.tensor([[[60, 60, 1], [60, 60, 1], [120, 160, 0.5], [150, 190, NAN]]])
    image = gray(240, 320)
    plain = draw_edge_distributions(image, found, crop=crop)
    with_law = draw_edge_distributions(image, found, [0], laws, crop=crop)
    assert has_color(plain, PALETTE[1])
    assert has_color(with_law, PALETTE[1])
    assert has_color(with_law, GROUND_TRUTH)
    assert not has_color(plain, GROUND_TRUTH)


def test_bars_lie_at_the_position_of_their_bins():
    # One bin holds all: the left bar is the only thing of its color outside the box on its columns.
    edges = torch.zeros(1, 4, K)
    edges[..., 4] = 1
    found = detections([[65, 65, 135, 135]], (400, 400), bin_size=10.0, edges=edges)
    image = draw_edge_distributions(gray(400, 400), found, min_side=400)
    pad = round((400 * 400) ** 0.5 / 34)  # nothing leaves the image, so its corner lies at one pad
    row = [image.getpixel((x, 135 + pad + 40)) == PALETTE[1] for x in range(image.width)]
    columns = [x - pad for x, colored in enumerate(row) if colored]
    assert columns
    left, right = [x for x in columns if x < 103], [x for x in columns if x > 103]
    assert sum(left) / len(left) == pytest.approx(103 - 40, abs=1.5)
    assert sum(right) / len(right) == pytest.approx(103 + 40, abs=1.5)
    assert len(left) == pytest.approx(0.84 * 10, abs=2)


def test_a_thin_far_tail_does_not_widen_the_canvas():
    edges = torch.zeros(1, 4, K)
    edges[..., 4] = 1
    tailed = edges.clone()
    tailed[..., 4], tailed[..., 16] = 0.99, 0.01
    sizes = [
        draw_edge_distributions(gray(200, 200), detections([[50, 50, 150, 150]], (200, 200), 12.0, edges=e)).size
        for e in (edges, tailed)
    ]
    assert sizes[0] == sizes[1]


def test_true_laws_are_projected_and_unknown_ones_are_none():
    found = detections([[60, 60, 140, 170], [10, 10, 50, 50]], (240, 320))
    laws = torch.full((2, 4, 3), NAN)
    laws[0, 2] = torch.tensor([120.0, 160.0, 0.25])
    rows = ground_truth_edges(found, laws)
    assert [row is None for row in rows[0]] == [True, True, False, True]
    assert rows[1] == [None] * 4
    mean = sum(p * m for p, m in zip(bin_positions(found)[0, 2].tolist(), rows[0][2], strict=True))
    assert mean == pytest.approx(0.75 * 120 + 0.25 * 160, abs=1e-3)


def test_laws_need_a_row_per_detection():
    found = detections([[60, 60, 140, 170]], (240, 320))
    with pytest.raises(ValueError, match=r"\(1, 4, 3\)"):
        draw_edge_distributions(gray(240, 320), found, laws=torch.zeros(2, 4, 3))


@pytest.mark.parametrize(("height", "width", "bin_size"), [(1, 1, 8.0), (5, 4, 128.0), (40, 3000, 8.0)])
def test_the_canvas_of_distributions_stays_small(height: int, width: int, bin_size: float):
    edges = torch.full((1, 4, K), 1 / K)
    found = detections([[0, 0, width, height]], (height, width), bin_size, edges=edges)
    for crop in (False, True):
        image = draw_edge_distributions(gray(height, width), found, crop=crop)
        assert max(image.size) < 2 * max(760, width, 2 * K * bin_size)


def test_a_photograph(shared: Path):
    from torchvision.transforms.functional import pil_to_tensor

    path = min((shared / "data" / "coco_ccby" / "images").glob("*.jpg"))
    with Image.open(path) as file:
        image = pil_to_tensor(file.convert("RGB"))
    height, width = image.shape[1:]
    found = detections([[0.2 * width, 0.2 * height, 0.6 * width, 0.9 * height]], (height, width), 16.0)
    assert draw_detections(image, found, edges="distribution").size == (width, height)
    assert max(draw_edge_distributions(image, found).size) > max(width, height)
