"""A step of Adam in reused arrays; see ``training/optimizers.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.operations import AdamNumbers, Array


def adam_step(
    values: Array, grads: Array, moments: tuple[Array, Array], scratch: Array,
    numbers: AdamNumbers,
) -> None:  # fmt: skip
    """See :data:`AdamStep`."""
    m, v = moments
    m *= numbers.b1
    m += grads
    v *= numbers.b2
    np.multiply(grads, grads, out=scratch)
    v += scratch
    np.sqrt(v, out=scratch)
    scratch += numbers.eps
    np.divide(m, scratch, out=scratch)
    scratch *= numbers.rate
    values -= scratch
