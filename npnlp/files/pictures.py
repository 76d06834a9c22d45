"""Where pictures go, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npnlp.errors import InputError

#: The formats of pictures: the ending of a file's name says which.
FORMATS = ("png", "svg", "pdf")
#: The languages of labels, and what stands before the ending in the names of their files.
LANGUAGES = {"en": "", "ko": ".ko"}


@dataclass(frozen=True)
class Output:
    """A folder for pictures, their format and the language of their labels."""

    folder: Path
    kind: str = "png"
    language: str = "en"

    def path(self, name: str) -> Path:
        """The file of the picture called ``name``: ``name.png``, in Korean ``name.ko.png``."""
        return self.folder / f"{name}{LANGUAGES[self.language]}.{self.kind}"


def format_of(path: str | Path) -> str:
    """The format that a file's name asks for; PNG, where it has no ending.

    Raises :class:`InputError` where it has another one.
    """
    ending = Path(path).suffix[1:].lower() or FORMATS[0]
    if ending not in FORMATS:
        raise InputError(
            f"{path}: no picture is drawn as {ending}; end the name with .png, .svg or .pdf"
        )
    return ending


def files_of(name: str) -> list[str]:
    """The names of all files that the picture called ``name`` may have."""
    return [f"{name}{mark}.{kind}" for mark in LANGUAGES.values() for kind in FORMATS]
