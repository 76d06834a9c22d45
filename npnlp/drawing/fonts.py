"""Fonts for letters that Matplotlib's own font does not have."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from npnlp.drawing.library import FontProperties, findfont, fontManager, get_font, mpl

#: Matplotlib's font that has a frame in the place of every character there is.
LAST_RESORT = "Last Resort"


def families_for(texts: Iterable[str], path: str | Path | None) -> list[str]:
    """The families of fonts for ``texts``: Matplotlib's own, and others for what that one lacks.

    A note names characters that no font here has, and the picture of ``path`` that they are in.
    """
    families: list[str] = list(mpl.rcParams["font.family"])
    left = {ord(letter) for text in texts for letter in text}
    left -= _has(findfont(FontProperties()))
    fonts = [font for font in fontManager.ttflist if not font.name.startswith(LAST_RESORT)]
    for font in sorted(fonts, key=lambda f: (f.style != "normal", f.weight != 400)):
        if not left:
            break
        with suppress(Exception):  # of a file that is gone, or is none
            if found := left & _has(font.fname):
                families.append(font.name)
                left -= found
    if left:
        letters = "".join(map(chr, sorted(left)[:10]))
        print(f"note: no font here has {len(left)} of the characters in {path or 'a picture'} "
              f"({letters}); frames stand for them", file=sys.stderr)  # fmt: skip
    return families


def _has(font: str) -> set[int]:
    """The characters that a font file has."""
    return set(get_font(font).get_charmap())
