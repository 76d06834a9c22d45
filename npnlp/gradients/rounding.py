"""How far rounding may carry a backward pass above the chain rule's bound.

With u the unit roundoff of the layer's type, eta its smallest number above 0, H units and G gates,
one step back differs from its equation by at most

    (1)  4 u m                              in each factor F_g, of sums and products of numbers up
                                            to m, at least 1; of Elman u, as 1 - h^2 may be rounded
                                            once or twice, and nothing where it is 0: h is then +-1
    (2)  (G H sqrt(H) + 4 H + 16) u         relative to the bound: the product with W_hh, then
                                            norms, sums and the products with F_g
    (3)  m (1 + sum_g sigma_g) (G H)^1.5 eta     where products are smaller than eta

In (2) a product of n terms has ``|fl(A d) - A d| <= n u |A| |d|``, and the norm of ``|A|`` is at
most ``sqrt(H) sigma_max(A)``. The bound is made larger by (1) and (3), and by twice (2), which
covers terms of order u^2 and the rounding of the bound's own float64.

Source: Higham, "Accuracy and stability of numerical algorithms", 2002, sections 2.1 and 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.summary import summarized

Floats = NDArray[np.float64]


@summarized
@dataclass(frozen=True)
class Rounding:
    """The rounding of a layer of this ``dtype``.

    ``largest (N, 1)`` is m for every row, and ``slack (N, 1)`` is (1).
    """

    dtype: np.dtype[Any]
    largest: Floats
    slack: Floats

    @classmethod
    def of_elman(cls, slopes: NDArray[Any]) -> Rounding:
        """Of an Elman layer with these ``slopes (N, H)``."""
        moving = (slopes != 0).any(axis=1, keepdims=True)
        return cls(slopes.dtype, np.ones(moving.shape), _unit(slopes.dtype) * moving)

    @classmethod
    def of_gates(cls, arrays: Sequence[NDArray[Any]]) -> Rounding:
        """Of a cell whose factors are made of ``arrays (..., N, H)``."""
        rows = arrays[0].shape[-2]
        each = [np.abs(array).max(axis=-1).reshape(-1, rows).max(axis=0) for array in arrays]
        largest = np.maximum(1.0, np.max(each, axis=0))[:, None]
        return cls(arrays[0].dtype, largest, 4 * _unit(arrays[0].dtype) * largest)

    def relative(self, gates: int, size: int) -> float:
        """One and twice (2)."""
        terms = gates * size * math.sqrt(size) + 4 * size + 16
        return 1 + 2 * terms * _unit(self.dtype)

    def least(self, gates: int, size: int, sigmas: Sequence[float]) -> float:
        """(3), the largest of all rows; ``sigmas`` are those of the gates."""
        smallest = float(np.finfo(self.dtype).smallest_subnormal)
        least = self.largest.max() * (1 + sum(sigmas)) * (gates * size) ** 1.5 * smallest
        return float(least)


def norms_of(rows: NDArray[Any]) -> Floats:
    """The norm of each row of ``(N, H)`` in float64, whose squares neither vanish nor overflow."""
    rows = rows.astype(np.float64)
    _, exponents = np.frexp(np.abs(rows).max(axis=1, initial=0.0))
    scaled = np.ldexp(rows, -exponents[:, None])  # by a power of two, which rounds nothing
    found: Floats = np.ldexp(np.linalg.norm(scaled, axis=1), exponents)
    return found


def _unit(dtype: np.dtype[Any]) -> float:
    """u, the unit roundoff."""
    return float(np.finfo(dtype).eps) / 2
