"""Strings that are no names, and how well a score tells them from names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random


def random_strings(count: int, names: Sequence[str], seed: int) -> list[str]:
    """Letters a to z at random, the first a capital, in lengths drawn from those of ``names``."""
    random = Random(seed, "random strings")
    draws = random.child("lengths").uniform((count,), high=len(names)).astype(int)
    lengths = [len(names[draw]) for draw in draws.tolist()]
    letters = random.child("letters").uniform((sum(lengths),), low=ord("a"), high=ord("z") + 1)
    text, ends = bytes(letters.astype(int).tolist()).decode(), np.cumsum(lengths).tolist()
    return [text[e - n : e].capitalize() for e, n in zip(ends, lengths, strict=True)]


def area_under_curve(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """The probability that a positive scores above a negative, with a half for equals.

    It is the area under the receiver operating characteristic (Hanley and McNeil, 1982).
    """
    ordered = np.sort(negative)
    below, not_above = (np.searchsorted(ordered, positive, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(ordered))
