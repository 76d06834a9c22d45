"""Matplotlib apart from a user's own: no backend of a notebook, no settings file, Agg alone.

Pictures are made last and are no result of their own: what fails while one is drawn is a line on
standard error that names it, and the program goes on.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from npnlp.files import write_atomic

DPI = 120
STYLE: Any = {
    "font.size": 14,
    "axes.titlesize": 16,
    "axes.labelsize": 15,
    "axes.titley": 1.0,  # where it would be put; looking for a place takes a tenth of the time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.5,
    "legend.frameon": False,
}
#: Matplotlib's font that has a frame in the place of every character there is.
LAST_RESORT = "Last Resort"


@contextmanager
def _unremarked() -> Iterator[None]:
    """Without Matplotlib's remarks about folders, settings and fonts that are not used here."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _first_import() -> Iterator[None]:
    """Around Matplotlib's import, which refuses a backend that it does not find.

    A notebook names its own to all programs that it starts. Where the import is the first one, the
    backend is set afterwards, if it can be: who plots in this process finds it as always.
    """
    theirs = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        with _unremarked():
            yield
            with suppress(ValueError):
                if theirs:
                    sys.modules["matplotlib"].rcParams["backend"] = theirs
    finally:
        if theirs is not None:
            os.environ["MPLBACKEND"] = theirs


with _first_import():
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator, PercentFormatter

__all__ = ["Axes", "Figure", "MaxNLocator", "PercentFormatter", "Rectangle", "picture"]


@contextmanager
def picture(
    path: str | Path, width: float = 12, height: float = 6.75, texts: Iterable[str] = ()
) -> Iterator[Figure]:
    """A figure in the project's style, saved to ``path`` at the end.

    ``texts`` are a user's own, for which a font is looked for. What fails between here and the end
    is said in one line, and there is no file then; only a failure to write the file is raised.
    """
    content = io.BytesIO()
    try:
        with _own_settings():
            mpl.rcParams["font.family"] = _families(texts, path)
            figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
            canvas = FigureCanvasAgg(figure)
            yield figure
            # No date and no version in the file: the same data gives the same bytes. Figure.savefig
            # would draw everything twice.
            canvas.print_png(  # type: ignore[no-untyped-call]
                content, metadata={"Software": None}, pil_kwargs={"compress_level": 3}
            )
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"{path} is not drawn ({why})", file=sys.stderr)
        Path(path).unlink(missing_ok=True)  # one from before would be taken for this one
    else:
        write_atomic(path, content.getvalue())


@contextmanager
def _own_settings() -> Iterator[None]:
    """Matplotlib's defaults with :data:`STYLE`; the user's are back afterwards."""
    with mpl.rc_context(), warnings.catch_warnings(), _unremarked():
        # What does not fit, and letters that no font has; the CSV has the text.
        warnings.simplefilter("ignore", UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def _families(texts: Iterable[str], path: str | Path) -> list[str]:
    """The families of fonts for ``texts``: Matplotlib's own, and others for what that one lacks."""
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
        print(f"note: no font here has {len(left)} of the characters in {path} ({letters}); frames "
              "stand for them", file=sys.stderr)  # fmt: skip
    return families


def _has(font: str) -> set[int]:
    """The characters that a font file has."""
    return set(get_font(font).get_charmap())
