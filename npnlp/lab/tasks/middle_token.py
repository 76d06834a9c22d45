"""Recall of the symbol in the middle."""

from __future__ import annotations

from npnlp.lab.tasks.first_token import FirstToken


class MiddleToken(FirstToken):
    """Say the symbol at step ``T // 2`` again; all others are distractors.

    As :class:`FirstToken` with ``T // 2`` for 0, and as far from one end as from the other: reading
    the sequence backwards as well brings it no nearer.
    """

    name = "middle_token"

    def place(self, length: int) -> int:
        """``T // 2``."""
        return length // 2
