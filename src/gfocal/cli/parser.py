"""argparse, with what may be meant by an option, a command or a choice with a typo."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from gfocal.text import one_line, similar

_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)$", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors suggest what was meant. Its commands report their own unknown options."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, except that a command without commands of its own knows all of its options."""
        self.allow_abbrev = False  # --epoch would be --epochs, and a typo start a run
        self.given: Sequence[str] = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print usage and message, with a suggestion, and exit."""
        hint = self._suggest(message)
        super().error(one_line(f"{message}; did you mean {hint}?" if hint else message, max_length=3000))

    def _suggest(self, message: str) -> str:
        """The option, command or choice that may be meant; empty where none is similar."""
        if match := _INVALID_CHOICE.search(message):
            known = [word.strip(" '") for word in match[2].split(",")]
            return next(iter(similar(match[1], known)), "")
        options = [name for name in self._option_string_actions if name.startswith("--")]
        for text in getattr(self, "given", ()):
            name = text.partition("=")[0]
            if name == "--":
                break
            if name.startswith("--") and name not in options:
                return next(iter(similar(name, options)), "")
        return ""
