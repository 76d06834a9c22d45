"""A disk that is full, read-only or gone, at every file operation of ``npnlp train``.

``python -m tests.crash.faults FOLDER FAULT...`` prints the counts of each fault as JSON; status 77,
with the reason, where a fault cannot be made here.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import npnlp.plots
from npnlp.files import TEMPORARY
from npnlp.runs import card
from tests.crash.operations import Operation, Watch
from tests.crash.runs import contents, done
from tests.support.tables import SMALL, refusal, run_main, write_table

CANNOT = 77
NOBODY = 65534
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 1 << 12, 1 << 14, 1 << 18
CLONE_NEWNS = 0x20000


class Cannot(Exception):
    """A fault that cannot be made on this machine, or by this user."""


class Place:
    """A folder ``root`` for runs, the table beside it, and what was said on standard error."""

    def __init__(self, folder: Path) -> None:
        self.root, self.table, self.said = folder / "root", folder / "small.csv", ""
        self.root.mkdir(parents=True)
        self.run = self.root / "run"
        write_table(self.table)
        # Pictures take seconds to draw. They are written as all other files are.
        npnlp.plots.draw_run = lambda save_dir, kind="png", language="en": []
        card.is_own_table = lambda rows: False
        assert self.train() == 0  # here, so that all is imported that is imported late
        self.end = contents(self.run)
        self.operations = self.count()

    def train(self, *options: str) -> int:
        """The status of ``npnlp train``; what it says goes to ``said``."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            status = run_main(
                "train", "--surname-csv", self.table, "--save-dir", self.run, "--num-epochs", "2",
                "--quiet", *SMALL, *options,
            )  # fmt: skip
        self.said = said.getvalue()
        return status

    def must_train(self, *options: str) -> None:
        """Train with ``--resume`` to the end, and compare with an undisturbed run."""
        assert self.train("--resume", *options) == 0, self.said
        assert contents(self.run) == self.end

    def count(self) -> list[Operation]:
        """The operations of a run in a new folder."""
        shutil.rmtree(self.run)
        file = self.root.parent / "operations.json"

        def record() -> None:
            operations: list[dict[str, Any]] = []
            Watch(
                self.root,
                lambda operation: None,
                lambda operation, result: operations.append(vars(operation)),
            ).install()
            assert self.train() == 0
            file.write_text(json.dumps(operations), encoding="utf-8")

        done(record)
        rows = json.loads(file.read_text(encoding="utf-8"))
        return [Operation(r["number"], r["name"], tuple(r["paths"]), r["size"]) for r in rows]

    def fails(self, *words: str) -> None:
        """Train; it has to end with status 2, see :meth:`require_failed`."""
        status = self.train()
        assert status == 2, (status, self.said)
        self.require_failed(*words)

    def require_failed(self, *words: str) -> None:
        """Check that one line was said that names a file of the run; no temporary file is left.

        In a folder that became forbidden nothing can be removed; the next run does it.
        """
        refusal(self.said, "npnlp train: ", self.run, *words)
        if self.run.exists() and os.access(self.run, os.W_OK):
            left = {f.name for f in self.run.iterdir() if TEMPORARY.fullmatch(f.name)}
            assert not left, left

    def fails_at(self, number: int, fault: Callable[[Operation], None], *words: str) -> None:
        """Train, in this process, with ``fault`` done before that operation."""

        def before(operation: Operation) -> None:
            if operation.number == number:
                fault(operation)

        Watch(self.root, before, lambda operation, result: None).install()
        self.fails(*words)


def libc(name: str, *arguments: Any) -> None:
    """Call a function of the C library; raises :class:`Cannot` where the system refuses it."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        raise Cannot(f"{name}: {os.strerror(ctypes.get_errno())}")


def own_mounts() -> None:
    """From here on, what this process mounts is seen by itself alone and ends with it."""
    libc("unshare", CLONE_NEWNS)
    libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def mount(root: Path, options: str, flags: int = 0) -> None:
    """A small file system of its own at ``root``."""
    libc("mount", b"tmpfs", os.fsencode(root), b"tmpfs", flags, options.encode())


def as_nobody() -> None:
    """From here on, without root's rights."""
    if os.getuid() == 0:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError as error:
            raise Cannot(f"setuid: {error.strerror}") from error


def why_not(attempt: Callable[[], None], file: Path) -> str:
    """Why ``attempt`` cannot be made by a process here; empty where it can."""

    def note() -> None:
        try:
            attempt()
        except Cannot as error:
            file.write_text(str(error), encoding="utf-8")

    done(note)
    return file.read_text(encoding="utf-8") if file.exists() else ""


def own_mount(place: Place) -> None:
    """See whether this process may mount."""
    own_mounts()
    mount(place.root, "size=4k")


