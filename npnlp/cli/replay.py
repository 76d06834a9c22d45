"""``npnlp replay``: repeat the step that training stopped at."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from npnlp.backend import get_backend
from npnlp.cli.failure import DONE, FAILED
from npnlp.cli.options import add_backend
from npnlp.diagnosis.arrays import ArrayCheck, check_step
from npnlp.diagnosis.finding import finding_of
from npnlp.diagnosis.replay import read_replay
from npnlp.files.plain_json import to_json

HELP = "repeat the step at which training met a NaN or an infinity"
DESCRIPTION = (
    "Repeat the step in a replay file, and say which number in it is first not finite. Status 1 "
    "if there is one, 0 if all is finite."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "file", type=Path, metavar="FILE",
        help="replay.safetensors, in the folder of a run that stopped so",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    backend = get_backend(options.backend)
    replay = read_replay(options.file)
    checks = check_step(replay, backend)
    finding = finding_of(replay, checks)
    if options.json:
        found = None if finding is None else {"line": str(finding), **vars(finding)}
        print(to_json({"finding": found, "arrays": [vars(r) for r in checks]}, indent=2))
    else:
        healthy = f"epoch {replay.epoch}, batch {replay.batch}: every number is finite"
        print(finding or healthy)
        print()
        print("\n".join(_table(checks)))
    return DONE if finding is None else FAILED


def _table(checks: Sequence[ArrayCheck]) -> list[str]:
    """A line a layer and kind of array, in the order of computation."""
    lines = [f"{'array':<14} {'layer':<14} {'largest':>8}  first not finite"]
    for (where, layer), group in groupby(checks, key=lambda r: (r.where, r.layer)):
        found = list(group)
        largest = max((r.largest for r in found if r.largest == r.largest), default=math.nan)
        bad = next((r for r in found if r.value), None)
        lines.append(f"{where:<14} {layer:<14} {largest:>8.1e}  {_place(bad)}".rstrip())
    return lines


def _place(check: ArrayCheck | None) -> str:
    if check is None:
        return ""
    index = list(check.index) if check.index else ""
    parts = [f"{check.value} {check.parameter or ''}{index}".rstrip()]
    parts += [] if check.step is None else [f"step t = {check.step}"]
    parts += [] if check.row is None else [f"row {check.row}"]
    return ", ".join(parts)
