"""The norm of the product of Jacobians itself, by lag.

For step ``T - k`` of a sequence whose last one is T, with ``P = dh_T/dh_{T-k}`` (of the LSTM
through both of its states) and ``d_t = dL/dh_t``:

    (1)  r = P^T d_T                                  what arrives of the last step's gradient
    (2)  |P|_2 = max |P^T u| over |u| = 1             the most that could, by its direction
    (3)  |d_T| |P|_2 + |d_{T-k} - r|                  the norm of the product, as a gradient
    (4)  share = |r|^2 / (|d_T| |P|_2)^2
               = sum_i (s_i / s_1)^2 (u_i . d_T)^2 / |d_T|^2

``d_{T-k} - r`` came from above at the steps in between; where the loss reads the last state alone
it is 0. (4) is the share of ``d_T`` in the directions that survive: the left singular vectors
``u_i`` of P, each counted by how much of it is left against the best one, with the singular values
``s_1 >= s_2 >= ...``. It is 1 where ``d_T`` has the direction that survives best, and on average
``sum_i (s_i / s_1)^2 / H`` where its direction has nothing to do with P.

By (2), ``|d_{T-k}| <= |r| + |d_{T-k} - r| <= (3)``; and (3) is at most the chain rule's bound,
since the norm of a product is at most the product of the norms. No direction does better than (3),
while the bound may be out of reach of all of them.

P is made step by step, ``P <- P J_t``: H gradients taken back together. (2) is found by Lanczos'
way on ``P P^T``, started near ``d_T``: what it finds is never above ``|P|_2`` and grows towards it.
Source: Golub and Van Loan, "Matrix computations", 2013, sections 2.3 and 10.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.applied import taken_back
from npnlp.gradients.rounding import norms_of
from npnlp.gradients.steps import Steps
from npnlp.layers.packing import Packing

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Products of so many sequences of a batch, where H is at most ``UNITS``; of fewer where it is
#: larger, since a product takes H times as much as a gradient.
SEQUENCES, UNITS = 3, 64
#: Products whose norms are sought together: they fit a core's cache.
TOGETHER = 64
#: Steps of Lanczos' way. They find the norm of a random matrix, whose largest singular values
#: are close to each other, to 4 %, and that of a product of several to half a percent.
TURNS = 9
#: The part of a start that is no gradient, for a product that lets nothing of that through.
ASIDE = 0.25
#: What is smaller is no direction.
TINY = 1e-30


def chosen(d_last: Floats, sequences: int | None = None) -> Integers:
    """The sorted places of the sequences whose products are made: of all lengths, with the longest.

    ``d_last (B, H)`` are their ``d_T``: where that is 0, so is (3), and other ones are taken, if
    there are any. ``sequences``, how many, by default ``SEQUENCES`` or fewer.
    """
    count, size = d_last.shape
    most = max(1, min(SEQUENCES, SEQUENCES * UNITS // size)) if sequences is None else sequences
    alive = np.flatnonzero(d_last.any(axis=1))
    among = alive if len(alive) and most < count else np.arange(count)
    most = min(most, len(among))
    spread: Integers = among[np.arange(most) * len(among) // most]
    return spread


def products(
    steps: Steps, packing: Packing, places: Integers, states: int
) -> Iterator[tuple[Integers, Floats]]:
    """Lag after lag from 1 on: the packed rows ``(n,)`` of sequences, and their P ``(n, H, H)``.

    Of the sequences in the sorted ``places``.
    """
    size, dtype = steps.weights[0].shape[1], steps.slopes[0].dtype
    last = packing.longest_first[places] - 1
    identity = np.broadcast_to(np.eye(size, dtype=dtype), (len(places), size, size))
    parts = (identity, *(np.zeros_like(identity) for _ in range(1, states)))
    for lag in range(1, int(last.max()) + 1):
        here = last >= lag  # the longest come first
        step, kept = packing.runs[0][last[here] - lag + 1] + places[here], int(here.sum())
        parts = taken_back(steps, step, tuple(part[:kept] for part in parts))
        yield packing.runs[0][last[here] - lag] + places[here], parts[0]


def largest_singular_values(p: Floats, start: Floats, turns: int = TURNS) -> Floats:
    """(2) of ``p (n, H, H)``, sought from the directions ``start (n, H)``; from below.

    Lanczos: ``b_j q_{j+1} = A q_j - a_j q_j - b_{j-1} q_{j-1}`` with ``A = P P^T / s^2``; the
    largest eigenvalue of the matrix of ``a_j`` on the diagonal and ``b_j`` beside it grows to that
    of A. ``s = |P^T q_1|``, so that nothing vanishes or overflows on the way. Infinite where P is.
    """
    turns, q, back = min(turns, 4 * p.shape[1]), _start(start), p.swapaxes(1, 2)
    s = norms_of(_times(back, q)).astype(p.dtype)[:, None]
    s[s == 0] = 1
    before, b, small = q, np.zeros_like(s), np.zeros((len(q), turns, turns))
    for j in range(turns):
        w = _times(p, _times(back, q) / s) / s
        w -= b * before
        a = np.einsum("ni,ni->n", w, q)
        w -= a[:, None] * q
        b = np.sqrt(np.einsum("ni,ni->n", w, w))[:, None]
        before, q = q, w / np.maximum(b, TINY)
        small[:, j, j] = a
        small[:, j + 1 : j + 2, j] = b  # of a symmetric matrix, what is below the diagonal
    finite = np.isfinite(small).all(axis=(1, 2))
    found, largest = np.full(len(q), np.inf), np.linalg.eigvalsh(small[finite])[:, -1]
    found[finite] = np.sqrt(np.maximum(largest, 0)) * s[finite, 0]
    return found


def norms_and_shares(
    steps: Steps,
    packing: Packing,
    d: tuple[Floats, ...],
    sequences: int | None = None,
    turns: int = TURNS,
) -> tuple[Floats, Floats]:
    """(3) and (4) of every packed row ``(N,)``, NaN where no product is made.

    ``d``, the gradients of all states ``(N, H)``, on the host.
    """
    norms, shares = np.full((2, packing.rows), np.nan)
    ends = packing.runs[0][packing.longest_first - 1] + np.arange(len(packing.lengths))
    d_last = d[0][ends]
    places = chosen(d_last, sequences)
    norms[ends[places]], shares[ends[places]] = norms_of(d_last[places]), 1
    for rows, p in _together(products(steps, packing, places, len(d))):
        top = d_last[packing.places[rows]]
        arriving = _times(p.swapaxes(1, 2), top)  # (1)
        size, got = norms_of(top), norms_of(arriving)
        most = np.maximum(size * largest_singular_values(p, top, turns), got)  # (2)
        norms[rows] = most + norms_of(d[0][rows] - arriving)  # (3)
        shares[rows] = np.divide(got, most, out=np.zeros_like(got), where=most > 0) ** 2  # (4)
    return norms, shares


def _start(near: Floats) -> Floats:
    """A unit vector near each row of ``near (n, H)``, and not orthogonal to all that survives."""
    size = near.shape[1]
    aside = np.cos(np.arange(1.0, size + 1)).astype(near.dtype) * np.sqrt(2 / size)
    norms = norms_of(near)[:, None]
    mixed = (near / np.where(norms > 0, norms, 1)) + ASIDE * aside
    started: Floats = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(near.dtype)
    return started


def _together(
    found: Iterator[tuple[Integers, Floats]],
) -> Iterator[tuple[Integers, Floats]]:
    """Rows and products, ``TOGETHER`` or a few more at a time."""
    rows: list[Integers] = []
    several: list[Floats] = []
    for of_lag, p in found:
        rows.append(of_lag)
        several.append(p)
        if sum(map(len, rows)) >= TOGETHER:
            yield np.concatenate(rows), np.concatenate(several)
            rows, several = [], []
    if rows:
        yield np.concatenate(rows), np.concatenate(several)


def _times(matrices: Floats, vectors: Floats) -> Floats:
    product: Floats = (matrices @ vectors[..., None])[..., 0]
    return product
