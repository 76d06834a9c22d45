"""Matplotlib apart from a user's own: no backend of a notebook, no settings file."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from npnlp.drawing.look import STYLE


@contextmanager
def unremarked() -> Iterator[None]:
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
        with unremarked():
            yield
            with suppress(ValueError):
                if theirs:
                    sys.modules["matplotlib"].rcParams["backend"] = theirs
    finally:
        if theirs is not None:
            os.environ["MPLBACKEND"] = theirs


with _first_import():
    import matplotlib as mpl
    from matplotlib import rcParams as rcParams
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvasAgg
    from matplotlib.colors import LogNorm as LogNorm
    from matplotlib.figure import Figure as Figure
    from matplotlib.font_manager import FontProperties as FontProperties
    from matplotlib.font_manager import findfont as findfont
    from matplotlib.font_manager import fontManager as fontManager
    from matplotlib.font_manager import get_font as get_font
    from matplotlib.patches import Rectangle as Rectangle
    from matplotlib.text import Text as Text
    from matplotlib.ticker import FixedFormatter as FixedFormatter
    from matplotlib.ticker import LogLocator as LogLocator
    from matplotlib.ticker import MaxNLocator as MaxNLocator
    from matplotlib.ticker import NullFormatter as NullFormatter
    from matplotlib.ticker import NullLocator as NullLocator
    from matplotlib.ticker import PercentFormatter as PercentFormatter


@contextmanager
def own_settings(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's defaults with :data:`STYLE` and ``changes``; the user's are back afterwards."""
    with mpl.rc_context(), warnings.catch_warnings(), unremarked():
        # What does not fit, and letters that no font has; the CSV has the text.
        warnings.simplefilter("ignore", UserWarning)
        mpl.rcdefaults()
        settings: Any = mpl.rcParams
        settings.update(STYLE)
        for name, value in (changes or {}).items():
            settings[name] = value
        yield
