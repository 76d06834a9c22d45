"""A layer made of layers: one array under two names, whatever is done to either."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import pytest

from npnlp.backend import Array, Backend, Random
from npnlp.errors import InputError
from npnlp.gradients import check_gradients
from npnlp.layers import Dropout, FlatParameters, Layer, LayerOptions, Linear
from npnlp.layers.composite import Composite
from npnlp.training.optimizers import SGD, Adam
from tests.support.reference import assert_close, draw, host


class Pair(Composite):
    """``y = b (a x + shift)``, with ``a`` in an attribute and both in a list and a dict."""

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.a = self.add_layer("a", Linear(3, 4, **self.options_of("a")))
        self.add_parameter("shift", lambda random: random.uniform((4,)))
        self.add_layer("b", Linear(4, 2, **self.options_of("b")))
        self.layers = [layer for _, layer in self.sublayers]
        self.held = {"pairs": [(0, self.a)]}
        self.dropout = self.add_layer("drop", Dropout(0.5, **self.options_of("drop")))

    def forward(self, x: Array) -> tuple[Array, Any]:
        z, first = self.a.forward(x)
        z += self.parameters["shift"]
        y, second = self.layers[1].forward(z)  # type: ignore[attr-defined]
        return y, (first, second)

    def backward(self, dy: Array, cache: Any) -> Array:
        d_z = self.layers[1].backward(dy, cache[1])  # type: ignore[attr-defined]
        self.grads["shift"] += d_z.sum(axis=0)
        return self.a.backward(d_z, cache[0])


class Nest(Composite):
    """A composite of composites, the second with its names as they are."""

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.pair = self.add_layer("pair", Pair(**self.options_of("pair")))
        self.out = self.add_layer("", Linear(2, 2, **self.options_of("out")))

    def forward(self, x: Array) -> tuple[Array, Any]:
        z, pair = self.pair.forward(x)
        y, out = self.out.forward(z)
        return y, (pair, out)

    def backward(self, dy: Array, cache: Any) -> Array:
        return self.pair.backward(self.out.backward(dy, cache[1]), cache[0])


NAMES = ["pair.a.weight", "pair.a.bias", "pair.shift", "pair.b.weight", "pair.b.bias",
         "weight", "bias"]  # fmt: skip


def assert_linked(nest: Nest) -> None:
    """Each array is one object under all its names."""
    pair = nest.pair
    for ours, pairs, a, b, out in (
        (nest.parameters, pair.parameters, pair.a.parameters, pair.layers[1].parameters,
         nest.out.parameters),
        (nest.grads, pair.grads, pair.a.grads, pair.layers[1].grads, nest.out.grads),
    ):  # fmt: skip
        assert list(ours) == NAMES
        assert ours["pair.a.weight"] is pairs["a.weight"] is a["weight"]
        assert ours["pair.b.bias"] is pairs["b.bias"] is b["bias"]
        assert ours["pair.shift"] is pairs["shift"]
        assert ours["bias"] is out["bias"]


def test_gradients(backend: Backend) -> None:
    nest = Nest(dtype=np.float64, backend=backend)
    report = check_gradients(nest, backend.asarray(draw(0, 5, 3)))
    assert report.passed, str(report)
    assert {row.quantity for row in report.rows} == {*NAMES, "input 0", "repeatable"}


def test_one_array_has_both_names() -> None:
    nest = Nest()
    assert_linked(nest)
    nest.pair.a.grads["weight"] += 1
    assert (nest.grads["pair.a.weight"] == 1).all()
    nest.zero_grads()
    assert not nest.pair.a.grads["weight"].any()


def test_weights_have_streams_of_their_full_names() -> None:
    nest = Nest(dtype=np.float64, random=Random(4, "model"))
    alone = Linear(3, 4, dtype=np.float64, random=Random(4, "model.pair.a"))
    np.testing.assert_array_equal(nest.parameters["pair.a.weight"], alone.parameters["weight"])


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_two_updates_of_one_buffer_reach_the_sublayers(
    optimizer: type[SGD] | type[Adam], backend: Backend
) -> None:
    nest = Nest(dtype=np.float64, backend=backend)
    flat = FlatParameters({"nest": nest}, backend)
    assert_linked(nest)
    updates = optimizer(flat, backend, 0.1)
    x, dy = backend.asarray(draw(0, 5, 3)), backend.asarray(draw(1, 5, 2))
    for _ in range(2):
        before = backend.to_numpy(flat.values).copy()
        _, cache = nest.forward(x)
        nest.zero_grads()
        nest.backward(dy, cache)
        assert backend.to_numpy(flat.grads).all()
        updates.step()
        assert (backend.to_numpy(flat.values) != before).all()
    w = {
        name.removeprefix("nest."): value for name, value in host(backend, flat.parameters).items()
    }
    z = draw(0, 5, 3) @ w["pair.a.weight"].T + w["pair.a.bias"] + w["pair.shift"]
    z = z @ w["pair.b.weight"].T + w["pair.b.bias"]
    y, _ = nest.forward(x)
    assert_close(y, z @ w["weight"].T + w["bias"], backend=backend)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("flattened", [False, True])
def test_a_copy_shares_nothing_and_is_linked(dtype: Any, flattened: bool) -> None:
    nest = Nest(dtype=np.float32)
    if flattened:
        FlatParameters({"nest": nest}, nest.backend)
    nest.grads["weight"] += 1
    before = {name: value.copy() for name, value in nest.parameters.items()}
    twin = nest.astype(dtype)
    assert_linked(twin)
    assert_linked(nest)
    assert twin.dtype == twin.pair.dropout.dtype == twin.pair.a.dtype == np.dtype(dtype)
    assert twin.backend is nest.backend is twin.pair.a.backend
    assert twin.pair.held["pairs"][0][1] is twin.pair.a is twin.pair.layers[0]
    assert twin.sublayers[0][1] is twin.pair is not nest.pair
    for name, value in twin.parameters.items():
        np.testing.assert_array_equal(value, before[name].astype(dtype))
        assert not twin.grads[name].any()
        value += 1
        twin.grads[name] += 5
        np.testing.assert_array_equal(nest.parameters[name], before[name])
    assert (nest.grads["weight"] == 1).all()
    assert not nest.grads["pair.shift"].any()


def test_several_layers_can_keep_their_names() -> None:
    def layer(name: str) -> Layer:
        made = Layer()
        made.add_parameter(name, lambda random: random.uniform((2,)))
        return made

    stack = Composite()
    layers = [stack.add_layer("", layer(name)) for name in ("weight_l0", "weight_l1")]
    assert list(stack.parameters) == ["weight_l0", "weight_l1"]
    twin = stack.astype(np.float64)
    assert twin.parameters["weight_l1"] is twin.sublayers[1][1].parameters["weight_l1"]
    assert twin.sublayers[1][1] is not layers[1]


@pytest.mark.parametrize("prefix", ["", "a"])
def test_a_name_is_given_once(prefix: str) -> None:
    composite = Composite()
    composite.add_layer(prefix, Linear(2, 2))
    with pytest.raises(InputError, match="weight is there already; choose another prefix"):
        composite.add_layer(prefix, Linear(2, 2))
    assert len(composite.sublayers) == 1
