"""The fused operations of a backend, in plain array calls: what every kernel has to equal.

NumPy computes with these; on a device each of them would be a launch a line, and ``kernels/`` has
one kernel instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: What backward makes for many rows at once, it makes for so many: they stay in a core's cache,
#: where those of a long sequence would have to come from main memory each time.
BLOCK = 2048


def affine(
    xp: Any, x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], groups: int
) -> NDArray[Any]:
    """``x W^T + b``: ``(N, n)``, or ``(groups, N, n / groups)``."""
    y: NDArray[Any]
    if groups == 1:
        y = xp.dot(x, weight.T)
        y += bias
    else:
        y = xp.matmul(x, weight.reshape(groups, -1, weight.shape[1]).swapaxes(1, 2))
        y += bias.reshape(groups, 1, -1)
    return y


def affine_backward(
    xp: Any, dy: NDArray[Any], x: NDArray[Any], weight: NDArray[Any],
    d_weight: NDArray[Any], d_bias: NDArray[Any],
) -> NDArray[Any]:  # fmt: skip
    """``dL/dx = dy W``; ``dL/dW = dy^T x`` and ``dL/db = sum_n dy_n`` are added."""
    # A product with ones is a sum over rows, at the speed of BLAS.
    d_bias += xp.dot(xp.ones(len(dy), dtype=dy.dtype), dy)
    d_weight += xp.dot(dy.T, x)
    dx: NDArray[Any] = xp.dot(dy, weight)
    return dx


def add_outer(
    xp: Any, out: NDArray[Any], left: NDArray[Any], right: NDArray[Any],
    rows: NDArray[Any] | None,
) -> None:  # fmt: skip
    """``out += sum_n left_n^T right_{rows_n}``."""
    product = xp.dot if left.flags.c_contiguous else xp.matmul  # dot would copy columns first
    if rows is None:
        out += product(left.T, right)
        return
    for start in range(0, len(left), BLOCK):
        some = slice(start, start + BLOCK)
        out += product(left[some].T, right.take(rows[some], axis=0))


def relu(xp: Any, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """``max(x, 0)``, and 1 where x is above 0, else 0."""
    # Of complex numbers the one with the larger real part is the maximum.
    return xp.maximum(x, 0), x.real > 0


def count_correct(xp: Any, logits: NDArray[Any], targets: NDArray[Any]) -> Any:
    """How many rows of ``logits (B, C)`` are largest at ``targets (B,)``."""
    return (logits.argmax(axis=1) == targets).sum()


def square_sums(xp: Any, values: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[Any]:
    """Of each part of a flat array the sum of squares; ``ends`` says where each part ends."""
    sums, start = [], 0
    for end in ends.tolist():
        part = values[start:end]
        sums.append(xp.dot(part, part))
        start = end
    return xp.array(sums)  # type: ignore[no-any-return]


def softmax_losses(
    xp: Any, logits: NDArray[Any], targets: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """``l_b = log sum_c exp z_bc - z_b,y_b`` ``(B,)``, behind the probabilities ``(B, C)``."""
    # Softmax does not change when a row is shifted; its largest element keeps exp in range.
    shifted = logits - logits.real.max(axis=1)[:, None]
    exponentials = xp.exp(shifted)  # (1)
    sums = exponentials.sum(axis=1)  # (2)
    losses = xp.log(sums) - shifted.reshape(-1).take(_places(xp, logits, targets))  # (3)
    return exponentials / sums[:, None], losses


def softmax_losses_backward(
    xp: Any, d_losses: Any, probabilities: NDArray[Any], targets: NDArray[Any]
) -> NDArray[Any]:
    """``dL/dz_bc = dL/dl_b (softmax(z_b)_c - [c == y_b])``."""
    one_hot_less = probabilities.copy()  # undoes (3), (2), (1): the log-sum-exp
    one_hot_less.reshape(-1)[_places(xp, probabilities, targets)] -= 1  # undoes (3): the target
    one_hot_less *= d_losses[:, None] if getattr(d_losses, "ndim", 0) else d_losses
    return one_hot_less


def _places(xp: Any, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Where each row's target lies in the flat logits."""
    places: NDArray[Any] = targets + xp.arange(0, logits.size, logits.shape[1])
    return places


class AdamNumbers(NamedTuple):
    """What a step of Adam needs besides arrays; ``rate`` and ``eps`` hold the step's corrections.

    With ``m^ = a m`` and ``v^ = b^2 v``, the change is ``(eta a / b) m / (sqrt(v) + eps / b)``.
    """

    b1: float
    b2: float
    rate: float
    eps: float


def adam_step(
    xp: Any, values: NDArray[Any], grads: NDArray[Any],
    moments: tuple[NDArray[Any], NDArray[Any]], scratch: NDArray[Any], numbers: AdamNumbers,
) -> None:  # fmt: skip
    """``m <- b1 m + g``, ``v <- b2 v + g^2``, ``w <- w - rate m / (sqrt(v) + eps)``, in place."""
    m, v = moments
    m *= numbers.b1
    m += grads
    v *= numbers.b2
    xp.multiply(grads, grads, out=scratch)
    v += scratch
    xp.sqrt(v, out=scratch)
    scratch += numbers.eps
    xp.divide(m, scratch, out=scratch)
    scratch *= numbers.rate
    values -= scratch
