"""What the layers should compute, in loops over steps, sequences and units, padded not packed.

Nothing here is clever, and nothing is taken from npnlp. Padded sequences are ``(T, B, .)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend

Floats = NDArray[Any]
Integers = NDArray[np.int64]
Weights = Mapping[str, Floats]

BOUNDS = {"float64": 1e-12, "float32": 1e-5}


def draw(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def assert_close(
    actual: Any,
    expected: Any,
    bound: float = 1e-12,
    backend: Backend | None = None,
    floor: float = 0.0,
) -> None:
    """Equal shapes, and no entry off by more than ``bound`` of the largest expected one.

    ``floor`` takes its place where that is smaller: a sum of terms of that size may cancel.
    """
    actual = np.asarray(actual if backend is None else backend.to_numpy(actual))
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=floor) or 1.0
    error = np.abs(actual - expected).max(initial=0.0) / scale
    assert error <= bound, f"relative error {error:.1e} is above {bound:.0e}"


def packed_order(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(step, sequence) of each packed row: longest first, a tie in the caller's order."""
    by_length = sorted(range(len(lengths)), key=lambda b: -lengths[b])
    return [(t, b) for t in range(max(lengths)) for b in by_length if t < lengths[b]]


def pack(padded: NDArray[Any], lengths: Sequence[int]) -> NDArray[Any]:
    return np.array([padded[t, b] for t, b in packed_order(lengths)])


def pad(packed: NDArray[Any], lengths: Sequence[int]) -> NDArray[Any]:
    padded = np.zeros((max(lengths), len(lengths), *packed.shape[1:]), packed.dtype)
    for row, (t, b) in zip(packed, packed_order(lengths), strict=True):
        padded[t, b] = row
    return padded


PHI: dict[str, Callable[[float], float]] = {"tanh": math.tanh, "relu": lambda a: max(a, 0.0)}
PHI_PRIME: dict[str, Callable[[float], float]] = {
    "tanh": lambda a: 1.0 - math.tanh(a) ** 2,
    "relu": lambda a: 1.0 if a > 0.0 else 0.0,
}


def elman(
    x: Floats, lengths: Sequence[int], h0: Floats, weights: Weights, phi: str = "tanh"
) -> tuple[Floats, Floats, Floats]:
    """``(hidden (T, B, H), last (B, H), a (T, B, H))``; zero where a sequence has ended."""
    steps, batch, inputs = x.shape
    units = h0.shape[1]
    hidden, a = np.zeros((steps, batch, units)), np.zeros((steps, batch, units))
    last = np.zeros((batch, units))
    for b in range(batch):
        before = [float(h0[b, i]) for i in range(units)]
        for t in range(lengths[b]):
            for i in range(units):
                total = float(weights["bias_ih_l0"][i]) + float(weights["bias_hh_l0"][i])
                for j in range(inputs):
                    total += float(weights["weight_ih_l0"][i, j]) * float(x[t, b, j])
                for j in range(units):
                    total += float(weights["weight_hh_l0"][i, j]) * before[j]
                a[t, b, i] = total
                hidden[t, b, i] = PHI[phi](total)
            before = [float(hidden[t, b, i]) for i in range(units)]
        last[b] = before
    return hidden, last, a


def elman_backward(
    x: Floats,
    lengths: Sequence[int],
    h0: Floats,
    weights: Weights,
    d_hidden: Floats,
    d_last: Floats,
    phi: str = "tanh",
) -> dict[str, Floats]:
    """``dL/d`` of x, h0 and each parameter, by the chain rule, one product at a time."""
    hidden, _, a = elman(x, lengths, h0, weights, phi)
    inputs, units = x.shape[2], h0.shape[1]
    grads = {name: np.zeros(np.shape(value)) for name, value in weights.items()}
    d_x, d_h0 = np.zeros(x.shape), np.zeros(h0.shape)
    for b in range(x.shape[1]):
        d = [float(d_last[b, i]) for i in range(units)]
        for t in reversed(range(lengths[b])):
            before = hidden[t - 1, b] if t > 0 else h0[b]
            d_before = [0.0] * units
            for i in range(units):
                delta = PHI_PRIME[phi](float(a[t, b, i])) * (d[i] + float(d_hidden[t, b, i]))
                grads["bias_ih_l0"][i] += delta
                grads["bias_hh_l0"][i] += delta
                for j in range(inputs):
                    grads["weight_ih_l0"][i, j] += delta * x[t, b, j]
                    d_x[t, b, j] += delta * weights["weight_ih_l0"][i, j]
                for j in range(units):
                    grads["weight_hh_l0"][i, j] += delta * before[j]
                    d_before[j] += delta * float(weights["weight_hh_l0"][i, j])
            d = d_before
        d_h0[b] = d
    return {"x": d_x, "h0": d_h0, **grads}


