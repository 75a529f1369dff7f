"""A small run of ``benchmarks/fuzz_models.py``: model files and configs load, or are refused in one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("fuzz_grammar", "fuzz_pool", "fuzz_checks", "fuzz_markup", "fuzz_models")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarm here")


@pytest.fixture
def fuzzer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGPROF)}
    offline, threads = os.environ.get("HF_HUB_OFFLINE"), torch.get_num_threads()
    yield __import__("fuzz_models")
    torch.set_num_threads(threads)
    os.environ.pop("HF_HUB_OFFLINE", None)
    if offline is not None:
        os.environ["HF_HUB_OFFLINE"] = offline
    for number, handler in before.items():
        signal.signal(number, handler)
    for name in MODULES:
        sys.modules.pop(name, None)


def test_mutated_model_files_and_configs(fuzzer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "out").mkdir()
    work = fuzzer.make_start(tmp_path, 2, tmp_path / "out")()
    for kind, cases in (("model file", 40), ("config", 40), ("address", 20)):
        results = [work(kind, number) for number in range(cases)]
        assert [finding.text for tally in results for finding in tally.findings] == []
        assert sum(tally.clean + tally.refused for tally in results) == cases


@pytest.mark.parametrize("wrong", [RuntimeError("x"), SystemError("x"), AssertionError("x")])
def test_other_errors_are_findings(
    fuzzer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    def load(*_: Any) -> None:
        raise wrong

    monkeypatch.setattr(fuzzer, "load", load)
    tally = fuzzer.run_case("address", 1, tmp_path / "a", None, 0, tmp_path)
    assert [finding.what for finding in tally.findings] == [fuzzer.CRASH]
    monkeypatch.setattr(fuzzer, "GFocalError", Exception)
    wrong.args = ("two\nlines",)
    assert [f.what for f in fuzzer.run_case("address", 1, tmp_path / "a", None, 0, tmp_path).findings] == ["unclear"]
