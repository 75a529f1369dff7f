"""Publishing a detector on the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gfocal.errors import HubError
from gfocal.models.detector import Detector
from gfocal.models.model_file import HUB_FILE, save_model
from gfocal.models.names import HUB_SCHEME


def push_to_hub(model: Detector, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Publish a detector as ``model.safetensors`` with a short card; returns its ``hf://`` address.

    Raises:
        HubError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / HUB_FILE)
        (Path(folder) / "README.md").write_text(card(model, repo_id), encoding="utf-8")
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Model file of gfocal")
        except (HfHubHTTPError, OSError) as error:
            raise HubError(f"{repo_id}: cannot be published ({str(error).strip().splitlines()[0]})") from error
    return f"{HUB_SCHEME}{repo_id}"


def card(model: Detector, repo_id: str) -> str:
    """The model card: the text of the repository's page."""
    names = ", ".join(model.names)
    return f"""---
library_name: gfocal
pipeline_tag: object-detection
---
# {repo_id}

An object detector, preset `{model.built_from["preset"]}`. Classes: {names}.

```python
import gfocal

model = gfocal.load("{HUB_SCHEME}{repo_id}")
found = model.detect("photo.jpg")
```
"""
