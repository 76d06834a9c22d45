"""The list of pages, from docs/README.md; Korean pages say that they are; ``index.html``."""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

INDEX = "docs/README"
#: A row of the table of docs/README.md: what for, and links.
ROW = re.compile(r"^\| (?!to \||---)(?P<heading>[^|]+) \| (?P<links>.*) \|$", flags=re.MULTILINE)
#: Pages that the list calls otherwise than they call themselves.
TITLES = {"README": "README", "README.ko": "README, 한국어"}
#: Pages that also answer to the name that a server looks for in a folder.
FRONT = {"README.html": "index.html", f"{INDEX}.html": "docs/index.html"}


def sections(index: str) -> dict[str, list[str]]:
    """The pages under each heading, as Sphinx calls them, from the text of docs/README.md."""
    found: dict[str, list[str]] = {}
    for row in ROW.finditer(index):
        links = re.findall(r"\]\(([^)#:]+)\.md(?:#[^)]*)?\)", row["links"])
        pages = (posixpath.normpath(f"docs/{link}") for link in links)
        found[row["heading"]] = list(dict.fromkeys(pages))
    return found


def as_toctrees(found: dict[str, list[str]], root: str) -> str:
    """What puts them into the list of all pages; ``root`` is that list's own page."""
    parts = [f"```{{toctree}}\n:hidden:\n\n/{INDEX}\n```"]
    for heading, pages in found.items():
        caption = heading[0].upper() + heading[1:]
        named = ((f"{TITLES[page]} </{page}>" if page in TITLES else f"/{page}") for page in pages)
        lines = [line for page, line in zip(pages, named, strict=True) if page != root]
        head = ["```{toctree}", ":hidden:", f":caption: {caption}", ""]
        parts.append("\n".join([*head, *lines, "```"]))
    return "\n\n".join(["", *parts, ""])


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""

    def read(app: Any, page: str, source: list[str]) -> None:
        if page == app.config.root_doc:
            index = (Path(app.srcdir) / f"{INDEX}.md").read_text(encoding="utf-8")
            source[0] += as_toctrees(sections(index), page)

    def show(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        if page.endswith(".ko"):
            context["language"] = "ko"

    def finish(app: Any, failed: Exception | None) -> None:
        for page, front in FRONT.items() if failed is None else ():
            shutil.copy(Path(app.outdir) / page, Path(app.outdir) / front)

    app.connect("source-read", read)
    app.connect("html-page-context", show)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
