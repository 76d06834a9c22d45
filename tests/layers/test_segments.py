"""Recomputation and truncation, segment by segment, against the plain layer and a naive loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.gradients import check_gradients
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.layers.recurrent.segments import Segmented
from tests.support.reference import Floats, Weights, assert_close, draw, host, pack, pad

NUMPY = get_backend("numpy")
D, H, V = 3, 4, 6
LENGTHS = [3, 1, 5, 5, 2]

CELLS: dict[str, type[Recurrent]] = {
    "elman": Elman, "lstm": LSTM, "gru": GRU, "before": GRUResetBefore,
}  # fmt: skip

each_cell = pytest.mark.parametrize("cell", CELLS)
with_h0 = pytest.mark.parametrize("with_h0", [True, False], ids=["h0", "no h0"])
with_tokens = pytest.mark.parametrize("looked_up", [True, False], ids=["tokens", "dense"])
property_test = settings(max_examples=25)


def elman(backend: Backend, phi: str = "tanh", units: int = H) -> Elman:
    return Elman(
        D, units, nonlinearity=phi, backend=backend, dtype=np.float64, random=Random(4)
    )  # fmt: skip


def layer_of(cell: str, backend: Backend, units: int = H) -> Recurrent:
    return CELLS[cell](D, units, backend=backend, dtype=np.float64, random=Random(4))


def inputs(
    layer: Recurrent, lengths: list[int], h0: bool, looked_up: bool
) -> tuple[list[Any], dict[str, Any]]:
    """What forward takes: ``[x]`` or ``[x, h0, ...]``, and its keywords."""
    backend, rows = layer.backend, sum(lengths)
    keywords: dict[str, Any] = {"packing": Packing.of(np.array(lengths), backend)}
    arrays: list[Any] = [backend.asarray(draw(0, V if looked_up else rows, D))]
    if looked_up:
        tokens = np.random.default_rng(0).integers(0, V, rows)
        arrays = [LookedUp(arrays[0], backend.asarray(tokens))]
    if h0:
        arrays += draws(layer, len(lengths), 1)
    return arrays, keywords


def draws(layer: Recurrent, batch: int, seed: int) -> list[Any]:
    """An array ``(B, H)`` for each state of the layer."""
    drawn = [draw(seed + 10 * s, batch, layer.hidden_size) for s in range(len(layer.states))]
    return [layer.backend.asarray(state) for state in drawn]


def all_gradients(layer: Recurrent, returned: tuple[Any, ...]) -> dict[str, Floats]:
    """Of the input, of the initial states where there are any, and of the parameters."""
    d_x, *d_states = returned
    names = [f"{state[0]}0" for state in layer.states]
    states = {name: d for name, d in zip(names, d_states, strict=True) if d is not None}
    return host(layer.backend, {"x": d_x} | states | layer.grads)


def assert_equal_to_plain(
    layer: Recurrent,
    lengths: list[int],
    sizes: Iterable[int],
    h0: bool,
    looked_up: bool,
    used: tuple[bool, ...] = (True, True),
) -> None:
    """Outputs and every gradient of each segment size are those of the layer itself.

    ``used`` says which of the last states the loss has to do with.
    """
    backend = layer.backend
    arrays, keywords = inputs(layer, lengths, h0, looked_up)
    d_lasts = tuple(
        d if use else None for d, use in zip(draws(layer, len(lengths), 2), used, strict=False)
    )
    d_last: Any = d_lasts if len(layer.states) > 1 else d_lasts[0]
    layer.zero_grads()
    (_, *lasts), cache = layer.forward(*arrays, **keywords)
    expected = all_gradients(layer, layer.backward((None, *d_lasts), cache))
    for size in sizes:
        segmented = Segmented(layer, size)
        segmented.zero_grads()
        found_last, held = segmented.forward(*arrays, **keywords)
        found = all_gradients(layer, segmented.backward(d_last, held))
        found_lasts = found_last if len(layer.states) > 1 else (found_last,)
        for state, last in zip(found_lasts, lasts, strict=True):
            assert_close(state, backend.to_numpy(last), backend=backend)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            assert_close(gradient, expected[name], floor=1.0)


@with_h0
@with_tokens
@pytest.mark.parametrize("phi", ["tanh", "relu"])
@pytest.mark.parametrize("lengths", [LENGTHS, [4, 3, 1], [6], [1], [9, 9, 9]], ids=str)
def test_recomputing_gives_the_plain_gradients(
    lengths: list[int], phi: str, looked_up: bool, with_h0: bool, backend: Backend
) -> None:
    sizes = range(1, max(lengths) + 4)
    assert_equal_to_plain(elman(backend, phi), lengths, sizes, with_h0, looked_up)


@each_cell
@with_h0
@with_tokens
@pytest.mark.parametrize("lengths", [LENGTHS, [4, 3, 1], [6]], ids=str)
def test_every_cell_recomputes_to_the_plain_gradients(
    lengths: list[int], looked_up: bool, with_h0: bool, cell: str, backend: Backend
) -> None:
    sizes = range(1, max(lengths) + 2)
    assert_equal_to_plain(layer_of(cell, backend), lengths, sizes, with_h0, looked_up)


@pytest.mark.parametrize("used", [(True, False), (False, True), (False, False)], ids=str)
def test_a_state_that_the_loss_does_not_use_has_no_gradient(used: tuple[bool, bool]) -> None:
    layer = layer_of("lstm", NUMPY)
    assert_equal_to_plain(layer, LENGTHS, (1, 2, 5), True, False, used)


def test_the_gradient_of_h_alone_is_that_with_none_of_c() -> None:
    layer = layer_of("lstm", NUMPY)
    arrays, keywords = inputs(layer, LENGTHS, h0=True, looked_up=False)
    _, cache = Segmented(layer, 2).forward(*arrays, **keywords)
    found = []
    d_h, d_c = draws(layer, len(LENGTHS), 2)
    for d_last in (d_h, (d_h,), (d_h, None), (d_h, 0 * d_c)):
        layer.zero_grads()
        found.append(all_gradients(layer, Segmented(layer, 2).backward(d_last, cache)))
    for other in found[1:]:
        for name, gradient in other.items():
            np.testing.assert_array_equal(gradient, found[0][name])


@property_test
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    h0=st.booleans(),
    looked_up=st.booleans(),
)
def test_at_any_lengths_and_any_size(
    backend: Backend, lengths: list[int], h0: bool, looked_up: bool
) -> None:
    assert_equal_to_plain(elman(backend), lengths, range(1, max(lengths) + 4), h0, looked_up)


@with_tokens
@pytest.mark.parametrize("lengths", [[2000], [2000, 1999, 1, 700]], ids=["one", "several"])
def test_over_2000_steps(lengths: list[int], looked_up: bool, backend: Backend) -> None:
    layer = elman(backend, units=16)
    # A spectral norm of 1: gradients then reach far back and do not explode.
    w_hh = backend.to_numpy(layer.parameters["weight_hh_l0"])
    layer.parameters["weight_hh_l0"][...] = backend.asarray(w_hh / np.linalg.norm(w_hh, 2))
    assert_equal_to_plain(layer, lengths, (45, 2000), h0=True, looked_up=looked_up)


#: Every size with and without each input, but not every size with every pair of them.
SIZES = [(1, True, True), (1, False, False), (2, True, False), (2, False, True),
         (5, False, True), (5, True, False), (7, True, True), (7, False, False)]  # fmt: skip


@each_cell
@pytest.mark.parametrize(("size", "looked_up", "with_h0"), SIZES)
def test_gradients_by_complex_step(
    size: int, looked_up: bool, with_h0: bool, cell: str, backend: Backend
) -> None:
    layer = layer_of(cell, backend, units=4 if cell == "elman" else 2)
    arrays, keywords = inputs(layer, LENGTHS, with_h0, looked_up)
    report = check_gradients(Segmented(layer, size), *arrays, **keywords)
    assert report.passed, str(report)
    checked = {row.quantity for row in report.rows}
    assert checked == {"repeatable", *layer.parameters, *(f"input {i}" for i in range(len(arrays)))}


def truncated(
    x: Floats, lengths: list[int], h0: Floats, weights: Weights, d_last: Floats, size: int
) -> dict[str, Floats]:
    """Backpropagation sequence by sequence, padded ``(T, B, D)``, that stops at every cut."""
    w_ih, w_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    grads = {name: np.zeros(np.shape(value)) for name, value in weights.items()}
    d_x, d_h0 = np.zeros(x.shape), np.zeros(h0.shape)
    for b, length in enumerate(lengths):
        states = [h0[b]]
        for t in range(length):
            states.append(np.tanh(w_ih @ x[t, b] + bias + w_hh @ states[t]))
        d = d_last[b].copy()
        for t in reversed(range(length)):
            delta = (1 - states[t + 1] ** 2) * d
            d_x[t, b] = w_ih.T @ delta
            grads["weight_ih_l0"] += np.outer(delta, x[t, b])
            grads["weight_hh_l0"] += np.outer(delta, states[t])
            grads["bias_ih_l0"] += delta
            grads["bias_hh_l0"] += delta
            d = w_hh.T @ delta * (t == 0 or t % size != 0)
        d_h0[b] = d
    return {"x": d_x, "h0": d_h0, **grads}


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("lengths", [LENGTHS, [7, 4, 4], [8]], ids=str)
def test_truncation_stops_the_gradient_at_the_cuts(
    lengths: list[int], size: int, backend: Backend
) -> None:
    layer = elman(backend)
    padded, h0 = draw(0, max(lengths), len(lengths), D), draw(1, len(lengths), H)
    d_last = draw(2, len(lengths), H)
    expected = truncated(padded, lengths, h0, host(backend, layer.parameters), d_last, size)
    segmented = Segmented(layer, size, truncate=True)
    x, packing = backend.asarray(pack(padded, lengths)), Packing.of(np.array(lengths), backend)
    _, cache = segmented.forward(x, backend.asarray(h0), packing=packing)
    found = all_gradients(layer, segmented.backward(backend.asarray(d_last), cache))
    found["x"] = pad(found["x"], lengths)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert_close(gradient, expected[name])


@each_cell
def test_truncation_in_one_segment_cuts_nothing_and_in_several_something(cell: str) -> None:
    layer = layer_of(cell, NUMPY)
    arrays, keywords = inputs(layer, [6, 6], h0=True, looked_up=False)
    reached = {}
    for size in (3, 6):
        segmented = Segmented(layer, size, truncate=True)
        _, cache = segmented.forward(*arrays, **keywords)
        d_last = tuple(np.ones((2, H)) for _ in layer.states)
        _, *reached[size] = segmented.backward(d_last, cache)
    assert not any(np.any(d) for d in reached[3])
    assert all(np.all(d != 0) for d in reached[6])


@each_cell
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_truncation_is_a_layer_begun_anew_at_each_cut(cell: str, size: int) -> None:
    """Only a sequence's last segment sees the loss: the states before it are constants."""
    layer, length = layer_of(cell, NUMPY), 7
    arrays, keywords = inputs(layer, [length], h0=True, looked_up=False)
    x, *states = arrays
    cut = (length - 1) // size * size
    if cut:
        front = Packing.of(np.array([cut]), NUMPY)
        (_, *states), _ = layer.forward(x[:cut], *states, packing=front)
    rest = Packing.of(np.array([length - cut]), NUMPY)
    _, memory = layer.forward(x[cut:], *states, packing=rest)
    d_last = tuple(draws(layer, 1, 2))
    layer.zero_grads()
    d_x, *_ = layer.backward((None, *d_last), memory)
    expected = host(NUMPY, layer.grads)
    segmented = Segmented(layer, size, truncate=True)
    _, cache = segmented.forward(*arrays, **keywords)
    layer.zero_grads()
    found, *d_initial = segmented.backward(d_last, cache)
    assert_close(found, np.concatenate([np.zeros((cut, D)), d_x]))
    assert all(np.any(d) == (cut == 0) for d in d_initial)
    for name, gradient in expected.items():
        assert_close(layer.grads[name], gradient)


