"""Breaches of a layer's contract, each planted: the report says which one it is, and where."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Array, Random, get_backend
from npnlp.errors import InputError
from npnlp.gradients import GradientReport, check_adjoint, check_gradients
from npnlp.layers import Dropout, Embedding, Layer, Linear, Packing, SoftmaxCrossEntropy
from npnlp.layers.attention.attention import MultiHeadAttention
from npnlp.layers.pooling.by_name import POOLINGS
from tests.support.reference import draw

X = draw(0, 6, 2)
ROUNDS = range(50)


class Scale(Layer):
    """``y = x w``, a user's layer, and right; each breach is a subclass of it."""

    def __init__(self) -> None:
        super().__init__(dtype=np.float64)
        self.add_parameter("w", lambda random: random.uniform((2,), 1, 2))

    def forward(self, x: Array) -> tuple[Array, Any]:
        return x * self.parameters["w"], x

    def backward(self, dy: Array, cache: Any) -> Any:
        self.grads["w"] += (dy * cache).sum(axis=0)
        return dy * self.parameters["w"]


class ChangesDy(Scale):
    def backward(self, dy: Array, cache: Any) -> Any:
        d_x = super().backward(dy, cache)
        dy *= 2
        return d_x


class ReturnsDyChanged(Scale):
    def backward(self, dy: Array, cache: Any) -> Any:
        super().backward(dy, cache)
        dy *= self.parameters["w"]
        return dy


class RebindsGrads(Scale):
    def backward(self, dy: Array, cache: Any) -> Any:
        self.grads["w"] = self.grads["w"] + (dy * cache).sum(axis=0)
        return dy * self.parameters["w"]


class SetsGrads(Scale):
    def backward(self, dy: Array, cache: Any) -> Any:
        self.grads["w"][...] = (dy * cache).sum(axis=0)
        return dy * self.parameters["w"]


class ChangesX(Scale):
    def forward(self, x: Array) -> tuple[Array, Any]:
        kept = x.copy()
        x *= self.parameters["w"]
        return x.copy(), kept


class ChangesItsCache(Scale):
    def forward(self, x: Array) -> tuple[Array, Any]:
        y, _ = super().forward(x)
        return y, {"arrays": [x.copy()]}

    def backward(self, dy: Array, cache: Any) -> Any:
        d_x = super().backward(dy, cache["arrays"][0])
        cache["arrays"][0] *= 0
        return d_x


class ChangesItsParameter(Scale):
    def backward(self, dy: Array, cache: Any) -> Any:
        d_x = super().backward(dy, cache)
        self.parameters["w"] += 1
        return d_x


class CountsItsCalls(Scale):
    calls = 0

    def backward(self, dy: Array, cache: Any) -> Any:
        self.calls += 1
        return super().backward(dy, cache) / self.calls


class DrawsByItself(Scale):
    def forward(self, x: Array) -> tuple[Array, Any]:
        keep = np.random.default_rng().random(x.shape) < 0.5
        return super().forward(x * keep)[0], x * keep


class DrawsFromItsOwn(Scale):
    stream = np.random.default_rng(0)

    def forward(self, x: Array) -> tuple[Array, Any]:
        keep = self.stream.random(x.shape) < 0.5
        return super().forward(x * keep)[0], x * keep


class ReturnsTwo(Scale):
    def backward(self, dy: Array, cache: Any) -> Any:
        return super().backward(dy, cache), dy


class HasAGradOfNothing(Scale):
    def __init__(self) -> None:
        super().__init__()
        self.extra = np.zeros(3)
        self.grads["bias"] = self.extra

    def astype(self, dtype: Any) -> Any:
        twin = super().astype(dtype)
        twin.grads["bias"] = np.zeros(3, dtype)
        return twin


