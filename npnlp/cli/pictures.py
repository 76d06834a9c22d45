"""The options of commands and scripts that draw: whether, as what, and in which language."""

from __future__ import annotations

import argparse
from pathlib import Path

from npnlp.errors import InputError
from npnlp.files.pictures import FORMATS, LANGUAGES, Output
from npnlp.optional import needs


def add_pictures(parser: argparse._ActionsContainer) -> None:
    """``--no-pictures``, ``--picture-format`` and ``--language``."""
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="draw no pictures"
    )
    add_format(parser)
    add_language(parser)


def add_format(parser: argparse._ActionsContainer) -> None:
    """``--picture-format``."""
    parser.add_argument("--picture-format", choices=FORMATS, default=FORMATS[0],
                        help="the format of the pictures")  # fmt: skip


def add_language(parser: argparse._ActionsContainer) -> None:
    """``--language``, where the labels are known in several."""
    parser.add_argument("--language", choices=list(LANGUAGES), default="en",
                        help="the language of the labels in pictures")  # fmt: skip


def output_of(options: argparse.Namespace, folder: Path) -> Output:
    """Where the pictures go, and as what; to be asked before any work is done.

    Raises :class:`InputError` where no font has the language.
    """
    language: str = getattr(options, "language", "en")
    if getattr(options, "pictures", True):
        require_font(language)
    return Output(folder, options.picture_format, language)


def drawn_as(options: argparse.Namespace) -> dict[str, str]:
    """What :func:`npnlp.plots.draw_run` is told beside the folder."""
    return {"kind": options.picture_format, "language": options.language}


def require_font(language: str) -> None:
    """Raise :class:`InputError` where no font has the language; English, Matplotlib's own has."""
    if language == "en":
        return
    with needs(f"--language {language}", "matplotlib", kind=InputError):
        from npnlp.drawing.language import require_language  # Matplotlib takes a while to import
    require_language(language)
