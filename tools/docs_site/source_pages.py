"""A page for each file of the project that a page links to, with its lines numbered.

On the forge such a link shows the file; so it does in the site.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from definitions import ROOT, definitions, module_file
from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes

#: Files that are shown; anything else is offered to be kept.
SHOWN = (".py", ".cu", ".cuh", ".sh", ".txt", ".cfg", ".csv", ".json")
FOLDER = "source"
#: The files that the pages of the site ask for, of this build.
_asked: set[str] = set()


def page_of(file: Path | str) -> str:
    """The page of a file of the project; it is made at the end of the build."""
    own = Path(file).as_posix()
    _asked.add(own)
    return f"{FOLDER}/{own}.html"


def place_of(module: str, name: str) -> str | None:
    """The lines of an object that ``module`` offers, wherever it is defined."""
    from importlib import import_module

    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    found = getattr(found, "fget", found)
    home, whole = getattr(found, "__module__", ""), getattr(found, "__qualname__", "")
    place = definitions().get(f"{home}.{whole}")
    if place is None and (file := module_file(module)):
        place = file, definitions().get(f"{module}.{name}", (file, 1))[1]
    return None if place is None else f"{page_of(place[0])}#line-{place[1]}"


def relative_place(page: str, file: Path, line: int) -> str:
    """A line of a file, as a link on ``page``."""
    return _relative(page, f"{page_of(file)}#line-{line}")


def _relative(page: str, target: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""

    def turn(app: Any, doctree: Any) -> None:
        """Links to files are downloads to Sphinx; make them links to pages."""
        page = app.env.docname
        for node in list(doctree.findall(addnodes.download_reference)):
            target = Path(os.path.normpath(ROOT / posixpath.dirname(page) / node["reftarget"]))
            if not target.is_relative_to(ROOT) or target.suffix not in SHOWN:
                continue
            uri = _relative(page, page_of(target.relative_to(ROOT)))
            link = nodes.reference("", "", *node.children, internal=True, refuri=uri)
            node.replace_self(link)

    def collect(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
        for own in sorted(_asked):
            text = (ROOT / own).read_text(encoding="utf-8")
            try:
                language = get_lexer_for_filename(own).aliases[0]
            except ClassNotFound:
                language = "text"
            shown = app.builder.highlighter.highlight_block(
                text, language, linenos="inline", lineanchors="line", anchorlinenos=True
            )
            body = f"<h1><code>{escape(own)}</code></h1>\n{shown}"
            yield f"{FOLDER}/{own}", {"title": own, "body": body}, "page.html"

    app.connect("builder-inited", lambda app: _asked.clear())
    app.connect("doctree-read", turn, priority=400)
    app.connect("html-collect-pages", collect)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
