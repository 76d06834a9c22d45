"""The contract of a backend: an array namespace and the few operations it lacks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import layout
from npnlp.backend.operations import (
    AdamStep,
    Array,
    BagPasses,
    ClassifierHead,
    CrossEntropyPasses,
    LinearPasses,
    PackedSteps,
    RecurrentPasses,
    RowAdam,
    WorkGraphs,
)
from npnlp.backend.prefix_passes import PrefixPasses
from npnlp.backend.random import Random
from npnlp.backend.soft_loss import SoftLoss
from npnlp.backend.step_operations import AttentionPasses, StepSoftmax

__all__ = ["Array", "Backend"]


class Backend(ABC):
    """Where arrays are stored, and the operations on them.

    ``xp`` is the array namespace (the module ``numpy`` or ``cupy``). Layers call only ``xp`` and
    the methods below. Those from :meth:`recurrent_passes` to :meth:`graphs` return fast code for an
    operation (:mod:`npnlp.backend.operations`), or None: then the layer's own code runs.
    """

    name: str
    xp: Any
    #: Why this backend was chosen, for ``auto``; empty when it was asked for by name.
    reason: str = ""
    #: Matrix products of up to this many multiplications are the fastest; a larger one may be cut
    #: into such parts. By default none is cut.
    small_product: int = 2**63

    @abstractmethod
    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        """A NumPy array as an array of this backend, copied only if it is for another device."""

    @abstractmethod
    def to_numpy(self, array: Array) -> NDArray[Any]:
        """The array as a NumPy array in host memory."""

    @abstractmethod
    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """Sum the rows of each segment: ``out[s] = sum of values[n] over segments[n] == s``.

        It undoes a look-up: where ``y = table[segments]``, this is ``dL/dtable`` from ``dL/dy``.
        The order of summation is fixed, so the same call gives the same bits.

        Shapes: ``values (N, D)``, ``segments (N,)`` integers in ``[0, size)``, out ``(size, D)``.
        """

    def first_largest(self, x: Array, steps: PackedSteps) -> Array:
        """The packed row of each sequence's largest number, of several the first; NaN is larger.

        Nothing is padded: the maximum so far is carried through the steps, and those that have it
        are looked for from the last one back.

        Shapes: ``x (N, D)`` packed by ``steps``, out ``(B, D)``, the longest sequence first.
        """
        xp, runs = self.xp, list(zip(steps.offsets, steps.batch_sizes, strict=True))
        best, found = x[: runs[0][1]].copy(), xp.empty((runs[0][1], x.shape[1]), dtype=np.int32)
        for first, size in runs[1:]:
            xp.maximum(best[:size], x[first : first + size], out=best[:size])
        some_nan = math.isnan(float(best.max()))
        for step in reversed(range(len(runs))):
            first, size = runs[step]
            own = x[first : first + size]
            has_it = (own == best[:size]) | xp.isnan(own) if some_nan else own == best[:size]
            xp.copyto(found[:size], step, where=has_it)
        rows: Array = xp.array(steps.offsets).take(found) + xp.arange(len(found))[:, None]
        return rows

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has finished all work (nothing to do on a CPU)."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Versions and device, for reports."""

    @abstractmethod
    def keep_memory(self) -> None:
        """Let the allocator reuse freed memory instead of returning it to the system.

        For work that allocates the same arrays again and again, such as training.
        """

    def memory(self) -> tuple[int, int] | None:
        """Free and total bytes of the memory for arrays; None if unknown."""
        return None

    def keep_mask(self, random: Random, shape: tuple[int, ...], p: float) -> Array:
        """:meth:`Random.keep` on this backend: True with probability ``1 - p``, the same bits."""
        return self.asarray(random.keep(shape, p))

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """``x s`` and ``s``, which is ``1 / (1 - p)`` where :meth:`keep_mask` is True, else 0."""
        scale = self.keep_mask(random, x.shape, p) * x.dtype.type(1.0 / (1.0 - p))
        return x * scale, scale

    def all_below(self, indices: Array, size: int) -> bool:
        """Whether all ``indices``, whole numbers, are in ``[0, size)``."""
        if not indices.size:
            return True
        return int(indices.max()) < size and int(indices.min()) >= 0

    def add_rows(self, table: Array, rows: Array | slice, values: Array) -> None:
        """``table[rows] += values``; no row occurs twice."""
        table[rows] += values

    def scatter_add(self, table: Array, rows: Array, values: Array) -> None:
        """``table[rows[n]] += values[n]`` for every n; a row may occur several times.

        It undoes a look-up, as :meth:`segment_sum` does, at the cost of the rows that occur.
        """
        table += self.segment_sum(values, rows, len(table))

    def square_sums(self, values: Array, ends: layout.Integers) -> Array:
        """``(P,)``: the sum of squares of each part of ``values (n,)``.

        ``ends (P,)``, on the host, are the ends of the parts.
        """
        starts, dot = [0, *ends.tolist()], self.xp.dot
        parts = [values[start:end] for start, end in pairwise(starts)]
        return self.xp.array([dot(part, part) for part in parts])  # type: ignore[no-any-return]

    def lay_out(self, lengths: layout.Integers) -> layout.Layout:
        """The layout of packed sequences: :func:`npnlp.backend.layout.lay_out`."""
        return layout.lay_out(lengths)

    def number(
        self, tokens: layout.AnyIntegers, starts: layout.Integers, where: layout.Layout
    ) -> layout.Numbered:
        """The tokens of packed sequences, numbered: :func:`npnlp.backend.layout.number`."""
        return layout.number(tokens, starts, where)

    def recurrent_passes(
        self, kind: str, hidden_size: int, dtype: np.dtype[Any]
    ) -> RecurrentPasses | None:
        """Both passes of a recurrent layer of the cell called ``kind``, or None."""
        return None

    def linear_passes(self, dtype: np.dtype[Any]) -> LinearPasses | None:
        """Both passes of a linear layer, or None."""
        return None

    def cross_entropy_passes(self, dtype: np.dtype[Any]) -> CrossEntropyPasses | None:
        """Both passes of softmax and cross-entropy, or None."""
        return None

    def soft_loss(self, dtype: np.dtype[Any]) -> SoftLoss | None:
        """The objective with distributions as targets, and its gradients, or None."""
        return None

    def bag_passes(self, dtype: np.dtype[Any]) -> BagPasses | None:
        """Both passes of a bag of n-grams, or None."""
        return None

    def attention_passes(self, dtype: np.dtype[Any]) -> AttentionPasses | None:
        """Both passes of the heads of an attention layer, or None."""
        return None

    def step_softmax(self, dtype: np.dtype[Any]) -> StepSoftmax | None:
        """Softmax over the steps of packed sequences, or None."""
        return None

    def classifier_head(self, dtype: np.dtype[Any]) -> ClassifierHead | None:
        """A classifier's head and loss, forward and backward, or None."""
        return None

    def adam_step(self, dtype: np.dtype[Any]) -> AdamStep | None:
        """A step of Adam on flat buffers, or None."""
        return None

    def row_adam(self, dtype: np.dtype[Any]) -> RowAdam | None:
        """Adam on some rows of a table, or None: then all rows move at every step."""
        return None

    def prefix_passes(self, kind: str, dtype: np.dtype[Any]) -> PrefixPasses | None:
        """Passes over prefix trees, for a recurrent layer of this ``kind``, or None.

        The reference is ``inference/predictor.py``.
        """
        return None

    def graphs(self) -> WorkGraphs | None:
        """Graphs that capture device work and launch it, or None."""
        return None

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of zeros on this backend."""
        return self.xp.zeros(shape, dtype=dtype)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: a backend holds nothing that a copy of a layer would change."""
        return self

    def __repr__(self) -> str:
        return f"<backend {self.name}>"
