"""The parser of the ``npnlp`` command, and what it calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from npnlp.cli.options import Formatter
from npnlp.cli.script import OneLineParser, guarded
from npnlp.version import __version__

#: Each has a module of this package, by its own name but for what Python would not take.
COMMANDS = (
    "train", "evaluate", "predict", "explain", "page", "compare", "gradient-flow", "gradcheck",
    "replay", "export", "import", "verify", "backends",
)  # fmt: skip
MODULES = {"gradient-flow": "gradient_flow", "import": "import_"}


def make_parser(command: str = "") -> argparse.ArgumentParser:
    """The parser of the whole command; of one of :data:`COMMANDS` alone where that is given.

    Its module is then the only one that is imported: predicting starts without the trainer.
    """
    parser = OneLineParser(
        prog="npnlp",
        description="Recurrent networks for text with every gradient written by hand.",
    )
    parser.add_argument("--version", action="version", version=f"npnlp {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    for name in (command,) if command in COMMANDS else COMMANDS:
        module = import_module(f"npnlp.cli.{MODULES.get(name, name)}")
        own = commands.add_parser(
            name, formatter_class=Formatter, help=module.HELP, description=module.DESCRIPTION
        )
        own.set_defaults(run=module.run, parser=own)
        module.add_options(own)
    return parser


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line, by default that of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser(given[0] if given else "").parse_args(given)
    options.arguments = given
    return options


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status, see :func:`npnlp.cli.script.guarded`."""
    return guarded(f"npnlp {options.command}", lambda: options.run(options))
