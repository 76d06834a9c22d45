"""What the page on the recipe says is in the recipe and in the kept results."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from npnlp.cli import main
from npnlp.training.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools/recipe_tables.py"))
PAGE = (ROOT / TABLES["PAGE"]).read_text(encoding="utf-8")


def test_the_tables_say_what_the_recipe_and_the_results_say() -> None:
    for section in TABLES["SECTIONS"]:
        name = section.__name__
        filled = f"<!-- {name} -->\n{section()}\n<!-- end of {name} -->"
        assert filled in PAGE, f"run tools/recipe_tables.py: {name} has changed"


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_options_are_the_recipe(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The command understands them, and takes them for what the recipe says."""
    taken = {}

    def note(options: Any) -> int:
        taken.update(vars(options))
        return 0

    monkeypatch.setattr("npnlp.cli.train.run", note)
    options = TABLES["options_of"](name).replace("```text", "").strip("`").split()
    assert main(["train", *options]) == 0
    recipe = RECIPES[name]
    dest = {"embedding_size": "char_embedding_size"}
    assert {key: taken[dest.get(key, key)] for key in recipe} == recipe


def test_every_link_picture_and_script_is_there() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    targets += [f"../{path}" for path in re.findall(r"(?:experiments|tools)/\w+\.py", PAGE)]
    assert len(targets) >= 4
    for target in targets:
        assert (ROOT / TABLES["PAGE"]).parent.joinpath(target).exists(), target
