"""Everything that decides a run, typed, in TOML.

    config.py   sections and keys; reading, changing and writing a config
    bundled.py  the configs that come with gfocal, by name
    values.py   values: parsed from text, checked against their types, written as TOML
    start.py    the start of a run from a trained detector

The ``*.toml`` beside these files are the configs that come with gfocal.
"""
