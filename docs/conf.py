"""The documentation as a site: ``sphinx-build -W --keep-going -b html docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from sphinx.ext import autosummary

import gfocal

project = "gfocal"
author = "The gfocal authors"
copyright = "The gfocal authors"
release = version = gfocal.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "dataclass_fields",
    "command_help",
    "notebooks",
]
exclude_patterns = ["_build"]

# Pages are Markdown and read well where no site is built; links to headings are GitHub's.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autosummary.WELL_KNOWN_ABBREVIATIONS = (*autosummary.WELL_KNOWN_ABBREVIATIONS, "eq.", "Eq.")  # end no sentence
default_role = "literal"  # `name` in a docstring is code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
viewcode_line_numbers = True

html_theme = "furo"
html_title = "gfocal"
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
