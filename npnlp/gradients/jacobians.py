"""The chain rule for one sequence, factor by factor.

    J_t = dh_t/dh_{t-1} = diag(phi'(a_t)) W_hh            one step
    dh_T/dh_k = J_T J_{T-1} ... J_{k+1}                   T - k steps

A product of many matrices shrinks or grows with their singular values: ``sigma_max(J_t) <=
max phi'(a_t) * sigma_max(W_hh)``. Both factors are kept apart here, so that one sees which of them
makes the gradient vanish. Source: Pascanu, Mikolov and Bengio, "On the difficulty of training
recurrent neural networks", 2013, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array
from npnlp.layers import Packing
from npnlp.layers.recurrent import Recurrent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Jacobians:
    """The Jacobians of one sequence of T steps, in float64 on the host.

    ``hidden (T, H)``: ``h_1 ... h_T``; ``derivatives (T, H)``: ``phi'(a_t)``; ``weight_hh (H, H)``.
    """

    hidden: Floats
    derivatives: Floats
    weight_hh: Floats

    def __len__(self) -> int:
        return len(self.derivatives)

    def step(self, t: int) -> Floats:
        """``J_t = dh_t/dh_{t-1} = diag(phi'(a_t)) W_hh``, ``t`` from 1 to T, ``(H, H)``."""
        jacobian: Floats = self.derivatives[t - 1][:, None] * self.weight_hh
        return jacobian

    def to(self, k: int) -> Floats:
        """``dh_T/dh_k`` as the explicit product ``J_T ... J_{k+1}``; the identity for k = T."""
        product = np.eye(self.hidden.shape[1])
        for t in range(len(self), k, -1):
            product = product @ self.step(t)
        return product

    def singular_values(self) -> Floats:
        """Those of ``dh_T/dh_k``, largest first, for k = T, T-1, ..., 0: ``(T + 1, H)``."""
        product = np.eye(self.hidden.shape[1])
        values = [np.linalg.svd(product, compute_uv=False)]
        for t in range(len(self), 0, -1):
            product = product @ self.step(t)
            values.append(np.linalg.svd(product, compute_uv=False))
        return np.array(values)

    def factors(self) -> tuple[Floats, Floats]:
        """The two factors apart: largest ``phi'(a_t)`` of each step ``(T,)``, and the singular
        values of ``W_hh`` ``(H,)``, largest first.
        """
        slopes: Floats = self.derivatives.max(axis=1)
        sigma = np.linalg.svd(self.weight_hh, compute_uv=False).astype(np.float64)
        return slopes, sigma

    def bound(self) -> Floats:
        """``prod sigma_max(W_hh) max phi'(a_t)`` for lags 0, 1, ..., T: ``(T + 1,)``.

        No singular value of ``dh_T/dh_k`` is larger than that of lag ``T - k``.
        """
        slopes, sigma = self.factors()
        return np.concatenate([[1.0], np.cumprod(sigma[0] * slopes[::-1])])

    def lyapunov_exponents(self) -> Floats:
        """The mean logarithms of growth by step along H directions, largest first ``(H,)``.

        By repeated QR (Benettin et al., 1980): ``J_t Q_{t-1} = Q_t R_t`` and the exponents are the
        means of ``log |diag R_t|``; the product itself would under- or overflow. A negative
        largest exponent says that all gradients vanish, at that rate a step; a direction that a
        step annihilates has ``-inf``.
        """
        q = np.eye(self.hidden.shape[1])
        logs = np.zeros(self.hidden.shape[1])
        with np.errstate(divide="ignore"):
            for t in range(1, len(self) + 1):
                q, r = np.linalg.qr(self.step(t) @ q)
                logs += np.log(np.abs(np.diag(r)))
        return np.sort(logs / len(self))[::-1]


def jacobians(layer: Recurrent, x: Array, h0: Array | None = None) -> Jacobians:
    """The Jacobians of ``layer`` along one sequence ``x (T, D)``, from ``h0 (H,)`` or zeros."""
    backend = layer.backend
    double = layer.astype(np.float64)
    start = None if h0 is None else h0[None].astype(np.float64)
    packing = Packing.of(np.array([len(x)]), backend)
    (hidden, _), _ = double.forward(x.astype(np.float64), start, packing=packing)
    return Jacobians(
        hidden=backend.to_numpy(hidden),
        derivatives=backend.to_numpy(double.derivative(hidden)),
        weight_hh=backend.to_numpy(double.parameters["weight_hh_l0"]),
    )
