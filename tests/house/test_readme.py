"""What the README shows is what happens."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "npnlp/data/README.md"]
#: It names files that are no more.
HISTORY = ROOT / "CHANGELOG.md"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_examples_print_what_the_readme_says() -> None:
    examples, expected = blocks("python"), blocks("text")
    assert len(examples) == len(expected) == 2
    for example, text in zip(examples, expected, strict=True):
        done = subprocess.run(
            [sys.executable, "-c", example], capture_output=True, text=True, check=True
        )
        assert done.stdout == text


def test_it_is_read_in_one_breath() -> None:
    prose = re.sub(
        r"```.*?```|^\|.*?$|^!.*?$|\]\([^)]*\)", "", README, flags=re.DOTALL | re.MULTILINE
    )
    assert 400 < len(prose.split()) <= 1000


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):
        assert f"]({page.name})" in index or page.name == "README.md", page.name


@pytest.mark.parametrize("tool", ["results_tables.py", "readme_tables.py"])
def test_the_tables_say_what_the_results_say(tool: str) -> None:
    pages = runpy.run_path(str(ROOT / "tools" / tool))["PAGES"]
    for page, tables in pages.items():
        content = (ROOT / page).read_text(encoding="utf-8")
        for table in tables:
            name = table.__name__
            section = f"<!-- {name} -->\n{table()}\n<!-- end of {name} -->"
            assert section in content, f"run tools/{tool}: {name} has changed"


@each_page
def test_every_link_and_picture_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@each_page
def test_every_named_script_is_there(page: Path) -> None:
    text = "" if page == HISTORY else page.read_text(encoding="utf-8")
    for script in set(re.findall(r"(?:experiments|benchmarks|tools)/[\w/]+\.py", text)):
        assert (ROOT / script).exists(), script


def test_the_two_command_lines_install_run_and_test() -> None:
    lines = [line for block in blocks("sh") for line in block.strip().splitlines()]
    assert lines[0].endswith(".venv/bin/python experiments/surnames.py")
    assert lines[1].endswith(".venv/bin/python -m pytest")
    assert "python3 -m venv .venv" in lines[0]
    assert "pip install '.[test]'" in lines[1]


def named_paths(text: str) -> list[str]:
    """Files and folders of the project that stand between backquotes."""
    rooms = "npnlp|tests|docs|experiments|benchmarks|tools"
    return re.findall(rf"`((?:{rooms})/[\w./*-]*)`", text)


@each_page
def test_every_named_file_and_folder_is_there(page: Path) -> None:
    if page != HISTORY:
        for path in named_paths(page.read_text(encoding="utf-8")):
            assert any(ROOT.glob(path.rstrip("/"))), path


def test_named_files_are_looked_for() -> None:
    assert len(named_paths((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))) > 20
    assert named_paths("see `npnlp/gone.py` and `tests/`") == ["npnlp/gone.py", "tests/"]
    assert not any(ROOT.glob("npnlp/gone.py"))
