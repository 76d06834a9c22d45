"""The norm of the gradient of all parameters together, and clipping it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.layers import FlatParameters


def squared_norms(flat: FlatParameters, backend: Backend) -> Array:
    """``|dL/dp|^2`` of each parameter ``(P,)``, in the order of ``flat.parameters``."""
    if not flat.rows:
        return backend.square_sums(flat.grads, flat.ends)
    parts = [part.reshape(-1) for part in flat.taken(flat.views_of_grads).values()]
    return backend.xp.array([backend.xp.dot(part, part) for part in parts])  # type: ignore[no-any-return]


def clip_grad_norm(grads: Array, max_norm: float | None, backend: Backend) -> Array:
    """``g <- g min(1, max_norm / |g|)`` in place; returns ``|g|`` from before.

    With ``max_norm`` None only the norm is taken. Source: Pascanu, Mikolov and Bengio, "On the
    difficulty of training recurrent neural networks", 2013, algorithm 1; the 1e-6 that keeps a
    zero gradient from dividing by zero is PyTorch's.
    """
    xp = backend.xp
    norm: Array = xp.sqrt(xp.dot(grads, grads))
    if max_norm is not None:
        grads *= xp.minimum(max_norm / (norm + 1e-6), 1.0)
    return norm


def clip_rows(flat: FlatParameters, squares: Array, max_norm: float | None) -> Array:
    """:func:`clip_grad_norm` of a batch that reads ``flat.rows``, from its ``squares``."""
    norm: Array = np.sqrt(squares.sum())
    if max_norm is not None:
        by = np.minimum(max_norm / (norm + 1e-6), 1.0)
        for name, grad in flat.views_of_grads.items():
            grad[flat.rows.get(name, slice(None))] *= by
    return norm


def clipped(norms: NDArray[np.float64], max_norm: float | None) -> NDArray[np.float64]:
    """These norms after :func:`clip_grad_norm`, on the host."""
    return norms if max_norm is None else norms * np.minimum(max_norm / (norms + 1e-6), 1.0)