BREACHES: dict[type[Scale], str] = {
    ChangesDy: "backward changes dy in place",
    ReturnsDyChanged: "backward changes dy in place",
    RebindsGrads: "backward puts another array into grads['w']",
    SetsGrads: "does not add the same to grads['w'] again: add with +=",
    ChangesX: "forward changes input 0 in place",
    ChangesItsCache: "backward changes its cache in place",
    ChangesItsParameter: "backward changes parameter w in place",
    CountsItsCalls: "a second backward pass returns another gradient of input 0",
    DrawsByItself: "two forward passes on the same inputs differ: draw random numbers only from",
    DrawsFromItsOwn: "two forward passes on the same inputs differ",
    ReturnsTwo: "backward returns 2 gradients for 1 inputs",
    HasAGradOfNothing: "grads['bias'] belongs to no parameter",
}


def failures(report: GradientReport) -> dict[str, str]:
    """What failed, and why."""
    return {row.quantity: row.reason for row in report.rows if not row.passed}


def test_the_layer_without_a_breach_passes() -> None:
    assert check_gradients(Scale(), X).passed


@pytest.mark.parametrize("wrong", BREACHES, ids=lambda wrong: wrong.__name__)
def test_a_breach_is_named(wrong: type[Scale]) -> None:
    report = check_gradients(wrong(), X)
    reasons = [row.reason for row in report.rows if row.quantity == "repeatable"]
    assert any(BREACHES[wrong] in reason for reason in reasons), reasons
    assert not report.passed
    assert BREACHES[wrong] in str(report)
    assert "repeatable: " in repr(report)


def test_a_stream_without_a_seed_is_found() -> None:
    class Drops(Scale):
        def forward(self, x: Array, *, stream: Any) -> tuple[Array, Any]:  # type: ignore[override]
            x = x * (stream.random(x.shape) < 0.5)
            return super().forward(x)[0], x

    report = check_gradients(Drops(), X, stream=np.random.default_rng())
    assert "two forward passes" in failures(report)["repeatable"]
    assert check_gradients(Dropout(0.5, dtype=np.float64), X, Random(0)).passed


class Plain:
    """No more than what is promised to be enough."""

    def __init__(self, w: Any) -> None:
        self.parameters = {"w": w}
        self.grads = {"w": np.zeros_like(w)}

    def astype(self, dtype: Any) -> Plain:
        return type(self)(self.parameters["w"].astype(dtype))

    def forward(self, x: Array) -> tuple[Array, Array]:
        return x * self.parameters["w"], x

    def backward(self, dy: Array, x: Array) -> Array:
        self.grads["w"] += (dy * x).sum(axis=0)
        d_x: Array = dy * self.parameters["w"]
        return d_x


@pytest.mark.parametrize("check", [check_gradients, check_adjoint])
def test_what_the_readme_names_is_enough(check: Callable[..., GradientReport]) -> None:
    layer = Plain(np.array([1.5, 2.0]))
    layer.grads["w"] += 7
    assert check(layer, X).passed
    assert (layer.grads["w"] == 7).all()
    assert (layer.parameters["w"] == [1.5, 2.0]).all()


@pytest.mark.parametrize("name", ["parameters", "grads", "forward", "backward", "astype"])
@pytest.mark.parametrize("check", [check_gradients, check_adjoint])
def test_what_a_layer_lacks_is_named(name: str, check: Callable[..., GradientReport]) -> None:
    held: dict[str, Any] = {"parameters": {}, "grads": {}, "forward": 0, "backward": 0, "astype": 0}
    layer = type("Half", (), {key: value for key, value in held.items() if key != name})()
    with pytest.raises(InputError, match=f"Half has no {name}; a layer to be checked has"):
        check(layer, X)


def test_passes_of_the_wrong_kind_are_refused() -> None:
    class NoCache(Plain):
        def forward(self, x: Array) -> Any:
            return x * self.parameters["w"]

    class NoCopy(Plain):
        def astype(self, dtype: Any) -> Plain:
            return self

    class NoDtype(Plain):
        def astype(self, dtype: Any) -> Plain:
            return copy.deepcopy(self)

    layers = {NoCache: "return", NoCopy: "not a copy", NoDtype: "parameter w in float64"}
    for kind, said in layers.items():
        with pytest.raises(InputError, match=said):
            check_gradients(kind(np.ones(2)), X)


