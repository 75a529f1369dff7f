"""Lines that commands print."""

from __future__ import annotations

import io

from rich.console import Console

from gfocal.console import say

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
