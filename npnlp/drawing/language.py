"""Labels in another language: the texts of a finished figure, translated.

A drawing says everything in English. What :mod:`npnlp.drawing.korean` does not know stays as it is:
names of classes, of cells and of quantities.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from npnlp.drawing.fonts import families_for
from npnlp.drawing.korean import KOREAN
from npnlp.drawing.library import FixedFormatter, Text, own_settings
from npnlp.errors import InputError
from npnlp.files.pictures import LANGUAGES

#: A place in a text of the table where anything may stand.
SLOT = "{}"


def require_language(language: str) -> None:
    """Raise :class:`InputError` where labels cannot be drawn in ``language``."""
    if language not in LANGUAGES:
        raise InputError(f"language {language!r} is not known; choose from {', '.join(LANGUAGES)}")
    if language == "ko":
        with own_settings():
            _, left = families_for(KOREAN.values())
        if left:
            raise InputError(
                "language ko: no font here has Hangul; install one, such as Nanum (Debian and "
                "Ubuntu: apt-get install fonts-nanum) or Noto Sans KR, or put its .ttf file into "
                "~/.local/share/fonts, and try again"
            )


def translated(text: str, language: str) -> str:
    """``text`` in the language; as it is, where it is not known there."""
    if language == "en":
        return text
    if text in KOREAN:
        return KOREAN[text]
    for pattern, korean in _patterns():
        if found := pattern.fullmatch(text):
            return korean.format(*(translated(part, language) for part in found.groups()))
    return text


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The texts with slots, as regular expressions, and what they become."""
    return [
        (re.compile(re.escape(english).replace(re.escape(SLOT), "(.+?)"), re.DOTALL), korean)
        for english, korean in KOREAN.items()
        if SLOT in english
    ]


def translate(figure: Any, language: str) -> None:
    """Translate every text of a figure: titles, labels, legends, and ticks that are words."""
    for text in figure.findobj(Text):
        text.set_text(translated(text.get_text(), language))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            words = axis.get_major_formatter()
            if isinstance(words, FixedFormatter):
                words.seq = [translated(str(word), language) for word in words.seq]
