"""What the pages say is in the code, in the tests and in the kept results, in both languages."""

from __future__ import annotations

import ast
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools/docs_tables.py"))
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in TABLES["PAGES"]}
#: Sections that are filled from elsewhere, or not yet.
OTHER_SECTIONS: set[str] = set()
#: A line of the derivation: mathematics, then where the code is, its lines, and the test.
DERIVATION = re.compile(
    r"```text\n(?P<mathematics>(?:\S.*\n)+)"
    r" {4}code  (?P<file>\S+\.py), (?P<function>\w+)\n"
    r"(?P<lines>(?: {10}.*\n)+)"
    r" {4}test  (?P<test_file>\S+\.py)::(?P<test>\w+)\n```"
)

each_page = pytest.mark.parametrize("page", PAGES)


def derivation(page: str) -> list[dict[str, str]]:
    return [found.groupdict() for found in DERIVATION.finditer(PAGES[page])]


def functions(path: Path, name: str) -> list[list[str]]:
    """The lines of every function of that name in a file, without what they are indented by."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    return [
        [line.strip() for line in lines[node.lineno - 1 : node.end_lineno]]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]


@each_page
def test_every_block_of_the_derivation_has_mathematics_code_and_test(page: str) -> None:
    assert len(derivation(page)) == PAGES[page].count("```text\n") > 10


@each_page
def test_every_quoted_line_is_in_the_named_function(page: str) -> None:
    for line in derivation(page):
        found = functions(ROOT / line["file"], line["function"])
        assert found, f"{line['file']} has no function {line['function']}"
        quoted = [text.strip() for text in line["lines"].splitlines()]
        assert any(set(quoted) <= set(source) for source in found), (line["file"], quoted)


@each_page
def test_every_named_test_is_there(page: str) -> None:
    for line in derivation(page):
        assert functions(ROOT / line["test_file"], line["test"]), line["test"]
        assert line["test"].startswith("test_")


def test_a_line_that_is_gone_would_be_found() -> None:
    path = ROOT / "npnlp/layers/recurrent/elman.py"
    (source,) = functions(path, "step")
    assert "a += recur(h)  # (1) a = u + W_hh h" in source
    assert "delta *= d_h  # undoes (2)" not in source
    assert not functions(path, "run_backwards")


@each_page
def test_every_link_and_picture_is_there(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    assert targets
    for target in targets:
        assert (ROOT / page).parent.joinpath(target).exists(), target


@each_page
def test_every_named_script_is_there(page: str) -> None:
    scripts = re.findall(r"(?:experiments|benchmarks|tools)/[\w/]+\.py", PAGES[page])
    assert scripts
    assert all((ROOT / script).exists() for script in scripts)


@each_page
def test_the_tables_say_what_the_results_say(page: str) -> None:
    say = TABLES["speaker"](TABLES["PAGES"][page])
    for section in TABLES["SECTIONS"]:
        name = section.__name__
        filled = f"<!-- {name} -->\n{section(say)}\n<!-- end of {name} -->"
        assert filled in PAGES[page], f"run tools/docs_tables.py: {name} has changed"


@each_page
def test_every_section_is_known_and_closed(page: str) -> None:
    opened = re.findall(r"<!-- (\w+) -->", PAGES[page])
    assert opened == re.findall(r"<!-- end of (\w+) -->", PAGES[page])
    assert set(opened) == {section.__name__ for section in TABLES["SECTIONS"]} | OTHER_SECTIONS


def without_mathematics(line: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in line.items() if name != "mathematics"}


def test_both_languages_quote_the_same_code_and_tests() -> None:
    english, korean = (map(without_mathematics, derivation(page)) for page in PAGES)
    assert list(english) == list(korean)


def shape(page: str) -> list[str]:
    """Headings by depth, blocks by language, pictures and marks, in order."""
    found = re.findall(r"^#+(?= )|^```\w+|!\[|<!-- .* -->", PAGES[page], flags=re.MULTILINE)
    return [str(text) for text in found]


def test_both_languages_have_the_same_sections() -> None:
    english, korean = map(shape, PAGES)
    assert english == korean
    assert len(english) > 30


def test_both_languages_show_the_same_pictures_and_numbers() -> None:
    pictures = [re.findall(r"!\[[^]]*\]\(([^)]+)\)", text) for text in PAGES.values()]
    assert pictures[0] == pictures[1]
    # 0 and 1 are often words in English and digits in Korean.
    english, korean = (
        Counter(number for number in re.findall(r"\d+(?:\.\d+)?", text) if number not in ("0", "1"))
        for text in PAGES.values()
    )
    assert english == korean, (english - korean, korean - english)


def test_the_korean_page_is_korean() -> None:
    english, korean = (len(re.findall("[가-힣]", text)) for text in PAGES.values())
    assert english < 10
    assert korean > 2000
