"""Lines that commands print."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gfocal.console import progress_bar, say

ADDRESS = "https://example.org/" + "very-long-path/" * 8 + "weights.pth"


def test_addresses_stay_whole_in_folded_lines() -> None:
    for fold in (False, True):
        said = io.StringIO()
        say(
            Console(file=said, width=40),
            f"downloading weights of a network from here: {ADDRESS}\nthen [bold] a note",
            fold,
        )
        lines = said.getvalue().splitlines()
        assert any(ADDRESS in line for line in lines)
        assert lines[-1] == "then [bold] a note"
        assert len(lines) == 2 + fold * 2


def test_words_are_folded_at_the_width() -> None:
    said = io.StringIO()
    say(Console(file=said, width=20), "one two three four five six seven", fold=True)
    assert said.getvalue() == "one two three four\nfive six seven\n"


@pytest.mark.parametrize("is_notebook", [True, False])
def test_a_cell_of_a_notebook_has_no_bar(is_notebook: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if is_notebook:
        monkeypatch.setenv("JPY_PARENT_PID", "1")
    said = io.StringIO()
    console = Console(file=said, width=80, force_terminal=True)
    with progress_bar(console, "epoch 1", 2) as bar:
        bar.advance(4)
        say(console, "a line")
    assert ("epoch 1" in said.getvalue()) == (not is_notebook)
    assert "a line" in said.getvalue()
