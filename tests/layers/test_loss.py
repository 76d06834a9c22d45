"""Softmax cross-entropy against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, get_backend
from npnlp.errors import InputError
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


REFUSED = [
    ([3, 0], r"targets\[0\] is 3; it has to be at least 0 and below 3"),
    ([0, -1], r"targets\[1\] is -1; it has to be at least 0 and below 3"),
    ([0], r"targets is int64 of shape \(1,\); it has to be whole numbers .* shape \(2,\)"),
    ([[0], [1]], r"targets is int64 of shape \(2, 1\)"),
    ([0, 1, 2], r"targets is int64 of shape \(3,\)"),
    ([0.0, 1.0], r"targets is float64 of shape \(2,\)"),
    ([False, True], r"targets is bool of shape \(2,\)"),
]


@weighted
@pytest.mark.parametrize(("targets", "says"), REFUSED)
def test_a_target_that_is_no_class_is_refused(
    weights: list[float] | None, targets: Any, says: str, backend: Backend
) -> None:
    logits = backend.asarray(np.array([[1.0, 2, 3], [3, 2, 1]]))
    layer = criterion(backend, weights and weights[:3])
    with pytest.raises(InputError, match=says):
        layer.forward(logits, backend.asarray(np.array(targets)))


def test_weights_are_one_for_each_class(backend: Backend) -> None:
    logits, targets = backend.asarray(draw(0, 2, 3)), backend.asarray(np.array([0, 1]))
    with pytest.raises(InputError, match=r"class_weights is .* \(5,\); .* of shape \(3,\)"):
        criterion(backend, WEIGHTS).forward(logits, targets)
    with pytest.raises(InputError, match="class_weights is a list"):
        SoftmaxCrossEntropy([1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"ignore_index is 0\.5"):
        SoftmaxCrossEntropy(ignore_index=0.5)  # type: ignore[arg-type]


IGNORED = pytest.mark.parametrize("ignore", [-100, -1, 2, 7])


@IGNORED
@weighted
def test_ignored_rows_do_not_count(
    weights: list[float] | None, ignore: int, backend: Backend
) -> None:
    """The loss and the gradient are those of the other rows alone."""
    layer = criterion(backend, weights)
    layer.ignore_index = ignore
    logits, targets = draw(3, 7, 5), np.array([0, ignore, 3, 1, ignore, 4, 0])
    kept = targets != ignore
    loss, cache = layer.forward(backend.asarray(logits), backend.asarray(targets))
    expected, d_expected = reference.cross_entropy(logits[kept], targets[kept].tolist(), weights)
    found, d_found = (backend.to_numpy(a) for a in (loss, layer.backward(1.0, cache)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(d_found[kept], d_expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(d_found[~kept], 0)


@IGNORED
@weighted
def test_gradient_with_ignored_rows_by_complex_step(
    weights: list[float] | None, ignore: int, backend: Backend
) -> None:
    layer = criterion(backend, weights)
    layer.ignore_index = ignore
    targets = backend.asarray(np.array([0, ignore, 3, 1, ignore, 4]))
    report = check_gradients(layer, backend.asarray(draw(4, 6, 5)), targets)
    assert report.passed, str(report)


@weighted
@pytest.mark.parametrize("rows", [0, 3])
def test_a_mean_of_no_rows_is_nan_with_a_gradient_of_zero(
    weights: list[float] | None, rows: int, backend: Backend
) -> None:
    layer = criterion(backend, weights)
    logits = backend.asarray(draw(5, rows, 5))
    loss, cache = layer.forward(logits, backend.asarray(np.full(rows, -100)))
    assert np.isnan(backend.to_numpy(loss))
    np.testing.assert_array_equal(backend.to_numpy(layer.backward(1.0, cache)), np.zeros((rows, 5)))


def test_an_ignored_row_may_hold_nan(backend: Backend) -> None:
    logits = draw(6, 2, 5)
    logits[0] = np.nan
    targets = backend.asarray(np.array([-100, 1]))
    loss, _ = criterion(backend, None).forward(backend.asarray(logits), targets)
    assert np.isfinite(backend.to_numpy(loss))


def test_the_gradient_of_a_loss_is_one_number(backend: Backend) -> None:
    layer, targets = criterion(backend, None), backend.asarray(np.array([0, 1]))
    _, cache = layer.forward(backend.asarray(draw(7, 2, 3)), targets)
    for wrong in ([1.0], None, True, "1", backend.asarray(np.ones(2))):
        with pytest.raises(InputError, match=r"d_loss is .*; it has to be one number"):
            layer.backward(wrong, cache)  # type: ignore[arg-type]
    exact, single = layer.backward(1 / 3, cache), layer.backward(np.float32(1 / 3), cache)  # type: ignore[arg-type]
    np.testing.assert_allclose(backend.to_numpy(single), backend.to_numpy(exact), rtol=1e-6)
    assert single.dtype == np.float64


@pytest.mark.peers
@pytest.mark.parametrize("ignore", [-100, 0, 2])
@weighted
def test_ignoring_equals_pytorch(weights: list[float] | None, ignore: int) -> None:
    torch = pytest.importorskip("torch")
    layer = criterion(get_backend("numpy"), weights)
    layer.ignore_index = ignore
    for targets in ([0, ignore, 3, 1], [ignore] * 4):
        logits = draw(8, 4, 5)
        theirs = torch.tensor(logits, requires_grad=True)
        of_classes = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        made = torch.nn.CrossEntropyLoss(of_classes, ignore_index=ignore)
        expected = made(theirs, torch.tensor(targets))
        expected.backward()
        loss, cache = layer.forward(logits, np.array(targets))
        np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
        np.testing.assert_allclose(layer.backward(1.0, cache), theirs.grad.numpy(), atol=1e-12)
