"""Fonts for letters that Matplotlib's own font does not have."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from npnlp.drawing.library import FontProperties, findfont, fontManager, get_font, rcParams

#: Matplotlib's font that has a frame in the place of every character there is.
LAST_RESORT = "Last Resort"
#: Families without serifs, which go with Matplotlib's own; others are taken where these are not.
PREFERRED = (
    "Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo",
    "Noto Sans CJK JP",
)  # fmt: skip


def families_for(texts: Iterable[str]) -> tuple[list[str], str]:
    """The families of fonts for ``texts``, Matplotlib's own first; and letters that none has."""
    families: list[str] = list(rcParams["font.family"])
    left = {ord(letter) for text in texts for letter in text}
    left -= _has(findfont(FontProperties()))
    fonts = [font for font in fontManager.ttflist if not font.name.startswith(LAST_RESORT)]
    for font in sorted(
        fonts, key=lambda f: (f.name not in PREFERRED, f.style != "normal", f.weight != 400)
    ):
        if not left:
            break
        with suppress(Exception):  # of a file that is gone, or is none
            if found := left & _has(font.fname):
                families.append(font.name)
                left -= found
    return families, "".join(map(chr, sorted(left)))


def noted(texts: Iterable[str], path: str | Path | None) -> list[str]:
    """The families of fonts for ``texts``; a note names letters of the picture that none has."""
    families, left = families_for(texts)
    if left:
        print(f"note: no font here has {len(left)} of the characters in {path or 'a picture'} "
              f"({left[:10]}); frames stand for them", file=sys.stderr)  # fmt: skip
    return families


def _has(font: str) -> set[int]:
    """The characters that a font file has."""
    return set(get_font(font).get_charmap())
