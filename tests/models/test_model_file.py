"""Model files: the same network comes back, and what is no such file is refused with its reason."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gfocal.data.preprocess import InputSettings
from gfocal.errors import ModelFileError
from gfocal.models.description import FORMAT, describe
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, read_description, save_model, store_nms, store_thresholds
from gfocal.models.names import require_model
from gfocal.models.zoo import gfl_light_fpn
from gfocal.ops.decoding import DecodeSettings


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    settings = InputSettings(mean=(1.0, 2.0, 3.0), short_side=64, long_side=96)
    built = gfl_light_fpn(
        2, names=("cat", "größer"), pretrained=False, input_settings=settings, n=8, channels=64, num_convs=1
    )
    built.decode_settings = DecodeSettings(score_threshold=0.3, max_detections=7)
    built.train()
    built(torch.randn(2, 3, 64, 64))  # statistics that are not those of a new network
    return built.eval()


@pytest.fixture(scope="module")
def saved(model: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "model.safetensors"
    save_model(model, path)
    return path


def content(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["gfocal"])  # noqa: SIM118


def test_a_round_trip_gives_the_same_outputs_bit_by_bit(model: Detector, saved: Path) -> None:
    again = load_model(saved)
    assert not again.training
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before, after = model(images), again(images)
    assert torch.equal(before.cls_logits, after.cls_logits)
    assert torch.equal(before.box_logits, after.box_logits)
    for name in ("names", "box_coder", "input_settings", "decode_settings", "built_from"):
        assert getattr(again, name) == getattr(model, name), name


def test_the_description_is_read_without_the_tensors(saved: Path, tmp_path: Path, tensor_reads: Counter[str]) -> None:
    state, about = content(saved)
    assert read_description(saved) == about
    assert not tensor_reads
    shutil.copyfile(saved, tmp_path / "last.safetensors")
    assert read_description(tmp_path) == about  # a run's folder
    store_thresholds(tmp_path, [0.25, 0.5])
    assert not tensor_reads
    load_model(saved)
    assert tensor_reads == dict.fromkeys(state, 1)


def test_the_description_is_complete(model: Detector, saved: Path) -> None:
    _, about = content(saved)
    assert about == json.loads(json.dumps(describe(model)))
    assert about["format"] == FORMAT
    assert about["names"] == ["cat", "größer"]


def test_a_saved_file_stays_whole_when_writing_fails(
    model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    before = path.read_bytes()

    def half(temporary: Path, content: bytes) -> None:
        with temporary.open("wb") as file:
            file.write(content[:100])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_folder_of_a_run_means_its_best_model_then_its_last(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").write_bytes(saved.read_bytes())
    assert load_model(tmp_path).names == ("cat", "größer")
    (tmp_path / "best.safetensors").write_bytes(b"the better one")
    with pytest.raises(ModelFileError, match=r"best\.safetensors"):
        load_model(tmp_path)


def test_missing_files_and_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.safetensors: no such file or folder"):
        load_model(tmp_path / "none.safetensors")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").touch()
    with pytest.raises(ModelFileError, match=r"first epoch is not finished.*start again with 'gfocal train'$"):
        require_model(run)
    (run / "state.pt").touch()
    with pytest.raises(
        ModelFileError, match=r"first epoch is not finished.*continue it with 'gfocal train --resume'$"
    ):
        require_model(run)
    with pytest.raises(ModelFileError, match=r"holds neither best\.safetensors nor last\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file(saved: Path, tmp_path: Path, share: float) -> None:
    whole = saved.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelFileError, match=r"cut\.safetensors: not readable .* copied completely"):
        load_model(cut)


@pytest.mark.parametrize("name", ["state.pt", "photo.jpg", "model"])
def test_files_of_another_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelFileError) as error:
        load_model(tmp_path / name)
    message = "not a gfocal model file; give the run's folder or a .safetensors file"
    assert str(error.value).startswith(f"{tmp_path / name}: {message}")
    assert "gfocal import" in str(error.value)


@pytest.mark.skipif(os.name != "posix", reason="needs modes and a umask")
def test_others_may_read_a_model_file(model: Detector, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_model(model, tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_safetensors_of_another_program(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match=r"other\.safetensors: .* not one that gfocal wrote"):
        load_model(tmp_path / "other.safetensors")


def rewritten(saved: Path, folder: Path, **changes: object) -> Path:
    state, about = content(saved)
    path = folder / "changed.safetensors"
    save_file(state, path, metadata={"gfocal": json.dumps({**about, **changes})})
    return path


def test_files_of_before_there_was_a_stretch_keep_the_aspect_ratio(saved: Path, tmp_path: Path) -> None:
    _, about = content(saved)
    assert isinstance(about["input"], dict)
    before = {key: value for key, value in about["input"].items() if key != "stretch"}
    assert load_model(rewritten(saved, tmp_path, input=before)).input_settings == load_model(saved).input_settings
    stretched = load_model(rewritten(saved, tmp_path, input={**before, "stretch": True})).input_settings
    assert stretched == replace(load_model(saved).input_settings, stretch=True)
    with pytest.raises(ModelFileError, match="stretch"):
        load_model(rewritten(saved, tmp_path, input={**before, "stretch": "wide"}))


def test_a_newer_format(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"its format is 'gfocal-9', this gfocal reads .*newer gfocal"):
        load_model(rewritten(saved, tmp_path, format="gfocal-9"))


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "gfl_of_tomorrow"},
        {"options": {"unknown": 1}},
        {"decode": {"soft": True}},
        {"input": {"short_side": -1}},
        {"names": None},
    ],
)
def test_a_description_that_cannot_be_built(saved: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match=r"changed\.safetensors"):
        load_model(rewritten(saved, tmp_path, **changes))


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_a_damaged_description(saved: Path, tmp_path: Path, text: str) -> None:
    save_file(content(saved)[0], tmp_path / "damaged.safetensors", metadata={"gfocal": text})
    with pytest.raises(ModelFileError, match=r"damaged\.safetensors"):
        load_model(tmp_path / "damaged.safetensors")


def test_tensors_of_wrong_shape_missing_or_too_many(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tensors do not fit gfl_light_fpn, the first is head\.cls_out"):
        load_model(rewritten(saved, tmp_path, names=["a", "b", "c"]))
    state, about = content(saved)
    metadata = {"gfocal": json.dumps(about)}
    path = tmp_path / "changed.safetensors"
    save_file({**state, "extra": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="1 tensors do not fit gfl_light_fpn, the first is extra"):
        load_model(path)
    del state["head.scales.0.scale"]
    save_file(state, path, metadata=metadata)
    with pytest.raises(ModelFileError, match=r"the first is head\.scales\.0\.scale"):
        load_model(path)


def tensor_bytes(path: Path) -> bytes:
    """What follows the header of a safetensors file."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_thresholds_are_stored_beside_weights_that_stay_as_they_are(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(saved.read_bytes())
    assert load_model(path).class_thresholds is None
    for scores, how in (((0.25, 0.5), "f1 on 3 images"), ((0.1, 0.2), "größer " * 50)):
        assert store_thresholds(tmp_path, scores, how) == path  # the second time in place of the first
        again = load_model(path)
        assert again.class_thresholds == scores
        assert again.thresholds_how == how
        assert tensor_bytes(path) == tensor_bytes(saved)
        assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0  # tensors lie where they can be mapped
        before, after = content(saved), content(path)
        assert after[1].pop("thresholds") == {"scores": list(scores), "how": how}
        assert after[1] == before[1]
        assert all(torch.equal(after[0][key], value) for key, value in before[0].items())
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]


