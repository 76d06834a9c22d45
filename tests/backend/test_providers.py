"""One table: every provider of a whole operation is held to the reference, by one test."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, get_backend
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.operations import LookedUp
from npnlp.errors import DeviceError
from npnlp.layers import GRU, LSTM, Elman, FlatParameters, Linear, Packing, SoftmaxCrossEntropy
from npnlp.layers.recurrent.gru import GRUResetBefore
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.layers.recurrent.through_time import ThroughTime
from npnlp.training.optimizers import Adam
from tests.support.cupy_on_shim import CupyOnShim
from tests.support.door import StrictTunedBackend
from tests.support.reference import draw
from tests.support.shim import compiler
from tests.support.strict import StrictBackend

REFERENCE = get_backend("reference")
#: Relative to the largest number of an array, or to 1.
BOUND = {"float64": 1e-12, "float32": 1e-5}
CELLS: dict[str, Callable[..., Recurrent]] = {
    "elman tanh": Elman,
    "elman relu": lambda *sizes, **options: Elman(*sizes, nonlinearity="relu", **options),
    "lstm": LSTM,
    "gru": GRU,
    "gru, reset before": GRUResetBefore,
}


def shim() -> Backend:
    if compiler() is None:
        pytest.skip("no C++ compiler to run kernels on the CPU with")
    backend: Any = CupyOnShim()
    return backend  # type: ignore[no-any-return]


def named(name: str) -> Callable[[], Backend]:
    def make() -> Backend:
        try:
            return get_backend(name)
        except DeviceError as error:
            pytest.skip(str(error))

    return make


PROVIDERS = [
    pytest.param(StrictBackend, id="reference on strict arrays"),
    pytest.param(named("numpy"), id="tuned"),
    pytest.param(StrictTunedBackend, id="tuned on strict arrays"),
    pytest.param(named("numba"), id="compiled", marks=pytest.mark.peers),
    pytest.param(named("cupy"), id="cuda", marks=pytest.mark.gpu),
]
each_provider = pytest.mark.parametrize("make", PROVIDERS)
each_cell = pytest.mark.parametrize("cell", CELLS)
each_input = pytest.mark.parametrize("looked_up", [False, True], ids=["rows", "looked up"])
each_start = pytest.mark.parametrize("given", [False, True], ids=["zeros", "initial states"])


def close(found: Any, expected: Any, backend: Backend, bound: float) -> None:
    host = backend.to_numpy(found)
    assert host.shape == expected.shape
    assert host.dtype == expected.dtype
    assert np.abs(host - expected).max(initial=0) <= bound * max(1, np.abs(expected).max(initial=0))


def both_passes(
    cell: str, backend: Backend, dtype: np.dtype[Any], looked_up: bool, given: bool
) -> dict[str, list[Any]]:
    """All that a layer says of a batch, with hidden and last states used above."""
    layer, send, sizes = CELLS[cell](3, 6, backend=backend, dtype=dtype), backend.asarray, (9, 6)
    for index, parameter in enumerate(layer.parameters.values()):
        parameter[...] = send(draw(index, *parameter.shape).astype(dtype))
    packing = Packing.of(np.array([2, 4, 1, 2]), backend)
    x: Any = send(draw(10, 5 if looked_up else 9, 3).astype(dtype))
    if looked_up:
        x = LookedUp(x, send(np.array([4, 0, 1, 1, 3, 0, 0, 3, 4])))
    initial = [send(draw(11 + k, 4, 6).astype(dtype)) for k in range(len(layer.states) * given)]
    above = send(draw(20, *sizes).astype(dtype))
    last = [send(draw(21 + k, 4, 6).astype(dtype)) for k in range(len(layer.states))]
    traces: list[Any] = []
    outputs, cache = layer.forward(x, *initial, packing=packing)
    d = layer.backward((above, *last), cache, traces.append)
    assert [part is None for part in d[1:]] == [not given for _ in layer.states]
    return {
        "outputs": list(outputs),
        "states": list(cache.states),
        "memory": list(cache.memory),
        "inputs": [part for part in d if part is not None],
        "gradients": list(layer.grads.values()),
        "traces": [*traces[0].d_states, traces[0].delta],
    }


def hold(backend: Backend, cell: str, dtype: np.dtype[Any], looked_up: bool, given: bool) -> None:
    expected = both_passes(cell, REFERENCE, dtype, looked_up, given)
    for name, arrays in both_passes(cell, backend, dtype, looked_up, given).items():
        for found, wanted in zip(arrays, expected[name], strict=True):
            close(found, wanted, backend, BOUND[dtype.name])


@each_provider
@each_cell
@each_input
@each_start
def test_recurrent_passes_equal_the_reference(
    make: Callable[[], Backend], cell: str, dtype: np.dtype[Any], looked_up: bool, given: bool
) -> None:
    hold(make(), cell, dtype, looked_up, given)


@each_cell
def test_kernels_on_the_shim_equal_the_reference(
    cell: str, dtype: np.dtype[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from npnlp.backend.cuda import recurrence
    from tests.backend.cuda.test_kernels_recurrence import ShimDevice

    monkeypatch.setattr(recurrence, "device_of", lambda xp: ShimDevice())
    for looked_up, given in ((False, True), (True, False)):
        hold(shim(), cell, dtype, looked_up, given)


@each_cell
def test_the_reference_is_what_runs_where_no_provider_is(cell: str) -> None:
    layer = CELLS[cell](3, 6, backend=REFERENCE)
    assert isinstance(layer._passes(draw(0, 2, 3).astype(np.float32), layer.kind()), ThroughTime)
    tuned = CELLS[cell](3, 6)
    passes = tuned._passes(draw(0, 2, 3).astype(np.float32), tuned.kind())
    assert not isinstance(passes, ThroughTime)
    other = draw(0, 2, 3)  # float64 rows for a layer of float32
    assert isinstance(tuned._passes(other, tuned.kind()), ThroughTime)


@each_provider
def test_linear_and_cross_entropy_equal_the_reference(
    make: Callable[[], Backend], dtype: np.dtype[Any]
) -> None:
    found: list[list[Any]] = []
    backend = make()
    for one in (REFERENCE, backend):
        send = one.asarray
        layer, loss = Linear(4, 3, backend=one, dtype=dtype), SoftmaxCrossEntropy(backend=one)
        layer.parameters["weight"][...] = send(draw(0, 3, 4).astype(dtype))
        layer.parameters["bias"][...] = send(draw(1, 3).astype(dtype))
        y, cache = layer.forward(send(draw(2, 7, 4).astype(dtype)))
        value, of_loss = loss.forward(y, send(np.arange(7) % 3))
        d_y = loss.backward(1.0, of_loss)
        d_x = layer.backward(d_y, cache)
        found.append([y, d_y, d_x, *layer.grads.values(), of_loss.probabilities, value])
    for ours, wanted in zip(found[1], found[0], strict=True):
        close(ours, np.asarray(wanted), backend, BOUND[dtype.name])


@each_provider
def test_adam_equals_the_reference(make: Callable[[], Backend], dtype: np.dtype[Any]) -> None:
    found: list[Any] = []
    backend = make()
    for one in (REFERENCE, backend):
        layer = Linear(4, 3, backend=one, dtype=dtype)
        flat = FlatParameters({"fc": layer}, one)
        flat.values[...] = one.asarray(draw(0, 15).astype(dtype))
        adam = Adam(flat, one, 1e-2, weight_decay=0.1)
        for step in range(5):
            flat.grads[...] = one.asarray(draw(1 + step, 15).astype(dtype))
            adam.step()
        found.append([flat.values, *adam.moments.values()])
    for ours, wanted in zip(found[1], found[0], strict=True):
        close(ours, wanted, backend, BOUND[dtype.name])


@pytest.mark.parametrize("name", ["numpy", "reference"])
def test_adams_step_is_the_formula(name: str) -> None:
    """The first, by hand: ``m^ = g`` and ``v^ = g^2``, so it is ``eta g / (|g| + eps)``."""
    backend = get_backend(name)
    flat = FlatParameters({"fc": Linear(2, 1, backend=backend, dtype=np.float64)}, backend)
    flat.values[...], flat.grads[...] = [1.0, 2.0, 3.0], [0.5, -2.0, 1e-3]
    Adam(flat, backend, 0.1).step()
    by_hand = np.array([1.0, 2.0, 3.0]) - 0.1 * flat.grads / (np.abs(flat.grads) + 1e-8)
    np.testing.assert_allclose(flat.values, by_hand, rtol=1e-12)


def test_no_method_of_the_door_returns_just_anything() -> None:
    door = ["recurrent_passes", "linear_passes", "cross_entropy_passes", "classifier_head",
            "step_softmax", "attention_passes", "adam_step", "prefix_passes", "graphs"]  # fmt: skip
    for backend in (Backend, NumpyBackend, StrictTunedBackend, CupyOnShim):
        for name in door:
            found = getattr(backend, name).__annotations__["return"]
            assert found.endswith(" | None"), name
            assert "Any" not in found
    rooms = ("npnlp.backend.operations", "npnlp.backend.step_operations")
    operations = {k: v for room in rooms for k, v in vars(importlib.import_module(room)).items()}
    protocols = [kind for kind in operations.values() if getattr(kind, "_is_protocol", False)]
    for kind in protocols:
        for name, method in vars(kind).items():
            if (inspect.isfunction(method) and not name.startswith("_")) or name == "__call__":
                assert method.__annotations__["return"] != "Any", (kind, name)
    assert len(protocols) >= 5
