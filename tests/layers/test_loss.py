"""Softmax cross-entropy against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import SoftmaxCrossEntropy, softmax
from tests.support import reference
from tests.support.reference import BOUNDS, assert_close, draw

TARGETS = [2, 0, 4, 2, 1, 2]
WEIGHTS = [0.5, 2.0, 1.0, 7.0, 0.1]

weighted = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])


def criterion(
    backend: Backend, weights: list[float] | None, dtype: Any = np.float64
) -> SoftmaxCrossEntropy:
    on_backend = None if weights is None else backend.asarray(np.array(weights), dtype=dtype)
    return SoftmaxCrossEntropy(on_backend, backend=backend, dtype=dtype)


@weighted
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("rows", [1, 6])
def test_loss_and_gradient_equal_the_definition(
    weights: list[float] | None, scale: float, rows: int, backend: Backend, dtype: np.dtype[Any]
) -> None:
    layer = criterion(backend, weights, dtype)
    logits = (scale * draw(0, rows, 5)).astype(dtype)
    targets = TARGETS[:rows]
    loss, cache = layer.forward(backend.asarray(logits), backend.asarray(np.array(targets)))
    expected, d_expected = reference.cross_entropy(logits.astype(float), targets, weights)
    d_logits, scaled = layer.backward(1.0, cache), layer.backward(-2.5, cache)
    assert loss.shape == ()
    # A loss near zero is a small difference of logits: the bound is of the logits' size.
    bound = BOUNDS[dtype.name] * max(1.0, scale)
    wanted: tuple[Any, ...] = (expected, d_expected, -2.5 * d_expected)
    for found, value in zip((loss, d_logits, scaled), wanted, strict=True):
        np.testing.assert_allclose(backend.to_numpy(found), value, rtol=0, atol=bound)


@weighted
def test_gradient_by_complex_step(weights: list[float] | None, backend: Backend) -> None:
    logits, targets = backend.asarray(draw(1, 6, 5)), backend.asarray(np.array(TARGETS))
    report = check_gradients(criterion(backend, weights), logits, targets)
    assert report.passed, str(report)


@weighted
def test_adjoint_at_full_size(weights: list[float] | None, backend: Backend) -> None:
    logits = backend.asarray(draw(2, 1024, 5))
    targets = backend.asarray(np.random.default_rng(0).integers(0, 5, 1024))
    report = check_adjoint(criterion(backend, weights), logits, targets)
    assert report.passed, str(report)


@weighted
def test_a_second_backward_pass_agrees(weights: list[float] | None, backend: Backend) -> None:
    layer = criterion(backend, weights)
    _, cache = layer.forward(backend.asarray(draw(1, 6, 5)), backend.asarray(np.array(TARGETS)))
    first, second = (backend.to_numpy(layer.backward(1.0, cache)).copy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


@weighted
def test_the_sums_of_parts_are_the_sums_of_the_whole(
    weights: list[float] | None, backend: Backend
) -> None:
    layer, logits = criterion(backend, weights), draw(3, 6, 5)

    def sums(rows: slice) -> tuple[float, float, Any]:
        targets = backend.asarray(np.array(TARGETS[rows]))
        _, cache = layer.forward(backend.asarray(logits[rows]), targets)
        d_logits = backend.to_numpy(layer.backward(cache.weight_sum, cache))
        return float(cache.loss_sum), float(cache.weight_sum), d_logits

    parts = [sums(slice(0, 2)), sums(slice(2, 3)), sums(slice(3, 6))]
    whole = sums(slice(None))
    assert_close(sum(part[0] for part in parts), whole[0])
    assert_close(sum(part[1] for part in parts), whole[1])
    assert_close(np.concatenate([part[2] for part in parts]), whole[2])


def test_scaling_all_class_weights_changes_nothing(backend: Backend) -> None:
    results = []
    for factor in (1.0, 1e-4):
        layer = criterion(backend, [factor * weight for weight in WEIGHTS])
        targets = backend.asarray(np.array(TARGETS))
        loss, cache = layer.forward(backend.asarray(draw(0, 6, 5)), targets)
        results.append((loss, layer.backward(1.0, cache)))
    for plain, scaled in zip(*results, strict=True):
        assert_close(scaled, backend.to_numpy(plain), backend=backend)


def test_huge_logits_neither_overflow_nor_lose_the_loss(backend: Backend) -> None:
    layer = criterion(backend, None)
    logits = np.array([[1000.0, 0.0, -1000.0], [-1e5, -1e5, -1e5 + 1]])
    loss, cache = layer.forward(backend.asarray(logits), backend.asarray(np.array([2, 0])))
    second = 1 + np.log(1 + 2 * np.exp(-1))
    assert_close(loss, (2000.0 + second) / 2, backend=backend)
    expected = reference.cross_entropy(np.array([[0.0, 0.0, 1.0]]), [0])[1][0]
    d_logits = backend.to_numpy(layer.backward(1.0, cache))
    assert_close(d_logits, [[0.5, 0.0, -0.5], expected / 2])


def test_forward_leaves_logits_and_targets_alone(backend: Backend) -> None:
    logits, targets = backend.asarray(draw(0, 6, 5)), backend.asarray(np.array(TARGETS))
    layer = criterion(backend, WEIGHTS)
    layer.backward(1.0, layer.forward(logits, targets)[1])
    np.testing.assert_array_equal(backend.to_numpy(logits), draw(0, 6, 5))
    assert backend.to_numpy(targets).tolist() == TARGETS
    assert layer.class_weights is not None
    assert backend.to_numpy(layer.class_weights).tolist() == WEIGHTS


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_softmax_equals_the_definition(scale: float, backend: Backend) -> None:
    logits = scale * draw(4, 7, 5)
    found = softmax(backend.asarray(logits), backend.xp)
    expected = np.array([reference.softmax(row) for row in logits])
    assert_close(found, expected, backend=backend)
    assert_close(found.sum(axis=1), np.ones(7), backend=backend)
