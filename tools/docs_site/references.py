"""Names in docstrings become links: to the reference where it has them, else to their source."""

from __future__ import annotations

from typing import Any

from definitions import defined
from docutils import nodes
from source_pages import relative_place
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""

    def resolve(app: Any, env: Any, node: Any, shown: Any) -> Any:
        if node.get("refdomain") != "py":
            return None
        target, page = node["reftarget"], node["refdoc"]
        if (documented := _documented(env, target)) is not None:
            page_of, anchor = documented
            uri = app.builder.get_relative_uri(page, page_of) + f"#{anchor}"
            return nodes.reference("", "", shown, internal=True, refuri=uri)
        place = defined(target, node.get("py:module") or "npnlp", node.get("py:class") or "")
        if place is None:
            return None  # nitpicky says so, which fails the build
        return nodes.reference("", "", shown, internal=True, refuri=relative_place(page, *place))

    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _documented(env: Any, target: str) -> tuple[str, str] | None:
    """Page and anchor of the one object of the reference whose name ends so."""
    objects = env.domains["py"].objects
    found = {
        (entry.docname, entry.node_id)
        for name, entry in objects.items()
        if name == target or name.endswith(f".{target}")
    }
    return found.pop() if len(found) == 1 else None
