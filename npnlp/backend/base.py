"""The contract of a backend: an array namespace and the few operations it lacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import layout, plain
from npnlp.backend.prefix_passes import PrefixPasses
from npnlp.backend.random import Random

#: An array of the backend in use. CuPy's arrays answer to the same names as NumPy's.
Array: TypeAlias = NDArray[Any]


class Learned(NamedTuple):
    """What a :data:`Head` finds: ``logits (B, C)`` and ``losses (B,)``.

    Also how many rows are ``correct``, and ``d_h (B, F)``, the gradient of its input.
    """

    logits: Array
    losses: Array
    correct: Any
    d_h: Array


#: Dropout, a linear layer, ReLU, dropout, a linear layer and the mean cross-entropy, both ways:
#: ``head(h, targets, parameters, grads, streams, p)``. The parameters are the weight and the bias
#: of each layer, and to ``grads`` theirs are added; there is a stream for each dropout.
Head = Callable[..., Learned]


class Backend(ABC):
    """Where arrays live and who computes with them.

    ``xp`` is the array namespace (the ``numpy`` or the ``cupy`` module). Layers call nothing but
    ``xp`` and the methods below, so that they hold no question about the device.
    """

    name: str
    xp: Any
    #: Why this backend was chosen, for ``auto``; empty when it was asked for by name.
    reason: str = ""
    #: Matrix products of up to so many multiplications are the fastest; a larger one may then be
    #: cut into such. By default none is.
    small_product: int = 2**63

    @abstractmethod
    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        """Copy a NumPy array to where this backend computes (no copy where it is there)."""

    @abstractmethod
    def to_numpy(self, array: Array) -> NDArray[Any]:
        """The array as a NumPy array in host memory."""

    @abstractmethod
    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """Sum rows that share a segment: ``out[s] = sum of values[n] over segments[n] == s``.

        It undoes a look-up: where ``y = table[segments]``, this is ``dL/dtable`` from ``dL/dy``.
        The order of summation is fixed, so the same call gives the same bits.

        Shapes: ``values (N, D)``, ``segments (N,)`` integers in ``[0, size)``, out ``(size, D)``.
        """

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work handed to the device is done (nothing to do on a CPU)."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Versions and device, for reports."""

    @abstractmethod
    def keep_memory(self) -> None:
        """Keep memory that arrays leave for the next ones, where the allocator would not.

        To be called before work that makes the same arrays again and again, such as training.
        """

    def memory(self) -> tuple[int, int] | None:
        """Free bytes and all bytes of the memory that arrays live in; None where nobody knows."""
        return None

    def affine(self, x: Array, weight: Array, bias: Array, groups: int = 1) -> Array:
        """``x W^T + b``: ``(N, n)``, or of several groups of rows of W ``(groups, N, n / groups)``.

        Shapes: ``x (N, D)``, ``weight (n, D)``, ``bias (n,)``.
        """
        return plain.affine(self.xp, x, weight, bias, groups)

    def affine_backward(
        self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array
    ) -> Array:
        """``dL/dx = dy W`` of an affine map of one group; ``dy^T x`` and ``sum_n dy_n`` are added.

        Shapes: ``dy (N, n)``, ``x (N, D)``, ``weight`` and ``d_weight (n, D)``, ``d_bias (n,)``.
        """
        return plain.affine_backward(self.xp, dy, x, weight, d_weight, d_bias)

    def add_outer(self, out: Array, left: Array, right: Array, rows: Array | None = None) -> None:
        """``out += sum_n left_n^T right_{rows_n}``: the gradient of the weights of a product.

        Shapes: ``out (m, n)``, ``left (N, m)``, ``right (., n)``, ``rows (N,)``, or None for all
        rows of ``right`` in their order.
        """
        plain.add_outer(self.xp, out, left, right, rows)

    def keep_mask(self, random: Random, shape: tuple[int, ...], p: float) -> Array:
        """:meth:`Random.keep` on this backend: True with probability ``1 - p``, the same bits."""
        return self.asarray(random.keep(shape, p))

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """``x s`` and ``s``, which is ``1 / (1 - p)`` where :meth:`keep_mask` says so, else 0."""
        scale = self.keep_mask(random, x.shape, p) * x.dtype.type(1.0 / (1.0 - p))
        return x * scale, scale

    def add_rows(self, table: Array, rows: Array | slice, values: Array) -> None:
        """``table[rows] += values``; no row is named twice."""
        table[rows] += values

    def relu(self, x: Array) -> tuple[Array, Array]:
        """``max(x, 0)``, and 1 (or True) where x is above 0, else 0."""
        return plain.relu(self.xp, x)

    def count_correct(self, logits: Array, targets: Array) -> Any:
        """How many rows of ``logits (B, C)`` are largest at ``targets (B,)``, an integer array."""
        return plain.count_correct(self.xp, logits, targets)

    def square_sums(self, values: Array, ends: layout.Integers) -> Array:
        """``(P,)``: the sum of squares of each part of ``values (n,)``.

        ``ends (P,)``, on the host, says where the parts end.
        """
        return plain.square_sums(self.xp, values, ends)

    def softmax_losses(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """``softmax(z)`` and ``-log softmax(z)_y`` of every row, ``(B, C)`` and ``(B,)``.

        Shapes: ``logits (B, C)``, ``targets (B,)`` integers in ``[0, C)``.
        """
        return plain.softmax_losses(self.xp, logits, targets)

    def softmax_losses_backward(
        self, d_losses: Array | float, probabilities: Array, targets: Array
    ) -> Array:
        """``dL/dlogits`` from ``dL/dlosses``, ``(B,)`` or one number for all rows."""
        return plain.softmax_losses_backward(self.xp, d_losses, probabilities, targets)

    def adam_step(
        self, values: Array, grads: Array, moments: tuple[Array, Array], scratch: Array,
        numbers: plain.AdamNumbers,
    ) -> None:  # fmt: skip
        """One step of Adam on flat buffers, in place; ``scratch`` is a buffer to compute in."""
        plain.adam_step(self.xp, values, grads, moments, scratch, numbers)

    def lay_out(self, lengths: layout.Integers) -> layout.Layout:
        """Where the steps of sequences lie when packed: :func:`npnlp.backend.layout.lay_out`."""
        return layout.lay_out(lengths)

    def number(
        self, tokens: layout.Integers, starts: layout.Integers, where: layout.Layout
    ) -> layout.Numbered:
        """The tokens of packed sequences, numbered: :func:`npnlp.backend.layout.number`."""
        return layout.number(tokens, starts, where)

    def recurrence(self, kind: str, hidden_size: int, dtype: Any) -> Any:
        """Fused kernels for such a cell (:mod:`npnlp.backend.cuda.recurrence`), or None."""
        return None

    def recurrent_layer(self, kind: str, dtype: np.dtype[Any]) -> Any:
        """Such a layer, its loop and all products, in one call each way, or None.

        See :mod:`npnlp.backend.compiled.loops.recurrence`.
        """
        return None

    def classifier_head(self, dtype: np.dtype[Any]) -> Head | None:
        """What follows a classifier's encoder in one call, with the bits of the layers, or None."""
        return None

    def prefix_passes(self, kind: str, dtype: np.dtype[Any]) -> PrefixPasses | None:
        """Passes over many sequences that begin alike, for a recurrent layer of this ``kind``.

        None where there are none: :class:`npnlp.inference.predictor.TreePredictor` then runs.
        """
        return None

    def graphs(self) -> Any:
        """Where work is captured to be launched as one (``backend/cuda/graphs.py``), or None."""
        return None

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of zeros on this backend."""
        return self.xp.zeros(shape, dtype=dtype)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<backend {self.name}>"
