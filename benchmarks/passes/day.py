"""The parts of benchmarks/first_day.py, one after another, within a number of minutes.

A part says in a sentence what it found. It raises :class:`Missed` where that is not what it has to
be, and :class:`LeftOut` where what it needs is not there. Whatever else it raises is told too, and
the next part goes on. A kernel that never ends cannot be stopped: that ends the whole, with all
that is known by then.
"""

from __future__ import annotations

import os
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

from npnlp.files import write_csv

PASSED, FAILED, LEFT_OUT = "yes", "no", "left out"
#: Characters that a line has of an error, and of the output of a process in the log.
SHOWN, KEPT = 300, 6000
#: Seconds that a part may take beyond its most before it counts as one that never ends.
GRACE = 30.0


class Missed(Exception):
    """A part computed, and the answer is not what it has to be."""


class LeftOut(Exception):
    """A part was not done, and why."""


@dataclass(frozen=True)
class Part:
    """``least`` seconds, without which it is not begun; ``most``, after which it has to end."""

    name: str
    least: float
    most: float
    call: Callable[[Day], str]


@dataclass
class Day:
    """What parts share: the time that is left, the folder, and the tables that they fill."""

    out: Path
    seconds: float
    now: Callable[[], float] = time.monotonic
    grace: float = GRACE
    leave: Callable[[int], Any] = os._exit
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begun = self.now()
        self.part_ends = self.begun + self.seconds

    def left(self) -> float:
        """Seconds that the whole has."""
        return self.begun + self.seconds - self.now()

    def part_left(self) -> float:
        """Seconds that the part has."""
        return min(self.part_ends - self.now(), self.left())

    def run(self, parts: Sequence[Part]) -> bool:
        """Run every part that there is time for, and whether none failed."""
        for part in parts:
            watch = Timer(min(part.most, max(0.0, self.left())) + self.grace, self._hangs, [part])
            watch.daemon = True
            watch.start()
            self._run(part)
            watch.cancel()
            self._write()
        return all(row["passed"] != FAILED for row in self.rows)

    def _run(self, part: Part) -> None:
        begun = self.now()
        self.part_ends = begun + part.most
        try:
            if self.left() < part.least:
                raise LeftOut(f"{self.left():.0f} s are left, and it may take {part.least:.0f}")
            passed, said = PASSED, part.call(self)
        except LeftOut as why:
            passed, said = LEFT_OUT, str(why)
        except Missed as what:
            passed, said = FAILED, str(what)
        except Exception as error:
            passed, said = FAILED, f"{type(error).__name__}: {one_line(str(error))[:SHOWN]}"
            self.log(part.name, traceback.format_exc())
        self._tell(part, begun, passed, said)

    def _hangs(self, part: Part) -> None:
        """From another thread, while the device is waited for."""
        self._tell(part, self.part_ends - part.most, FAILED, "it does not end; nothing comes after")
        self._write()
        self.leave(1)

    def _tell(self, part: Part, begun: float, passed: str, said: str) -> None:
        taken = self.now() - begun
        row = {"part": part.name, "seconds": taken, "passed": passed, "said": one_line(said)}
        self.rows.append(row)
        since = self.now() - self.begun
        print(f"[{since:5.1f} s] {passed:<8} {part.name} ({taken:.1f} s): {said}", flush=True)

    def _write(self) -> None:
        """All that is known by now: the machine may be taken away before the end."""
        write_csv(self.out / "parts.csv", self.rows)
        for name, rows in self.tables.items():
            if rows:
                write_csv(self.out / f"{name}.csv", rows)

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of ``name.csv``, to add to."""
        return self.tables.setdefault(name, [])

    def log(self, what: str, text: str) -> None:
        """What is too long for a line."""
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"== {what}\n{text[-KEPT:]}\n")

    def process(self, what: str, command: Sequence[str], **options: Any) -> str:
        """The output of a process, which has to end with status 0 while the part has time."""
        given = [str(word) for word in command]
        try:
            done = subprocess.run(
                given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                errors="replace", timeout=max(1.0, self.part_left()), **options,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            text = late.stdout or b""
            self.log(what, text.decode(errors="replace") if isinstance(text, bytes) else text)
            raise Missed(f"{what}: not done after {late.timeout:.0f} s; log.txt") from None
        if done.returncode:
            self.log(what, done.stdout)
            raise Missed(f"{what}: status {done.returncode}: {last_line(done.stdout)}; log.txt")
        said: str = done.stdout
        return said


def one_line(text: str) -> str:
    """Without line ends and runs of blanks."""
    return " ".join(text.split())


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1])[:SHOWN] if lines else "no output"
