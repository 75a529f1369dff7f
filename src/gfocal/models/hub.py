"""Models on the Hugging Face hub, fetched by ``hf://owner/name``."""

from __future__ import annotations

import re
from pathlib import Path

SCHEME = "hf://"
FILE = "model.safetensors"


class HubError(ValueError):
    """A model that cannot be fetched or published; the message says why and what to do."""


def fetch(address: str) -> Path:
    """The local file of a model on the hub, downloaded if it is not there yet.

    ``address`` is ``hf://owner/name``, or ``hf://owner/name@revision``; the repository holds a gfocal model
    file named ``model.safetensors``.
    """
    found = re.fullmatch(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", address)
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
