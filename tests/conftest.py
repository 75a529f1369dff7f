"""Fixtures for all tests: where the real data lies, and one thread per test process."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Without a deadline per example: a busy machine makes no test fail.
settings.register_profile("gfocal", deadline=None)
settings.load_profile("gfocal")


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
