"""What the pages say is in the code, in the tests and in the kept results, in both languages."""

from __future__ import annotations

import ast
import re
import runpy
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools/docs_tables.py"))
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in TABLES["PAGES"]}
#: Sections that are filled from elsewhere, or not yet.
OTHER_SECTIONS: set[str] = set()
#: A line of the derivation: mathematics, its code, and then links to the code and to the test.
DERIVATION = re.compile(
    r"```text\n(?P<mathematics>(?:\S.*\n)+)```\n"
    r"```python\n(?P<lines>(?:.*\S.*\n)+)```\n"
    r"\w+ \[(?P<name>\w+\.py)\]\(\.\./(?P<file>npnlp/\S+\.py)\), `(?P<function>[\w.]+)`; "
    r"\w+ \[(?P<test_name>\w+\.py)\]\(\.\./(?P<test_file>tests/\S+\.py)\), `(?P<test>\w+)`\n"
)
#: A line of a quotation that stands for any lines of the source.
OMITTED = "..."

each_page = pytest.mark.parametrize("page", PAGES)


def derivation(page: str) -> list[dict[str, str]]:
    return [found.groupdict() for found in DERIVATION.finditer(PAGES[page])]


def functions(path: Path) -> dict[str, list[str]]:
    """The lines of every function in a file, by its name within the file: ``Class.method``."""
    source = path.read_text(encoding="utf-8")
    lines, found = source.split("\n"), {}

    def look_into(node: ast.AST, within: str) -> None:
        for child in ast.iter_child_nodes(node):
            inside = within
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inside = f"{within}{child.name}."
                if isinstance(child, ast.FunctionDef):
                    found[within + child.name] = lines[child.lineno - 1 : child.end_lineno]
            look_into(child, inside)

    look_into(ast.parse(source), "")
    return found


def dedented(lines: list[str]) -> list[str]:
    return textwrap.dedent("\n".join(lines)).split("\n")


def is_quoted(quotation: str, source: list[str]) -> bool:
    """Whether the lines follow each other in ``source`` so, but for those left out at a "..."."""
    at, run = 0, list[str]()
    for line in [*quotation.splitlines(), OMITTED]:
        if line.strip() != OMITTED:
            run.append(line)
            continue
        starts = range(at, len(source) - len(run) + 1)
        same = (s for s in starts if dedented(source[s : s + len(run)]) == dedented(run))
        start = next(same, None)
        if start is None:
            return False
        at, run = start + len(run), []
    return True


def wrong_with(line: dict[str, str]) -> str:
    """What is not so in a line of the derivation; empty where all of it is."""
    if line["name"] != Path(line["file"]).name or line["test_name"] != Path(line["test_file"]).name:
        return "a link is called otherwise than its file"
    if line["function"] not in (found := functions(ROOT / line["file"])):
        return f"{line['file']} has no function {line['function']}"
    try:
        ast.parse(textwrap.dedent(line["lines"]))
    except SyntaxError:
        return f"not whole statements: {line['lines']}"
    if not is_quoted(line["lines"], found[line["function"]]):
        return f"not in {line['function']} of {line['file']}: {line['lines']}"
    if not line["test"].startswith("test_") or line["test"] not in functions(
        ROOT / line["test_file"]
    ):
        return f"{line['test_file']} has no test {line['test']}"
    return ""


@each_page
def test_every_block_of_the_derivation_has_mathematics_code_and_test(page: str) -> None:
    assert len(derivation(page)) == PAGES[page].count("```text\n") > 10


@each_page
def test_every_quotation_is_whole_and_in_the_named_function_and_every_test_is_there(
    page: str,
) -> None:
    for line in derivation(page):
        assert not wrong_with(line)


def planted(**changes: str) -> str:
    line = {
        "name": "elman.py",
        "file": "npnlp/layers/recurrent/elman.py",
        "function": "Elman.step_backward",
        "lines": "d_u = d_p = d_a  # undoes (2)\n",
        "test_name": "test_recurrent.py",
        "test_file": "tests/layers/test_recurrent.py",
        "test": "test_gradients_by_complex_step",
    }
    assert not wrong_with(line)
    return wrong_with(line | changes)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lines": "d_u = d_p = d_h  # undoes (2)\n"}, "not in Elman.step_backward"),
        ({"lines": "d_u = d_p = d_a\n"}, "not in Elman.step_backward"),
        ({"function": "Elman.step"}, "not in Elman.step"),
        ({"function": "step_backward"}, "no function"),
        ({"lines": "else packing.sort(given)  # undoes (4)\n"}, "not whole"),
        ({"lines": "return d_u, (d_h_before,)\n...\nd_u = d_p = d_a  # undoes (2)\n"}, "not in"),
        ({"test": "test_gradients_by_hope"}, "no test"),
        ({"name": "gru.py"}, "a link is called"),
    ],
)
def test_a_quotation_that_is_wrong_would_be_found(wrong: dict[str, str], says: str) -> None:
    assert says in planted(**wrong)


def test_lines_that_do_not_follow_each_other_would_be_found() -> None:
    p, _, h, done = functions(ROOT / "npnlp/layers/recurrent/elman.py")["Elman.step"][-4:]
    assert not planted(function="Elman.step", lines=f"{h}\n{done}\n")
    assert "not in" in planted(function="Elman.step", lines=f"{p}\n{done}\n")
    assert not planted(function="Elman.step", lines=f"{p}\n        ...\n{done}\n")


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
    assert [path.replace(".png", ".ko.png") for path in pictures[0]] == pictures[1]
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