def test_nms_is_stored_beside_weights_that_stay_as_they_are(saved: Path, tmp_path: Path) -> None:
    state, about = content(saved)
    del about["decode"]["class_agnostic_nms"]  # a file of before
    path = tmp_path / "best.safetensors"
    save_file(state, path, metadata={"gfocal": json.dumps(about)})
    before = load_model(path).decode_settings
    assert before == load_model(saved).decode_settings
    assert not before.class_agnostic_nms
    assert store_nms(tmp_path, 0.45, class_agnostic=True) == path
    after = load_model(path).decode_settings
    assert after == replace(before, nms_threshold=0.45, class_agnostic_nms=True)
    assert tensor_bytes(path) == tensor_bytes(saved)
    with pytest.raises(ModelFileError, match="nms_threshold"):
        store_nms(path, 1.5, class_agnostic=True)
    assert load_model(path).decode_settings == after


def test_thresholds_survive_saving(model: Detector, tmp_path: Path) -> None:
    model.class_thresholds, model.thresholds_how = (0.25, 0.5), "by hand"
    try:
        save_model(model, tmp_path / "with.safetensors")
    finally:
        model.class_thresholds, model.thresholds_how = None, ""
    again = load_model(tmp_path / "with.safetensors")
    assert (again.class_thresholds, again.thresholds_how) == ((0.25, 0.5), "by hand")
    assert "thresholds" not in describe(model)


@pytest.mark.parametrize(
    ("scores", "message"),
    [((0.5,), "1 thresholds for 2 classes"), ((0.5, 1.5), "0..1, not 1.5"), ((0.5, float("nan")), "not nan")],
)
def test_thresholds_that_do_not_fit_are_refused(
    saved: Path, tmp_path: Path, scores: tuple[float, ...], message: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved.read_bytes())
    with pytest.raises(ModelFileError, match=message):
        store_thresholds(path, scores)
    assert path.read_bytes() == saved.read_bytes()
    with pytest.raises(ModelFileError, match="download the model first"):
        store_thresholds("hf://owner/name", scores)


def test_a_file_with_thresholds_of_other_classes_is_refused(saved: Path, tmp_path: Path) -> None:
    state, about = content(saved)
    about["thresholds"] = {"scores": [0.5], "how": ""}
    save_file(state, tmp_path / "odd.safetensors", metadata={"gfocal": json.dumps(about)})
    with pytest.raises(ModelFileError, match="1 thresholds for 2 classes"):
        load_model(tmp_path / "odd.safetensors")
