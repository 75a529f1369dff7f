"""Models by ``hf://owner/name``, from a cache in the layout of the hub's client."""

from pathlib import Path

import pytest
import torch

from gfocal.errors import HubError
from gfocal.models.model_file import download_model, load_model, save_model
from gfocal.models.zoo import gfl_r18_fpn

REVISION = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that cannot be reached."""
    import huggingface_hub.constants as constants
    from huggingface_hub import file_download

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert file_download.constants is constants
    return tmp_path


def publish(cache: Path, owner: str, name: str) -> torch.nn.Module:
    """Put a model where a download would."""
    model = gfl_r18_fpn(2, names=("cat", "dog"), pretrained=False, channels=32, num_convs=1).eval()
    repository = cache / f"models--{owner}--{name}"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    save_model(model, snapshot / "model.safetensors")
    return model


def test_a_model_is_loaded_by_its_address(cache: Path):
    model = publish(cache, "someone", "cats-and-dogs")
    loaded = load_model("hf://someone/cats-and-dogs")
    assert loaded.names == ("cat", "dog")
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert load_model(f"hf://someone/cats-and-dogs@{REVISION}").names == ("cat", "dog")


def test_what_is_not_there_is_one_clear_error(cache: Path):
    with pytest.raises(HubError, match=r"hf://someone/nothing.*the hub cannot be reached"):
        download_model("hf://someone/nothing")


@pytest.mark.parametrize("address", ["hf://", "hf://name", "hf://a/b/c", "hf://../x"])
def test_an_address_is_owner_and_name(address: str):
    with pytest.raises(HubError, match="hf://owner/name"):
        download_model(address)


def test_a_card_names_the_classes():
    from gfocal.interop.hub import card

    model = gfl_r18_fpn(2, names=("cat", "dog"), pretrained=False, channels=32, num_convs=1)
    assert "cat, dog" in card(model, "someone/pets")
    assert 'gfocal.load("hf://someone/pets")' in card(model, "someone/pets")
    assert "preset `gfl_r18_fpn`" in card(model, "someone/pets")
    assert "Generalized" not in card(model, "someone/pets")  # it may be of any detector
