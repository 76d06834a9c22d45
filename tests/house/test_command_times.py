"""The times beside the commands on the pages are those that were measured."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools/command_times.py"))
PAGES: list[Path] = TOOL["PAGES"]
KEPT = TOOL["kept"]()
MEASURED = set(map(TOOL["plain"], runpy.run_path(str(ROOT / "benchmarks/commands.py"))["COMMANDS"]))
#: What is measured when there is time for it; the page that explains times says so.
LATER = MEASURED - set(KEPT)
Time, with_times = TOOL["Time"], TOOL["with_times"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
#: Commands without a time, and why.
WITHOUT = {
    r"python benchmarks/gpu\.py": "needs a CUDA device",
    r"python benchmarks/distributed\.py": "needs an MPI",
    r"python benchmarks/commands\.py": "measures all the others",
    r"python benchmarks/probe_cost\.py.*": "its time is what it is asked for",
    r"python tools/.*": "writes pages and their pictures, for developers",
    r"python benchmarks/against_frameworks\.py --.*": "a grid, of hours",
    r"python -m pytest.*|python3 -m venv.*pytest": "the tests",
    r"npnlp replay FILE|npnlp verify .*|npnlp import .*": "takes what its file takes",
    r"npnlp export .*--format (keras|flax).*": "under a second, and needs h5py",
    r"npnlp predict --input FILE.*|npnlp train --seeds N": "takes what its table takes",
}


def commands(text: str) -> set[str]:
    """The commands on a page that a reader may run."""
    lines = "\n".join(TOOL["BLOCK"].findall(text)).split("\n")
    found = {line.partition("  #")[0].rstrip() for line in lines if line.strip()}
    prose = TOOL["ANY_BLOCK"].sub("", text)
    return found | {m[1] for m in [*TOOL["SCRIPT"].finditer(prose), *TOOL["CELL"].finditer(prose)]}


def unknown(found: set[str]) -> list[str]:
    """Those that have no time, and no reason to have none."""
    return sorted(
        command
        for command in found
        if TOOL["plain"](command) not in KEPT.keys() | LATER
        and not any(re.fullmatch(allowed, command) for allowed in WITHOUT)
    )


@each_page
def test_every_command_has_its_time(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    how = "measure them: benchmarks/commands.py --out benchmarks/results"
    assert unknown(commands(text)) == [], how
    korean = page.name.endswith(".ko.md")
    assert with_times(text, KEPT, korean) == text, "run tools/command_times.py"


def test_the_words_say_how_it_was_measured() -> None:
    page = (ROOT / TOOL["EXPLAINED"]).read_text(encoding="utf-8")
    assert f"<!-- how_measured -->\n{TOOL['how_measured']()}\n<!-- end" in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert TOOL["SET_UP"].search(readme)


def test_every_measured_command_is_one_that_is_measured() -> None:
    assert set(KEPT) <= MEASURED
    assert len(KEPT) > 15


@pytest.mark.parametrize(
    ("time", "english", "korean"),
    [
        (Time(0.4), "", ""),
        (Time(1.4), "about 1 s", "약 1초"),
        (Time(19.6), "about 20 s", "약 20초"),
        (Time(52), "about 50 s", "약 50초"),
        (Time(100), "about 2 min", "약 2분"),
        (Time(2000), "about 35 min", "약 35분"),
        (Time(9000), "about 2.5 h", "약 2.5시간"),
        (Time(1250, False), "over 20 min", "20분 이상"),
        (Time(50, False), "", ""),
    ],
)
def test_times_are_rounded(time: Any, english: str, korean: str) -> None:
    assert (time.said(), time.said(korean=True)) == (english, korean)


PAGE = """Run `python experiments/chain_rule.py` and again `python experiments/chain_rule.py`.

```sh
npnlp train
```

| `npnlp train` | it trains |
"""


def test_a_time_is_written_once_and_replaced() -> None:
    times = {"npnlp train": Time(5), "python experiments/chain_rule.py": Time(70)}
    text = with_times(PAGE, times)
    assert "`python experiments/chain_rule.py` (about 70 s) and again `python" in text
    assert "npnlp train  # about 5 s\n" in text
    assert "| `npnlp train` (about 5 s) | it trains |" in text
    assert with_times(text, times) == text
    slower = with_times(text, times | {"npnlp train": Time(9)})
    assert slower == text.replace("about 5 s", "about 9 s")
    assert with_times(text, times, korean=True).count("약 5초") == 2
    assert with_times(with_times(text, times, korean=True), times) == text


def test_a_command_without_a_time_would_be_found() -> None:
    assert unknown({"python experiments/unheard_of.py", "npnlp train"}) == [
        "python experiments/unheard_of.py"
    ]
    assert unknown(commands("```sh\nnpnlp train --cell new\n```\n")) == ["npnlp train --cell new"]