@pytest.mark.parametrize("small", [1e-4, 1e-14, 1e-20, 1e-60])
@pytest.mark.parametrize("method", ["complex", "central"])
def test_one_small_column_twice_too_large_is_found(small: float, method: str) -> None:
    class Twice(Linear):
        def backward(self, dy: Array, cache: Any) -> Array:
            before = self.grads["weight"][:, 1].copy()
            d_x = super().backward(dy, cache)
            self.grads["weight"][:, 1] += self.grads["weight"][:, 1] - before
            return d_x

    x = draw(0, 6, 3) * [1, small, 1]
    if method == "complex" or small == 1e-4:  # a difference of sums of size 1 sees no more
        report = check_gradients(Twice(3, 4, dtype=np.float64), x, method=method)
        (row,) = [row for row in report.rows if not row.passed]
        assert row.quantity == "weight"
        assert row.index[1] == 1
        assert row.error > 0.9
    assert check_gradients(Linear(3, 4, dtype=np.float64), x, method=method).passed


def test_an_input_of_integers_has_a_row() -> None:
    tokens = np.array([1, 2, 1])
    report = check_gradients(Embedding(4, 2, padding_idx=0, dtype=np.float64), tokens)
    assert report.passed
    (row,) = [row for row in report.rows if row.quantity == "input 0"]
    assert row.method == "integers"


def test_a_gradient_of_integers_is_no_gradient() -> None:
    report = check_gradients(Scale(), np.arange(6).reshape(3, 2))
    assert failures(report) == {
        "input 0": "a gradient of int64; to have it checked, give floating numbers"
    }


def test_none_is_the_gradient_of_what_is_not_used() -> None:
    packing = Packing.of(np.array([2, 3, 1]), get_backend("numpy"))
    for kind in POOLINGS.values():
        pooling = kind(2, dtype=np.float64)
        assert check_gradients(pooling, X, draw(1, 3, 2), packing=packing).passed
        assert check_adjoint(pooling, X, draw(1, 3, 2), packing=packing).passed


def test_none_for_what_is_used_is_named() -> None:
    class Forgets(Scale):
        def backward(self, dy: Array, cache: Any) -> Any:
            super().backward(dy, cache)

    report = check_gradients(Forgets(), X)
    said = {"input 0": "backward returns None, but the outputs depend on it"}
    assert failures(report) == said
    assert not check_adjoint(Forgets(), X).passed


def test_a_parameter_without_a_gradient_is_named() -> None:
    class NoGrad(Plain):
        def __init__(self, w: Any) -> None:
            super().__init__(w)
            self.grads = {}

        def astype(self, dtype: Any) -> NoGrad:
            return NoGrad(self.parameters["w"].astype(dtype))

        def backward(self, dy: Array, x: Array) -> Array:
            d_x: Array = dy * self.parameters["w"]
            return d_x

    assert failures(check_gradients(NoGrad(np.ones(2)), X)) == {"w": "grads has no 'w'"}


def test_a_wrong_number_stands_beside_the_right_one() -> None:
    class Wrong(Scale):
        def backward(self, dy: Array, cache: Any) -> Any:
            d_x = super().backward(dy, cache)
            d_x[3, 1] = 7
            return d_x

    report = check_gradients(Wrong(), X)
    assert failures(report)["input 0"].startswith("backward gives 7, but it is ")
    assert "at (3, 1)" in str(report)
    assert "input 0: backward gives 7" in repr(report)