def too_large(place: Place) -> Counter[str]:
    """No byte more can be written, half-way through every write: a limit on the size of files."""
    counts: Counter[str] = Counter()
    for operation in place.operations:
        if operation.name != "write":
            continue
        shutil.rmtree(place.run, ignore_errors=True)

        def limit(operation: Operation) -> None:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (operation.size // 2, hard))

        done(partial(place.fails_at, operation.number, limit, "File too large"))
        done(place.must_train)
        counts["points"] += 1
    return counts


def full(place: Place) -> Counter[str]:
    """A file system of so many pages and no more, of every size up to one that is enough."""
    counts: Counter[str] = Counter()
    enough = place.root.parent / "enough"

    def try_pages(pages: int) -> None:
        own_mounts()
        mount(place.root, f"size={pages * 4}k,mode=755")
        if place.train() == 0:
            assert contents(place.run) == place.end
            enough.touch()
            return
        place.require_failed("No space left on device", "--resume")
        mount(place.root, "size=4m,mode=755", MS_REMOUNT)
        place.must_train()

    while not enough.exists():
        pages = counts["points"] + 1
        done(partial(try_pages, pages))
        counts["points"] += not enough.exists()
    return counts


def full_of_files(place: Place) -> Counter[str]:
    """A file system that takes so many files and no more."""
    counts: Counter[str] = Counter()

    def try_files(files: int) -> None:
        own_mounts()
        mount(place.root, f"size=4m,nr_inodes={files},mode=755")
        place.fails("No space left on device", "--resume")
        mount(place.root, "size=4m,nr_inodes=1000,mode=755", MS_REMOUNT)
        place.must_train()

    for files in range(2, len(place.end) + 3):
        done(partial(try_files, files))
        counts["points"] += 1
    return counts


def read_only(place: Place) -> Counter[str]:
    """A file system that becomes read-only before every new file."""
    counts: Counter[str] = Counter()

    def cover(operation: Operation) -> None:
        # The file of the lock is open: what is there cannot become read-only, but be covered.
        root = os.fsencode(place.root)
        libc("mount", root, root, None, MS_BIND, None)
        libc("mount", b"none", root, None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)

    def try_at(number: int) -> None:
        own_mounts()
        mount(place.root, "size=4m,mode=755")
        done(lambda: place.fails_at(number, cover, "Read-only file system"))
        libc("umount", os.fsencode(place.root))
        place.must_train()

    for operation in place.operations:
        if operation.name == "open" and TEMPORARY.fullmatch(Path(operation.paths[0]).name):
            done(partial(try_at, operation.number))
            counts["points"] += 1
    return counts


def forbidden(place: Place) -> Counter[str]:
    """A folder that loses its permission to be written to, before every new file and rename."""
    counts: Counter[str] = Counter()
    if os.getuid() == 0:  # permissions do not bind root
        shutil.chown(place.root, NOBODY, NOBODY)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place.run)

    def try_at(number: int) -> None:
        def forbid(operation: Operation) -> None:
            os.chmod(place.run, 0o555)  # noqa: PTH101

        as_nobody()
        done(lambda: place.fails_at(number, forbid, "Permission denied"))
        place.run.chmod(0o755)
        place.must_train()
        shutil.rmtree(place.run)

    for operation in place.operations:
        if operation.name in ("open", "replace") and place.run.name in operation.paths[0]:
            if operation.name == "open" and not TEMPORARY.search(operation.paths[0]):
                continue
            done(partial(try_at, operation.number))
            counts["points"] += 1
    return counts


def deleted(place: Place) -> Counter[str]:
    """A folder that is deleted before every operation on it."""
    counts: Counter[str] = Counter()
    renames = [o.number for o in place.operations if o.name == "replace"]
    for operation in place.operations:
        if operation.number > renames[-1] or operation.name == "mkdir":
            continue
        shutil.rmtree(place.run, ignore_errors=True)

        def delete(operation: Operation) -> None:
            shutil.rmtree(place.run, ignore_errors=True)

        done(partial(place.fails_at, operation.number, delete))
        counts["points"] += 1
    done(place.must_train)
    return counts


NEEDS: dict[str, Callable[[Place], None]] = {
    "full": own_mount,
    "full of files": own_mount,
    "read-only": own_mount,
    "forbidden": lambda place: as_nobody(),
}
FAULTS = {
    "too large": too_large,
    "full": full,
    "full of files": full_of_files,
    "read-only": read_only,
    "forbidden": forbidden,
    "deleted": deleted,
}


def main() -> int:
    """Run the program; its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("faults", nargs="*", default=list(FAULTS))
    options = parser.parse_args()
    place = Place(options.folder)
    for name in options.faults:
        shutil.rmtree(place.run, ignore_errors=True)
        need = NEEDS.get(name, lambda place: None)
        reason = why_not(partial(need, place), options.folder / "reason")
        if reason:
            print(f"{name}: {reason}", file=sys.stderr)
            return CANNOT
        print(json.dumps({"fault": name, **FAULTS[name](place)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