def linear(x: Floats, weight: Floats, bias: Floats) -> Floats:
    y = np.zeros((len(x), len(weight)))
    for n in range(len(x)):
        for i in range(len(weight)):
            y[n, i] = math.fsum([bias[i], *(weight[i, j] * x[n, j] for j in range(x.shape[1]))])
    return y


def linear_backward(x: Floats, weight: Floats, dy: Floats) -> tuple[Floats, Floats, Floats]:
    """``dL/d`` of x, weight and bias."""
    d_x, d_weight, d_bias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for n in range(len(x)):
        for i in range(len(weight)):
            d_bias[i] += dy[n, i]
            for j in range(x.shape[1]):
                d_weight[i, j] += dy[n, i] * x[n, j]
                d_x[n, j] += dy[n, i] * weight[i, j]
    return d_x, d_weight, d_bias


def softmax(row: Floats) -> list[float]:
    highest = max(row)
    exponentials = [math.exp(z - highest) for z in row]
    return [e / math.fsum(exponentials) for e in exponentials]


def cross_entropy(
    logits: Floats, targets: Sequence[int], class_weights: Sequence[float] | None = None
) -> tuple[float, Floats]:
    """The weighted mean of ``-log softmax``, and its derivative."""
    weights = [1.0 if class_weights is None else float(class_weights[y]) for y in targets]
    losses, d_logits = [], np.zeros(logits.shape)
    for b, y in enumerate(targets):
        probabilities = softmax(logits[b])
        losses.append(-weights[b] * math.log(probabilities[y]))
        for c, probability in enumerate(probabilities):
            d_logits[b, c] = weights[b] * (probability - (c == y)) / math.fsum(weights)
    return math.fsum(losses) / math.fsum(weights), d_logits


def segment_sum(values: Floats, segments: Sequence[int], size: int) -> Floats:
    out = np.zeros((size, values.shape[1]))
    for row, segment in zip(values, segments, strict=True):
        for j in range(values.shape[1]):
            out[segment, j] += row[j]
    return out


def classifier(tokens: Sequence[Sequence[int]], weights: Weights, phi: str = "tanh") -> Floats:
    """Logits of names, one name at a time, without dropout."""
    cell = {n.removeprefix("rnn."): w for n, w in weights.items() if n.startswith("rnn.")}
    logits = []
    for name in tokens:
        x = np.array([[weights["emb.weight"][token]] for token in name])
        h0 = np.zeros((1, len(cell["bias_hh_l0"])))
        _, last, _ = elman(x, [len(name)], h0, cell, phi)
        z = linear(last, weights["fc1.weight"], weights["fc1.bias"])
        z = np.array([[max(value, 0.0) for value in z[0]]])
        logits.append(linear(z, weights["fc2.weight"], weights["fc2.bias"])[0])
    return np.array(logits)


def adam(
    weights: Floats,
    grads: Sequence[Floats],
    rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Floats, Floats, Floats]:
    """Weights, m and v after an update with each of ``grads`` (Kingma and Ba, algorithm 1)."""
    w, m, v = weights.astype(float), np.zeros(weights.shape), np.zeros(weights.shape)
    for t, grad in enumerate(grads, start=1):
        for i, g in enumerate(grad):
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
            m_hat = m[i] / (1 - betas[0] ** t)
            v_hat = v[i] / (1 - betas[1] ** t)
            w[i] -= rate * m_hat / (math.sqrt(v_hat) + eps)
    return w, m, v


def sgd(
    weights: Floats, grads: Sequence[Floats], rate: float, momentum: float
) -> tuple[Floats, Floats]:
    """Weights and velocity after an update with each of ``grads``."""
    w, u = weights.astype(float), np.zeros(weights.shape)
    for grad in grads:
        for i, g in enumerate(grad):
            u[i] = momentum * u[i] + g
            w[i] -= rate * u[i]
    return w, u


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """A block of Philox4x64-10, from the paper (Salmon et al., 2011, section 4.3)."""
    full = 2**64
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], full)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], full)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) % full, (k[1] + 0xBB67AE8584CAA73B) % full]
    return c


def host(backend: Backend, arrays: Mapping[str, Array]) -> dict[str, Floats]:
    """Copies of named arrays as NumPy arrays."""
    return {name: backend.to_numpy(value).copy() for name, value in arrays.items()}
