"""Sequences of unequal length in ONNX's operators, by their rows.

Arrays over time are ``(T, B, F)``; as rows ``(T B, F)``, step t of sequence b of length ``L_b`` is
row ``t B + b``:

    present[t, b]  = t < L_b
    reversed[t, b] = (L_b - 1 - t) B + b  where present, else t B + b
    last[b]        = (L_b - 1) B + b

A gather of rows ``reversed`` turns each sequence around within its length, and back.
"""

from __future__ import annotations

from functools import cached_property

from npnlp.exchange.onnx_graph import Graph


class Sequences:
    """The sequences of ``tokens (B, T)`` and ``lengths (B,)``, two inputs of the graph."""

    def __init__(self, graph: Graph, tokens: str, lengths: str) -> None:
        self.graph, self.lengths = graph, lengths
        self.tokens = graph.add("Transpose", tokens, perm=[1, 0])  # (T, B)
        self._zero, self._one = graph.constant(0), graph.constant(1)
        self.steps = self._range(0)  # (T,)

    @cached_property
    def present(self) -> str:
        """Which steps are of a sequence ``(T, B)``."""
        return str(self.graph.add("Less", self._column, self.lengths))

    def reverse(self, x: str) -> str:
        """``x (T, B, F)`` with each sequence turned around within its length."""
        return self._rows(x, self._reversed)

    def last(self, x: str) -> str:
        """The last step of each sequence of ``x (T, B, F)``: ``(B, F)``."""
        return self._rows(x, self._last)

    def zeros(self, size: int) -> str:
        """The state ``(B, size)`` before the first step."""
        shape = self.graph.add("Concat", self._batch, self.graph.integers(size), axis=0)
        return str(self.graph.add("Expand", self.graph.constant(0.0), shape))

    @cached_property
    def _column(self) -> str:
        return str(self.graph.add("Unsqueeze", self.steps, self.graph.integers(1)))  # (T, 1)

    @cached_property
    def _batch(self) -> str:
        return self.graph.size(self.tokens, 1)

    @cached_property
    def _ends(self) -> str:
        return str(self.graph.add("Sub", self.lengths, self._one))

    @cached_property
    def _reversed(self) -> str:
        back = self.graph.add("Sub", self._ends, self._column)  # (T, B)
        return self._flat(self.graph.add("Where", self.present, back, self._column))

    @cached_property
    def _last(self) -> str:
        return self._flat(self._ends)

    @cached_property
    def _sequences(self) -> str:
        return self._range(1)  # (B,)

    def _range(self, axis: int) -> str:
        size = self.graph.add("Squeeze", self.graph.size(self.tokens, axis), self.graph.integers(0))
        return str(self.graph.add("Range", self._zero, size, self._one))

    def _flat(self, steps: str) -> str:
        """The row of each step, given with the sequences in the last axis."""
        first = self.graph.add("Mul", steps, self._batch)
        return str(self.graph.add("Add", first, self._sequences))

    def _rows(self, x: str, rows: str) -> str:
        shape = self.graph.beside([self.graph.integers(-1), self.graph.size(x, 2)], axis=0)
        return str(self.graph.add("Gather", self.graph.add("Reshape", x, shape), rows, axis=0))
