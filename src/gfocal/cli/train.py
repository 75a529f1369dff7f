"""gfocal train."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import launch
from gfocal.cli import DONE
from gfocal.cli.bf16_check import check_bf16, count_checked
from gfocal.cli.early import require_data, say_beginning
from gfocal.cli.held_out import Validation, choose_validation, report_test
from gfocal.cli.inputs import (
    explain_missing_coco,
    first_available_split,
    read_datasets,
    select_splits,
    standard_output,
    take_ignored_as_objects,
    use_device,
)
from gfocal.cli.options import (
    Options,
    add_classes,
    add_device,
    add_ignored_as_objects,
    add_image_reading,
    add_rename,
    add_short_side,
    fraction,
    int_at_least,
    minutes,
)
from gfocal.cli.training_config import draft_config, start_from_weights, states_batch_size, states_length
from gfocal.config.bundled import find_config
from gfocal.console import note, say
from gfocal.models.names import require_model
from gfocal.text import pluralize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gfocal.config.config import Config
    from gfocal.data.dataset import ImageData
    from gfocal.evaluation.coco_ap import CocoResult
    from gfocal.run_folder import RunFolder


def add(commands: Any) -> None:
    """Declare the command and its options."""
    train = commands.add_parser(
        "train",
        help="train a detector on annotated images",
        usage="gfocal train DATA ... [--out DIR] [options]",
        description="Train a detector on annotated images, as a config says. Options replace values of the config; "
        "--set KEY=VALUE replaces any of them.",
    )
    train.set_defaults(run=run)
    _add_data(train)
    _add_run(train.add_argument_group("run"))
    _add_model(train.add_argument_group("model"))
    _add_training(train.add_argument_group("training"))
    _add_computation(train.add_argument_group("computation"))


def _add_data(command: Options) -> None:
    command.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="COCO json or folder, VOC or YOLO folder, CSV table or folder; several become one dataset with the "
        "classes of all; or 'synthetic'",
    )
    command.add_argument(
        "--train-split", metavar="NAME", help="(default: train, or all images of data without splits)"
    )
    command.add_argument(
        "--val-split",
        metavar="NAME",
        help="(default: val; without it 15%% of the training images are held out, by the rule of 'gfocal split')",
    )
    command.add_argument("--val", nargs="+", metavar="DATA", help="other datasets to validate on")
    command.add_argument(
        "--no-val", action="store_true", help="train on all training images: the last epoch is the result"
    )
    add_rename(command)
    add_classes(command)
    add_ignored_as_objects(command)
    add_image_reading(command)


def _add_run(group: Options) -> None:
    group.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="see 'gfocal models' (default: nano, or light where options name another network or its weights)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any value of the config, e.g. --set augment.crop=0.5; may be repeated",
    )
    group.add_argument("--out", type=Path, default=Path("runs/train"), metavar="DIR", help="(default: runs/train)")
    group.add_argument("--resume", action="store_true", help="continue the run in --out where it was interrupted")
    group.add_argument(
        "--auto-resume",
        action="store_true",
        help="continue the run in --out if there is one, else start it: the same command for the first start and "
        "every restart, by torchrun --max-restarts or a scheduler",
    )
    group.add_argument(
        "--track",
        action="append",
        choices=("tensorboard", "wandb", "mlflow"),
        help="log config and metrics to this service; may be repeated (TensorBoard is used wherever it is installed)",
    )
    group.add_argument("--seed", type=int_at_least(0), help="of initial weights, order of images and augmentation")


def _add_model(group: Options) -> None:
    group.add_argument("--preset", metavar="NAME", help="network, see 'gfocal models' (default: of the config)")
    group.add_argument(
        "--init-from",
        dest="init_from",
        metavar="MODEL",
        help="fine-tune: network and weights of a model file, a run, hf://owner/name, or published weights by name "
        "(see 'gfocal models'); classes with the same name keep their weights, other classes are initialized",
    )
    group.add_argument(
        "--teacher",
        metavar="MODEL",
        help="distillation: learn the edge distributions of this trained model too, named as for --init-from; it has "
        "the same classes, levels and n (reg_max), and costs nothing at inference (--set distill.weight=...)",
    )
    group.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    group.add_argument("--backbone-weights", metavar="FILE", help="ImageNet weights from a local file")
    group.add_argument(
        "--freeze",
        metavar="PART",
        help="parts that are not trained: none, stem, the stem and a number of stages, backbone, or neck (backbone "
        "and neck) (default: as published for the weights, or as in the run of --init-from)",
    )
    group.add_argument(
        "--class-agnostic",
        action="store_true",
        help="train on a single class, 'object', that replaces all classes; eval treats the data in the same way",
    )
    group.add_argument(
        "--auto",
        action="store_true",
        help="apply the advice of 'gfocal check' on n (reg_max), input size and pyramid levels, so that the "
        "regression range covers the edges and small boxes are assigned to points; changes are "
        "printed and saved in config.toml",
    )


def _add_training(group: Options) -> None:
    length = group.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int_at_least(1))
    length.add_argument(
        "--time",
        type=minutes,
        metavar="20m",
        help="how long the command is to take, from its start to its end, in place of --epochs: "
        "90s, 20m, 1.5h; the number of epochs follows from the pace, also where that changes, and the learning "
        "rate's schedule always ends with the run",
    )
    group.add_argument(
        "--batch-size", type=int_at_least(1), help="images per step and process; the learning rate is scaled with it"
    )
    group.add_argument("--lr", type=float, help="learning rate at the config's reference batch size")
    add_short_side(group)
    group.add_argument(
        "--augment", metavar="NAME", help="augmentation: light, medium or strong; see docs/augmentation.md"
    )
    group.add_argument(
        "--repeat-threshold",
        type=fraction,
        metavar="T",
        help="repeat-factor sampling: images with classes that are in less than this fraction of the images, 0..1, "
        "are shown more often",
    )
    group.add_argument(
        "--patience", type=int_at_least(1), metavar="N", help="stop after N evaluations in a row without a better AP"
    )


def _add_computation(group: Options) -> None:
    add_device(group)
    group.add_argument(
        "--precision",
        choices=("auto", "no", "bf16", "fp16"),
        help="mixed precision (no: float32; auto: bf16 on a CPU that computes it natively, else no)",
    )
    group.add_argument("--num-workers", type=int_at_least(0), help="processes that load images")
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="the same weights, bit for bit, every time on the same machine; slower on a GPU",
    )
    group.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="less memory, more time: the activations of the backbone are recomputed in the backward pass",
    )
    group.add_argument("--compile", action="store_true", help="torch.compile; useful with few different image sizes")


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal train."""
    started = time.perf_counter()  # --time counts from here
    _refuse_device(args.device)
    find_config(args.config or "nano")
    with explain_missing_coco(Path(args.config or "").stem.startswith("coco_"), args.data[0]):
        require_data([*args.data, *(args.val or ())])
    if args.init_from is not None:
        require_model(args.init_from)
    if args.teacher is not None:
        require_model(args.teacher)
    say_beginning(f"reading {', '.join(args.data)}", console)
    from gfocal.build import preset_options
    from gfocal.config.config import read_config
    from gfocal.data.images import pixel_limit
    from gfocal.models.zoo import get_preset
    from gfocal.run import require_no_run
    from gfocal.run_folder import RunFolder

    args.resume = args.resume or (args.auto_resume and RunFolder(args.out).has_state)
    config = draft_config(args)
    get_preset(config.model.preset)  # a typo is said before the data are read
    nano, model = read_config("nano").model, config.model
    if model.init_from is None or (model.init_from, model.preset) == (nano.init_from, nano.preset):
        preset_options(model)  # those of another model file's network are known when it is read
    if not args.resume:
        require_no_run(RunFolder(args.out))
    use_device(args.device)
    with pixel_limit(config.images.max_megapixels):
        return _train(args, config, console, started)


