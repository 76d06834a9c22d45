"""How Sphinx makes the site of README.md, docs/ and the docstrings; ``build.py`` runs it.

Sphinx, because the docstrings are reStructuredText and because MyST reads the pages as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from source_pages import place_of  # noqa: E402

from npnlp.version import __version__  # noqa: E402

project, release = "npnlp", __version__
author = copyright = "The npnlp developers"
extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.linkcode",
    "docstrings", "references", "source_pages", "pages",
]  # fmt: skip
root_doc = "README"
include_patterns = [
    "*.md", "docs/*.md", "docs/api/*.md", "npnlp/data/README.md", "npnlp/data/MODEL_CARD.md",
]  # fmt: skip
templates_path = ["templates"]
nitpicky = True

#: Headings have the names that the forge gives them.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

html_theme = "pydata_sphinx_theme"
html_title = "npnlp"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = html_show_sphinx = False
html_copy_source = False
html_sidebars = {"**": ["every_page.html"]}
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where the site shows the lines of an object; every page of the reference is in docs/api."""
    place = place_of(info["module"], info["fullname"]) if domain == "py" else None
    return None if place is None else f"../../{place}"
