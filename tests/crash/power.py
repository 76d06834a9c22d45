"""A power cut after every file operation: what was not flushed to the disk is lost.

The disk is a model of one, fed with the operations of a real run. It keeps what the rules of POSIX
oblige it to and no more: the bytes of a file once it was flushed, a name once its folder was. Of
what may but need not have arrived, it is tried with all and with nothing; the bytes of a file that
was not flushed are zeros then. ``python -m tests.crash.power FOLDER`` prints the counts as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.crash import scenarios
from tests.crash.operations import Operation, Watch
from tests.crash.runs import contents, done
from tests.crash.scenarios import Scenario, settled

Files = dict[str, bytes]


class Disk:
    """The folder of a run on a disk: ``names`` as programs see them, ``durable`` after a cut."""

    def __init__(self) -> None:
        self.data: dict[int, bytearray] = {}
        self.flushed: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        self.durable: dict[str, int] = {}

    def do(self, operation: Operation, data: bytes) -> None:
        """Have an operation done, which writes ``data``."""
        names = [Path(path).name for path in operation.paths]
        name = names[0]
        if operation.name == "open" and name not in self.names and Path(name).suffix:
            self.names[name] = len(self.data)
            self.data[self.names[name]] = bytearray()
        elif operation.name == "write":
            self.data[self.names[name]] += data
        elif operation.name == "fsync" and name in self.names:
            self.flushed[self.names[name]] = bytes(self.data[self.names[name]])
        elif operation.name == "fsync":
            self.durable = dict(self.names)
        elif operation.name == "replace":
            self.names[names[1]] = self.names.pop(name)
        elif operation.name in ("unlink", "remove"):
            del self.names[name]

    def after_a_cut(self, renamed: bool) -> Files:
        """What is there afterwards, with the names that were not flushed, or without."""
        names = self.names if renamed else self.durable
        return {n: self.flushed.get(i, bytes(len(self.data[i]))) for n, i in names.items()}


def written(scenario: Scenario, place: Path) -> Iterator[tuple[Operation, bytes]]:
    """The operations of a run and what they wrote, from a process that ran to its end."""

    def play() -> None:
        def after(operation: Operation, result: Any) -> None:
            if operation.name == "write":
                (place / f"{operation.number}").write_bytes(result)

        Watch(scenario.case.folder.parent, lambda operation: None, after).install()
        scenario.play()

    place.mkdir()
    scenario.begin()
    done(play)
    for operation in scenario.operations:
        file = place / f"{operation.number}"
        yield operation, file.read_bytes() if file.exists() else b""


def cut_everywhere(scenario: Scenario, place: Path, forget: str) -> Counter[str]:
    """Cut the power after every operation; resume from every state that is left."""
    counts: Counter[str] = Counter()
    disk, seen = Disk(), set()
    promised = 0  # from here on nothing older may come back: a write has returned
    for operation, data in written(scenario, place):
        of_file = "file" if Path(operation.paths[0]).suffix else "folder"
        if operation.name != "fsync" or of_file != forget:
            disk.do(operation, data)
        if operation.name == "close" and of_file == "folder":
            promised = operation.number
        for renamed in (True, False):
            files = disk.after_a_cut(renamed)
            scenario.begin()
            scenario.case.folder.mkdir()
            for name, content in files.items():
                (scenario.case.folder / name).write_bytes(content)
            left = settled(contents(scenario.case.folder))
            since = range(promised, operation.number + 2)
            known = [scenario.expected(number) for number in since]
            assert left in known, (operation, renamed, sorted(left))
            counts["points"] += 1
            state = (tuple(sorted(left.items())), len(files))
            if state not in seen:
                scenario.check_resumed()
                counts["resumed"] += 1
            seen.add(state)
    return counts


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forget", choices=("file", "folder"), default="",
                        help="a planted mistake: these are not flushed")  # fmt: skip
    options = parser.parse_args()
    scenario = scenarios.make("fresh", options.folder)
    print(json.dumps(cut_everywhere(scenario, options.folder / "written", options.forget)))


if __name__ == "__main__":
    main()
