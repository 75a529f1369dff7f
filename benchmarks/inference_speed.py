"""How long detection takes, non-maximum suppression included: the plain network, the inference copy, MMDetection.

    python benchmarks/inference_speed.py --rounds 7
    python benchmarks/inference_speed.py --mmdetection PYTHON      # of an environment with mmdet 3.3.0
    python benchmarks/inference_speed.py --memory                  # peak memory too, each in a process of its own

All take turns, so that a busy machine slows all alike; MMDetection runs in a process of its own, which computes only
while the others wait. Weights are made up, those of GFL R-50 equal in both; a thousand candidates score above .05.
"plain" is the network as it is trained: NCHW, BatchNorm of its own, float32. Ratios of the wall clock hold on a quiet
machine; those of processor time (cpu) on a busy one too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CASES = {
    "r50-640": ("gfl_r50_fpn", 640, 640),
    "r50-800": ("gfl_r50_fpn", 800, 1216),
    "light-192": ("gfl_light_fpn", 192, 192),
    "nano-416": ("nanodet_plus_m", 416, 416),
}
WAYS = ("plain", "float32", "bf16")
CONFIG = "gfl/gfl_r50_fpn_1x_coco.py"


def image_of(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def make_candidates(cls_logits: torch.Tensor, biases: list[torch.Tensor], wanted: int = 1000) -> None:
    """Change the biases so that ``wanted`` of the logits have a score above 0.05."""
    change = torch.logit(torch.tensor(0.05)) - cls_logits.flatten().topk(wanted).values[-1]
    for bias in biases:
        bias += change


class Ours:
    """gfocal's ways of detection in one image."""

    def __init__(self, case: str, checkpoint: Path | None = None) -> None:
        from gfocal.interop.mmdet import import_checkpoint
        from gfocal.models.zoo import create

        preset, height, width = CASES[case]
        torch.manual_seed(0)
        if checkpoint is not None:
            self.model = import_checkpoint(checkpoint).model
        else:
            self.model = create(preset, 80, pretrained=False).eval()
        self.images = image_of(height, width)
        with torch.inference_mode():
            logits = self.model(self.images).cls_logits
        make_candidates(
            logits, [p for name, p in self.model.named_parameters() if "cls_out" in name and "bias" in name]
        )
        self.networks: dict[str, Callable[[torch.Tensor], Any]] = {"plain": self.model}

    def run(self, way: str) -> int:
        """Detect once; returns the number of detections."""
        from gfocal.ops.decoding import decode

        if way not in self.networks:
            from gfocal.models.inference_copy import inference_network

            self.networks[way] = inference_network(self.model, way)
        sizes = torch.tensor([self.images.shape[-2:]])
        with torch.inference_mode():
            outputs = self.networks[way](self.images)
            (found,) = decode(outputs, self.model.box_coder, sizes, sizes, self.model.names)
        return len(found)


class Theirs:
    """MMDetection in a process of its own."""

    def __init__(self, python: str, checkpoint: Path) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--serve", str(checkpoint)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        if self.output.readline().strip() != "ready":
            sys.exit("MMDetection did not start")

    def run(self, height: int, width: int) -> tuple[float, float, int]:
        """Seconds of one detection, wall clock and processor, and the number of detections."""
        self.input.write(f"{height} {width}\n")
        self.input.flush()
        wall, processor, count = self.output.readline().split()
        return float(wall), float(processor), int(count)


