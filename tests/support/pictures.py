"""The pictures of a run, drawn once: they take longer than the run itself, and few tests look."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.files import write_atomic
from npnlp.plots import draw_run as draw_run

#: What was drawn first, by name, for a run with a gradient flow and for one without.
_first: dict[bool, dict[str, bytes]] = {}


def drawn_once(save_dir: Path, kind: str = "png", language: str = "en") -> list[Path]:
    """:func:`npnlp.plots.draw_run` for the first run of this process; its pictures for the others.

    The tables of each run are read as they would be, and the files are written as they would be.
    Pictures of another kind or language are drawn.
    """
    if (kind, language) != ("png", "en"):
        return draw_run(save_dir, kind, language)
    flow = bool(len(pd.read_csv(save_dir / "gradient_flow.csv")))
    if flow not in _first:
        return drawn_for_others(save_dir)
    for name, content in _first[flow].items():
        write_atomic(save_dir / name, content)
    return [save_dir / name for name in _first[flow]]


def drawn_for_others(save_dir: Path, kind: str = "png", language: str = "en") -> list[Path]:
    """:func:`npnlp.plots.draw_run`, whose pictures :func:`drawn_once` copies from now on."""
    drawn = draw_run(save_dir, kind, language)
    flow = bool(len(pd.read_csv(save_dir / "gradient_flow.csv")))
    _first[flow] = {path.name: path.read_bytes() for path in drawn}
    return drawn
