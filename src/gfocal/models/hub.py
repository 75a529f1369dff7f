"""Models on the Hugging Face hub: fetched by ``hf://owner/name``, and published."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from gfocal.models.detector import Detector

SCHEME = "hf://"
FILE = "model.safetensors"


class HubError(ValueError):
    """A model that cannot be fetched or published; the message says why and what to do."""


def fetch(address: str) -> Path:
    """The local file of a model on the hub, downloaded if it is not there yet.

    ``address`` is ``hf://owner/name``, or ``hf://owner/name@revision``; the repository holds a gfocal model
    file named ``model.safetensors``.
    """
    found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if found is None:
        raise HubError(f"{address}: an address on the hub is hf://owner/name or hf://owner/name@revision")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(found[1], FILE, revision=found[2]))
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"{address}: not on this machine, and the hub cannot be reached; download {FILE} from the "
            "repository elsewhere and give its path"
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"{address}: the repository holds no {FILE}, so it is no gfocal model") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HubError(f"{address}: cannot be fetched ({reason}); is the name right, and is it public?") from error


def push_to_hub(model: Detector, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Publish a detector as ``model.safetensors`` with a short card; returns its ``hf://`` address.

    Raises:
        HubError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from gfocal.models.files import save_model

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / FILE)
        (Path(folder) / "README.md").write_text(card(model, repo_id), encoding="utf-8")
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Model file of gfocal")
        except (HfHubHTTPError, OSError) as error:
            raise HubError(f"{repo_id}: cannot be published ({str(error).strip().splitlines()[0]})") from error
    return f"{SCHEME}{repo_id}"


def card(model: Detector, repo_id: str) -> str:
    """What the model's page says."""
    names = ", ".join(model.names)
    return f"""---
library_name: gfocal
pipeline_tag: object-detection
---
# {repo_id}

A Generalized Focal Loss detector, preset `{model.built_from["preset"]}`, of {model.num_classes} classes: {names}.

```python
import gfocal

model = gfocal.load("{SCHEME}{repo_id}")
found = model.detect("photo.jpg")
```
"""
