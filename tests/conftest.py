"""Fixtures for all tests: where the real data lies, and one thread per test process."""

import os
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from hypothesis import settings

from gfocal.cli.main import main
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector
from gfocal.models.zoo import create
from gfocal.visualize.viewer.viewer_page import ViewerSettings, write_viewer
from viewer_browser import Viewer

torch.set_num_threads(1)
# No test depends on a network: what the default config starts from is not downloaded.
os.environ["GFOCAL_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be cut
# What runs in the background of a shell has Ctrl-C ignored, and gfocal leaves it so; the tests of stopping need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Without a deadline per example: a busy machine makes no test fail.
settings.register_profile("gfocal", deadline=None)
settings.load_profile("gfocal")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")  # programs, the first that is installed
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
OPTIONS = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
# Options of gfocal train that make a run of seconds.
TINY = [
    *("--no-pretrained", "--epochs", "1", "--batch-size", "2", "--num-workers", "0", "--short-side", "64"),
    *("--set", "size.long_side=96", "--set", "run.cpu=true", "--set", "model.options.channels=32"),
    *("--set", f"model.options.body={OPTIONS['body']}", "--set", "model.options.num_convs=1"),
]


def tiny_detector() -> Detector:
    """A network from random weights, always the same, of two classes and for images of 64 pixels."""
    torch.manual_seed(0)
    detector = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **OPTIONS)
    detector.input_settings = InputSettings(short_side=64, long_side=96)
    return detector.eval()


def shared_folder() -> Path:
    """Real data and reference numbers: ``$GFOCAL_SHARED``, else a folder ``shared`` beside the checkout."""
    named = os.environ.get("GFOCAL_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set GFOCAL_SHARED to the folder that holds data/ and parity/")
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of gfocal, offline; returns exit code, standard output and standard error."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main has its own
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run_it(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run_it


@pytest.fixture
def tensor_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Name of each tensor that gfocal reads from a model file -> how often."""
    reads: Counter[str] = Counter()
    real: Any = safetensors.safe_open

    class CountingFile:
        def __init__(self, path: str, framework: str) -> None:
            self.file = real(path, framework=framework)

        def __enter__(self) -> "CountingFile":
            self.file.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.file.__exit__(*error)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def get_tensor(self, key: str) -> torch.Tensor:
            reads[key] += 1
            return self.file.get_tensor(key)

    monkeypatch.setattr(safetensors, "safe_open", CountingFile)
    return reads


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A small detector of a preset, and its .onnx file in float32, written once; for the tests in tests/export."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    from small import scenes, small, small_deformable

    from gfocal.export.export import ExportOptions, export_model

    folder, done = tmp_path_factory.mktemp("exported"), dict[str, tuple[Any, Path]]()

    def get(preset: str) -> tuple[Any, Path]:
        if preset not in done:
            model = small_deformable() if preset == "deformable" else small(preset)
            path = folder / f"{preset}.onnx"
            export_model(model, path, ExportOptions("onnx", images=scenes()))
            done[preset] = model, path
        return done[preset]

    return get


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright, of the extra dev")
    named = os.environ.get("GFOCAL_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named is None:
        pytest.skip("no Chromium: install it, or name its program in GFOCAL_CHROMIUM")
    with api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=named, args=["--no-sandbox", *FAKE_CAMERA])
        yield one
        one.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Any]:
    opened: list[Viewer] = []

    def open_it(images: list[dict[str, Any]], made: ViewerSettings) -> Viewer:
        path = tmp_path / "viewer.html"
        write_viewer(path, made, images)
        opened.append(Viewer(browser, path))
        return opened[-1]

    yield open_it
    for one in opened:
        assert one.troubles == []
        one.page.close()
