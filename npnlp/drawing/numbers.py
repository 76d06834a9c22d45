"""Numbers as people write them: 1.4·10⁻⁶¹."""

from __future__ import annotations

import math

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(value: float, digits: int = 1) -> str:
    """``value`` rounded to ``digits``, as a factor and a power of ten where it is not near one."""
    if not math.isfinite(value):
        return "∞" if value > 0 else str(value)
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.{digits}g}"
    factor, _, power = f"{value:.{digits - 1}e}".partition("e")
    ten = f"10{str(int(power)).translate(RAISED)}"
    return ten if factor == "1" else f"{factor}·{ten}"
