"""What the page on the cures says is in the code, in the tests and in the kept results."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.house.test_docs import DERIVATION, wrong_with

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools/cures_tables.py"))
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in TABLES["PAGES"]}
each_page = pytest.mark.parametrize("page", PAGES)


def derivation(page: str) -> list[dict[str, str]]:
    return [found.groupdict() for found in DERIVATION.finditer(PAGES[page])]


@each_page
def test_every_quotation_is_whole_and_in_the_named_function_and_every_test_is_there(
    page: str,
) -> None:
    assert len(derivation(page)) == PAGES[page].count("```text\n") > 5
    for line in derivation(page):
        assert not wrong_with(line)


@each_page
def test_the_tables_say_what_the_results_say(page: str) -> None:
    say = TABLES["speaker"](TABLES["PAGES"][page])
    for section in TABLES["SECTIONS"]:
        name = section.__name__
        filled = f"<!-- {name} -->\n{section(say)}\n<!-- end of {name} -->"
        assert filled in PAGES[page], f"run tools/cures_tables.py: {name} has changed"


@each_page
def test_every_link_picture_and_script_is_there(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    targets += [f"../{path}" for path in re.findall(r"experiments/\w+\.py", PAGES[page])]
    assert len(targets) > 4
    for target in targets:
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_both_languages_have_the_same_sections_code_and_numbers() -> None:
    shapes, code, numbers = [], [], []
    for page, text in PAGES.items():
        shapes.append(re.findall(r"^#+(?= )|^```\w+|!\[|<!-- .* -->", text, flags=re.MULTILINE))
        code.append([{**line, "mathematics": ""} for line in derivation(page)])
        found = re.findall(r"\d+(?:\.\d+)?", text)
        numbers.append(Counter(number for number in found if number not in ("0", "1")))
    assert shapes[0] == shapes[1]
    assert code[0] == code[1]
    english, korean = numbers
    assert english == korean, (english - korean, korean - english)
