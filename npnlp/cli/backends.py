"""``npnlp backends``: what can compute here."""

from __future__ import annotations

import argparse
import time
from typing import Any

from npnlp.backend import get_backend
from npnlp.cli.options import Formatter
from npnlp.errors import DeviceError


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "backends",
        formatter_class=Formatter,
        help="show which backends work here",
        description="Try every backend with a computation, and say what came of it.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    for name in ("numpy", "cupy"):
        started = time.perf_counter()
        try:
            described = get_backend(name).describe()
            described.pop("backend")
            verdict = "works: " + ", ".join(f"{key} {value}" for key, value in described.items())
        except DeviceError as error:
            verdict = f"not usable: {str(error).removeprefix('backend cupy: ')}"
        print(f"{name:<6} {verdict} ({time.perf_counter() - started:.2f} s)")
    return 0
