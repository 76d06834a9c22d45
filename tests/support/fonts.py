"""Fonts for tests: one with given letters, and a machine without any but Matplotlib's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager


def font_of(path: Path, letters: str) -> Path:
    """A font with a square for each letter."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in letters})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Some", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


@contextmanager
def only_own_fonts(*others: Path) -> Iterator[None]:
    """As on a machine with no fonts but Matplotlib's own, and ``others``."""
    known = list(fontManager.ttflist)
    fontManager.ttflist[:] = [font for font in known if "mpl-data" in str(font.fname)]
    for path in others:
        fontManager.addfont(path)
    try:
        yield
    finally:
        fontManager.ttflist[:] = known


def letters_of(texts: Iterable[str]) -> str:
    """All letters of the texts, each once."""
    return "".join(sorted({letter for text in texts for letter in text}))