def test_a_gradient_of_the_wrong_shape_is_named() -> None:
    class Turned(Scale):
        def backward(self, dy: Array, cache: Any) -> Any:
            return super().backward(dy, cache).T

    reason = failures(check_gradients(Turned(), X))["input 0"]
    assert reason == "a gradient of shape (2, 6) for an array of (6, 2)"


def test_a_forward_pass_that_drops_the_complex_step_is_explained() -> None:
    class Real(Scale):
        def forward(self, x: Array) -> tuple[Array, Any]:
            y, cache = super().forward(x)
            return y.real, cache

    assert "does forward keep complex numbers" in failures(check_gradients(Real(), X))["w"]
    assert check_gradients(Real(), X, method="central").passed


class SharedBias(Layer):
    """Cross-entropy of ``z + b``, with one b for all classes: it changes nothing."""

    def __init__(self, right: bool = True) -> None:
        super().__init__(dtype=np.float64)
        self.right, self.loss = right, SoftmaxCrossEntropy(dtype=np.float64)
        self.add_parameter("b", lambda random: random.uniform((1,), -1, 1))

    def forward(self, z: Array) -> tuple[Array, Any]:
        return self.loss.forward(z + self.parameters["b"], np.arange(len(z)) % z.shape[1])

    def backward(self, dy: Array, cache: Any) -> Array:
        d_z = self.loss.backward(dy, cache)
        self.grads["b"] += d_z.sum() + (0 if self.right else 1e-9)
        return d_z


class Cube(Layer):
    def forward(self, x: Array) -> tuple[Array, Array]:
        return x * x * x, x

    def backward(self, dy: Array, x: Array) -> Array:
        return dy * 3 * x * x


class Cancels(Layer):
    """``y = a x - a x``, and so on: terms of any size, and nothing left of them."""

    def __init__(self) -> None:
        super().__init__(dtype=np.float64)
        self.add_parameter("a", lambda random: random.uniform((3,), -1, 1))

    def forward(self, x: Array) -> tuple[Array, Array]:
        a = self.parameters["a"]
        y = (x * a).sum(axis=1) * 1e6
        return x[:, 0] + y / 3 - y / 7 - y * (4 / 21), x

    def backward(self, dy: Array, x: Array) -> Array:
        a, d = self.parameters["a"], 1e6 * dy[:, None]
        part = d / 3 - d / 7 - d * (4 / 21)
        self.grads["a"] += (part * x).sum(axis=0)
        d_x = part * a
        d_x[:, 0] += dy
        return d_x


@pytest.mark.parametrize("seed", ROUNDS)
def test_a_right_gradient_of_zero_passes(seed: int) -> None:
    z = draw(seed, 5, 4) * 10.0 ** (seed % 5 - 2)
    for method in ("complex", "central"):
        assert check_gradients(SharedBias(), z, method=method).passed
        assert check_gradients(Cancels(), draw(seed, 4, 3), method=method).passed
    assert check_adjoint(SharedBias(), z).passed
    assert check_adjoint(Cancels(), draw(seed, 4, 3)).passed


@pytest.mark.parametrize("seed", ROUNDS[:5])
def test_a_wrong_gradient_of_zero_does_not_pass(seed: int) -> None:
    assert set(failures(check_gradients(SharedBias(right=False), draw(seed, 5, 4)))) == {"b"}


def test_a_zero_of_order_two_passes() -> None:
    x = np.array([[0.0, 1.0], [0.0, -2.0]])
    for given in (x, x * 0):
        for method in ("complex", "central"):
            assert check_gradients(Cube(dtype=np.float64), given, method=method).passed
        assert check_adjoint(Cube(dtype=np.float64), given).passed


def test_a_bias_of_keys_changes_no_attention() -> None:
    packing = Packing.of(np.array([2, 3, 1]), get_backend("numpy"))
    layer = MultiHeadAttention(4, 2, dtype=np.float64, random=Random(1))
    for seed in ROUNDS[:10]:
        assert check_gradients(layer, draw(seed, 6, 4), packing=packing).passed
