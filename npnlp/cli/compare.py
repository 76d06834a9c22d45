"""``npnlp compare``: runs in one picture, and in a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from npnlp.cli.script import loaded_plots
from npnlp.errors import short
from npnlp.files.plain_json import to_json
from npnlp.runs.comparison import Comparison

HELP = "compare runs: figures, settings, and one picture"
DESCRIPTION = (
    "Compare finished runs: a table of their figures, and of the settings in which they differ; "
    "and one picture with the validation loss and the macro F1 by epoch, and with the gradient "
    "that is left at each step back, in the first epoch and in the last."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "run_folders", nargs="+", type=Path, metavar="RUN",
        help="the folder of a run, as npnlp train leaves it; two or more",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="draw them, as .png, .svg or .pdf (default: no picture)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    found = Comparison.of(options.run_folders)
    if options.json:
        print(to_json(found.to_dict(), indent=2))
    else:
        print("\n".join(lines(found)))
    for note in found.notes():
        print(f"npnlp compare: note: {note}", file=sys.stderr)
    drawing = "npnlp.cli.compare_picture"
    if options.output and (plots := loaded_plots("npnlp compare", drawing)):
        plots.comparison(found, options.output)
        if options.output.exists():
            print(f"wrote {options.output}", file=sys.stderr)
    return 0


def lines(found: Comparison) -> Iterator[str]:
    """Both tables: figures, and settings that differ."""
    names = [run.name for run in found.runs]
    figures = {name: list(map(_number, row)) for name, row in found.figures().items()}
    settings = {name: list(map(_setting, row)) for name, row in found.differences().items()}
    rows = [*figures.items(), *settings.items()]
    first = max(map(len, [*figures, *settings, "settings that differ"]))
    widths = [
        max(len(name), *(len(row[place]) for _, row in rows)) for place, name in enumerate(names)
    ]

    def line(title: str, cells: Sequence[str]) -> str:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{title:<{first}}  " + "  ".join(padded)

    yield line("", names)
    yield from (line(name, row) for name, row in figures.items())
    yield ""
    if settings:
        yield line("settings that differ", names)
        yield from (line(name, row) for name, row in settings.items())
    else:
        yield "no setting differs"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.1e}"


def _setting(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() else short(value, 30)