def _read(args: argparse.Namespace, config: Config, console: Console) -> tuple[Config, Validation]:
    """The data, and the config with the weights that the run starts from, which are looked for after the data."""
    from gfocal.checks.before_training import fit_batch_size, fit_epochs
    from gfocal.data.paths import require_distinct

    is_generated = "synthetic" in (*args.data, *(args.val or ()))
    if is_generated:  # in the size of the model's input
        config = start_from_weights(config, args, console)
    is_stated = states_batch_size(args)
    with explain_missing_coco(Path(args.config or "").stem.startswith("coco_"), args.data[0]):
        parts = select_splits(args.data, args.train_split, "train")
        train_data = read_datasets(parts, console, config, renames=args.rename, classes=args.classes)
        train_data = take_ignored_as_objects(train_data, args.ignored_as_objects, console)
        if not config.model.class_agnostic:
            require_distinct(train_data.names, ", ".join(args.data))
        names = None if config.model.class_agnostic else train_data.names
        if is_stated and not args.resume:  # before images are read and weights downloaded
            fit_batch_size(config, train_data, is_stated, launch.world_size(), console)

        def read(parts: Sequence[tuple[str, str | None]]) -> ImageData:
            data = read_datasets(parts, console, config, names, args.rename, args.classes)
            return take_ignored_as_objects(data, args.ignored_as_objects, console)

        choice = choose_validation(args, train_data, read, console)
    if not args.resume:
        config = fit_batch_size(config, choice.train, is_stated, launch.world_size(), console)
        if not states_length(args):
            config = fit_epochs(config, choice.train, launch.world_size(), console)
    return config if is_generated else start_from_weights(config, args, console), choice


