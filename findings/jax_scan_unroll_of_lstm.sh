#!/usr/bin/env bash
# JAX 0.10.2 on one core of a CPU: `unroll`, which is there to make jax.lax.scan faster, makes the gradient of
# an LSTM several times slower, and the slowest is neither no unrolling nor all of it.
#
# 16 steps of an ordinary LSTM cell, 64 sequences, 64 units, float32, forward and backward, compiled; time of
# the processor, without compiling, interleaved. Numbers are the same up to rounding for every `unroll`.
#
# So whoever sets unroll=4 or 8 out of habit, as it is done for accelerators, may lose what jit has gained;
# measure it for the cell, the size and the device at hand.
#
# Seen: 2.4 ms with unroll=1, 3.4 with 2, 6.2 with 4, 13.8 with 8, and 3.8 with 16, which is all of them.
# Fails where unroll=8 takes less than twice as long as unroll=1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
XLA_FLAGS=--xla_cpu_multi_thread_eigen=false JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'END'
import statistics
import time

import jax
import jax.numpy as jnp

T, B, H = 16, 64, 64


def loss(w, u, unroll):
    def step(state, u_t):
        h, c = state
        i, f, g, o = jnp.split(u_t + h @ w, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((B, H))
    return jax.lax.scan(step, (zero, zero), u, unroll=unroll)[1][-1].sum()


w = 0.1 * jax.random.normal(jax.random.key(0), (H, 4 * H))
u = jax.random.normal(jax.random.key(1), (T, B, 4 * H))
calls = {n: jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2) for n in (1, 2, 4, 8, 16)}
first = calls[1](w, u, 1)
for n, call in calls.items():
    assert all(jnp.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(first, call(w, u, n), strict=True))
times = {n: [] for n in calls}
for _ in range(40):
    for n, call in calls.items():
        started = time.process_time()
        for _ in range(5):
            jax.block_until_ready(call(w, u, n))
        times[n].append(1e3 * (time.process_time() - started) / 5)
medians = {n: statistics.median(taken) for n, taken in times.items()}
print("ms by unroll:", {n: round(taken, 1) for n, taken in medians.items()})
assert medians[8] > 2 * medians[1], medians
END
