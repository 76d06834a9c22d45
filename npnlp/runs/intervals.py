"""The mean of some runs, and where it lies: Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: ``t_{0.975}`` with 1, 2, ... degrees of freedom.
T_VALUES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and the ends of its 95 % interval by Student's t; NaN ends for a single value.

    Beyond 30 values the factor of 30 is taken, which is a little wide.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, math.nan, math.nan
    factor = T_VALUES[min(count - 2, len(T_VALUES) - 1)]
    half = factor * float(np.std(values, ddof=1)) / math.sqrt(count)
    return mean, mean - half, mean + half


def named_interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """:func:`t_interval` as three columns of a table."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), t_interval(values), strict=True))
