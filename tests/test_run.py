"""Config and data become a run directory: what lies beside the weights says how to get them again."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import gfocal
from gfocal.build import build_model
from gfocal.config.config import Config, read_config, with_changes
from gfocal.data.dataset import FileData, Problem, Sample
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.views import select_with_objects
from gfocal.errors import DataError, ResumeError
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.run import choose_config, read_run_config, run_training
from gfocal.run_folder import RunFolder
from gfocal.training import distributed, loop
from gfocal.training.checkpoints import save_state
from gfocal.training.metrics_log import read_metrics

BODY = "mobilenetv4_conv_small.e2400_r224_in1k"
TINY = with_changes(
    Config(),
    {
        "model.preset": "gfl_light_fpn",
        "model.pretrained": False,
        "model.options": {"body": BODY, "channels": 32, "num_convs": 1},
        "size.short_side": 64,
        "size.long_side": 64,
        "optimizer.kind": "adamw",
        "optimizer.lr": 1e-3,
        "run.epochs": 1,
        "run.batch_size": 2,
        "run.num_workers": 0,
        "run.ema_decay": 0.9,
        "run.cpu": True,
    },
)
DATA = SyntheticScenes(2, size=96)
VAL = SyntheticScenes(2, size=96, purpose="val")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def run(folder: Path, config: Config = TINY, data: Any = DATA, **more: Any) -> tuple[Detector, Any]:
    return run_training(config, data, VAL, folder, console=Console(file=io.StringIO()), **more)


def test_what_lies_beside_the_weights_gives_them_again(tmp_path: Path) -> None:
    model, result = run(tmp_path / "one", data_name="drawn")
    assert read_config(tmp_path / "one" / "config.toml") == TINY
    assert read_run_config(tmp_path / "one") == TINY
    assert json.loads((tmp_path / "one" / "result.json").read_text()) == result.to_json()
    said = json.loads((tmp_path / "one" / "run.json").read_text())
    assert said["gfocal"] == gfocal.__version__
    assert said["torch"] == torch.__version__
    assert said["data"] == "drawn"
    assert said["classes"] == list(DATA.names)
    assert (said["train_images"], said["val_images"]) == (2, 2)
    assert said["threads"] == torch.get_num_threads()
    assert {"python", "torchvision", "timm", "machine", "gpu", "command"} <= set(said)
    for key, value in load_model(tmp_path / "one").state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key

    torch.manual_seed(99)  # the state of the caller's generator has no say
    run(tmp_path / "two", read_config(tmp_path / "one" / "config.toml"))
    for name in ("last.safetensors", "config.toml", "result.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_run_is_neither_overwritten_nor_mixed_with_another(tmp_path: Path) -> None:
    run(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(ResumeError, match="holds a run already"):
        run(tmp_path)
    with pytest.raises(ResumeError, match="train_images = 2, not 3"):
        run(tmp_path, data=SyntheticScenes(3, size=96), resume=True)

    class Renamed(SyntheticScenes):
        names = tuple(reversed(SyntheticScenes.names))

    with pytest.raises(ResumeError, match="classes = "):
        run(tmp_path, data=Renamed(2, size=96), resume=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_a_run_is_resumed_with_as_many_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ResumeError, match="is a run of 1 process, not of 2; launch as many, or start"):
        run(tmp_path, resume=True)


def test_resume_takes_the_saved_config(tmp_path: Path) -> None:
    run(tmp_path)
    weights = (tmp_path / "last.safetensors").read_bytes()
    _, result = run(tmp_path, Config(), resume=True)  # another config, which would even want a network
    assert result is None  # nothing was left to do
    assert (tmp_path / "last.safetensors").read_bytes() == weights
    assert read_run_config(tmp_path) == TINY
    # A run that is killed behind its last state has no result yet.
    result_file = tmp_path / "result.json"
    content = result_file.read_bytes()
    result_file.unlink()
    _, result = run(tmp_path, resume=True)
    assert result is not None
    assert result_file.read_bytes() == content


def test_resume_needs_no_imagenet_weights_again_and_freezes_what_was_frozen(tmp_path: Path) -> None:
    body = build_model(TINY, DATA.names).backbone.body
    weights = tmp_path / "imagenet.pt"
    torch.save(body.state_dict(), weights)
    config = with_changes(TINY, {"model.weights": str(weights), "run.epochs": 1})
    model, _ = run(tmp_path / "run", config)
    weights.unlink()  # as the hub may be out of reach on the day of the resume
    resumed, _ = run(tmp_path / "run", resume=True)
    trained = [name for name, parameter in resumed.named_parameters() if parameter.requires_grad]
    assert trained == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) < len(list(resumed.named_parameters()))
    loaded = load_model(tmp_path / "run").backbone.freezing
    assert (loaded.frozen_stages, loaded.norm_eval) == (2, False)
    for file in ("last.safetensors", "run.json"):
        assert "frozen" in (tmp_path / "run" / "run.json").read_text()
        (tmp_path / "run" / file).unlink()
    resumed, _ = run(tmp_path / "run", resume=True)  # the state tells it
    assert trained == [name for name, parameter in resumed.named_parameters() if parameter.requires_grad]


def test_resume_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="nothing to resume"):
        run(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        run(tmp_path / "file")


def sample(number: int, crowd: tuple[bool, ...]) -> Sample:
    boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]]).repeat(len(crowd), 1)
    labels = torch.zeros(len(crowd), dtype=torch.int64)
    return Sample(number, Path(f"{number}.jpg"), boxes, labels, torch.tensor(crowd, dtype=torch.bool))


def test_images_without_objects_may_be_left_out() -> None:
    samples = [sample(0, ()), sample(1, (True,)), sample(2, (False,)), sample(3, (True, False))]
    data = FileData(("a",), (1,), samples)
    assert [s.image_id for s in select_with_objects(data).samples] == [2, 3]  # type: ignore[attr-defined]
    assert len(data) == 4
    assert select_with_objects(DATA) is DATA


@pytest.mark.parametrize("skip_empty", [True, False])
def test_images_of_which_none_holds_an_object_are_no_training_data(tmp_path: Path, skip_empty: bool) -> None:
    config = with_changes(TINY, {"run.skip_empty": skip_empty})
    problems = [
        Problem("a.json", "class x", "class name occurs twice", "kept"),
        Problem("a.json", "class x", "class name occurs twice", "kept"),
        Problem("a.txt", "line 1", "box is outside the image", "dropped"),
    ]
    data = FileData(("a",), (1,), [sample(0, ()), sample(1, (True,))], problems)
    with pytest.raises(DataError) as error:
        run(tmp_path / "run", config, data, data_name="photos")
    assert str(error.value) == (
        "photos: none of 2 training images has an object "
        "(1 x box is outside the image (dropped), e.g. a.txt: line 1); give data with boxes"
    )
    with pytest.raises(DataError, match=r"^none of 1 training image has an object; give data with boxes$"):
        run(tmp_path / "run", config, FileData(("a",), (1,), [sample(0, ())]))
    assert not (tmp_path / "run").exists()


def stopped_after_one_epoch(folder: Path) -> bytes:
    """A run of two epochs that has done the first; returns the weights that both epochs give."""
    config = with_changes(TINY, {"run.epochs": 2})
    run(folder.with_name("whole"), config)

    def stop(*_: Any) -> None:
        save_state(*_)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_state", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, config)
    return (folder.with_name("whole") / "last.safetensors").read_bytes()


def test_the_state_knows_its_config(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    weights = stopped_after_one_epoch(folder)
    file = folder / "config.toml"
    content = file.read_text(encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for changed, expected in (
        ("", "is not the config that the run was started with: model.pretrained = True (was False), "),
        (content.replace("epochs = 2", "epochs = 3"), "with: run.epochs = 3 (was 2); restore it, or delete"),
        ("[run", "not valid TOML"),
        ("\0" * 100, "not valid TOML"),
    ):
        file.write_text(changed, encoding="utf-8")
        with pytest.raises(ResumeError, match=r"or delete .*config\.toml: --resume then writes it again") as error:
            run(folder, resume=True)
        assert expected in str(error.value)
        file.write_text(content, encoding="utf-8")
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    file.write_text("# my notes\n" + content, encoding="utf-8")
    assert read_run_config(folder).run.epochs == 2
    file.unlink()
    run(folder, resume=True)
    assert file.read_text(encoding="utf-8") == content
    assert (folder / "last.safetensors").read_bytes() == weights


@pytest.mark.parametrize("content", [b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b'{"processes": "x"}', b""])
def test_an_odd_description_of_a_run_is_set_aside(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "run"
    weights = stopped_after_one_epoch(folder)
    (folder / "run.json").write_bytes(content)
    (folder / "metrics.csv").write_bytes(b"epoch;ap\n1;0,5\n")
    shown = io.StringIO()
    run_training(TINY, DATA, VAL, folder, resume=True, console=Console(file=shown, width=400))
    assert (folder / "run.aside-1.json").read_bytes() == content
    assert (folder / "metrics.aside-1.csv").read_bytes() == b"epoch;ap\n1;0,5\n"
    assert "run.json: not as gfocal wrote it; it is now run.aside-1.json" in shown.getvalue()
    assert "metrics.csv: not as gfocal wrote it" in shown.getvalue()
    assert json.loads((folder / "run.json").read_text())["train_images"] == 2
    assert [row["epoch"] for row in read_metrics(folder / "metrics.csv")] == ["2"]
    assert (folder / "last.safetensors").read_bytes() == weights


def test_other_classes_are_refused_without_the_description_too(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "run.json").write_text("[]")

    class Renamed(SyntheticScenes):
        names = tuple(reversed(SyntheticScenes.names))

    with pytest.raises(ResumeError, match="classes = "):
        run(tmp_path, data=Renamed(2, size=96), resume=True)
    assert (tmp_path / "run.json").read_text() == "[]"


@pytest.mark.parametrize(("native", "found"), [(True, "bf16"), (False, "no")])
def test_a_run_stores_the_precision_that_auto_stands_for(
    native: bool, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it keeps it when it is resumed, on another machine too."""
    monkeypatch.setattr(distributed, "is_bf16_native", lambda _: native)
    config = with_changes(Config(), {"run.precision": "auto", "run.cpu": "true"})
    assert choose_config(config, RunFolder(tmp_path / "run"), resume=False).run.precision == found
