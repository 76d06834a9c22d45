"""The ``npnlp`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from npnlp.cli import (
    backends,
    evaluate,
    export,
    gradcheck,
    gradient_flow,
    import_,
    predict,
    replay,
    train,
    verify,
)
from npnlp.cli.script import OneLineParser, guarded
from npnlp.version import __version__


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = OneLineParser(
        prog="npnlp",
        description="Recurrent networks for text with every gradient written by hand.",
    )
    parser.add_argument("--version", action="version", version=f"npnlp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        train, evaluate, predict, gradient_flow, gradcheck, replay, export, import_, verify,
        backends,
    ):  # fmt: skip
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status, see :func:`npnlp.cli.script.guarded`."""
    options = make_parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(f"npnlp {options.command}", lambda: options.run(options))
