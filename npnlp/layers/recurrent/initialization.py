"""Initial values of the recurrent matrix ``W_hh``, by name.

The gradient through time depends on the singular values of ``W_hh``: below one it vanishes, above
one it may explode. An initialization chooses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.errors import require_known
from npnlp.layers.recurrent.recurrent import Recurrent

Matrix = NDArray[np.float64]


def orthogonal(size: int, random: Random) -> Matrix:
    """A random rotation: every singular value is 1 (Saxe, McClelland and Ganguli, 2014)."""
    q, r = np.linalg.qr(random.normal((size, size)))
    rotation: Matrix = q * np.sign(np.diag(r))
    return rotation


def identity(size: int, random: Random) -> Matrix:
    """The identity, for ReLU (Le, Jaitly and Hinton, "A simple way to initialize recurrent
    networks of rectified linear units", 2015).
    """
    return np.eye(size)


def scaled(spectral_norm: float) -> Callable[[int, Random], Matrix]:
    """Independent normal entries, scaled to the given largest singular value."""

    def draw(size: int, random: Random) -> Matrix:
        matrix = random.normal((size, size))
        scale = spectral_norm / float(np.linalg.norm(matrix, 2))
        return matrix * scale

    return draw


#: ``default`` is the layer's own, uniform in ``+-1/sqrt(H)``.
INITIALIZATIONS: dict[str, Callable[[int, Random], Matrix] | None] = {
    "default": None,
    "small": scaled(0.5),
    "unit": scaled(1.0),
    "large": scaled(2.0),
    "orthogonal": orthogonal,
    "identity": identity,
}


def initialize(layer: Recurrent, name: str, random: Random) -> None:
    """Set ``W_hh`` of ``layer`` as ``name`` says, and for ``identity`` the biases to zero.

    The block of ``W_hh`` of each gate is drawn independently. Raises :class:`InputError` for a name
    that is not in ``INITIALIZATIONS``.
    """
    require_known("initialization", name, INITIALIZATIONS)
    draw = INITIALIZATIONS[name]
    if draw is None:
        return
    for block, gate in enumerate(layer.gates):
        stream = random if len(layer.gates) == 1 else random.child(gate)
        drawn: Any = draw(layer.hidden_size, stream)
        rows = slice(block * layer.hidden_size, (block + 1) * layer.hidden_size)
        layer.weight("weight_hh")[rows] = layer.backend.asarray(drawn.astype(layer.dtype))
    if name == "identity":
        for bias in ("bias_ih", "bias_hh"):
            layer.weight(bias)[...] = 0
