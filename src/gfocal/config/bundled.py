"""The configs that come with gfocal, by name; asked before torch is imported, so that a typo is answered at once."""

from __future__ import annotations

from pathlib import Path

from gfocal.errors import ConfigError
from gfocal.text import no_such

CONFIG_FOLDER = Path(__file__).parent


def config_names() -> list[str]:
    """Names of the bundled configs."""
    return sorted(path.stem for path in CONFIG_FOLDER.glob("*.toml"))


def find_config(name_or_path: str | Path) -> Path:
    """The file of a bundled config, or a file of the user's own. Raises ConfigError if there is none."""
    path = Path(name_or_path)
    if not path.suffix:
        path = CONFIG_FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        raise ConfigError(f"{no_such('config', str(name_or_path), config_names())}; or the path of a .toml file")
    return path
