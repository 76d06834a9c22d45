"""The GRU of the tuned loop, both resets; the equations are in ``layers/recurrent/gru.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npnlp.backend.operations import Array
from npnlp.backend.tuned.cell import TunedCell, sigma_of_negated
from npnlp.backend.tuned.products import Operand, Product


class GRU(TunedCell):
    """The reset gate after the product: ``q = W_hn h + b_hn``, ``n = tanh(u_n + r q)``."""

    gates = 3
    candidate = 2
    arrays = ("gates", "product", "hidden")
    memory = ("gates", "product")
    deltas = 4
    scratch = 3
    factors = 4

    def constants(self, b_hh: Array, batch: int) -> tuple[Any, ...]:
        """The bias of q behind the others, for each row."""
        bias = self.bias_in_step(b_hh)
        return *super().constants(b_hh, batch), self.xp.tile(bias, (batch, 1))

    def bias_in_step(self, b_hh: Array) -> Array:
        """The bias of q."""
        return b_hh[self.block(self.candidate)]

    def bias_of_input(self, b_ih: Array, b_hh: Array) -> Array:
        """Both biases, without that of q."""
        bias = b_hh.copy()
        bias[self.block(self.candidate)] = 0
        return b_ih + bias

    def step(
        self, now: Sequence[Array], u: Array, before: Sequence[Array], recur: Product,
        *constants: Any,
    ) -> None:  # fmt: skip
        """(1) to (5)."""
        xp, (one, b_n) = self.xp, constants
        (a, q, h), (h_before,) = now, before
        p = recur(h_before)  # (1)
        gates, n = p[:2], a[2]
        xp.add(gates, u[:2], out=gates)
        sigma_of_negated(gates, one, xp)  # (2)
        r, z = gates
        xp.add(p[2], b_n[: len(q)], out=q)  # (3)
        xp.multiply(r, q, out=h)  # (4) with the next two lines: n
        xp.add(h, u[2], out=h)
        xp.tanh(h, out=n)
        xp.subtract(h_before, n, out=h)  # (5) h = n + z * (h_before - n)
        h *= z
        h += n
        a[:2] = gates

    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """``dh/da_n = (1 - z)(1 - n^2)``, ``dh/dq = dh/da_n r``, ``dh/da_r = dh/dq q (1 - r)``,
        ``dh/da_z = (h_before - n) z (1 - z)``, in the order r, z, q, n; returned: z, which is
        ``dh/dh_before`` without the paths through ``W_hh``.
        """
        (r, z, n), q, _, h_before = arrays
        blocks = delta.reshape(len(delta), 4, self.hidden_size)
        blocks[:, 1], blocks[:, 3] = d_z, d = slopes_of_update(z, n, h_before, scratch, self.xp)
        d *= r
        blocks[:, 2] = d
        d *= q
        self.xp.subtract(1, r, out=d_z)
        d *= d_z
        blocks[:, 0] = d
        return (z,)

    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """From ``dL/dh`` to that of the step before."""
        (d_h,), (z, factors), size = d, slopes, self.hidden_size
        factors.reshape(len(delta), 4, size)[...] = d_h[:, None]
        delta *= factors  # undoes (5), (4), (3), (2)
        d_h *= z  # undoes (5)
        d_h += back(delta[:, : 3 * size], slice(0, 3))  # undoes (1)

    def operands(self) -> tuple[Operand, ...]:
        """``W_hh`` is multiplied with h; n's block of ``delta`` is not part of its gradient."""
        return (Operand(columns=slice(0, 3 * self.hidden_size)),)

    def of_input(self, delta: Array) -> Array:
        """r, z, n."""
        size = self.hidden_size
        parts = [delta[..., : 2 * size], delta[..., 3 * size :]]
        joined: Array = self.xp.concatenate(parts, axis=-1)
        return joined

    def of_product(self, delta: Array) -> Array:
        """r, z, q."""
        return delta[..., : 3 * self.hidden_size]


class GRUResetBefore(TunedCell):
    """The reset gate before the product: ``m = r h_before``, ``n = tanh(u_n + W_hn m + b_hn)``."""

    gates = 3
    candidate = 2
    arrays = ("gates", "reset_hidden", "hidden")
    memory = ("gates", "reset_hidden")
    deltas = 3
    scratch = 3
    factors = 3

    def step(
        self, now: Sequence[Array], u: Array, before: Sequence[Array], recur: Product,
        *constants: Any,
    ) -> None:  # fmt: skip
        """(1) to (5)."""
        xp, (one,) = self.xp, constants
        (a, m, h), (h_before,) = now, before
        gates, n = recur(h_before, slice(0, 2)), a[2]  # (1)
        xp.add(gates, u[:2], out=gates)
        sigma_of_negated(gates, one, xp)  # (2): r, z
        a[:2] = gates
        r, z = a[:2]  # the next product may take the place of the gates
        xp.multiply(r, h_before, out=m)  # (3)
        xp.add(recur(m, slice(2, 3))[0], u[2], out=n)  # (4)
        xp.tanh(n, out=n)  # (5)
        xp.subtract(h_before, n, out=h)  # (6) h = n + z * (h_before - n)
        h *= z
        h += n

    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """``dm/da_r = m (1 - r)``; ``dh/da_z``, ``dh/da_n`` as in :class:`GRU`; returned: z, r."""
        (r, z, n), m, _, h_before = arrays
        blocks = delta.reshape(len(delta), 3, self.hidden_size)
        blocks[:, 1], blocks[:, 2] = d, _ = slopes_of_update(z, n, h_before, scratch, self.xp)
        self.xp.subtract(1, r, out=d)
        d *= m
        blocks[:, 0] = d
        return z, r

    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """From ``dL/dh`` to that of the step before."""
        (d_h,), (z, r, factors), size = d, slopes, self.hidden_size
        blocks = factors.reshape(len(delta), 3, size)
        blocks[:, 0] = 1
        blocks[:, 1:] = d_h[:, None]
        delta *= factors  # undoes (6), (5), (2): a_n, a_z
        d_m = back(delta[:, 2 * size :], slice(2, 3))  # undoes (4)
        blocks[:, 0] = d_m
        blocks[:, 1:] = 1
        delta *= factors  # undoes (3), (2): a_r
        d_h *= z  # undoes (6)
        d_m *= r  # undoes (3)
        d_h += d_m
        d_h += back(delta[:, : 2 * size], slice(0, 2))  # undoes (1)

    def operands(self) -> tuple[Operand, ...]:
        """The rows of r and z are multiplied with h, those of n with m."""
        two, new = slice(0, 2 * self.hidden_size), self.block(self.candidate)
        return Operand(two, two), Operand(new, new, "reset_hidden", before=False)


def slopes_of_update(
    z: Array, n: Array, h_before: Array, scratch: Array, xp: Any
) -> tuple[Array, Array]:
    """``dh/da_z = (h_before - n) z (1 - z)`` and ``dh/da_n = (1 - z)(1 - n^2)``."""
    rest, d_z, d_n = scratch
    xp.subtract(1, z, out=rest)
    xp.subtract(h_before, n, out=d_z)  # h - n would lose the digits of a small z
    d_z *= z
    d_z *= rest
    xp.multiply(n, n, out=d_n)
    xp.subtract(1, d_n, out=d_n)
    d_n *= rest
    return d_z, d_n
