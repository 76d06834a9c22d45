"""What was probably meant by a word, or by the name of a file that is not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean NEAREST?"``, or nothing where none of the known words is near."""
    from difflib import get_close_matches  # only for a mistake

    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def no_such_file(path: str | Path) -> str:
    """``"no such file"``, and the file of that folder with the nearest name."""
    place = Path(path)
    names: list[str] = []
    with suppress(OSError):
        names = [each.name for each in place.parent.iterdir()]
    near = did_you_mean(place.name, names)
    if near and place.parent != Path():
        near = near.replace("mean ", f"mean {place.parent}{os.sep}", 1)
    return f"no such file{near}"
