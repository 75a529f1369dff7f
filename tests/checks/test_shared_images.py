"""A warning names images that are in training and validation, and no others."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from made import texture
from rich.console import Console

from gfocal.checks import duplicates
from gfocal.checks.before_training import warn_of_shared_images
from gfocal.checks.duplicates import find_shared_images
from gfocal.data.dataset import FileData, Sample


def data_of(*paths: Path) -> FileData:
    one = (torch.tensor([[1.0, 1.0, 9.0, 9.0]]), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool))
    return FileData(("thing",), (1,), [Sample(i, path, *one) for i, path in enumerate(paths)])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """a and b differ; twin is a under another name; longer is a with a byte more; end is a but for its first byte."""
    found = {name: tmp_path / f"{name}.png" for name in ("a", "b", "twin", "longer", "end")}
    texture(0).save(found["a"])
    texture(1).save(found["b"])
    content = found["a"].read_bytes()
    assert len(content) > duplicates.TAIL_BYTES
    found["twin"].write_bytes(content)
    found["longer"].write_bytes(content + b"\0")
    found["end"].write_bytes(b"\0" + content[1:])
    return found


def test_one_file_and_equal_bytes_are_shared(files: dict[str, Path]) -> None:
    a, b, twin = files["a"], files["b"], files["twin"]
    assert find_shared_images(data_of(a, b), data_of(twin, b)) == [(b, b), (a, twin)]
    assert find_shared_images(data_of(a), data_of(b, files["longer"], files["end"])) == []
    assert find_shared_images(data_of(a, twin), data_of(b)) == []  # repeated within one side


def test_a_file_that_is_gone_is_passed_over(files: dict[str, Path], tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    assert find_shared_images(data_of(files["a"], gone), data_of(tmp_path / "too.png", files["twin"])) == [
        (files["a"], files["twin"])
    ]


def test_large_sets_are_compared_by_path(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_OPENED", 1)
    a, b = files["a"], files["b"]
    assert find_shared_images(data_of(a, b), data_of(files["twin"], b)) == [(b, b)]


def test_the_warning_has_an_example(files: dict[str, Path]) -> None:
    said = io.StringIO()
    console = Console(file=said, width=80)
    warn_of_shared_images(data_of(files["a"]), data_of(files["b"]), console)
    warn_of_shared_images(data_of(files["a"]), None, console)
    assert said.getvalue() == ""
    warn_of_shared_images(data_of(files["a"]), data_of(files["twin"], files["b"]), console)
    line = said.getvalue()
    assert line.count("\n") == 1
    assert line.startswith(
        f"warning: 1 of 2 validation images is a training image too ({files['a']} is {files['twin']})"
    )
    assert "'gfocal check'" in line
