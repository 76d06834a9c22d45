"""A recurrent layer in JAX, as its users write it: a step, and ``lax.scan`` over the steps.

Characters are looked up in a table that was multiplied with ``W_ih`` once, as this project does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npnlp.errors import InputError
from npnlp.optional import needs

WITHOUT_JAX = ""
try:
    with needs("JAX", "jax", "jaxlib", "optax"):
        import jax
        import optax
        from jax import lax
        from jax import numpy as jnp
except InputError as error:
    WITHOUT_JAX = str(error)

__all__ = [
    "WITHOUT_JAX", "as_pytorch", "jax", "jnp", "lax", "optax", "projected", "states_of", "stored",
]  # fmt: skip

Tree = Any
Step = Callable[..., tuple[Any, ...]]


def elman(state: tuple[Any, ...], u: Any, w: Any, b: Any) -> tuple[Any, ...]:
    """h = tanh(u + W h)."""
    return (jnp.tanh(u + state[0] @ w),)


def gru(state: tuple[Any, ...], u: Any, w: Any, b: Any) -> tuple[Any, ...]:
    """Gates r, z, n in this order; ``b`` is the new gate's inner bias."""
    (h,) = state
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    v_r, v_z, v_n = jnp.split(h @ w, 3, axis=-1)
    r, z = jax.nn.sigmoid(u_r + v_r), jax.nn.sigmoid(u_z + v_z)
    n = jnp.tanh(u_n + r * (v_n + b))
    return (n + z * (h - n),)


def lstm(state: tuple[Any, ...], u: Any, w: Any, b: Any) -> tuple[Any, ...]:
    """Gates i, f, g, o in this order."""
    h, c = state
    i, f, g, o = jnp.split(u + h @ w, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


STEPS: dict[str, Step] = {"elman": elman, "gru": gru, "lstm": lstm}


#: How they are called here, and PyTorch's names.
NAMES = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}


def stored(parameters: dict[str, Any]) -> Tree:
    """A layer's parameters, with weights ``(D, G H)`` and ``(H, G H)``: PyTorch's transposed."""
    return {short: jnp.asarray(parameters[name].T) for short, name in NAMES.items()}


def as_pytorch(parameters: Tree) -> dict[str, Any]:
    """The other way round."""
    return {name: parameters[short].T for short, name in NAMES.items()}


def projected(layer: Tree, x: Any, cell: str) -> tuple[Any, Any]:
    """``x W_ih + b`` of rows ``(..., D)``, and the bias that a GRU adds inside a step."""
    b_hh, inner = layer["b_hh"], None
    if cell == "gru":
        hidden = len(layer["w_hh"])
        inner, b_hh = b_hh[2 * hidden :], b_hh.at[2 * hidden :].set(0)
    return x @ layer["w_ih"] + (layer["b_ih"] + b_hh), inner


def states_of(layer: Tree, u: Any, inner: Any, cell: str, unroll: int) -> Any:
    """All hidden states ``(T, B, H)`` of projected input ``(T, B, G H)``, from zero."""
    zero = jnp.zeros((u.shape[1], len(layer["w_hh"])), u.dtype)

    def step(state: tuple[Any, ...], u_t: Any) -> tuple[tuple[Any, ...], Any]:
        state = STEPS[cell](state, u_t, layer["w_hh"], inner)
        return state, state[0]

    return lax.scan(step, (zero,) * (2 if cell == "lstm" else 1), u, unroll=unroll)[1]
