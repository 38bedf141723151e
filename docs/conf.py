"""Sphinx configuration; `tox -e docs` builds with warnings as errors."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "napari-boxprompt"
author = "napari-boxprompt contributors"
copyright = f"2026, {author}"
release = version = installed_version("napari-boxprompt")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "generated",
]
exclude_patterns = ["_build", "_ext"]
# Resolves `name` in docstrings to a link where the name can be imported.
default_role = "autolink"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc sections name the types in words
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


html_theme = "furo"
html_title = "napari-boxprompt"
html_theme_options = {
    "source_repository": "https://github.com/napari-boxprompt/napari-boxprompt/",
    "source_branch": "main",
    "source_directory": "docs/",
}
