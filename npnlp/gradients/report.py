"""What a check of gradients found: a row a quantity, and their report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from npnlp.summary import one_line, summarized


@summarized
@dataclass(frozen=True)
class GradientRow:
    """The largest error in the gradient of one parameter or input.

    ``error`` is the largest ``|backward - reference|`` of a column (all entries of one last index;
    an array of one axis is one column), at ``index``, divided by the column's largest
    ``|reference|``: by the array's where that is zero, and by 1 where that is zero, too. What the
    reference itself may be off by is no error. ``reason`` says of a row that failed what to look
    at.
    """

    quantity: str
    method: str
    error: float
    index: tuple[int, ...]
    bound: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound; a NaN is not."""
        return self.error <= self.bound


@dataclass(repr=False)
class GradientReport:
    """The rows of all parameters and inputs of one layer."""

    layer: str
    rows: list[GradientRow] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there are rows, and all passed."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def __repr__(self) -> str:
        failed = [row for row in self.rows if not row.passed]
        worst = max((row.error for row in self.rows), default=math.nan)
        outcome = "all passed" if self.passed else f"{len(failed)} failed"
        said = [f"{len(self.rows)} rows", outcome]
        said += [f"{row.quantity}: {row.reason}" for row in failed[:1] if row.reason]
        said.append(f"largest error {worst:.1e}")
        return one_line(f"{type(self).__name__} of {self.layer}:", said)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.layer:<24} {row.quantity:<20} {row.method:<8} {row.error:9.1e} "
            f"at {row.index!s:<12} {'ok' if row.passed else f'FAILED {row.reason}'.rstrip()}"
            for row in self.rows
        )
