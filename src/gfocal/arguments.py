"""What one may write behind ``gfocal``: the commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gfocal import __version__

Command = Callable[..., int]
EPILOG = """examples:
  gfocal demo                                      train, evaluate and look at a report, from nothing
  gfocal train photos/ --out runs/mine             train on your own pictures (COCO, VOC or YOLO labels)
  gfocal train --resume --out runs/mine photos/    go on with a run that was stopped
  gfocal eval runs/mine photos/ --split test       the COCO numbers
  gfocal detect runs/mine new/*.jpg --out found    boxes as json, and pictures with the boxes drawn
  gfocal models                                    the presets and recipes
  gfocal import gfl_r50.pth --out gfl_r50.safetensors   a published checkpoint of MMDetection
  gfocal lab run 1a --seeds 3                      a study of the paper, made again on drawn scenes

exit codes: 0 all done, 1 some pictures or runs failed, 2 something must be mended (the last line says what)"""

LAB_EPILOG = """examples:
  gfocal lab list                                  the studies, their rows and the paper's AP
  gfocal lab run 1a --column atss                  a part of table 1a on drawn scenes, 3 seeds a row
  gfocal lab run all --seeds 5                     all tables; stopped with Ctrl-C, the same line goes on
  gfocal lab run 3 --data photos/ --out runs/mine  on your own pictures
  gfocal lab run all --budget paper --data coco/ --out runs/coco
                                                   recipe files and commands of the paper's own size
  gfocal lab report --markdown lab.md              what is done so far, beside the paper"""


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"takes a whole number of at least {least}, not {text!r}")
        return number

    return read


def share(text: str) -> float:
    """The type of an option that takes a number in 0..1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"takes a number in 0..1, not {text!r}")
    return number


def parser(commands_by_name: Mapping[str, Command]) -> argparse.ArgumentParser:
    """All commands and their options; the one chosen is ``run`` of what is parsed."""
    main = argparse.ArgumentParser(
        prog="gfocal",
        description="Object detectors with Generalized Focal Loss: what, where, and how sure of each edge.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"gfocal {__version__}")
    main.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train a detector on annotated pictures")
    train.set_defaults(run=commands_by_name["train"])
    train.add_argument("data", metavar="DATA", help="COCO json or folder, VOC or YOLO folder; or 'synthetic'")
    train.add_argument("--train-split", metavar="NAME", help="(default: train, or all where there are no splits)")
    train.add_argument("--val-split", metavar="NAME", help="evaluated each epoch (default: val, else test)")
    train.add_argument("--val", metavar="DATA", help="validation data that lies elsewhere")
    train.add_argument("--recipe", default="light", metavar="NAME|FILE", help="see 'gfocal models' (default: light)")
    train.add_argument("--out", type=Path, default=Path("runs/train"), metavar="DIR", help="(default: runs/train)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, exactly as it was")
    train.add_argument("--preset", metavar="NAME", help="another network than the recipe's")
    train.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    train.add_argument("--backbone-weights", metavar="FILE", help="ImageNet weights from a local file")
    train.add_argument("--epochs", type=whole(1))
    train.add_argument("--batch-size", type=whole(1), help="pictures per step; the learning rate scales along")
    train.add_argument("--lr", type=float, help="learning rate at the recipe's reference batch")
    train.add_argument("--short-side", type=whole(1), metavar="PIXELS", help="pictures are resized to this")
    train.add_argument("--precision", choices=("no", "bf16", "fp16"), help="number format of the network")
    train.add_argument("--workers", type=whole(0), help="processes that load pictures")
    train.add_argument("--seed", type=whole(0))
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any value of the recipe, e.g. --set augment.crop=0.5; may be repeated",
    )

    evaluate = commands.add_parser("eval", help="the COCO numbers of a model on annotated pictures")
    evaluate.set_defaults(run=commands_by_name["eval"])
    evaluate.add_argument("model", metavar="MODEL", help="a model file or the folder of a run")
    evaluate.add_argument("data", metavar="DATA", help="as for train")
    evaluate.add_argument("--split", metavar="NAME", help="(default: test, else val)")
    evaluate.add_argument("--batch-size", type=whole(1), default=8)
    evaluate.add_argument("--workers", type=whole(0), default=2)
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as json")
    evaluate.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="write the detections as COCO results json, with the category ids of the data",
    )

    detect = commands.add_parser(
        "detect",
        help="find objects in pictures",
        description="Find objects in pictures. DIR/detections.json has them as COCO does, with a score and, in "
        "edge_std, how sure each edge is. Its category ids are 1 to N in the model's order, as its categories list "
        "them; 'gfocal eval --results' writes those of the data.",
    )
    detect.set_defaults(run=commands_by_name["detect"])
    detect.add_argument("model", metavar="MODEL", help="a model file or the folder of a run")
    detect.add_argument("images", nargs="+", metavar="IMAGE", help="picture files or folders of them")
    detect.add_argument("--out", type=Path, default=Path("detections"), metavar="DIR", help="(default: detections)")
    detect.add_argument("--score", type=share, default=0.3, metavar="S", help="least score (default: 0.3)")
    detect.add_argument("--no-pictures", action="store_true", help="write only the json")
    detect.add_argument(
        "--edges",
        choices=("none", "std", "distribution"),
        default="none",
        help="draw how sure each edge is: a band of one standard deviation, or the whole distribution",
    )
    detect.add_argument("--batch-size", type=whole(1), default=1)
    detect.add_argument(
        "--submission",
        type=Path,
        metavar="INFO.json",
        help="COCO's image_info_test-dev2017.json: detect in its pictures, which lie in the folder IMAGE, and "
        "write the json and zip that the evaluation server takes",
    )

    for command in (evaluate, detect):
        command.add_argument(
            "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)"
        )

    demo = commands.add_parser("demo", help="train on drawn scenes, evaluate, and write a report to look at")
    demo.set_defaults(run=commands_by_name["demo"])
    demo.add_argument("--out", type=Path, default=Path("gfocal-demo"), metavar="DIR", help="(default: gfocal-demo)")
    demo.add_argument("--seed", type=whole(0), default=0)
    demo.add_argument(
        "--epochs", type=whole(1), help="fewer for a quick look (default: what the AP in the README needs)"
    )

    bring = commands.add_parser(
        "import",
        help="make a model file of a published MMDetection or GFocal checkpoint",
        description="Make a model file of a published checkpoint of MMDetection (GFL, ATSS, FCOS, FoveaBox, "
        "RetinaNet) or of the original GFocal repository.",
    )
    bring.set_defaults(run=commands_by_name["import"])
    bring.add_argument("checkpoint", type=Path, metavar="FILE.pth", help="only tensors are read, no code is run")
    bring.add_argument(
        "--out", type=Path, default=Path("model.safetensors"), metavar="FILE", help="(default: model.safetensors)"
    )
    bring.add_argument(
        "--points",
        choices=("corner", "legacy", "centre"),
        help="of GFL: where a cell's point lies; legacy is the original GFocal repository (default: by the file's "
        "version)",
    )
    bring.add_argument(
        "--caffe",
        action=argparse.BooleanOptionalAction,
        help="of FCOS: whether the backbone is of the Caffe kind (default: by the file's config, else yes)",
    )

    models = commands.add_parser("models", help="list the presets and recipes")
    models.set_defaults(run=commands_by_name["models"])

    lab = commands.add_parser(
        "lab",
        help="make the paper's studies again, small or in full",
        description="The paper's tables of variants, made again and set beside the paper's numbers.\n"
        "Each row of a table is a recipe that differs from the others in a choice or two.",
        epilog=LAB_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lab.set_defaults(run=commands_by_name["lab"])
    _lab(lab.add_subparsers(dest="lab_command", metavar="COMMAND", required=True))
    return main


def _lab(commands: Any) -> None:
    """The commands behind ``gfocal lab``."""
    out: dict[str, Any] = {
        "type": Path,
        "default": Path("runs/lab"),
        "metavar": "DIR",
        "help": "folder of the lab (default: runs/lab)",
    }
    data: dict[str, Any] = {"default": "synthetic", "metavar": "synthetic|PATH"}
    commands.add_parser("list", help="list the studies, their rows and the paper's AP")

    run = commands.add_parser("run", help="make the runs of a study that are missing, then write the report")
    run.add_argument("study", metavar="STUDY", help="a table of the paper, such as 1a (see gfocal lab list), or all")
    run.add_argument("--data", **data, help="pictures with boxes, in splits train and val or test; drawn scenes else")
    run.add_argument("--seeds", type=whole(1), default=3, metavar="N", help="runs of each row (default: 3)")
    run.add_argument(
        "--budget",
        choices=("small", "paper"),
        default="small",
        help="small: minutes a run (default); paper: the paper's recipe, with COCO as --data, as recipe files and "
        "commands for 8 GPUs",
    )
    run.add_argument("--start", action="store_true", help="with --budget paper: make the runs here, in this process")
    run.add_argument("--column", metavar="NAME", help="only this part of the tables, such as atss or fcos")
    run.add_argument("--threads", type=whole(1), metavar="N", help="threads of a run (default: all)")
    run.add_argument("--out", **out)

    report = commands.add_parser("report", help="gather what is done; write the report")
    report.add_argument("--out", **out)
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write it as markdown too")

    figures = commands.add_parser("figures", help="draw the paper's figures")
    figures.add_argument("--out", **out)
    figures.add_argument("--data", **data, help="pictures with boxes for the figures of data; drawn scenes else")

    commands.add_parser("theory", help="check the paper's statements about its losses with numbers")
