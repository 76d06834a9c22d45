"""The GRU: one state, and a gate that decides how much of it is new."""

from __future__ import annotations

from npnlp.backend import Array
from npnlp.backend.operations import States
from npnlp.layers.recurrent.recurrent import Recurrent


class GRU(Recurrent):
    """Gated recurrent unit, the reset gate after the product:

        r = sigma(W_ir x + b_ir + W_hr h + b_hr)        z = sigma(W_iz x + b_iz + W_hz h + b_hz)
        q = W_hn h + b_hn                               n = tanh(W_in x + b_in + r * q)
        h_t = n + z * (h_{t-1} - n)

    ``dh_t/dh_{t-1}`` contains ``diag(z)``: where z is near 1, the gradient bypasses all weights.
    Remembered: ``gates (3, N, H)``, which are r, z and n, and ``q (N, H)``.
    Source: Cho et al., 2014, in the form of Chung et al., 2014, with the reset of cuDNN; equal to
    PyTorch's ``nn.GRU``.

    >>> gru = GRU(input_size=4, hidden_size=2)
    >>> (hidden, last), cache = gru.forward(x, packing=packing)     # x (N, 4), hidden (N, 2)
    >>> dx, _ = gru.backward((None, d_last), cache)                 # adds to gru.grads
    """

    gates = ("reset", "update", "new")
    known_as = "gru"

    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        """(1) to (5), undone below from (5) to (1)."""
        xp, (h_before,) = self.backend.xp, before
        p = h_before @ self.weight("weight_hh").T + self.weight("bias_hh")  # (1)
        (u_r, u_z, u_n), (p_r, p_z, q) = self.by_gate(u), self.by_gate(p)
        r = self.sigmoid(u_r + p_r)  # (2)
        z = self.sigmoid(u_z + p_z)  # (3)
        n = xp.tanh(u_n + r * q)  # (4)
        h = n + z * (h_before - n)  # (5)
        return (h,), (xp.stack([r, z, n]), q)

    def step_backward(
        self, d: States, now: States, before: States, memory: tuple[Array, ...]
    ) -> tuple[Array, States]:
        """``d_u`` stands for ``dL/du``, and so on; each line names what it undoes."""
        (d_h,), (h_before,), ((r, z, n), q) = d, before, memory
        d_n, d_z, d_h_before = d_h * (1 - z), d_h * (h_before - n), d_h * z  # undoes (5)
        d_u_n = d_n * (1 - n * n)  # undoes (4): tanh
        d_r, d_q = d_u_n * q, d_u_n * r  # undoes (4): r * q
        d_u_z = d_z * z * (1 - z)  # undoes (3)
        d_u_r = d_r * r * (1 - r)  # undoes (2)
        d_p = self.side_by_side(d_u_r, d_u_z, d_q)
        self.d_weights.w_hh[...] += d_p.T @ h_before  # undoes (1): W_hh
        self.d_weights.b_hh[...] += d_p.sum(axis=0)  # undoes (1): b_hh
        d_h_before = d_h_before + d_p @ self.weight("weight_hh")  # undoes (1): h_before
        return self.side_by_side(d_u_r, d_u_z, d_u_n), (d_h_before,)


class GRUResetBefore(Recurrent):
    """The GRU as first published, the reset gate before the product:

        r, z as in :class:`GRU`                         m = r * h_{t-1}
        n = tanh(W_in x + b_in + W_hn m + b_hn)         h_t = n + z * (h_{t-1} - n)

    Two matrix products a step, one after the other, instead of one. Remembered:
    ``gates (3, N, H)``, which are r, z and n, and ``m (N, H)``. Source: Cho et al., "Learning
    phrase representations using RNN encoder-decoder", 2014, equations 5 to 8.
    """

    gates = GRU.gates
    known_as = "gru_reset_before"

    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        """(1) to (6), undone below from (6) to (1)."""
        xp, (h_before,), rest = self.backend.xp, before, self.rows_of("new").start
        w_hh, b_hh, (u_r, u_z, u_n) = *self.weights[1::2], self.by_gate(u)
        p_r, p_z = xp.split(h_before @ w_hh[:rest].T + b_hh[:rest], 2, axis=1)  # (1)
        r, z = self.sigmoid(u_r + p_r), self.sigmoid(u_z + p_z)  # (2)
        m = r * h_before  # (3)
        p_n = m @ w_hh[rest:].T + b_hh[rest:]  # (4)
        n = xp.tanh(u_n + p_n)  # (5)
        h = n + z * (h_before - n)  # (6)
        return (h,), (xp.stack([r, z, n]), m)

    def step_backward(
        self, d: States, now: States, before: States, memory: tuple[Array, ...]
    ) -> tuple[Array, States]:
        """As in :class:`GRU`; the two products are undone one after the other."""
        (d_h,), (h_before,), ((r, z, n), m) = d, before, memory
        w_hh, rest, grads = self.weight("weight_hh"), self.rows_of("new").start, self.d_weights
        d_n, d_z, d_h_before = d_h * (1 - z), d_h * (h_before - n), d_h * z  # undoes (6)
        d_u_n = d_n * (1 - n * n)  # undoes (5)
        d_m = d_u_n @ w_hh[rest:]  # undoes (4): m
        d_r, d_h_before = d_m * h_before, d_h_before + d_m * r  # undoes (3)
        d_rz = self.side_by_side(d_r * r * (1 - r), d_z * z * (1 - z))  # undoes (2)
        d_h_before = d_h_before + d_rz @ w_hh[:rest]  # undoes (1): h_before
        d_u = self.side_by_side(d_rz, d_u_n)
        grads.w_hh[rest:] += d_u_n.T @ m  # undoes (4): W_hn
        grads.w_hh[:rest] += d_rz.T @ h_before  # undoes (1): W_hr, W_hz
        grads.b_hh[...] += d_u.sum(axis=0)  # undoes (4), (1): b_hh
        return d_u, (d_h_before,)
