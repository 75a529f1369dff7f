"""gfocal serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE, SOME_FAILED
from gfocal.cli.early import say_beginning
from gfocal.cli.inputs import load_detector, prepare_compiling
from gfocal.cli.options import (
    Options,
    add_device,
    add_image_reading,
    add_nms,
    add_precision,
    coverage,
    fraction,
    int_at_least,
    with_nms,
)
from gfocal.console import say, warn

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.serving.bounds import Bounds

TOKEN_VARIABLE = "GFOCAL_SERVE_TOKEN"
MIN_TOKEN = 16  # characters


def add(commands: Any) -> None:
    """Declare the command and its options."""
    serve = commands.add_parser(
        "serve",
        help="detect over HTTP, with a page to try it",
        description="Serve a model over HTTP: POST /detect takes images as a form or as json, / is a page to try it, "
        "/openapi.json describes the rest. Images that arrive together go through the network in batches. It is "
        "reachable from this machine alone unless --host says otherwise. SIGTERM or Ctrl-C ends it, when what was "
        "begun is finished.",
    )
    serve.set_defaults(run=run)
    serve.add_argument(
        "model",
        metavar="MODEL",
        help="a model file, the folder of a run, published weights by name (see 'gfocal models'), or a .onnx or .xml "
        "file of 'gfocal export', which is mostly the fastest on a CPU",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    serve.add_argument("--port", type=_port, default=8000, help="0: any that is free (default: 8000)")
    serve.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"a file with the token that requests must have (default: the variable {TOKEN_VARIABLE}; else none)",
    )
    serve.add_argument("--access-log", action="store_true", help="print a line for each request")
    add_device(serve)
    add_precision(serve)
    _add_detection(serve.add_argument_group("detection"))
    _add_bounds(serve.add_argument_group("bounds"))


def _add_detection(group: Options) -> None:
    group.add_argument(
        "--score-threshold",
        type=fraction,
        metavar="S",
        help="minimum score where a request states none, 0..1 (default: the model's own threshold of each class, "
        "else 0.3)",
    )
    group.add_argument(
        "--coverage",
        type=coverage,
        metavar="SHARE",
        help="of a calibrated model: the probability that all four edges of an object lie within the intervals, "
        "where a request states none (default: 0.9)",
    )
    add_nms(group)
    add_image_reading(group)


def _add_bounds(group: Options) -> None:
    group.add_argument(
        "--max-batch", type=int_at_least(1), default=8, metavar="N", help="images in a pass (default: 8)"
    )
    group.add_argument(
        "--max-wait",
        type=_seconds(0.001),
        default=0.005,
        metavar="MS",
        help="milliseconds that a pass waits for images that are being read, to take them along (default: 5)",
    )
    group.add_argument(
        "--max-queue",
        type=int_at_least(1),
        default=64,
        metavar="N",
        help="images inside, at least --max-batch; 503 beyond (default: 64)",
    )
    group.add_argument(
        "--max-body", type=int_at_least(1), default=32, metavar="MIB", help="of a request; 413 beyond (default: 32)"
    )
    group.add_argument(
        "--receive-timeout",
        type=_seconds(1),
        default=20.0,
        metavar="S",
        help="to receive a request; 408 (default: 20)",
    )
    group.add_argument(
        "--timeout", type=_seconds(1), default=30.0, metavar="S", help="from then to the answer; 504 (default: 30)"
    )
    group.add_argument(
        "--num-workers", type=int_at_least(1), default=2, metavar="N", help="threads that read images (default: 2)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal serve."""
    from gfocal.models.names import require_model

    require_model(args.model)
    token = read_token(args.token_file)
    require_extra()
    say_beginning(f"loading {args.model}", console)
    from gfocal.data.images import pixel_limit
    from gfocal.serving.app import create_app
    from gfocal.serving.server import address_of, is_loopback, make_server, open_socket, run_server
    from gfocal.serving.service import make_service, warm_up

    if not token and not is_loopback(args.host):
        warn(console, f"--host {args.host}: others can reach it, and no token is set (--token-file)")
    opened = open_socket(args.host, args.port)  # before the model, so that a port in use is said at once
    if args.compile:
        prepare_compiling()
    bounds = bounds_of(args)
    with pixel_limit(args.max_megapixels):
        model = load_detector(args.model, args.device)
        model.decode_settings = with_nms(model.decode_settings, args)
        service = make_service(
            model,
            name_of(args.model),
            bounds,
            precision=args.precision,
            compiled=args.compile,
            score_threshold=args.score_threshold,
            coverage=args.coverage,
            value_range=args.value_range,
            token=token,
        )
        warm_up(service.batcher)
        address = address_of(opened)
        is_whole = run_server(
            make_server(create_app(service), bounds, args.access_log),
            opened,
            started=lambda: say(console, f"serving {args.model} at {address} (Ctrl-C ends it)"),
        )
    say(console, "stopped" if is_whole else "stopped before everything that was begun was finished")
    return DONE if is_whole else SOME_FAILED


def require_extra() -> None:
    """Raise MissingExtraError unless the packages of the extra are installed."""
    from gfocal.errors import MissingExtraError

    try:
        import gfocal.serving.app
        import gfocal.serving.server  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"gfocal serve needs another package ({error}): pip install 'gfocal[serve]'"
        ) from error


def read_token(path: Path | None) -> str:
    """The token of a file, else of the environment; empty where there is none.

    Raises:
        DataError: it is too short, or not of visible ASCII characters; or the file cannot be read.
    """
    from gfocal.errors import DataError

    where = TOKEN_VARIABLE if path is None else f"--token-file {path}"
    text = os.environ.get(TOKEN_VARIABLE, "") if path is None else _read_token_file(path)
    token = text.strip()
    if path is None and not token:
        return ""
    if len(token) < MIN_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise DataError(
            f"{where}: a token has at least {MIN_TOKEN} characters, visible ones of ASCII without spaces; "
            "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        )
    return token


def _read_token_file(path: Path) -> str:
    from gfocal.errors import DataError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "no text in UTF-8"
        raise DataError(f"--token-file {path}: {reason}") from error


def bounds_of(args: argparse.Namespace) -> Bounds:
    """The bounds that the options state."""
    from gfocal.errors import DataError
    from gfocal.serving.bounds import MIB, Bounds

    if args.max_queue < args.max_batch:
        raise DataError(f"--max-queue {args.max_queue}: takes at least --max-batch, {args.max_batch}")
    return Bounds(
        max_batch=args.max_batch,
        max_wait=args.max_wait,
        max_queue=args.max_queue,
        max_body=args.max_body * MIB,
        max_bodies=max(Bounds.max_bodies, args.max_body * MIB),
        body_seconds=args.receive_timeout,
        answer_seconds=args.timeout,
        readers=args.num_workers,
    )


def name_of(model: str) -> str:
    """What clients are told: the last part of a path, not where it lies on this machine."""
    path = Path(model)
    return path.name if path.exists() else model


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"takes an integer in 0..65535, not {text!r}")
    return int(text)


def _seconds(unit: float) -> Any:
    """The type of an option that takes a time in a unit, given in seconds."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 86_400 / unit or (number == 0 and unit == 1):
            raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")
        return number * unit

    return read
