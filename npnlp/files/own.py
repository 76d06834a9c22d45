"""The files that come with npnlp: its own table and its own model."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parents[1] / "data"


def own_path(name: str) -> Path:
    """The path of a file that comes with npnlp."""
    return _DATA / name
