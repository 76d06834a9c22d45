"""Cross-entropy to distributions, and the divergence of two predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Array, Backend
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.soft_loss import (
    Consistency,
    ConsistencyCache,
    SoftCache,
    SoftCrossEntropy,
    log_softmax,
)
from tests.support import reference
from tests.support.reference import BOUNDS, Floats, assert_close, draw

ORACLES = Path(__file__).parents[1] / "oracles"
ROWS, CLASSES = 6, 5
WEIGHTS = np.array([0.5, 2.0, 1.0, 0.25, 1.0, 4.0])
CLASS_WEIGHTS = np.array([0.5, 3.0, 1.0, 0.1, 2.0])


def distributions(seed: int = 0, rows: int = ROWS) -> Floats:
    drawn = np.exp(2 * draw(seed, rows, CLASSES))
    drawn[0] = np.eye(CLASSES)[1]  # a certain one among them
    shares: Floats = drawn / drawn.sum(axis=1)[:, None]
    return shares


def soft(backend: Backend, dtype: Any = np.float64) -> SoftCrossEntropy:
    return SoftCrossEntropy(backend=backend, dtype=dtype)


def weighted(backend: Backend, dtype: Any = np.float64) -> SoftCrossEntropy:
    (class_weights,) = on(backend, CLASS_WEIGHTS, dtype=dtype)
    return SoftCrossEntropy(class_weights, backend=backend, dtype=dtype)


def apart(backend: Backend, dtype: Any = np.float64) -> Consistency:
    return Consistency(backend=backend, dtype=dtype)


def on(backend: Backend, *values: Floats, dtype: Any = np.float64) -> list[Array]:
    return [backend.asarray(value, dtype=dtype) for value in values]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_cross_entropy_equals_the_definition(
    scale: float, backend: Backend, dtype: np.dtype[Any]
) -> None:
    logits = (scale * draw(0, ROWS, CLASSES)).astype(dtype).astype(float)
    targets = distributions()
    loss, d_logits = 0.0, np.zeros_like(logits)
    for b in range(ROWS):
        probabilities = reference.softmax(logits[b])
        share = WEIGHTS[b] / ROWS
        largest = max(logits[b])
        log_sum = largest + math.log(sum(math.exp(z - largest) for z in logits[b]))
        for c in range(CLASSES):
            loss -= share * targets[b, c] * (logits[b, c] - log_sum)
            d_logits[b, c] = share * (probabilities[c] - targets[b, c])
    layer = soft(backend, dtype)
    found, cache = layer.forward(*on(backend, logits, targets, WEIGHTS, dtype=dtype))
    bound = BOUNDS[dtype.name] * max(1.0, scale)
    for value, expected in (
        (found, loss), (layer.backward(1.0, cache), d_logits),
        (layer.backward(-2.5, cache), -2.5 * d_logits),
    ):  # fmt: skip
        assert value.dtype == dtype
        np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=0, atol=bound)


def test_one_class_and_unit_weights_are_the_plain_loss(
    backend: Backend, dtype: np.dtype[Any]
) -> None:
    targets = np.array([2, 0, 4, 2, 1, 2])
    logits, one_hot, ones = on(
        backend, draw(0, ROWS, CLASSES), np.eye(CLASSES)[targets], np.ones(ROWS), dtype=dtype
    )
    plain = SoftmaxCrossEntropy(backend=backend, dtype=dtype)
    expected, kept = plain.forward(logits, backend.asarray(targets))
    loss, cache = soft(backend, dtype).forward(logits, one_hot, ones)
    bound = BOUNDS[dtype.name]
    assert_close(loss, backend.to_numpy(expected), bound, backend)
    d_logits = backend.to_numpy(plain.backward(1.0, kept))
    assert_close(soft(backend, dtype).backward(1.0, cache), d_logits, bound, backend)


def test_divergence_equals_the_definition(backend: Backend, dtype: np.dtype[Any]) -> None:
    z, v = (draw(seed, ROWS, CLASSES).astype(dtype).astype(float) for seed in (0, 1))
    total = 0.0
    for b in range(ROWS):
        p, q = reference.softmax(z[b]), reference.softmax(v[b])
        for a, c in zip(p, q, strict=True):
            total += WEIGHTS[b] / ROWS * (a * math.log(a / c) + c * math.log(c / a))
    found, _ = apart(backend, dtype).forward(*on(backend, z, v, WEIGHTS, dtype=dtype))
    assert found.dtype == dtype
    assert_close(found, total, BOUNDS[dtype.name], backend)


def test_gradients_by_complex_step(backend: Backend) -> None:
    z, v, targets, weights = on(
        backend, draw(0, ROWS, CLASSES), draw(1, ROWS, CLASSES), distributions(), WEIGHTS
    )
    for layer, inputs, keywords in cases(backend, z, v, targets, weights):
        for method in ("complex", "central"):
            report = check_gradients(layer, *inputs, method=method, **keywords)
            assert report.passed, str(report)


def cases(
    backend: Backend, z: Array, v: Array, targets: Array, weights: Array
) -> list[tuple[Any, list[Array], dict[str, Any]]]:
    return [
        (soft(backend), [z], {"targets": targets, "weights": weights}),
        (weighted(backend), [z], {"targets": targets, "weights": weights}),
        (apart(backend), [z, v], {"weights": weights}),
    ]


def test_adjoint_at_full_size(backend: Backend) -> None:
    rows = 1024
    z, v, targets, weights = on(
        backend, draw(0, rows, CLASSES), draw(1, rows, CLASSES), distributions(2, rows),
        np.exp(draw(3, rows)),
    )  # fmt: skip
    for layer, inputs, keywords in cases(backend, z, v, targets, weights):
        report = check_adjoint(layer, *inputs, **keywords)
        assert report.passed, str(report)


def test_equal_predictions_do_not_diverge(backend: Backend, dtype: np.dtype[Any]) -> None:
    layer = apart(backend, dtype)
    z, weights = on(backend, draw(0, ROWS, CLASSES), WEIGHTS, dtype=dtype)
    found, cache = layer.forward(z, z, weights)
    assert float(found) == 0
    for gradient in layer.backward(1.0, cache):
        assert not backend.to_numpy(gradient).any()
    shifted, _ = layer.forward(z, z + 3.0, weights)  # softmax does not see a shift
    assert abs(float(shifted)) < BOUNDS[dtype.name]


@pytest.mark.parametrize("seed", range(5))
def test_divergence_is_not_negative_and_symmetric(seed: int, backend: Backend) -> None:
    z, v = (4 * draw(10 * seed + k, ROWS, CLASSES) for k in (0, 1))
    layer = apart(backend)
    z, v, weights = on(backend, z, v, WEIGHTS)
    found, cache = layer.forward(z, v, weights)
    turned, other = layer.forward(v, z, weights)
    assert float(found) > 0
    assert_close(turned, backend.to_numpy(found), backend=backend)
    (d_z, d_v), (o_v, o_z) = layer.backward(1.0, cache), layer.backward(1.0, other)
    assert_close(o_z, backend.to_numpy(d_z), backend=backend)
    assert_close(o_v, backend.to_numpy(d_v), backend=backend)
    for gradient in (d_z, d_v):  # neither does its gradient see a shift
        assert np.abs(backend.to_numpy(gradient).sum(axis=1)).max() < 1e-12


@pytest.mark.parametrize("extreme", [1e4, 1e30])
def test_extreme_logits_stay_finite(extreme: float, backend: Backend, dtype: np.dtype[Any]) -> None:
    """Warnings are errors here."""
    z = extreme * np.array([[1.0, -1, 0], [0, 1, 1], [-1, -1, -1]])
    v, targets, weights = -z, np.full((3, 3), 1 / 3), np.ones(3)
    z, v, targets, weights = on(backend, z, v, targets, weights, dtype=dtype)
    loss, cache = soft(backend, dtype).forward(z, targets, weights)
    divergence, kept = apart(backend, dtype).forward(z, v, weights)
    d_z, d_v = apart(backend, dtype).backward(1.0, kept)
    for value in (loss, soft(backend, dtype).backward(1.0, cache), divergence, d_z, d_v):
        assert np.isfinite(backend.to_numpy(value)).all()
    # Of the rows: (0 + 2e + e) / 3, log 2 + e / 3, log 3.
    expected = (extreme * (1 + 1 / 3) + math.log(6)) / 3
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)


def test_log_softmax_is_the_logarithm_of_softmax(backend: Backend) -> None:
    z = 5 * draw(0, ROWS, CLASSES)
    logs = backend.to_numpy(log_softmax(backend.asarray(z), backend.xp))
    assert_close(np.exp(logs), [reference.softmax(row) for row in z])
    assert_close(np.exp(logs).sum(axis=1), np.ones(ROWS))


class WithoutWeights(SoftCrossEntropy):
    def backward(self, d_loss: Array | float, cache: SoftCache) -> Array:
        flat = SoftCache(cache.probabilities, cache.targets, cache.scale * 0 + 1 / ROWS)
        return super().backward(d_loss, flat)


class HardTargets(SoftCrossEntropy):
    def backward(self, d_loss: Array | float, cache: SoftCache) -> Array:
        hard = np.eye(CLASSES)[cache.targets.argmax(axis=1)]
        return super().backward(d_loss, SoftCache(cache.probabilities, hard, cache.scale))


class ScaledLoss(SoftCrossEntropy):
    def backward(self, d_loss: Array | float, cache: SoftCache) -> Array:
        return 1.001 * super().backward(d_loss, cache)


class WithoutMean(Consistency):
    def backward(self, d_loss: Array | float, cache: ConsistencyCache) -> tuple[Array, Array]:
        p, q, r = cache.p, cache.q, cache.difference
        scale = d_loss * cache.scale
        return scale * (p * r + p - q), super().backward(d_loss, cache)[1]


class OneWay(Consistency):
    def backward(self, d_loss: Array | float, cache: ConsistencyCache) -> tuple[Array, Array]:
        d_z, d_v = super().backward(d_loss, cache)
        return d_z, d_v * 0


class Exchanged(Consistency):
    def backward(self, d_loss: Array | float, cache: ConsistencyCache) -> tuple[Array, Array]:
        d_z, d_v = super().backward(d_loss, cache)
        return d_v, d_z


@pytest.mark.parametrize("wrong", [WithoutWeights, HardTargets, ScaledLoss])
def test_a_wrong_gradient_of_the_loss_is_caught(wrong: type[SoftCrossEntropy]) -> None:
    targets: dict[str, Any] = {"targets": distributions(), "weights": WEIGHTS}
    assert not check_gradients(wrong(), draw(0, ROWS, CLASSES), **targets).passed


@pytest.mark.parametrize("wrong", [WithoutMean, OneWay, Exchanged])
def test_a_wrong_gradient_of_the_divergence_is_caught(wrong: type[Consistency]) -> None:
    inputs = draw(0, ROWS, CLASSES), draw(1, ROWS, CLASSES)
    assert not check_gradients(wrong(), *inputs, weights=WEIGHTS).passed


class WithoutSums(SoftCrossEntropy):
    """Takes the weighted targets for distributions."""

    def backward(self, d_loss: Any, cache: SoftCache) -> Array:
        plain = SoftCache(cache.probabilities, cache.targets, cache.scale)
        return super().backward(d_loss, plain)


def test_a_gradient_without_the_sums_of_class_weights_is_caught() -> None:
    layer = WithoutSums(CLASS_WEIGHTS, dtype=np.float64)
    z, q = draw(0, ROWS, CLASSES), distributions()
    assert not check_gradients(layer, z, targets=q, weights=WEIGHTS).passed


def test_class_weights_and_smoothing_are_pytorchs_stored(backend: Backend) -> None:
    with np.load(ORACLES / "cross_entropy.npz", allow_pickle=False) as file:
        o = dict(file)
    rows, classes = o["logits"].shape
    smoothed = 0.9 * np.eye(classes)[o["targets"]] + 0.1 / classes
    each = np.full(rows, rows / o["class_weights"][o["targets"]].sum())
    class_weights, *given = on(backend, o["class_weights"], o["logits"], smoothed, each)
    layer = SoftCrossEntropy(class_weights, backend=backend, dtype=np.float64)
    loss, cache = layer.forward(*given)
    assert_close(loss, o["loss_smoothed"], backend=backend)
    assert_close(layer.backward(1.0, cache), o["d_logits_smoothed"], backend=backend)


@pytest.mark.peers
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_pytorch(smoothing: float, backend: Backend) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    logits, targets = draw(0, ROWS, CLASSES), distributions()
    z = torch.tensor(logits, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(
        z, torch.tensor(targets), reduction="none", label_smoothing=smoothing
    )
    expected = (losses * torch.tensor(WEIGHTS)).mean()
    expected.backward()
    smoothed = (1 - smoothing) * targets + smoothing / CLASSES
    layer = soft(backend)
    loss, cache = layer.forward(*on(backend, logits, smoothed, WEIGHTS))
    assert_close(loss, expected.detach().numpy(), backend=backend)
    assert_close(layer.backward(1.0, cache), z.grad.numpy(), backend=backend)


@pytest.mark.peers
def test_divergence_equals_pytorch(backend: Backend) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    first, second = draw(0, ROWS, CLASSES), draw(1, ROWS, CLASSES)
    z, v = (torch.tensor(value, requires_grad=True) for value in (first, second))
    log_p, log_q = (torch.log_softmax(value, dim=1) for value in (z, v))
    both = [
        torch.nn.functional.kl_div(one, other, reduction="none", log_target=True).sum(dim=1)
        for one, other in ((log_p, log_q), (log_q, log_p))
    ]
    expected = ((both[0] + both[1]) * torch.tensor(WEIGHTS)).mean()
    expected.backward()
    layer = apart(backend)
    found, cache = layer.forward(*on(backend, first, second, WEIGHTS))
    assert_close(found, expected.detach().numpy(), backend=backend)
    d_z, d_v = layer.backward(1.0, cache)
    assert_close(d_z, z.grad.numpy(), backend=backend)
    assert_close(d_v, v.grad.numpy(), backend=backend)
