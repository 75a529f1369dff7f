"""README and docs are true: commands parse, examples run, names exist, keys and defaults are the code's."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import gfocal
from calibrations import calibration
from gfocal.cli.main import build_parser
from gfocal.config.config import CONFIG_FOLDER, Config, config_names, flatten, read_config
from gfocal.config.values import import_toml
from gfocal.models.precision import digest_weights
from gfocal.models.published import PUBLISHED

CHECKOUT = Path(__file__).resolve().parents[1]
README = CHECKOUT / "README.md"
DOCS = CHECKOUT / "docs"
PAGES = [README, CHECKOUT / "CONTRIBUTING.md"]
PAGES += [page for folder in (DOCS, DOCS / "tasks", DOCS / "reference") for page in sorted(folder.glob("*.md"))]
REFERENCE = sorted(DOCS.glob("reference/*.rst"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def code_spans(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def commands() -> Iterator[tuple[str, str]]:
    """Every gfocal command line of the pages."""
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in re.sub(r"\\\n *", "", block).splitlines()]
        lines += [span for span in code_spans(page) if re.match(r"gfocal \w+ .", span)]
        for line in lines:
            for part in line.split("&&"):
                if re.match(r"gfocal (?!.*--help)", part.strip()):
                    yield page.name, part.strip()
    for config in sorted(CONFIG_FOLDER.glob("*.toml")):
        first = config.read_text(encoding="utf-8").splitlines()[0]
        yield config.name, first[first.index("gfocal ") :]


COMMANDS = [*commands()]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_parse(page: str, command: str) -> None:
    chosen = build_parser().parse_args(shlex.split(command, comments=True)[1:])
    assert callable(chosen.run)
    config = getattr(chosen, "config", None)
    assert config is None or config in config_names()


def test_there_are_commands_of_every_kind() -> None:
    assert {command.split()[1] for _, command in COMMANDS} >= {"train", "eval", "detect", "demo", "models"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo, a run directory and a cache, as the examples expect; the detectors are untrained."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "runs" / "mine").mkdir(parents=True)
    torch.manual_seed(0)
    model = gfocal.create("gfl_r18_fpn", 3, pretrained=False, channels=32, num_convs=1)
    model.state_dict()["head.cls_out.bias"].fill_(1.0)  # so that something is found
    gfocal.save(model, folder / "runs" / "mine" / "best.safetensors")
    model.calibration = calibration(digest_weights(model), num_classes=3)
    gfocal.save(model, folder / "calibrated.safetensors")
    published = gfocal.create("nanodet_plus_m", 80, pretrained=False, auxiliary=False)
    published.state_dict()["head.cls_outs.0.bias"].fill_(1.0)
    (folder / "cache" / "checkpoints").mkdir(parents=True)
    gfocal.save(published, folder / "cache" / "checkpoints" / "nanodet_plus_m_416_coco.safetensors")
    image, _ = gfocal.SyntheticScenes(1, size=96).read(0)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "photo.jpg")
    return folder


def write_exported() -> None:
    """The file mine.onnx of the page on exporting, in the current folder."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from gfocal.export.export import ExportOptions, export_model
    from gfocal.interop.published_weights import load

    image, _ = gfocal.SyntheticScenes(1, size=96).read(0)
    export_model(load("runs/mine"), Path("mine.onnx"), ExportOptions("onnx", images=[image]))


def detect_in_a_clip() -> None:
    """The lines found/clip.jsonl of the page on video, in the current folder."""
    av = pytest.importorskip("av", reason="needs the extra video")
    from gfocal.inference.video import detect_videos

    image, _ = gfocal.SyntheticScenes(1, size=96).read(0)
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.permute(1, 2, 0).numpy(), "rgb24")))
        container.mux(stream.encode(None))
    detect_videos(gfocal.load("runs/mine"), ["clip.mp4"], Path("found"), score_threshold=0.01)
    write_tracks()


def write_tracks() -> None:
    """The lines tracked/clip.jsonl of the page on video: a person, a cat, at times a dog, and a short track."""
    lines: list[dict[str, Any]] = [{"journal": {}}]
    for i in range(20):
        boxes = [(2, "cat" if i % 3 else "dog", True), (1, "person", i < 10), (None, "person", True)]
        boxes += [(3, "person", True)] * (i < 3)
        ids, names, is_sure = zip(*boxes, strict=True)
        lines.append({"time": i / 10, "track_ids": ids, "names": names, "is_sure": is_sure})
    Path("tracked").mkdir(exist_ok=True)
    Path("tracked/clip.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"done": {"failed": 0}}])))


def write_table_of_images() -> None:
    """What the page on clusters reads."""
    pytest.importorskip("ray.data", reason="needs the extra ray")
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image, _ = gfocal.SyntheticScenes(1, size=96).read(0)
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "png")
    parquet.write_table(pyarrow.table({"bytes": [stream.getvalue()] * 3, "id": [0, 1, 2]}), "images.parquet")


