"""SIGKILL before, within and after every file operation of a run, and at random times.

``python -m tests.crash.kill FOLDER [SCENARIO...]`` prints the counts of each scenario as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from npnlp.files import writing as files
from tests.crash import scenarios
from tests.crash.operations import Operation, Watch
from tests.crash.runs import contents, forked
from tests.crash.scenarios import Scenario, settled


def moments(operation: Operation) -> Iterator[str | int]:
    """When to kill: before, after so many bytes of a write, and after."""
    yield "before"
    if operation.name == "write":
        yield from sorted({1, operation.size // 2, operation.size - 1} - {0, operation.size})
    yield "after"


def kill_at(scenario: Scenario, number: int, moment: str | int) -> None:
    """Play, in a process that ends at that operation by SIGKILL."""

    def end(operation: Operation) -> None:
        if operation.number == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(operation: Operation) -> int | None:
        if moment == "before":
            end(operation)
        return moment if isinstance(moment, int) and operation.number == number else None

    def play() -> None:
        Watch(
            scenario.case.folder.parent, before, lambda operation, result: end(operation)
        ).install()
        scenario.play()

    assert forked(play) == -signal.SIGKILL


def at_every_operation(scenario: Scenario, every: bool, one_in: int) -> Counter[str]:
    """Kill at one in so many points; resume from every state that is left, or ``every`` time."""
    counts: Counter[str] = Counter()
    seen = set()
    points = [(operation, moment) for operation in scenario.operations
              for moment in moments(operation)]  # fmt: skip
    for operation, moment in points[::one_in]:
        scenario.begin()
        kill_at(scenario, operation.number, moment)
        left = contents(scenario.case.folder)
        expected = scenario.expected(operation.number + (moment == "after"))
        assert settled(left) == expected, (operation, moment)
        counts["points"] += 1
        state = (tuple(sorted(expected.items())), len(left) - len(expected))
        if every or state not in seen:
            scenario.check_resumed()
            counts["resumed"] += 1
        seen.add(state)
    counts["operations"] = len(scenario.operations)
    return counts


def at_random(scenario: Scenario, times: int) -> Counter[str]:
    """Kill from outside after random times, until none is left of so many that met the process."""
    versions: dict[str, set[str | None]] = {}
    for operation in scenario.operations:
        state = scenario.expected(operation.number) | scenario.versions.get(operation.number, {})
        for name in scenario.end:
            versions.setdefault(name, set()).add(state.get(name))
    scenario.begin()
    started = time.monotonic()
    assert forked(scenario.play) == 0
    seconds = time.monotonic() - started
    draw = random.Random(5)
    counts: Counter[str] = Counter()
    while counts["points"] < times:
        scenario.begin()
        ended = kill_after(scenario, draw.uniform(0, seconds))
        counts["points" if ended else "too late"] += 1
        left = settled(contents(scenario.case.folder))
        assert set(left) <= set(versions)
        for name, known in versions.items():
            assert left.get(name) in known, name
        scenario.check_resumed()
        counts["resumed"] += 1
    return counts


def kill_after(scenario: Scenario, seconds: float) -> bool:
    """Play in a process that is killed from outside; whether it still ran."""
    child = os.fork()
    if not child:
        scenario.play()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@contextmanager
def written_in_place(path: Path) -> Iterator[Callable[[bytes | bytearray | memoryview], None]]:
    """What must not be done."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def write(data: bytes | bytearray | memoryview) -> None:
        os.write(descriptor, data)

    yield write
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenarios", nargs="*", default=scenarios.NAMES)
    parser.add_argument("--every", action="store_true", help="resume after every point")
    parser.add_argument("--one-in", type=int, default=1, help="kill at one in so many points")
    parser.add_argument("--in-place", action="store_true",
                        help="a planted mistake: files are written in place")  # fmt: skip
    parser.add_argument("--random", type=int, default=0, help="instead, so many random times")
    options = parser.parse_args()
    place = options.folder
    if options.in_place:
        files._replaced = written_in_place
    for name in options.scenarios:
        scenario = scenarios.make(name, place / name)
        if options.random:
            counts = at_random(scenario, options.random)
        else:
            counts = at_every_operation(scenario, options.every, options.one_in)
        print(json.dumps({"scenario": name, **counts}), flush=True)


if __name__ == "__main__":
    main()
