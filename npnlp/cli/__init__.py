"""The ``npnlp`` command. One file a subcommand; each has ``add_to(subparsers)``."""

from npnlp.cli.main import main

__all__ = ["main"]
