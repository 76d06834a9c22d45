"""What is going on when a process ends: where it starts from, what it does, what it comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npnlp.files import TEMPORARY
from npnlp.files.folder_lock import NAME as LOCK_FILE
from tests.crash.operations import Operation, Watch
from tests.crash.runs import WRITTEN, Case, contents, digest, done, is_refused

Contents = dict[str, str]


@dataclass
class Scenario:
    """``play`` is what a process does to the folder ``start`` (None: there is none yet).

    ``operations`` are those it does, uninterrupted, on files (not those that fail, such as removing
    what is not there); ``versions`` what a file is after some of them; ``end`` what the folder is
    once all is trained and reported.
    """

    case: Case
    start: Path | None
    before: Contents
    play: Callable[[], None]
    operations: list[Operation]
    versions: dict[int, Contents]
    end: Contents

    def begin(self) -> None:
        """Put the folder where the process starts from."""
        self.case.clear(self.start)

    def expected(self, number: int) -> Contents:
        """The folder before that operation, but for temporary files and the lock."""
        found = dict(self.before)
        for operation in self.operations:
            if operation.number >= number:
                break
            found |= self.versions.get(operation.number, {})
            if operation.name in ("unlink", "remove"):
                found.pop(Path(operation.paths[0]).name, None)
        return found

    def check_resumed(self) -> None:
        """Go on with ``--resume``, in a new process, to the same bits as without a stop.

        Where the folder still holds another run, resuming says so, and a new run is begun.
        """
        case = self.case

        def go_on() -> None:
            before = contents(case.folder)
            refused = is_refused(case)
            if refused:
                assert contents(case.folder) == before
            case.finish(resume=not refused)

        done(go_on)
        found = contents(case.folder)
        assert found == self.end, [
            n for n in {*found, *self.end} if found.get(n) != self.end.get(n)
        ]


def settled(found: Contents) -> Contents:
    """Without temporary files and the lock."""
    return {n: d for n, d in found.items() if n != LOCK_FILE and not TEMPORARY.fullmatch(n)}


def make(name: str, place: Path) -> Scenario:
    """The scenario ``name``; ``place`` is an empty folder for all that it needs."""
    case = Case(place / "root")
    done(lambda: case.finish(resume=False))
    end = contents(case.folder)
    assert set(end) == WRITTEN
    finished = case.keep(place / "finished")
    start: Path | None = None
    play: Callable[[], None] = lambda: case.finish(resume=False)  # noqa: E731
    if name == "interrupted":
        done(lambda: case.until(5, resume=False))
        start = case.keep(place / "start")
        play = lambda: case.until(8)  # noqa: E731
    elif name == "another run":
        done(lambda: case.finish(resume=False, run=case.others))
        start = case.keep(place / "start")
    elif name == "finished":
        start, play = finished, case.finish
    else:
        assert name == "fresh", name
    before = contents(start) if start else {}
    case.clear(start)
    operations, versions = recorded(case, play, place / "recorded.json")
    scenario = Scenario(case, start, before, play, operations, versions, end)
    assert scenario.expected(operations[-1].number + 1) == contents(case.folder)
    return scenario


NAMES = ("fresh", "interrupted", "another run", "finished")


def recorded(
    case: Case, play: Callable[[], None], file: Path
) -> tuple[list[Operation], dict[int, Contents]]:
    """The operations of ``play``, done by a process, and what files they leave."""

    def record() -> None:
        operations: list[Operation] = []
        versions: dict[int, Contents] = {}

        def after(operation: Operation, result: Any) -> None:
            operations.append(operation)
            target = Path(operation.paths[-1])
            whole = operation.name in ("replace", "close") and target.is_file()
            if whole and settled({target.name: ""}):
                versions[operation.number] = {target.name: digest(target)}

        Watch(case.folder.parent, lambda operation: None, after).install()
        play()
        rows = [vars(operation) for operation in operations]
        file.write_text(json.dumps([rows, list(versions.items())]), encoding="utf-8")

    done(record)
    rows, versions = json.loads(file.read_text(encoding="utf-8"))
    operations = [Operation(r["number"], r["name"], tuple(r["paths"]), r["size"]) for r in rows]
    return operations, dict(versions)