def serve(checkpoint: Path) -> None:
    """MMDetection's side: make the weights, write them, then detect once for each line read."""
    from mmdetection_side import import_mmdetection, made_up

    configs = import_mmdetection()
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.config import Config

    config = Config.fromfile(configs / CONFIG).model
    config.backbone.init_cfg = None
    model = MODELS.build(config).eval()
    state = {key: made_up(key, value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    images = image_of(640, 640)
    with torch.no_grad():
        maps = model.bbox_head(model.extract_feat(images))[0]
    make_candidates(torch.cat([m.flatten() for m in maps]), [model.bbox_head.gfl_cls.bias])
    torch.save({"meta": {}, "state_dict": model.state_dict()}, checkpoint)
    print("ready", flush=True)
    for line in sys.stdin:
        height, width = map(int, line.split())
        images = image_of(height, width)
        about = {"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
        about |= {"pad_shape": (height, width), "batch_input_shape": (height, width)}
        sample = DetDataSample(metainfo=about)
        wall, processor = time.perf_counter(), time.process_time()
        with torch.no_grad():
            (found,) = model.predict(images, [sample])
        print(time.perf_counter() - wall, time.process_time() - processor, len(found.pred_instances), flush=True)


def measure(case: str, rounds: int, theirs: Theirs | None, checkpoint: Path | None) -> dict[str, tuple[float, float]]:
    """Median seconds of each way, wall clock and processor."""
    _, height, width = CASES[case]
    is_compared = theirs is not None and CASES[case][0] == "gfl_r50_fpn"
    ours = Ours(case, checkpoint if is_compared else None)
    times: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, int] = {}
    for turn in range(rounds + 2):
        for way in (*WAYS, *(("mmdetection",) if is_compared else ())):
            if way == "mmdetection":
                assert theirs is not None
                wall, processor, counts[way] = theirs.run(height, width)
            else:
                wall, processor = time.perf_counter(), time.process_time()
                counts[way] = ours.run(way)
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if turn >= 2:
                times.setdefault(way, []).append((wall, processor))
    print(f"{case}: detections {counts}", file=sys.stderr)
    return {
        way: (statistics.median(w for w, _ in pairs), statistics.median(p for _, p in pairs))
        for way, pairs in times.items()
    }


def peak(case: str, way: str) -> float:
    """Peak memory of a process that loads a model from its file and detects in one way, in MB; and without it."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import inference_speed as it; "
        f"it.detect_from_file({case!r}, {way!r}, sys.argv[1])"
    )
    from gfocal.models.model_file import save_model

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_model(Ours(case).model, file)
        return float(subprocess.check_output([sys.executable, "-c", code, str(file)], text=True))


def detect_from_file(case: str, way: str, file: str) -> None:
    """Print the peak memory of this process after three detections, in MB.

    Not ru_maxrss, which starts from the peak of the process that launched it.
    """
    from gfocal.models.model_file import load_model

    ours = Ours.__new__(Ours)
    ours.model = load_model(file)
    ours.images, ours.networks = image_of(*CASES[case][1:]), {"plain": ours.model}
    for _ in range(3):
        if way != "loaded":
            ours.run(way)
    status = Path("/proc/self/status").read_text()
    print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1e3)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--mmdetection", metavar="PYTHON")
    options.add_argument("--memory", action="store_true")
    options.add_argument("--out", type=Path, metavar="FILE", help="the numbers as json")
    options.add_argument("--serve", type=Path, metavar="CHECKPOINT", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.serve is not None:
        serve(chosen.serve)
        return
    numbers: dict[str, Any] = {}
    print(f"{'':34} {'wall ms':>9} {'cpu ms':>9} {'wall':>7} {'cpu':>7}   ratios to the first line of each case")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "made_up.pth"
        theirs = None if chosen.mmdetection is None else Theirs(chosen.mmdetection, checkpoint)
        for case in chosen.cases:
            found = measure(case, chosen.rounds, theirs, checkpoint)
            base = found.get("mmdetection", found["plain"])
            for way, (wall, processor) in sorted(found.items(), key=lambda item: item[0] != "mmdetection"):
                ratios = f"{base[0] / wall:6.2f}x {base[1] / processor:6.2f}x"
                print(f"{case:12} {way:21} {wall * 1e3:9.1f} {processor * 1e3:9.1f} {ratios}", flush=True)
            numbers[case] = found
            for way in ("loaded", *WAYS) if chosen.memory else ():
                numbers[case][f"peak {way}"] = peak(case, way)
                print(f"{case:12} peak memory, {way:8} {numbers[case][f'peak {way}']:9.0f} MB", flush=True)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
