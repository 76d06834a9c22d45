"""Optimizers, as a few operations on one buffer of all parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.backend.operations import AdamNumbers
from npnlp.checks import require_fraction, require_not_negative, require_positive
from npnlp.errors import InputError, require_known, short
from npnlp.layers import FlatParameters

OPTIMIZERS = ("adam", "sgd")
#: With finite squares of weights and gradient, no update at a rate up to this can overflow: in
#: float32 such numbers are below 2e19, and this times that is below the largest, 3e38.
SAFE_RATE = 1e18


class Optimizer(ABC):
    """Changes ``flat.values`` by ``flat.grads``; ``moments`` and ``steps`` are its state.

    ``tables`` are the names of large tables, of which a step may read few rows.
    """

    tables: Sequence[str] = ()

    def __init__(self, flat: FlatParameters, backend: Backend, learning_rate: float) -> None:
        require_positive("learning_rate", learning_rate)
        self.flat = flat
        self.backend = backend
        self.learning_rate = learning_rate
        self.steps = 0
        self.moments: dict[str, Array] = {}
        self.scratch = self._buffer()

    @abstractmethod
    def step(self) -> None:
        """Take one step down the gradient."""

    def reading(self, rows: Mapping[str, Array]) -> AbstractContextManager[None]:
        """A step inside reads these rows of large tables alone; by name, no row twice."""
        return nullcontext()

    def flush(self) -> None:  # noqa: B027
        """Bring all weights and moments up to date."""

    @property
    def missed(self) -> Mapping[str, NDArray[np.int64]]:
        """How many steps each row of a table is behind, by name; only where a row is."""
        return {}

    def load_missed(  # noqa: B027
        self, missed: Mapping[str, NDArray[np.int64]], rate_of: Callable[[int], float]
    ) -> None:
        """Set ``missed``; ``rate_of`` is the rate of the step that so many have gone before."""

    def _buffer(self) -> Array:
        return self.backend.zeros(self.flat.values.shape, self.flat.values.dtype)

    def state_dict(self) -> dict[str, NDArray[np.floating]]:
        """The moments on the host."""
        return {name: self.backend.to_numpy(value).copy() for name, value in self.moments.items()}

    def load_state_dict(self, state: Mapping[str, NDArray[np.floating]], steps: int) -> None:
        """Set the moments, and how many steps have been taken."""
        for name, value in self.moments.items():
            if name not in state or state[name].shape != value.shape:
                found = f"has shape {state[name].shape}" if name in state else "is missing"
                raise InputError(f"moment {name} {found}; it has to have shape {value.shape}")
        self.steps = steps
        for name, value in self.moments.items():
            value[...] = self.backend.asarray(state[name])


class SGD(Optimizer):
    """``w <- w - eta dL/dw``; with momentum ``u <- mu u + dL/dw``, ``w <- w - eta u``.

    As in PyTorch: the first ``u`` is the first gradient.
    """

    def __init__(
        self,
        flat: FlatParameters,
        backend: Backend,
        learning_rate: float = 1e-2,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(flat, backend, learning_rate)
        require_fraction("momentum", momentum)
        self.momentum = momentum
        if momentum:
            self.moments["momentum"] = self._buffer()

    def step(self) -> None:
        """See :meth:`Optimizer.step`."""
        self.steps += 1
        direction = self.flat.grads
        if self.momentum:
            velocity = self.moments["momentum"]
            velocity *= self.momentum
            velocity += direction
            direction = velocity
        self.backend.xp.multiply(direction, self.learning_rate, out=self.scratch)
        self.flat.values -= self.scratch


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1, in the efficient order of its section 2).

    m <- b1 m + (1 - b1) g            v <- b2 v + (1 - b2) g^2
    w <- w - eta m^ / (sqrt(v^) + eps)       m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)

    With ``weight_decay``, ``w <- (1 - eta decay) w`` before it, for what has more than one axis:
    biases and gains do not decay (Loshchilov and Hutter, "Decoupled weight decay
    regularization", 2019, algorithm 2).

    The moments are stored as the plain sums ``m / (1 - b1)`` and ``v / (1 - b2)``; what that
    changes goes, with the corrections, into two numbers a step.
    """

    def __init__(
        self,
        flat: FlatParameters,
        backend: Backend,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(flat, backend, learning_rate)
        require_not_negative("weight_decay", weight_decay)
        require_not_negative("eps", eps)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise InputError(f"betas is {short(betas)}; it has to be two numbers")
        for place, beta in enumerate(betas):
            require_fraction(f"betas[{place}]", beta)
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        self.moments = {"first_sum": self._buffer(), "second_sum": self._buffer()}

    def step(self) -> None:
        """See :meth:`Optimizer.step`."""
        self.steps += 1
        numbers = self.numbers(self.steps, self.learning_rate)
        self.decay(self.flat.parameters.values())
        buffers = self.flat.values, self.flat.grads, *self.moments.values(), self.scratch
        self.move(numbers, *buffers)

    def decay(self, weights: Iterable[Array]) -> None:
        """Decay those of ``weights`` that do."""
        for weight in weights:
            if self.weight_decay and weight.ndim > 1:
                weight *= 1 - self.learning_rate * self.weight_decay

    def move(
        self, numbers: AdamNumbers, w: Array, g: Array, m: Array, v: Array, scratch: Array
    ) -> None:
        """The three formulas, for arrays of one axis."""
        if step := self.backend.adam_step(w.dtype):
            step(w, g, (m, v), scratch, numbers)
            return
        m[...] = numbers.b1 * m + g
        v[...] = numbers.b2 * v + g * g
        w -= numbers.rate * (m / (self.backend.xp.sqrt(v) + numbers.eps))

    def numbers(self, step: int, rate: float) -> AdamNumbers:
        """The factors of step ``step``, counted from 1, at a learning rate ``rate``."""
        b1, b2 = self.betas
        # With m^ = a m and v^ = b^2 v, the change is (eta a / b) m / (sqrt(v) + eps / b).
        a = (1 - b1) / (1 - b1**step)
        b = ((1 - b2) / (1 - b2**step)) ** 0.5
        return AdamNumbers(b1, b2, rate=rate * a / b, eps=self.eps / b)


def make_optimizer(
    name: str,
    flat: FlatParameters,
    backend: Backend,
    learning_rate: float,
    momentum: float = 0.0,
    *,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
) -> Optimizer:
    """The optimizer called ``name``, one of ``OPTIMIZERS``."""
    require_known("optimizer", name, OPTIMIZERS)
    if name == "adam":
        betas = (0.9, beta2)
        return Adam(flat, backend, learning_rate, betas=betas, weight_decay=weight_decay)
    return SGD(flat, backend, learning_rate, momentum)
