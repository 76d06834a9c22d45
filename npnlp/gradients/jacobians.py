"""The chain rule for one sequence, factor by factor.

    (1)  J_t = dh_t/dh_{t-1} = diag(phi'(a_t)) W_hh            one step
    (2)  dh_T/dh_k = J_T J_{T-1} ... J_{k+1}                   T - k steps

A product of many matrices shrinks or grows with their singular values: ``sigma_max(J_t) <=
max phi'(a_t) * sigma_max(W_hh)``. :meth:`Jacobians.factors` gives both factors, to see which of
them makes the gradient vanish. Source: Pascanu, Mikolov and Bengio, "On the difficulty of training
recurrent neural networks", 2013, section 2.

The ``J_t`` of a cell with gates is a sum: one term for each gate, and one that does not contain the
weights, along which its gradients survive. That of the LSTM is for the pair (h, c). ``steps.py``
has the formulas and the bound. What the bound says, what the best direction would get, and what a
direction without relation to the weights gets, of a layer of your own:

>>> import numpy as np
>>> import npnlp
>>> layer, x = npnlp.layers.GRU(3, 16, dtype=np.float64), np.cos(np.arange(30.0)).reshape(10, 3)
>>> seen = npnlp.jacobians(layer, x)
>>> bound, best, typical = seen.bound(), seen.norms(), seen.mean_field()
>>> bool((typical <= best).all() and (best <= bound).all())
True
>>> bool(bound[-1] > 10 * best[-1])
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array
from npnlp.gradients.rounding import Rounding
from npnlp.gradients.shared_weights import predicted
from npnlp.gradients.steps import Steps, elman, relative_slopes, steps_of, sum_of
from npnlp.layers import Packing
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.summary import one_line

Floats = NDArray[np.float64]

#: A ``repr`` multiplies the chain out where that takes at most this many multiplications.
QUICK = 10**8


@dataclass(frozen=True, repr=False)
class Jacobians:
    """The Jacobians of one sequence of T steps, in float64 on the host.

    ``hidden (T, H)``: ``h_1 ... h_T``; ``derivatives (T, G H)``: ``phi'(a_t)``, for a cell with
    gates the slope of each gate divided by its largest possible slope; ``weight_hh (G H, H)``;
    ``steps``: the slopes and weights that ``J_t`` is made of, by default those of an Elman layer.
    The *state* of a cell with S states has S H entries: h, for the LSTM h and then c.
    """

    hidden: Floats
    derivatives: Floats
    weight_hh: Floats
    steps: Steps | None = None

    def __repr__(self) -> str:
        said = [f"T={len(self)}", f"H={self.weight_hh.shape[1]}"]
        if len(self) * self.size**3 <= QUICK:
            with np.errstate(all="ignore"):
                product = self.to(0)
            largest = np.linalg.norm(product, 2) if np.isfinite(product).all() else np.inf
            said.append(f"largest singular value of the product {largest:.1e}")
        return one_line(type(self).__name__, said)

    def __len__(self) -> int:
        return len(self.derivatives)

    @property
    def size(self) -> int:
        """``S H``, the size of the state."""
        return len(self.step(1))

    def parts(self, t: int) -> dict[str, Floats]:
        """The terms of ``J_t`` by gate, each ``(S H, S H)``, for ``t`` from 1 to T.

        They add up to :meth:`step`. ``"direct"`` is the term without ``W_hh``: ``diag(z)`` of a
        GRU, ``diag(f)`` along the cell state of an LSTM. An Elman layer has none.
        """
        return self._steps.parts(t - 1)

    def step(self, t: int) -> Floats:
        """``J_t``, the derivative of the state after step t by the state before: ``(S H, S H)``."""
        jacobian: Floats = sum_of(self.parts(t))
        return jacobian

    def to(self, k: int) -> Floats:
        """``dh_T/dh_k``, the product ``J_T ... J_{k+1}``; the identity for k = T."""
        product = np.eye(self.size)
        for t in range(len(self), k, -1):
            product = product @ self.step(t)
        return product

    def singular_values(self) -> Floats:
        """Singular values of ``dh_T/dh_k``, largest first, for k = T, ..., 0: ``(T + 1, S H)``."""
        product = np.eye(self.size)
        values = [np.linalg.svd(product, compute_uv=False)]
        for t in range(len(self), 0, -1):
            product = product @ self.step(t)
            values.append(np.linalg.svd(product, compute_uv=False))
        return np.array(values)

    def norms(self) -> Floats:
        """``|dh_T/dh_k|_2`` for lags 0, 1, ..., T: the most of a gradient that can arrive there.

        Of the hidden state, for the LSTM through both states: ``(T + 1,)``.
        """
        found: Floats = np.linalg.norm(self._to_hidden(), 2, axis=(1, 2))
        return found

    def surviving_share(self, d: Floats) -> Floats:
        """The share of ``d = dL/dh_T (H,)`` in the directions that survive: ``(T + 1,)``.

        ``|P^T d|^2 / (|P|_2 |d|)^2`` with ``P = dh_T/dh_k``, for lags 0, 1, ..., T (``norms.py``).
        """
        arriving = np.linalg.norm(d @ self._to_hidden(), axis=1)
        most = self.norms() * np.linalg.norm(d)
        share: Floats = np.divide(arriving, most, out=np.zeros_like(most), where=most > 0) ** 2
        return share

    def mean_field(self) -> Floats:
        """The part of a gradient that arrives by mean-field theory: ``(T + 1,)``.

        For lags 0, 1, ..., T of a gradient whose direction has nothing to do with the weights, from
        the activations and the size of the weights alone (``shared_weights.py``).
        """
        return predicted(self._steps)

    def factors(self) -> tuple[Floats, Floats]:
        """The largest ``phi'(a_t)`` of each step ``(T,)``, and the singular values of ``W_hh``
        ``(H,)``, largest first.
        """
        slopes: Floats = self.derivatives.max(axis=1)
        sigma = np.linalg.svd(self.weight_hh, compute_uv=False).astype(np.float64)
        return slopes, sigma

    def bound(self) -> Floats:
        """``prod sigma_max(W_hh) max phi'(a_t)`` for lags 0, 1, ..., T: ``(T + 1,)``.

        No singular value of ``dh_T/dh_k`` is larger than the bound of lag ``T - k``. For a cell
        with gates the factors are those of (5) and (6) in ``steps.py``; where these are matrices
        ``M_t``, the bound is the largest singular value of their product.
        """
        factors = self._steps.bounds()[::-1]
        if factors.shape[1] == 1:
            return np.concatenate([[1.0], np.cumprod(factors)])
        product, bounds = np.eye(factors.shape[1]), [1.0]
        for factor in factors:
            product = product @ factor
            finite = np.isfinite(product).all()
            bounds.append(float(np.linalg.norm(product, 2)) if finite else np.inf)
        return np.array(bounds)

    def lyapunov_exponents(self) -> Floats:
        """The mean logarithm of growth per step in each direction, largest first ``(S H,)``.

        By repeated QR (Benettin et al., 1980), since the product itself would under- or overflow:
        ``J_t Q_{t-1} = Q_t R_t``, and the exponents are the means of ``log |diag R_t|``. Where the
        largest exponent is negative, all gradients vanish, at that rate per step; a direction that
        a step maps to zero has ``-inf``. Their sum is the mean of ``log |det J_t|``.
        """
        q, logs = np.eye(self.size), np.zeros(self.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            for t in range(1, len(self) + 1):
                jacobian = self.step(t)
                q, diagonal = _orthogonal(jacobian @ q)
                growth = np.log(diagonal)
                determined = np.linalg.slogdet(jacobian)[1] - growth[:-1].sum()
                if determined < np.inf:  # of the last, the determinant knows the most digits
                    growth[-1] = determined
                logs += growth
        return np.sort(logs / len(self))[::-1]

    def _to_hidden(self) -> Floats:
        """``dh_T/dh_k`` for k = T, ..., 0: ``(T + 1, H, H)``."""
        size = self.weight_hh.shape[1]
        rows, found = np.eye(size, self.size), [np.eye(size)]
        for t in range(len(self), 0, -1):
            rows = rows @ self.step(t)
            found.append(rows[:, :size])
        return np.array(found)

    @property
    def _steps(self) -> Steps:
        if self.steps is not None:
            return self.steps
        rounding = Rounding.of_elman(self.derivatives)
        return Steps(elman, (self.derivatives,), (), (self.weight_hh,), rounding)


def _orthogonal(matrix: Floats) -> tuple[Floats, Floats]:
    """Q of ``A = Q R``, and ``|diag R|``, for rows of any size beside each other.

    A saturated unit has a row as small as its slope, and reflections of whole columns would round
    it by what is left of the large ones. Elimination with row exchanges, ``A = P L U``, rounds
    every row by its own size; L has entries up to 1, and with ``P L = Q S`` R is ``S U``, whose
    diagonal is the product of both (Higham, 2002, sections 9.3 and 19.4).
    """
    size = len(matrix)
    upper, lower, order = matrix.copy(), np.eye(size), np.arange(size)
    for k in range(size):
        pivot = k + int(np.abs(upper[k:, k]).argmax())
        if pivot != k:
            for array, columns in ((upper, size), (lower, k)):
                array[[k, pivot], :columns] = array[[pivot, k], :columns]
            order[[k, pivot]] = order[[pivot, k]]
        if upper[k, k] != 0:
            lower[k + 1 :, k] = upper[k + 1 :, k] / upper[k, k]
            upper[k + 1 :, k:] -= lower[k + 1 :, k, None] * upper[k, k:]
    q, s = np.linalg.qr(lower)
    return q[np.argsort(order)], np.abs(np.diag(s) * np.diag(upper))


def jacobians(layer: Recurrent, x: Array, *initial: Array | None) -> Jacobians:
    """The Jacobians of ``layer`` along one sequence ``x (T, D)``.

    ``initial`` are the initial states ``(H,)``, all or none; by default zeros.
    """
    double = layer.astype(np.float64)
    states = [None if state is None else state[None].astype(np.float64) for state in initial]
    packing = Packing.of(np.array([len(x)]), layer.backend)
    _, cache = double.forward(x.astype(np.float64), *states, packing=packing)
    steps = steps_of(double, cache)
    return Jacobians(
        hidden=layer.backend.to_numpy(cache.hidden),
        derivatives=relative_slopes(double, cache, steps).swapaxes(0, 1).reshape(len(x), -1),
        weight_hh=np.concatenate(steps.weights),
        steps=steps,
    )
