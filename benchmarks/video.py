"""Video: frames, times and memory of a long one; and identity switches with and without R from the edges.

    python benchmarks/video.py frames --minutes 10
    python benchmarks/video.py tracks
    python benchmarks/video.py detector --model runs/demo
    python benchmarks/video.py unsure --model runs/demo

``frames`` makes a video with uneven times, detects in it with a tiny untrained model in a process of its own, kills
that once in the middle, resumes it, and prints what came out and how much memory the process had early and late.

``tracks`` simulates a calibrated detector: boxes of objects that move, overlap and are missed, whose edges have
errors of known standard deviations, mostly small, and for some frames large at one side, as of an object half hidden.
The same boxes are tracked with the noise of the package trackers, with one R for all boxes (the mean of theirs), and
with the R of each. An identity switch is an object whose id is another than when it was last tracked (CLEAR MOT,
Bernardin and Stiefelhagen 2008). The errors have the distribution that the detector states: this is the best case.

``detector`` tracks what a trained detector finds: synthetic scenes whose objects move and hide one another
(benchmarks/moving_scenes.py), a model of ``gfocal demo``, calibrated on still scenes of its test set. ``a share of
its size`` is an R that needs no distributions: standard deviations are a share of the sides of the box, of the same
mean square. ``unsure`` tracks the same detections with the package's noise, and with other bounds: the least score
of boxes below the threshold and their least IoU with the place where their track is expected, and the most IoU of two
boxes that are both tracked. The figures are those of trackers.eval, of boxes with an id (CLEAR MOT; IDF1, Ristani et
al. 2016; HOTA, Luiten et al. 2020).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gfocal.models.detector import Detector

Floats = NDArray[np.float64]
SIZE = (144, 192)  # height and width of the made video
TIME_BASE = Fraction(1, 90000)


def make_video(path: Path, num_frames: int) -> list[int]:
    """A disc that moves; every seventh frame comes late. Returns the times."""
    import av

    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    times = np.cumsum([0 if i == 0 else 7507 if i % 7 == 0 else 3003 for i in range(num_frames)]).tolist()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        for i, pts in enumerate(times):
            disc = (x - width / 2 - 60 * np.cos(i / 40)) ** 2 + (y - height / 2 - 40 * np.sin(i / 30)) ** 2 < 400
            pixels = np.where(disc[..., None], (220, 40, 40), (60, 90, 60)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = pts, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return times


def make_model(path: Path) -> None:
    from gfocal.data.preprocess import InputSettings
    from gfocal.models.model_file import save_model
    from gfocal.models.zoo import create

    torch.manual_seed(0)
    options = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
    model = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **options)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    save_model(model.eval(), path)


def resident(pid: int) -> float:
    """MiB of memory of a process; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run_once(command: list[str], lines: Path, kill_at: int | None) -> list[tuple[int, float]]:
    """Run a command; returns lines written and memory, twice a second. Kills it at a number of lines."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = []
    while process.poll() is None:
        time.sleep(0.5)
        count = count_lines(lines)
        seen.append((count, resident(process.pid)))
        if kill_at is not None and count >= kill_at:
            process.kill()
            process.wait()
    return seen


def frames(minutes: float) -> None:
    import av

    with tempfile.TemporaryDirectory() as folder:
        clip, model, out = Path(folder, "clip.mp4"), Path(folder, "model.safetensors"), Path(folder, "out")
        times = make_video(clip, num_frames := round(minutes * 60 * 25))
        make_model(model)
        command = [sys.executable, "-m", "gfocal", "detect", str(model), str(clip), "--out", str(out)]
        command += ["--score-threshold", "0.0101", "--max-detections", "5", "--num-workers", "1", "--device", "cpu"]
        start = time.perf_counter()
        killed = run_once(command, out / "clip.jsonl", num_frames // 2)
        resumed = run_once([*command, "--resume"], out / "clip.jsonl", None)
        seconds = time.perf_counter() - start
        records = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()][1:-1]
        with av.open(str(out / "clip.mp4")) as container:
            written = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    exact = [pts * TIME_BASE for pts in times]
    print(f"{num_frames} frames, {float(exact[-1]):.0f} s of video, {seconds:.0f} s with the kill and the resumption")
    print(f"json lines: {len(records)}, times exact: {[r['pts'] * TIME_BASE for r in records] == exact}")
    print(f"annotated video: {len(written)} frames, times exact: {written == exact}")
    for name, seen in (("killed", killed), ("resumed", resumed)):
        used = [memory for _, memory in seen if memory > 0]
        marks = ", ".join(f"{used[int(share * (len(used) - 1))]:.0f}" for share in (0.25, 0.5, 0.75, 1))
        print(f"memory of the {name} run after 1/4, 1/2, 3/4 and all of it, MiB: {marks}")


def simulate(seed: int, num_frames: int, num_objects: int) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
    """For each frame the detections: which object, box, standard deviations of its edges."""
    generator = np.random.default_rng(seed)
    center = generator.uniform((60, 60), (580, 420), (num_objects, 2))
    speed = generator.normal(0, 3, (num_objects, 2))
    side = generator.uniform(30, 90, (num_objects, 2))
    unclear_until = np.zeros((num_objects, 4), dtype=int)
    found = []
    for frame in range(num_frames):
        speed += generator.normal(0, 0.3, speed.shape)
        center += speed
        outside = (center < 30) | (center > (610, 450))
        speed = np.where(outside, -np.sign(center - (320, 240)) * np.abs(speed), speed)
        starts = generator.random((num_objects, 4)) < 0.015
        unclear_until = np.where(starts, frame + generator.integers(5, 20, (num_objects, 4)), unclear_until)
        share = np.where(unclear_until > frame, 0.3, 0.02)
        std = share * np.concatenate([side, side], 1)
        boxes = np.concatenate([center - side / 2, center + side / 2], 1) + generator.normal(0, 1, std.shape) * std
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 4)
        seen = [i for i in range(num_objects) if generator.random() > 0.1]
        found.append([(i, boxes[i], std[i]) for i in generator.permutation(seen)])
    return found


def tracks(num_videos: int, num_frames: int) -> None:
    from gfocal.inference.tracking import Tracker

    identity = np.eye(4).tolist()
    print(f"{num_videos} videos of {num_frames} frames; a detection is missed with probability 0.1")
    print("objects  noise of                  switches  ids an object  boxes with an id")
    for num_objects in (6, 12, 24):
        videos = [simulate(seed, num_frames, num_objects) for seed in range(num_videos)]
        mean_std = float(np.sqrt(np.mean([std**2 for video in videos for frame in video for _, _, std in frame])))
        for name, correlation in (
            ("the package", None),
            ("one R for all boxes", identity),
            ("R of each box", identity),
        ):
            switches = with_id = boxes = 0
            ids_of: dict[tuple[int, int], set[int]] = {}
            for number, video in enumerate(videos):
                tracker, last = Tracker(30.0, correlation, max_iou=1.0), {}  # every box is of an object
                for frame, found in enumerate(video):
                    stds = [[mean_std] * 4 if name.startswith("one") else std.tolist() for _, _, std in found]
                    ids = tracker.update([box.tolist() for _, box, _ in found], [True] * len(found), stds, frame / 30)
                    for (one, _, _), track in zip(found, ids, strict=True):
                        boxes += 1
                        if track is not None:
                            with_id += 1
                            switches += last.get(one, track) != track
                            last[one] = track
                            ids_of.setdefault((number, one), set()).add(track)
            mean_ids = np.mean([len(ids) for ids in ids_of.values()])
            print(f"{num_objects:7}  {name:24}  {switches:8}  {mean_ids:13.2f}  {with_id / boxes:16.3f}")


@dataclass(frozen=True)
class FoundFrame:
    """What is in a frame, and what was found in it."""

    ids: Sequence[int]  # of the objects
    gt_boxes: Floats  # (G, 4)
    boxes: Floats  # (N, 4) of detections, best first
    is_sure: NDArray[np.bool_]  # whether they score more than the threshold
    scores: Floats
    stds: Floats  # (N, 4) of their edges


@dataclass(frozen=True)
class UnsureBounds:
    """Which boxes a tracker gets, and which of those below the threshold continue a track."""

    min_score: float
    min_iou: float  # with the place where their track is expected
    max_iou: float  # of two boxes


def calibrated(name: str, num_scenes: int, threshold: float) -> Detector:
    """A model of synthetic scenes, calibrated on those of the test set."""
    import gfocal
    from gfocal.calibration.calibrate import calibrate
    from gfocal.data.loading import evaluation_loader
    from gfocal.data.synthetic.scenes import SyntheticScenes
    from gfocal.evaluation.detections import detect_all
    from gfocal.models.detector import Detector
    from gfocal.models.precision import digest_weights

    model = gfocal.load(name)
    assert isinstance(model, Detector)
    model.calibration = None
    scenes = SyntheticScenes(num_scenes, 192, 0, "test")
    found = detect_all(model, evaluation_loader(scenes, model.input_settings, 8))
    model.calibration = calibrate(scenes, found, threshold, "scenes", digest_weights(model)).calibration
    return model


def find_in_video(
    model: Detector, threshold: float, seed: int, num_frames: int, num_objects: int
) -> list[FoundFrame]:
    """The detections in one video, as ``gfocal detect --track`` gives them to its tracker."""
    from gfocal.inference.tracking import LOWEST_SCORE
    from gfocal.inference.video_lines import sure_boxes
    from gfocal.models.predict import predict, stack_inputs
    from moving_scenes import moving_scene

    frames = moving_scene(seed, num_frames, num_objects)
    batches = (stack_inputs([frame], [frame.image], model.input_settings) for frame in frames)
    results = []
    for batch, (found,) in predict(model, batches, min(LOWEST_SCORE, threshold)):
        (frame,) = batch.keys
        sure, scores = sure_boxes(found, threshold).numpy(), found.scores.double().numpy()
        boxes, stds = found.boxes.double().numpy(), found.edge_std.double().numpy()
        results.append(FoundFrame(frame.ids, frame.boxes, boxes, sure, scores, stds))
    return results


def track_metrics(
    video: Sequence[FoundFrame],
    correlation: Floats | None,
    stds: Sequence[Floats],
    bounds: UnsureBounds | None = None,
) -> list[dict]:
    """CLEAR, identity and HOTA of one video; ``stds`` (N, 4) of each frame are what the tracker is told.

    ``bounds``: None takes those of ``gfocal detect --track``.
    """
    from torchvision.ops import box_iou
    from trackers.eval import compute_clear_metrics, compute_hota_metrics, compute_identity_metrics

    from gfocal.inference.tracking import LOWEST_SCORE, MAX_IOU, MIN_UNSURE_IOU, Tracker

    bounds = bounds or UnsureBounds(LOWEST_SCORE, MIN_UNSURE_IOU, MAX_IOU)
    tracker = Tracker(30.0, None if correlation is None else correlation.tolist(), bounds.min_iou, bounds.max_iou)
    numbers: dict[int, int] = {}
    gt_ids, track_ids, ious = [], [], []
    for index, (frame, std) in enumerate(zip(video, stds, strict=True)):
        given = frame.is_sure | (frame.scores > bounds.min_score)
        boxes = frame.boxes[given]
        ids = tracker.update(boxes.tolist(), frame.is_sure[given].tolist(), std[given].tolist(), index / 30)
        kept = [i for i, one in enumerate(ids) if one is not None]
        gt_ids.append(np.array(frame.ids, dtype=int))
        track_ids.append(np.array([numbers.setdefault(ids[i], len(numbers)) for i in kept], dtype=int))
        iou = box_iou(torch.from_numpy(frame.gt_boxes), torch.from_numpy(boxes[kept]))
        ious.append(iou.numpy().reshape(len(frame.ids), len(kept)))
    measures = (compute_clear_metrics, compute_identity_metrics, compute_hota_metrics)
    return [measure(gt_ids, track_ids, ious) for measure in measures]


def stated_noise(videos: Sequence[Sequence[FoundFrame]]) -> dict[str, list[list[Floats]]]:
    """What each way tells the tracker of each box: standard deviations of its edges, (N, 4) of each frame."""
    frames = [frame for video in videos for frame in video]
    stds = np.concatenate([frame.stds for frame in frames])
    boxes = np.concatenate([frame.boxes for frame in frames])
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1).repeat(2, 0).reshape(-1, 4)
    mean = np.sqrt(np.mean(stds**2))
    share = mean / np.sqrt(np.mean(sides**2))

    def of_size(frame: FoundFrame) -> Floats:
        return share * np.tile(np.maximum(frame.boxes[:, 2:] - frame.boxes[:, :2], 1), (1, 2))

    return {
        "the package": [[frame.stds for frame in video] for video in videos],
        "one R for all, the mean": [[np.full_like(frame.stds, mean) for frame in video] for video in videos],
        "a share of its size": [[of_size(frame) for frame in video] for video in videos],
        "R of each box": [[frame.stds for frame in video] for video in videos],
    }


def unsure(name: str, num_videos: int, num_frames: int, threshold: float) -> None:
    from trackers.eval import aggregate_clear_metrics, aggregate_hota_metrics, aggregate_identity_metrics

    model = calibrated(name, 600, threshold)
    print(f"{num_videos} videos of {num_frames} frames; scores above {threshold:g} begin a track")
    ways = [UnsureBounds(0.1, 0.1, 1), UnsureBounds(threshold, 0.1, 1), UnsureBounds(0.1, 0.5, 1)]
    ways += [UnsureBounds(0.1, 0.5, 0.7), UnsureBounds(0.1, 0.5, 0.5), UnsureBounds(0.1, 0.7, 0.5)]
    ways += [UnsureBounds(threshold / 2, 0.5, 0.5), UnsureBounds(threshold, 0.1, 0.5)]
    print("objects  least score  least IoU  most IoU  switches  missed  false    MOTA    IDF1    HOTA")
    for num_objects in (4, 8):
        videos = [find_in_video(model, threshold, seed, num_frames, num_objects) for seed in range(num_videos)]
        for way in ways:
            measured = [track_metrics(video, None, [frame.stds for frame in video], way) for video in videos]
            clear, identity, hota = (list(kind) for kind in zip(*measured, strict=True))
            sums = aggregate_clear_metrics(clear)
            scores = (aggregate_identity_metrics(identity)["IDF1"], aggregate_hota_metrics(hota)["HOTA"])
            bounds = f"{way.min_score:11g}  {way.min_iou:9g}  {way.max_iou:8g}"
            counts = f"{sums['IDSW']:8}  {sums['CLR_FN']:6}  {sums['CLR_FP']:5}"
            shown = "  ".join(f"{figure:6.3f}" for figure in (sums["MOTA"], *scores))
            print(f"{num_objects:7}  {bounds}  {counts}  {shown}", flush=True)


def detector(name: str, num_videos: int, num_frames: int, threshold: float) -> None:
    from trackers.eval import aggregate_clear_metrics, aggregate_hota_metrics, aggregate_identity_metrics

    model = calibrated(name, 600, threshold)
    assert model.calibration is not None
    correlation = np.asarray(model.calibration.correlation, dtype=np.float64)
    print(f"{num_videos} videos of {num_frames} frames; scores above {threshold:g} begin a track")
    print("objects  noise of                  switches    MOTA    IDF1    HOTA  switches of each video")
    for num_objects in (4, 8):
        videos = [find_in_video(model, threshold, seed, num_frames, num_objects) for seed in range(num_videos)]
        for way, stds in stated_noise(videos).items():
            stated = None if way == "the package" else correlation
            measured = [track_metrics(video, stated, std) for video, std in zip(videos, stds, strict=True)]
            clear, identity, hota = (list(kind) for kind in zip(*measured, strict=True))
            each = " ".join(str(one["IDSW"]) for one in clear)
            sums = aggregate_clear_metrics(clear)
            figures = (
                sums["MOTA"],
                aggregate_identity_metrics(identity)["IDF1"],
                aggregate_hota_metrics(hota)["HOTA"],
            )
            shown = "  ".join(f"{figure:6.3f}" for figure in figures)
            print(f"{num_objects:7}  {way:24}  {sums['IDSW']:8}  {shown}  {each}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("frames", "tracks", "detector", "unsure"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--videos", type=int, default=5)
    parser.add_argument("--length", type=int, default=300, help="frames of a video with tracks")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="for detector and unsure")
    parser.add_argument("--model", default="runs/demo", help="of synthetic scenes, likewise")
    options = parser.parse_args()
    if options.part == "frames":
        frames(options.minutes)
    elif options.part == "tracks":
        tracks(options.videos, options.length)
    else:
        torch.set_num_threads(1)
        part = detector if options.part == "detector" else unsure
        part(options.model, options.videos, options.length, options.score_threshold)