def test_only_the_states_at_the_cuts_are_held(backend: Backend) -> None:
    layer = elman(backend)
    arrays, keywords = inputs(layer, [9, 9, 4], h0=True, looked_up=True)
    _, plain = layer.forward(*arrays, **keywords)
    assert plain.nbytes == 8 * H * (22 + 3)
    # Cuts before steps 0, 3 and 6, where 3, 3 and 2 sequences are running.
    _, cache = Segmented(layer, 3).forward(*arrays, **keywords)
    assert cache.nbytes == 8 * H * (3 + 3 + 2)
    _, cache = Segmented(layer, 3).forward(arrays[0], **keywords)
    assert cache.nbytes == 8 * H * (3 + 2)
    _, cache = Segmented(layer, 9).forward(arrays[0], **keywords)
    assert cache.nbytes == 0


@each_cell
def test_what_is_held_is_no_view_of_more(cell: str) -> None:
    layer = layer_of(cell, NUMPY)
    arrays, keywords = inputs(layer, [9, 5, 2], h0=True, looked_up=False)
    _, cache = Segmented(layer, 2).forward(*arrays, **keywords)
    assert all(state.base is None for states in cache.states for state in states or ())


def test_neither_pass_changes_what_it_is_given(backend: Backend) -> None:
    layer = elman(backend)
    arrays, keywords = inputs(layer, [9, 9, 4], h0=True, looked_up=False)
    arrays.append(backend.asarray(draw(2, 3, H)))
    before = [backend.to_numpy(array).copy() for array in arrays]
    segmented = Segmented(layer, 2)
    _, cache = segmented.forward(*arrays[:2], **keywords)
    segmented.backward(arrays[2], cache)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), kept)


def test_an_lstm_holds_two_states_at_each_cut() -> None:
    layer = layer_of("lstm", NUMPY)
    arrays, keywords = inputs(layer, [9, 9, 4], h0=True, looked_up=True)
    _, cache = Segmented(layer, 3).forward(*arrays, **keywords)
    assert cache.nbytes == 2 * 8 * H * (3 + 3 + 2)


def test_an_lstm_given_one_state_is_an_error() -> None:
    layer = layer_of("lstm", NUMPY)
    arrays, keywords = inputs(layer, [4, 2], h0=True, looked_up=False)
    with pytest.raises(InputError, match="1 initial states for a cell that has 2"):
        Segmented(layer, 2).forward(*arrays[:2], **keywords)


@pytest.mark.parametrize("size", [0, -3])
def test_a_segment_below_one_step_is_an_error(size: int) -> None:
    with pytest.raises(InputError, match=f"size of a segment is {size}"):
        Segmented(elman(NUMPY), size)
