"""A recurrent layer in JAX at one size, with the weights and the input of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import numpy as np

from passes.grid_sides import PASSES, Arrays, Ours, Side, Square
from passes.jax_layers import as_pytorch, jax, jnp, projected, states_of, stored

#: Steps of the scan that stand one after another.
UNROLLED = (1, 4)


def states(parameters: Any, x: Any, tokens: Any, cell: str, unroll: int) -> Any:
    """All states; of ``tokens (T, B)`` the table ``x`` is projected, and then looked up."""
    u, inner = projected(parameters, x, cell)
    return states_of(parameters, u if tokens is None else u[tokens], inner, cell, unroll)


def both(parameters: Any, x: Any, tokens: Any, dy: Any, cell: str, unroll: int) -> Any:
    """All states, and the gradients of parameters and input."""
    found, undo = jax.vjp(lambda p, x: states(p, x, tokens, cell, unroll), parameters, x)
    return found, *undo(dy)


@cache
def compiled(cell: str, unroll: int) -> dict[str, Callable[..., Any]]:
    """Both passes, each compiled once for a shape."""
    calls: dict[str, Callable[..., Any]] = {PASSES[0]: states, PASSES[1]: both}
    return {name: jax.jit(partial(call, cell=cell, unroll=unroll)) for name, call in calls.items()}


class Jax(Side):
    """``lax.scan`` over the steps, compiled, with the numbers of ``ours``."""

    def __init__(self, square: Square, ours: Ours) -> None:
        self.ways, self.cell, self.unroll = UNROLLED, square.cell, 1
        self.parameters = stored(ours.layer.parameters)
        shape = (square.steps, square.batch)
        tokens, x = ours.host_tokens, ours.host_x
        self.tokens = None if tokens is None else jnp.asarray(tokens.reshape(shape), jnp.int32)
        self.x = jnp.asarray(x.reshape(*shape, -1) if tokens is None else x)
        self.dy = jnp.asarray(ours.host_dy.reshape(*shape, -1))
        self.passes = {
            PASSES[0]: partial(self._called, PASSES[0]),
            PASSES[1]: partial(self._called, PASSES[1], self.dy),
        }

    def _called(self, name: str, *more: Any) -> Any:
        call = compiled(self.cell, self.unroll)[name]
        return jax.block_until_ready(call(self.parameters, self.x, self.tokens, *more))

    def limited(self, way: int) -> Any:
        """See :class:`Side`; the process is held to a number of cores (:mod:`passes.held`)."""
        self.unroll = way
        return nullcontext()

    def results(self) -> Arrays:
        """See :class:`Side`."""
        hidden, d, d_x = self.passes[PASSES[1]]()
        arrays = {"states": hidden, "x": d_x, **as_pytorch(d)}
        return {name: np.asarray(value) for name, value in arrays.items()}
