"""gfocal models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.inputs import standard_output
from gfocal.console import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def add(commands: Any) -> None:
    """Declare the command and its options."""
    models = commands.add_parser(
        "models",
        help="list presets, configs and published weights",
        description="List presets, configs and published weights. The name of published weights can be given "
        "wherever a command takes a model file; they are downloaded when they are first used.",
    )
    models.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal models."""
    from gfocal.interop.weights_cache import cache_folder

    output = standard_output()
    for table in (list_presets(), list_configs(), list_published()):
        output.print(table)
    say(output, f"Cache: {cache_folder()} (GFOCAL_CACHE moves it)")
    return DONE


def list_presets() -> Table:
    """Every preset with the first sentence of its description."""
    from rich.table import Table

    from gfocal.models.zoo import PRESETS

    table = Table("preset", "network", title="presets: gfocal train --preset NAME", title_justify="left")
    for name, preset in PRESETS.items():
        table.add_row(name, as_cell((preset.__doc__ or "").split("\n\n")[0]))
    return table


def list_configs() -> Table:
    """Every config that comes with gfocal, with the comment at its start."""
    from rich.table import Table

    from gfocal.config.config import CONFIG_FOLDER, config_names

    table = Table("config", "use", title="configs: gfocal train --config NAME", title_justify="left")
    for name in config_names():
        head = [
            line[1:].strip()
            for line in (CONFIG_FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
            if line.startswith("#")
        ]
        table.add_row(name, as_cell(" ".join(head[2:])))
    return table


def as_cell(text: str) -> str:
    """A text of the code in one line, without its marks: for reStructuredText, or of markup that rich would take."""
    from rich.markup import escape

    return escape(" ".join(text.replace("`", "").split()))


def list_published() -> Table:
    """All published weights: AP on COCO val2017 in percent, size, license, and whether the cache has them."""
    from rich.table import Table

    from gfocal.interop.published_weights import is_in_cache
    from gfocal.models.published import PUBLISHED

    table = Table(
        title="published weights, trained on COCO: gfocal detect NAME IMAGE, gfocal train DATA --init-from NAME, ...",
        title_justify="left",
        caption="AP, AP50, AP75: on COCO val2017, as published",
        caption_justify="left",
    )
    table.add_column("name", no_wrap=True)
    for title in ("AP", "AP50", "AP75", "MB"):
        table.add_column(title, justify="right")
    for title in ("license", "in cache", "preset", "training"):
        table.add_column(title)
    for weights in PUBLISHED.values():
        aps = ("" if ap is None else f"{ap:.1f}" for ap in (weights.ap, weights.ap50, weights.ap75))
        table.add_row(
            weights.name,
            *aps,
            f"{weights.megabytes:.0f}",
            weights.license,
            "yes" if is_in_cache(weights) else "",
            weights.preset,
            weights.training,
        )
    return table