def read_table_of_detections() -> None:
    """What the page on clusters wrote."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table("found")
    assert sorted(table["id"].to_pylist()) == [0, 1, 2]
    assert table["error"].null_count == 3
    pytest.importorskip("ray").shutdown()


def answer_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page on serving asks is answered by a service in this process, not at the address that it names."""
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from gfocal.serving.app import create_app
    from gfocal.serving.service import make_service

    def answer(request: urllib.request.Request) -> io.BytesIO:
        with TestClient(create_app(make_service(gfocal.load("runs/mine"), "mine"))) as client:
            found = client.post(request.full_url, content=request.data, headers=dict(request.header_items()))
        assert found.status_code == 200
        return io.BytesIO(found.content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name)
def test_python_examples_run(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("GFOCAL_CACHE", str(workplace / "cache"))
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    names: dict[str, Any] = {}
    if page.name == "export.md":
        write_exported()
    if page.name == "video.md":
        detect_in_a_clip()
    if page.name == "serve.md":
        answer_requests(monkeypatch)
    if page.name == "scale.md":
        monkeypatch.setenv("RAY_ADDRESS", "local")  # not another Ray of this machine
        monkeypatch.setenv("RAY_worker_niceness", "0")
        write_table_of_images()
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    if page.name == "scale.md":
        read_table_of_detections()
    if "found" in names:
        assert len(names["found"]) > 0, "the example must be of an image in which something is found"


def test_the_video_page_counts_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tracks()
    block = next(block for block in blocks(DOCS / "video.md", "python") if "tracked/" in block)
    exec(compile(block, "video.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "#2: cat, 0.0 to 1.9 s",
        "#1: person, 0.0 to 0.9 s",
        "Counter({'cat': 1, 'person': 1})",
    ]


def test_the_edges_page_computes_the_boxes(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "edges.md", "python"):
        exec(compile(block, "edges.md", "exec"), names)
    found = names["found"]
    width = found.size[1]
    assert torch.allclose(names["right"].clamp(0, width), found.boxes[:, 2], atol=1e-2)
    assert torch.allclose(names["left"].clamp(0, width), found.boxes[:, 0], atol=1e-2)
    assert (names["near"] <= names["far"]).all()
    assert (names["excess"] <= found.edge_std + 1e-3).all()


def dotted(text: str) -> set[str]:
    return set(re.findall(r"\bgfocal(?:\.\w+)+", text)) - {"gfocal.json"}  # a file


def resolve(name: str) -> Any:
    """The module, class or function of a full name."""
    value: Any = gfocal
    for part in name.split(".")[1:]:
        if not hasattr(value, part):
            __import__(f"{value.__name__}.{part}")
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    for name in sorted(dotted(" ".join(code_spans(page)))):
        resolve(name)


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.name)
def test_names_in_the_reference_exist(page: Path) -> None:
    for name, members in re.findall(
        r"^\.\. auto\w+:: (gfocal[\w.]+)\n(?:   :members: (.+)\n)?", page.read_text(encoding="utf-8"), re.M
    ):
        value = resolve(name)
        assert all(hasattr(value, member.strip()) for member in members.split(",") if member)


def test_the_reference_has_every_public_name() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE)
    documented = set(re.findall(r"^\.\. auto(?:function|class):: gfocal\.(\w+)$", text, re.M))
    assert documented == {name for name in gfocal.__all__ if not name.startswith("_")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_a_target(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    dead = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not dead


def test_the_second_example_detects_with_published_weights() -> None:
    arguments = build_parser().parse_args(shlex.split(blocks(README, "bash")[1])[1:])
    assert arguments.command == "detect"
    assert arguments.model in PUBLISHED


def test_the_command_of_the_tests_is_that_of_the_checks() -> None:
    command = next(block for block in blocks(README, "bash") if "pytest" in block).strip()
    assert command == (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]


def test_configs_in_the_docs_can_be_read(tmp_path: Path) -> None:
    found = blocks(DOCS / "training.md", "toml")
    assert found
    for block in found:
        file = tmp_path / "mine.toml"
        file.write_text(block, encoding="utf-8")
        assert read_config(file) != Config()


def test_the_table_of_keys_is_that_of_the_code() -> None:
    text = (DOCS / "training.md").read_text(encoding="utf-8")
    row = r"^\| `(\w+\.\w+)` \| (\S.*?) \| (.*?) ?\| (.*?) ?\|"
    documented = {key: cells for key, *cells in re.findall(row, text.partition("## Keys")[2], re.M)}
    configs = [flatten(config) for config in (Config(), read_config("nano"), read_config("light"))]
    assert list(documented) == list(configs[0])
    for key, cells in documented.items():
        for cell, config in zip(cells, configs, strict=True):
            value = config[key]
            expected = pytest.approx(value, rel=2e-3) if isinstance(value, float) else value
            assert as_python(cell or cells[0]) == expected, key


def as_python(cell: str) -> object:
    """A default as the table writes it, in TOML."""
    if cell == "none":
        return None
    text = cell.strip("`")
    if text.startswith("{"):
        return import_toml().loads(f"value = {text}")["value"]
    value = {"true": True, "false": False}.get(text)
    value = ast.literal_eval(text) if value is None else value
    return tuple(value) if isinstance(value, list) else value
