"""What the page on probabilities says is in the kept results, and is what the commands print."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from npnlp import Classifier
from npnlp.text import SurnameDataset, own_table_path

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools/probabilities_tables.py"))
PAGE = (ROOT / TABLES["PAGE"]).read_text(encoding="utf-8")


def test_the_tables_say_what_the_results_say() -> None:
    for section in TABLES["SECTIONS"]:
        name = section.__name__
        filled = f"<!-- {name} -->\n{section()}\n<!-- end of {name} -->"
        assert filled in PAGE, f"run tools/probabilities_tables.py: {name} has changed"


@pytest.mark.parametrize("name", list(TABLES["EXAMPLES"]))
def test_the_commands_print_what_the_page_shows(name: str) -> None:
    """But for the last digits, which another machine may round otherwise."""
    shown = PAGE.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]
    printed, number = TABLES["examples"](name), re.compile(r"\d\.\d+")
    assert number.sub("#", printed) == number.sub("#", shown)
    for one, other in zip(number.findall(printed), number.findall(shown), strict=True):
        assert float(one) == pytest.approx(float(other), abs=2e-3)


def test_every_section_is_known_and_closed() -> None:
    opened = re.findall(r"<!-- (\w+) -->", PAGE)
    assert opened == re.findall(r"<!-- end of (\w+) -->", PAGE)
    known = {section.__name__ for section in TABLES["SECTIONS"]} | set(TABLES["EXAMPLES"])
    assert set(opened) == known


def test_the_library_calls_run() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = ["Nakamoto", "Kowalczyk", "Smith", "Ng"]
    classifier = Classifier.load(ROOT / "npnlp/data/model.safetensors")
    labels = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path()).get_vectorizer()
    shares = dict.fromkeys(labels.nationality_vocab.tokens, 1.0)
    found: dict[str, Any] = {"classifier": classifier, "names": names, "shares": shares}
    exec(code, found)
    assert [bool(each.top) for each in found["sure"]] == [True, True, False, False]
    assert sum(found["estimated"].values()) == pytest.approx(1.0)
    assert len(found["elsewhere"].predict(names)) == 4


def test_every_link_and_script_is_there() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    targets += [f"../{path}" for path in re.findall(r"(?:experiments|tools)/\w+\.py", PAGE)]
    assert len(targets) >= 4
    for target in targets:
        assert (ROOT / TABLES["PAGE"]).parent.joinpath(target).exists(), target
