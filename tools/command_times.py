"""Write beside the commands on the pages what they take, from benchmarks/results/commands.csv.

Run it after benchmarks/commands.py, whose commands.csv is kept there. A time stands behind a
command in a block of shell, behind the first mention of a script on a page, and behind a command
in the first column of a table. What takes less than a second has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from npnlp.files import fill_section, write_atomic

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks/results/commands.csv"
#: A lesson has times of its own, for a class.
LESSON = "class-sheet"
PAGES = sorted(
    page
    for page in (*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"))
    if not page.name.startswith(LESSON)
)
#: Where it is said how times are measured.
EXPLAINED = "docs/command-line.md"
#: A time as it stands on a page, in English or Korean, with what stands before it.
TIME = r"(?: \((?:about|over) [\d.]+ (?:s|min|h)\)|\((?:약 [\d.]+(?:초|분|시간)|[\d.]+분 이상)\))?"
SET_UP_LINE = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python experiments/surnames.py"
)
BLOCK = re.compile(r"^```sh\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
ANY_BLOCK = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)
SCRIPT = re.compile(rf"`(python (?:experiments|benchmarks|tools)/[^`]+)`{TIME}")
#: What the set-up takes, in README; its downloads come on top.
SET_UP = re.compile(r"about [\d.]+ (?:s|min)(?= of one core)|(?<=코어 하나로 )약 [\d.]+(?:초|분)")
CELL = re.compile(rf"^\| `(npnlp [^`]+)`{TIME} \|", flags=re.MULTILINE)


@dataclass(frozen=True)
class Time:
    """What a command takes: processor seconds, or at least so many where it was stopped."""

    seconds: float
    done: bool = True

    def said(self, korean: bool = False) -> str:
        """Rounded, in words; empty where it is under a second, or was stopped within a minute."""
        if self.seconds < (1 if self.done else 60):
            return ""
        if not self.done:
            minutes = int(self.seconds // 60)
            return f"{minutes}분 이상" if korean else f"over {minutes} min"
        number, unit = self._rounded()
        words = {"s": "초", "min": "분", "h": "시간"}
        return f"약 {number}{words[unit]}" if korean else f"about {number} {unit}"

    def _rounded(self) -> tuple[str, str]:
        """Two digits at most, and above twenty in fives: another day gives another number."""
        amount, unit = self.seconds, "s"
        if amount >= 90:
            amount, unit = (amount / 60, "min") if amount < 5400 else (amount / 3600, "h")
        if unit == "h":
            return f"{amount:.1f}", unit
        return f"{5 * round(amount / 5) if amount >= 20 else max(round(amount), 1):.0f}", unit


def kept() -> dict[str, Time]:
    """The times that were measured, by command."""
    table = pd.read_csv(KEPT)
    rows = zip(table["command"], table["processor_seconds"], table["done"], strict=True)
    return {
        plain(str(command)): Time(float(seconds), bool(done)) for command, seconds, done in rows
    }


def plain(command: str) -> str:
    """A command without the option that names a table; the time is of the one with npnlp."""
    return command.replace(" --surname-csv FILE", "")


def machines() -> str:
    """Where they were measured."""
    return " and ".join(dict.fromkeys(pd.read_csv(KEPT)["machine"].astype(str)))


def with_times(text: str, times: dict[str, Time], korean: bool = False) -> str:
    """A page with the times beside its commands; those that were there are replaced."""

    def beside(command: str) -> str:
        found = times.get(plain(command))
        said = found.said(korean) if found else ""
        return said and (f"({said})" if korean else f" ({said})")

    def in_block(line: str) -> str:
        command = line.partition("  #")[0].rstrip()
        found = times.get(plain(command))
        if found is None or command == SET_UP_LINE:
            return line
        said = found.said(korean)
        return f"{command}  # {said}" if said else command

    def block(found: re.Match[str]) -> str:
        return "\n".join(["```sh", *map(in_block, found[1].split("\n"))]) + "```"

    if SET_UP_LINE in times:
        text = SET_UP.sub(times[SET_UP_LINE].said(korean), text)
    text = BLOCK.sub(block, text)
    seen: set[str] = set()

    def script(found: re.Match[str]) -> str:
        first = found[1] not in seen
        seen.add(found[1])
        return f"`{found[1]}`{beside(found[1]) if first else ''}"

    text = _outside_blocks(text, lambda prose: SCRIPT.sub(script, prose))
    return CELL.sub(lambda found: f"| `{found[1]}`{beside(found[1])} |", text)


def _outside_blocks(text: str, change: Callable[[str], str]) -> str:
    parts, at = [], 0
    for found in ANY_BLOCK.finditer(text):
        parts += [change(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*parts, change(text[at:])])


def how_measured() -> str:
    """The words that say how."""
    return (
        f"A time beside a command is the processor time of one core of an {machines()}, of the "
        "command\nand all that it starts, on the table that comes with npnlp; "
        "`python benchmarks/commands.py` measures it.\n"
        "What has no time takes less than a second, or has not been measured yet."
    )


def main() -> None:
    """Write all pages that change."""
    fill_section(ROOT / EXPLAINED, "how_measured", how_measured())
    times = kept()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        changed = with_times(text, times, page.name.endswith(".ko.md"))
        if changed != text:
            write_atomic(page, changed)


if __name__ == "__main__":
    main()
