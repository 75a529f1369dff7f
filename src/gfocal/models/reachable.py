"""Whether ImageNet weights can be fetched, found out in seconds: the libraries that fetch them retry for a minute."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import torch

from gfocal import launch
from gfocal.console import say

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

TIMEOUT = 4.0  # seconds to connect
TRIES = 2
_OFFLINE = ("GFOCAL_OFFLINE", "HF_HUB_OFFLINE")  # set to 1, nothing is asked, and nothing fetched from the hub


def require_hub_weights(repository: str | None, name: str) -> None:
    """Raise ConnectionError if timm's ImageNet weights are not in the cache and the hub cannot be reached.

    Where they have to be fetched, a line says so. ``repository`` is theirs on the hub; None asks nobody.
    """
    from huggingface_hub import try_to_load_from_cache

    if not repository:
        return
    files = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    require_answer(f"{endpoint}/{repository}", f"the ImageNet weights of {name}")


def require_torchvision_weights(weights: WeightsEnum, name: str) -> None:
    """Raise ConnectionError if torchvision's weights are not in its cache and their server cannot be reached."""
    address = str(weights.url)
    if not Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(address).path).name).is_file():
        require_answer(address, f"the ImageNet weights of {name}")


def require_answer(address: str, what: str, timeout: float = TIMEOUT) -> None:
    """Say that something is fetched from an address; ConnectionError where its server does not answer in time.

    Proxies are those of the environment. Any answer counts, also one that refuses.
    """
    if any(os.environ.get(variable, "").lower() in ("1", "true", "yes", "on") for variable in _OFFLINE):
        return
    if launch.is_main():
        from rich.console import Console

        say(Console(stderr=True), f"fetching {what} from {address}")
    reason = ""
    for _ in range(TRIES):
        try:
            request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "gfocal"})
            urllib.request.urlopen(request, timeout=timeout).close()
            return
        except urllib.error.HTTPError:
            return
        except (OSError, http.client.HTTPException) as error:
            found = error.reason if isinstance(error, urllib.error.URLError) else error
            reason = str(found) or type(found).__name__
    raise ConnectionError(f"{urlsplit(address).netloc} cannot be reached: {reason}")