def _train(args: argparse.Namespace, config: Config, console: Console, started: float) -> int:
    from gfocal.checks.after_training import count_steps, explain_lost_classes
    from gfocal.checks.before_training import explain_small_sets, take_advice
    from gfocal.data.views import select_trained
    from gfocal.reports.training import TrainingPage
    from gfocal.run import run_training
    from gfocal.run_folder import RunFolder
    from gfocal.training.pace import Outside

    config, choice = _read(args, config, console)
    train_data, val_data = choice.train, choice.val
    if args.auto and not args.resume:
        config = take_advice(config, train_data, console)
    if val_data is None:
        say(console, "no validation data: the weights of the last epoch are the result")
    num_val = 0 if val_data is None else len(val_data)
    num_train = len(select_trained(train_data))
    say(console, f"{pluralize(num_train, 'training image')}, {pluralize(num_val, 'validation image')}")
    data_name = ", ".join(args.data)
    num_after = count_checked(val_data, config) + (0 if choice.test is None else len(choice.test))
    images_after = launch.world_size() * num_after  # by one process, while all share those of an evaluation
    page = TrainingPage(console, explain_small_sets(select_trained(train_data), val_data))
    model, result = run_training(
        config,
        train_data,
        val_data,
        args.out,
        resume=args.resume,
        data_name=data_name,
        selected_on=choice.selected_on,
        held_out=choice.held_out,
        renames=dict(args.rename),
        watcher=page.update,
        outside=Outside(started, images_after),
        console=console,
    )
    if not launch.is_main():
        return DONE
    if result is not None:
        say(console, f"validation: {choice.selected_on}")
        shown = print_result(result, RunFolder(args.out), console)
        steps = count_steps(RunFolder(args.out).metrics)
        if line := explain_lost_classes(shown, config.method, model.published, steps):
            note(console, line)
    if choice.test is not None:
        report_test(choice, config, args.out, console)
    is_late = config.run.time_minutes is not None and time.perf_counter() - started > 60 * config.run.time_minutes
    if val_data is not None and RunFolder(args.out).model_files and not is_late:
        check_bf16(RunFolder(args.out).model_files[0], val_data, config, console)
    say(console, f"model files: {', '.join(map(str, RunFolder(args.out).model_files))}")
    for command in next_commands(args, choice):
        say(console, f"next: {command}")
    return DONE


def print_result(last: CocoResult, run: RunFolder, console: Console) -> CocoResult:
    """Print the table of the best epoch, whose weights the run keeps, and AP of the last one where it is another.

    Returns the numbers of the table.
    """
    from gfocal.evaluation.best_result import read_best_result
    from gfocal.reports.tables import coco_table

    best = read_best_result(run.best_result)
    if best is None:
        say(console, f"the last epoch ({run.last.name}):")
        standard_output().print(coco_table(last))
        return last
    other = "" if best.result == last else f"; AP of the last epoch ({run.last.name}): {last.ap or 0:.3f}"
    say(console, f"epoch {best.epoch}, the best ({run.best.name}){other}")
    standard_output().print(coco_table(best.result))
    return best.result


def next_commands(args: argparse.Namespace, choice: Validation) -> list[str]:
    """What is done with a trained model: thresholds chosen on validation images, then an evaluation or detection."""
    commands = []
    ignored = ["--ignored-as-objects"] * args.ignored_as_objects
    if choice.val is not None and choice.val.files is not None:
        split = args.val_split or ("" if args.val else "val")
        words = ["gfocal", "eval", str(args.out), *(args.val or args.data), *(["--split", split] if split else [])]
        command = shlex.join([*words, *ignored, "--store-thresholds", "f1"])
        commands.append(f"{command}  # score thresholds, from validation images")
    return [*commands, next_command(args)]


def next_command(args: argparse.Namespace) -> str:
    """What is done with a trained model: an evaluation on the split test, where there is one, else detection."""
    tests = [path for path in args.data if path != "synthetic" and first_available_split(path, "test")]
    if not tests:
        return f"{shlex.join(['gfocal', 'detect', str(args.out)])} IMAGE_OR_FOLDER"
    ignored = ["--ignored-as-objects"] * args.ignored_as_objects
    return shlex.join(["gfocal", "eval", str(args.out), *tests, "--split", "test", *ignored])


def _refuse_device(name: str | None) -> None:
    """Raise DeviceError for a --device that launched processes, which share the devices, cannot have."""
    from gfocal.errors import DeviceError

    if name not in (None, "cpu") and launch.world_size() > 1:
        raise DeviceError(f"--device {name}: launched processes share the devices; leave the option out, or give cpu")
