"""A recurrent layer at one size, ours and PyTorch's, with the same weights and input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp, Rows
from npnlp.backend.threads import blas_threads
from npnlp.errors import InputError
from npnlp.layers import CELLS, Packing
from passes.held import threadpool_limits
from passes.recurrent import torch_twin
from passes.torch_epochs import MODULES, torch

PASSES = ("forward", "forward + backward")
OURS, TORCH, JAX = "npnlp", "torch", "jax"
#: In what the ways of a library differ, of which a pass takes the fastest.
WAYS = {OURS: "threads", TORCH: "threads", JAX: "unrolled"}
GATES = {"elman": 1, "gru": 3, "lstm": 4}
#: The largest difference that is put down to rounding, relative to the largest number there is.
AGREES = 2e-3
#: Numbers held for a unit of a step: so many for each gate, and so many besides. Measured on
#: PyTorch, which needs more than this project does, and rounded up.
HELD_BY_GATE, HELD_BY_UNIT = 5, 4
MEMORY = Path("/proc/meminfo")

Arrays = dict[str, NDArray[Any]]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Square:
    """A cell at B, T, H and D; ``tokens`` are looked up in a table of V rows, unless V is 0."""

    cell: str
    batch: int
    steps: int
    hidden: int
    features: int
    vocabulary: int = 0

    @property
    def described(self) -> dict[str, Any]:
        """The first columns of a row."""
        sizes = {"B": self.batch, "T": self.steps, "H": self.hidden, "D": self.features}
        return {"cell": self.cell, "V": self.vocabulary, **sizes}

    def __str__(self) -> str:
        return " ".join(str(v) if k == "cell" else f"{k}={v}" for k, v in self.described.items())

    def operations(self, name: str) -> int:
        """Multiplications and additions in the products of a pass.

        The first state is zero, which nobody has to multiply, and of a table each row has to be
        multiplied once. Backward has two products for each of forward's: towards the weights, and
        towards what they were multiplied with.
        """
        rows = self.batch * self.steps
        inputs = min(self.vocabulary, rows) or rows
        pairs = inputs * self.features + (rows - self.batch) * self.hidden
        forward = 2 * GATES[self.cell] * self.hidden * pairs
        return forward if name == PASSES[0] else 3 * forward

    @property
    def nbytes(self) -> int:
        """What the passes of one library hold at once, about; backward decides."""
        of_unit = HELD_BY_GATE * GATES[self.cell] + HELD_BY_UNIT
        of_row = self.hidden * of_unit + 3 * self.features
        return 4 * self.batch * self.steps * of_row


def free_memory() -> int | None:
    """Bytes that the system can still give, its caches counted as free; None where it is silent."""
    if MEMORY.exists():
        for line in MEMORY.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    memory = get_backend("numpy").memory()
    return None if memory is None else memory[0]


class Side:
    """One library at one square: ``passes`` by name, and what the last one computed."""

    passes: dict[str, Call]
    #: Numbers of threads, or what :data:`WAYS` says.
    ways: tuple[int, ...]

    def limited(self, way: int) -> Any:
        """A context in which passes go this way."""
        raise NotImplementedError

    def results(self) -> Arrays:
        """The states and every gradient of ``forward + backward``."""
        raise NotImplementedError


class Ours(Side):
    """A recurrent layer of this project on a packing of B sequences of equal length.

    ``x`` is the input, or the table in which ``tokens`` look it up. The layer is then given the
    rows of the table that occur, as batches of the classifier have them; what it takes to find
    them is part of the pass.
    """

    def __init__(self, square: Square, seed: int, backend: Backend, cores: int) -> None:
        random, self.backend = Random(seed, "grid"), backend
        self.ways = tuple(range(1, cores + 1))
        self.layer = CELLS[square.cell](
            square.features, square.hidden, random=random, backend=backend
        )
        rows = square.steps * square.batch
        self.host_tokens: NDArray[Any] | None = None
        if square.vocabulary:
            places = random.child("tokens").uniform((rows,), 0, square.vocabulary)
            self.host_tokens = places.astype(np.int64)
        shape = square.vocabulary or rows, square.features
        self.host_x = random.child("x").normal(shape).astype(np.float32)
        self.host_dy = random.child("dy").normal((rows, square.hidden)).astype(np.float32)
        self.x, self.dy = backend.asarray(self.host_x), backend.asarray(self.host_dy)
        self.packing = Packing.of(np.full(square.batch, square.steps), backend)
        self.passes = {PASSES[0]: self.forward, PASSES[1]: self.both}

    def forward(self) -> Any:
        """All states."""
        hidden = self.layer.forward(self._input()[0], packing=self.packing)[0][0]
        self.backend.synchronize()
        return hidden

    def both(self) -> Any:
        """All states and the gradient of the input; those of the parameters are in the layer."""
        x, vocabulary = self._input()
        (hidden, *last), cache = self.layer.forward(x, packing=self.packing)
        self.layer.zero_grads()
        d_x = self.layer.backward((self.dy, *(None for _ in last)), cache)[0]
        if vocabulary is not None:
            d_table = np.zeros_like(self.x)
            d_table[vocabulary] = d_x
            d_x = d_table
        self.backend.synchronize()
        return hidden, d_x

    def _input(self) -> tuple[Rows, Any]:
        """Input and None; or what to look up in the rows that occur, and their places."""
        if self.host_tokens is None:
            return self.x, None
        present = np.zeros(len(self.x), dtype=bool)
        present[self.host_tokens] = True
        vocabulary, numbers = np.flatnonzero(present), present.cumsum() - 1
        rows = LookedUp(self.x.take(vocabulary, axis=0), numbers.take(self.host_tokens))
        return rows, vocabulary

    def limited(self, way: int) -> Any:
        """See :class:`Side`."""
        return blas_threads(way)

    def results(self) -> Arrays:
        """See :class:`Side`."""
        hidden, d_x = self.both()
        arrays = {"states": hidden, "x": d_x, **self.layer.grads}
        return {name: self.backend.to_numpy(value) for name, value in arrays.items()}


class Torch(Side):
    """PyTorch's module, with the weights, the input and the gradient of ``ours``.

    Tokens are looked up by ``torch.nn.functional.embedding``.
    """

    def __init__(self, square: Square, ours: Ours) -> None:
        self.ways = ours.ways
        self.layer = torch_twin(MODULES[square.cell], ours.layer)
        shape = (square.steps, square.batch)
        self.tokens: Any = None
        x = ours.host_x
        if ours.host_tokens is None:
            x = x.reshape(*shape, -1)
        else:
            self.tokens = torch.from_numpy(ours.host_tokens.reshape(shape))
        self.x = torch.from_numpy(x).requires_grad_()
        self.dy = torch.from_numpy(ours.host_dy.reshape(*shape, -1))
        self.passes = {PASSES[0]: self.forward, PASSES[1]: self.both}

    def _states(self) -> Any:
        x = self.x
        if self.tokens is not None:
            x = torch.nn.functional.embedding(self.tokens, x)
        return self.layer(x)[0]

    def forward(self) -> Any:
        """All states."""
        with torch.no_grad():
            return self._states()

    def both(self) -> Any:
        """All states; the gradients are in the module and in ``x``."""
        self.x.grad = None
        self.layer.zero_grad()
        hidden = self._states()
        hidden.backward(self.dy)
        return hidden

    def limited(self, way: int) -> Any:
        """See :class:`Side`; PyTorch keeps the number until the next call."""
        torch.set_num_threads(way)
        return threadpool_limits(way, user_api="openmp")

    def results(self) -> Arrays:
        """See :class:`Side`."""
        arrays = {"states": self.both().detach(), "x": self.x.grad}
        arrays |= {name: value.grad for name, value in self.layer.named_parameters()}
        return {name: value.numpy().reshape(-1, value.shape[-1]) for name, value in arrays.items()}


def require_agreement(square: Square, results: dict[str, Arrays]) -> float:
    """The largest relative difference; raises :class:`InputError` where it is not rounding."""
    ours, worst = results[OURS], 0.0
    for library in [library for library in results if library != OURS]:
        for name, value in ours.items():
            other = results[library][name].reshape(value.shape)
            differs = float(np.abs(value - other).max() / max(np.abs(other).max(), 1e-30))
            if not differs <= AGREES:
                raise InputError(f"{square}: {name} differs from {library}'s by {differs:.2g} of "
                                 "its largest number; nothing is timed")  # fmt: skip
            worst = max(worst, differs)
    return worst
