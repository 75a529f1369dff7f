"""gfocal models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.inputs import standard_output

if TYPE_CHECKING:
    from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command and its options."""
    models = commands.add_parser("models", help="list presets and configs")
    models.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal models."""
    from rich.table import Table

    from gfocal.config.config import CONFIG_FOLDER, config_names
    from gfocal.models.zoo import PRESETS

    table = Table("preset", "", title="presets: gfocal train --preset NAME", title_justify="left")
    for name, preset in PRESETS.items():
        table.add_row(name, (preset.__doc__ or "").split("\n\n")[0].replace("\n    ", " "))
    configs = Table("config", "", title="configs: gfocal train --config NAME", title_justify="left")
    for name in config_names():
        head = [
            line[1:].strip()
            for line in (CONFIG_FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
            if line.startswith("#")
        ]
        configs.add_row(name, " ".join(head[2:]))
    standard_output().print(table)
    standard_output().print(configs)
    return DONE
