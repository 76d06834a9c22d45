"""One run of ``npnlp train`` whose parts are timed: TABLE FOLDER PYARROW OPTION...; prints JSON.

PYARROW is 0 where the command shall find no pyarrow.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

#: By part, where its function stands. What no part takes is ``other``: imports, weights, files.
PARTS = {
    "epoch": ("npnlp.training.trainer", "Trainer.run_epoch"),
    "read": ("npnlp.text.dataset", "read_rows"),
    "divide": ("npnlp.text.dataset", "with_split"),
    "hash": ("npnlp.text.provenance", "TableNote.of"),
    "hash ": ("npnlp.runs.checkpoint", "settings_of"),
    "vocabularies": ("npnlp.text.vectorizer", "SurnameVectorizer.of"),
    "encode": ("npnlp.text.dataset", "SurnameDataset.arrays"),
    "audit": ("npnlp.runs.run", "audit"),
    "letter case, parts": ("npnlp.classifier.finishing", "choose_reading"),
    "calibrate": ("npnlp.classifier.finishing", "calibrate"),
    "familiarity": ("npnlp.classifier.finishing", "_familiarity"),
    "evaluate": ("npnlp.runs.run", "evaluate"),
    "report": ("npnlp.cli.train", "write_report"),
    "pictures": ("npnlp.plots", "draw_run"),
}


class Clock:
    """Seconds of the processor by part; what a part calls that is one itself counts there only."""

    def __init__(self) -> None:
        self.parts, self.now, self.since = {"other": 0.0}, "other", 0.0

    def switch(self, part: str) -> str:
        """Count for ``part`` from now on; the part before."""
        before, at = self.now, time.process_time()
        self.parts[before] = self.parts.get(before, 0.0) + at - self.since
        self.now, self.since = part, at
        return before

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time counted for ``part``."""

        def measured(*arguments: Any, **options: Any) -> Any:
            before = self.switch(part)
            try:
                return function(*arguments, **options)
            finally:
                self.switch(before)

        return measured

    def watch(self, part: str, module: str, path: str) -> None:
        """Time a function, or a method, where it stands."""
        *owners, name = path.split(".")
        owner = import_module(module)
        for each in owners:
            owner = getattr(owner, each)
        held = vars(owner)[name]
        made = self.timed(part, getattr(held, "__func__", held))
        setattr(owner, name, classmethod(made) if isinstance(held, classmethod) else made)


def main() -> None:
    """Run and print the seconds of each part and the most memory in bytes."""
    table, folder, pyarrow, *options = sys.argv[1:]
    if pyarrow == "0":
        sys.modules["pyarrow"] = None  # type: ignore[assignment]
    clock = Clock()
    for part, (module, path) in PARTS.items():
        clock.watch(part.strip(), module, path)
    from npnlp.cli import main as command

    status = command(["train", "--surname-csv", table, "--save-dir", folder, "--num-epochs", "1",
                      "--quiet", *options])  # fmt: skip
    clock.switch("other")
    state = Path("/proc/self/status")
    most = re.search(r"VmHWM:\s+(\d+)", state.read_text()) if state.exists() else None
    print(json.dumps({"status": status, "seconds": clock.parts,
                      "memory": 1024 * int(most[1]) if most else None}))  # fmt: skip


if __name__ == "__main__":
    main()
