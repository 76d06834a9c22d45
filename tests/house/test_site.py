"""The site: its list of pages, its reference, and what finds a mistake in it.

``.ci/run`` builds it with every warning an error and follows its links; see ``tools/docs_site``.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import npnlp
from npnlp import backend, gradients, layers, models, text

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools/docs_site"
API = ROOT / "docs/api"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The names of a file of ``tools/docs_site`` that needs no Sphinx."""
    monkeypatch.syspath_prepend(str(TOOLS))
    before = set(sys.modules)
    yield lambda name: runpy.run_path(str(TOOLS / name))
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_every_page_is_in_the_list_of_pages(tool: Any) -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    listed = [page for pages in tool("pages.py")["sections"](index).values() for page in pages]
    assert len(listed) == len(set(listed)) > 30
    there = {
        path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("docs/**/*.md")
    }
    assert {"README", "README.ko", "CONTRIBUTING", "CHANGELOG", "SECURITY"} <= set(listed)
    assert there - set(listed) == {"docs/README"}
    assert all((ROOT / f"{page}.md").exists() for page in listed)


def test_the_list_becomes_headings_and_pages(tool: Any) -> None:
    pages = tool("pages.py")
    found = pages["sections"](
        "| to | read |\n| --- | --- |\n| use it | [a](a.md#b); [b](../C.md) |\n"
    )
    assert found == {"use it": ["docs/a", "C"]}
    tree = pages["as_toctrees"](found, "C")
    assert ":caption: Use it\n\n/docs/a\n```" in tree
    assert "/C" not in tree


@pytest.mark.parametrize(
    ("module", "page"),
    [(layers, "layers"), (gradients, "gradients"), (models, "models"), (text, "text"),
     (backend, "backend")],
    ids=lambda given: getattr(given, "__name__", given),
)  # fmt: skip
def test_the_reference_has_every_public_name_of_a_room(module: Any, page: str) -> None:
    shown = (API / f"{page}.md").read_text(encoding="utf-8")
    whole = f".. automodule:: {module.__name__}\n   :members:" in shown
    for name in module.__all__:
        assert whole or re.search(rf"\.\. (auto|py:)\w+:: {module.__name__}\.{name}$", shown, re.M)


def test_the_reference_says_where_every_name_of_the_package_is() -> None:
    shown = (API / "npnlp.md").read_text(encoding="utf-8")
    assert [name for name in npnlp.__all__ if f"`{name}`" not in shown] == []
    everywhere = "".join(path.read_text(encoding="utf-8") for path in API.glob("*.md"))
    for name in set(npnlp.__all__) - {"__version__", *gradients.__all__, *backend.__all__}:
        assert re.search(rf"\.\. auto\w+:: npnlp\.{name}$", everywhere, re.M), name


def test_every_object_of_the_reference_is_there() -> None:
    from tests.house.test_book_page import named

    for path in API.glob("*.md"):
        for name in re.findall(
            r"\.\. (?:auto\w+|py:data):: ([\w.]+)$", path.read_text("utf-8"), re.M
        ):
            assert named(name) is not None, name


EQUATIONS = """Rows become one.

    (1)  y = x W     the product
    (2)  see :class:`Layer`

(3) is text, and so is this:

- an item
    of two lines
""".splitlines()


def test_indented_lines_of_a_docstring_are_shown_as_they_stand(tool: Any) -> None:
    shown = tool("docstrings.py")["with_equations"](EQUATIONS)
    mark = tool("docstrings.py")["MARK"]
    assert shown[2:7] == ["", mark, "", "    (1)  y = x W     the product", "    (2)  see Layer"]
    assert shown.count(mark) == 1
    assert "\\(3) is text, and so is this:" in shown
    marked = ["Thus::", "", "    x = 1"]
    assert tool("docstrings.py")["with_equations"](marked) == marked


@pytest.mark.parametrize(
    ("name", "module", "within", "file"),
    [
        ("InputError", "npnlp.layers", "", "npnlp/errors.py"),
        ("step", "npnlp.layers.recurrent.elman", "Elman", "npnlp/layers/recurrent/elman.py"),
        ("Random.keep", "npnlp.backend.base", "Backend", "npnlp/backend/random.py"),
        ("npnlp.text.letter_case", "npnlp.text", "", "npnlp/text/letter_case.py"),
        ("npnlp.inference.can_predict", "npnlp", "", "npnlp/inference/predictor.py"),
    ],
)
def test_a_name_in_a_docstring_is_found(
    tool: Any, name: str, module: str, within: str, file: str
) -> None:
    path, line = tool("definitions.py")["defined"](name, module, within)
    assert path.as_posix() == file
    if name != module and "letter_case" not in name:
        assert name.rpartition(".")[2] in (ROOT / path).read_text("utf-8").split("\n")[line - 1]


def test_a_name_that_is_nowhere_is_not_found(tool: Any) -> None:
    assert tool("definitions.py")["defined"]("Nowhere", "npnlp", "") is None


def test_a_link_that_leads_nowhere_is_found(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here">1</a><a href="b.html#there">2</a><a href="c.html">3</a>'
        '<a href="#gone">4</a><img src="d.png"><a href="https://example.org/x">5</a></p>'
    )
    (tmp_path / "b.html").write_text('<p id="elsewhere"></p>')
    assert tool("build.py")["broken_links"](tmp_path) == [
        "a.html: #gone", "a.html: b.html#there", "a.html: c.html", "a.html: d.png",
    ]  # fmt: skip
