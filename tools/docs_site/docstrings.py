"""Docstrings as the site needs them: an indented block is an equation, shown as it was typed."""

from __future__ import annotations

import re
from typing import Any

#: Equations and tables stand this far to the right of the text around them.
INDENT = 4
MARK = ".. code-block:: text"
#: What may stand before an indented block that is no equation.
LIST_ITEMS = ("- ", "* ", "#. ")
#: A line of text that begins with the number of an equation, which is no list.
NUMBERED = re.compile(r"^(\s*)(?=\(\w+\))")
#: A name in backquotes, of which an equation shows the name.
ROLE = re.compile(r":\w+:`([^`]+)`")
#: Methods that every layer has; only the base class shows them.
OF_EVERY_LAYER = ("check_forward", "check_backward", "run", "undo")
BASE = "Layer."


def with_equations(lines: list[str]) -> list[str]:
    """The lines, with a mark before each block of lines that are indented.

    The mark is that of reStructuredText for text that is shown as it stands. A block that has one
    is left alone, and so is the text of a list and of a directive.
    """
    made: list[str] = []
    equation = False
    for place, line in enumerate(lines):
        inside = _depth(line) >= INDENT and (equation or not _is_of_a_list(lines, place))
        if inside and not equation and not _is_marked(made):
            made += ["", MARK, ""]
        equation = inside or (equation and not line.strip())
        made.append(ROLE.sub(r"\1", line) if equation else NUMBERED.sub(r"\1\\", line))
    return made


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0


def _is_of_a_list(lines: list[str], place: int) -> bool:
    """Whether the text before an indented line is an item of a list."""
    return (
        next((line for line in reversed(lines[:place]) if line.strip()), "")
        .lstrip()
        .startswith(LIST_ITEMS)
    )


def _is_marked(before: list[str]) -> bool:
    text = next((line for line in reversed(before) if line.strip()), "")
    return text.rstrip().endswith("::") or text.lstrip().startswith(".. ")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""

    def process(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
        lines[:] = with_equations(lines)

    def skip(app: Any, what: str, name: str, found: Any, *decided: Any) -> bool | None:
        of_base = getattr(found, "__qualname__", BASE).startswith(BASE)
        return True if name in OF_EVERY_LAYER and not of_base else None

    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
