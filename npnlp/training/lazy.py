"""Adam for tables of which a batch reads few rows: the others catch up when they are read.

A row that no batch reads has a gradient of zero. Adam moves it all the same: its moments decay, and
the weight goes on with what is left of the first one. After the steps i = 1 ... k that a row has
missed, with the rates ``eta_i`` and ``eps_i`` of :class:`AdamNumbers`, r = b1 / sqrt(b2), and
``d_i = 1 - rate_i decay``:

    (1)  w <- D w - sum_i D_i eta_i r^i m / (sqrt(v) + eps_i b2^(-i/2))
                                                D = d_1 ... d_k,  D_i = d_{i+1} ... d_k
    (2)    ~= D w - S m / (sqrt(v) + E)         S = sum_i D_i eta_i r^i
    (3)  m <- b1^k m,  v <- b2^k v

E is the mean of ``eps_i b2^(-i/2)`` with the weights of S. So (2) is exact to the first order in
eps: of a row with one gradient of 1000 eps, what is left is 2e-6 of the move. It takes one pass
over the row, however many steps it has missed.

This is the law of :class:`Adam`, and not that of PyTorch's ``SparseAdam``, which leaves rows that
are not read where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.backend.operations import AdamNumbers, Missed
from npnlp.backend.tuned.rows import TunedRows
from npnlp.layers import FlatParameters
from npnlp.training.optimizers import Adam

#: D, S, S E, b1^k and b2^k of a row that has missed no step.
NONE_MISSED = np.array([[1.0], [0.0], [0.0], [1.0], [1.0]])
#: Rows that catch up together where all do: their numbers stay in the cache.
TOGETHER = 2048
#: A table of fewer numbers moves faster as a whole. With beta2 below this, r is too near to 1 for
#: (2).
LEAST_SIZE, LEAST_BETA2 = 2**19, 0.95


class LazyAdam(Adam):
    """:class:`Adam`, where ``tables`` names parameters whose rows may catch up later.

    A step inside :meth:`reading` costs what the batch reads of them. Between steps, rows that were
    not read are behind, until :meth:`flush`.
    """

    def __init__(
        self, flat: FlatParameters, backend: Backend, learning_rate: float,
        tables: Sequence[str], **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(flat, backend, learning_rate, **options)
        self.tables, self.passes = tables, backend.row_adam(flat.values.dtype) or TunedRows()
        ends = flat.ends.tolist()
        spans = dict(zip(flat.parameters, map(slice, [0, *ends], ends), strict=False))
        self.spans = {name: span for name, span in spans.items() if name in tables}
        #: Where the other parameters lie in the buffers, in as few parts as can be.
        bounds = [0, *(b for s in self.spans.values() for b in (s.start, s.stop)), ends[-1]]
        pairs = zip(bounds[::2], bounds[1::2], strict=True)
        self.rest = [slice(*pair) for pair in pairs if pair[0] < pair[1]]
        #: Of each row, how many of the steps since the last flush it has taken.
        self.taken = {name: np.zeros(len(flat.parameters[name]), np.int64) for name in tables}
        self.read_before: Mapping[str, Array] = {}
        self._begin()

    def _begin(self) -> None:
        """No row has missed a step."""
        self.count, self.factors = 0, NONE_MISSED.repeat(64, axis=1)
        for taken in self.taken.values():
            taken[...] = 0

    def _note(self, numbers: AdamNumbers, rate: float) -> None:
        """Count a step: D, S, S E, b1^k, b2^k for the rows that have taken 0, 1, 2, ... of them."""
        self.count += 1
        if self.count >= self.factors.shape[1]:
            more = NONE_MISSED.repeat(self.count, axis=1)
            self.factors = np.concatenate([self.factors, more], axis=1)
        d, kept = 1 - rate * self.weight_decay, self.factors[:, : self.count]
        kept *= np.array([[d], [d], [d], [numbers.b1], [numbers.b2]])
        _, shift, with_eps, first, second = kept
        second.clip(1e-300, out=second)
        shift += numbers.rate * first / np.sqrt(second)
        with_eps += numbers.rate * numbers.eps * first / second

    def _table(self, name: str) -> tuple[Array, Array, Array]:
        """Weights and moments of a table."""
        weight, span = self.flat.parameters[name], self.spans[name]
        m, v = (each[span].reshape(weight.shape) for each in self.moments.values())
        return weight, m, v

    def _catch_up(self, name: str, rows: Array) -> None:
        """Have ``rows``, none twice, take the steps that they have missed: (2) and (3)."""
        taken = self.taken[name]
        kept, shift, with_eps, *decay = self.factors.take(taken.take(rows), axis=1)
        eps = np.divide(with_eps, shift, out=np.ones_like(shift), where=shift > 0)
        self.passes.catch_up(self._table(name), rows, Missed(kept, shift, eps, *decay))
        taken[rows] = self.count

    @contextmanager
    def reading(self, rows: Mapping[str, Array]) -> Iterator[None]:
        """A step inside reads these rows of each table, none twice: they catch up first."""
        for name, before in self.read_before.items():
            self.flat.views_of_grads[name][before] = 0
        self.read_before = rows
        for name, these in rows.items():
            self._catch_up(name, these)
        with self.flat.read(rows):
            yield

    def step(self) -> None:
        """See :meth:`Optimizer.step`."""
        flat = self.flat
        if not flat.rows:
            self.flush()
            super().step()
            return
        self.steps += 1
        numbers = self.numbers(self.steps, self.learning_rate)
        self._note(numbers, self.learning_rate)
        self.decay(view for name, view in flat.parameters.items() if name not in flat.rows)
        buffers = flat.values, flat.grads, *self.moments.values(), self.scratch
        for span in self.rest:
            self.move(numbers, *(each[span] for each in buffers))
        for name, rows in flat.rows.items():
            kept = 1 - self.learning_rate * self.weight_decay
            grads = flat.views_of_grads[name]
            self.passes.step(self._table(name), grads, rows, kept, numbers)
            self.taken[name][rows] = self.count

    def flush(self) -> None:
        """See :meth:`Optimizer.flush`."""
        for name, missed in self.missed.items():
            behind = np.flatnonzero(missed)
            for first in range(0, len(behind), TOGETHER):
                self._catch_up(name, behind[first : first + TOGETHER])
        self._begin()

    @property
    def missed(self) -> dict[str, NDArray[np.int64]]:
        """See :attr:`Optimizer.missed`."""
        missed = {name: self.count - taken for name, taken in self.taken.items()}
        return {name: steps for name, steps in missed.items() if steps.any()}

    def load_state_dict(self, state: Mapping[str, NDArray[np.floating]], steps: int) -> None:
        """See :meth:`Optimizer.load_state_dict`."""
        super().load_state_dict(state, steps)
        self._begin()

    def load_missed(
        self, missed: Mapping[str, NDArray[np.int64]], rate_of: Callable[[int], float]
    ) -> None:
        """See :meth:`Optimizer.load_missed`."""
        self._begin()
        most = max((int(steps.max()) for steps in missed.values()), default=0)
        for step in range(self.steps - most, self.steps):
            self._note(self.numbers(step + 1, rate_of(step)), rate_of(step))
        for name, taken in self.taken.items():
            taken[...] = self.count - missed.get(name, 0)
