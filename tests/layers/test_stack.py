"""Layers on top of each other and in both directions: against PyTorch, and against loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import CELLS, Dropout, FlatParameters, Packing, pack_padded_sequence
from npnlp.layers.recurrent.gru import GRUResetBefore
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.training.optimizers import SGD
from tests.support import reference_cells
from tests.support.reference import assert_close, draw, host, pack, packed_order, pad

NUMPY = get_backend("numpy")
ORACLES = Path(__file__).parents[1] / "oracles"
SEED = Random(3, "stack")
D, H, V = 3, 2, 5
LENGTHS = [3, 1, 5, 1, 2]
STATES = {"elman": "h", "lstm": "hc", "gru": "h", "gru_before": "h"}
THEIRS = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}
Floats = np.typing.NDArray[Any]

each_cell = pytest.mark.parametrize("cell", THEIRS)
both_ways = pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
property_test = settings(max_examples=8)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def reset_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GRU as first published is a cell like the others."""
    monkeypatch.setitem(CELLS, "gru_before", GRUResetBefore)


def make(
    cell: str,
    backend: Backend = NUMPY,
    *,
    input_size: int = D,
    hidden_size: int = H,
    dtype: Any = np.float64,
    random: Random = SEED,
    **options: Any,
) -> RecurrentStack:
    """Large weights, so that no gate stays in the middle."""
    layer = RecurrentStack(
        cell, input_size, hidden_size, backend=backend, dtype=dtype, random=random, **options
    )
    for value in layer.parameters.values():
        value *= 2
    return layer


def states_for(layer: RecurrentStack, cell: str, batch: int, seed: int = 40) -> list[Floats]:
    shape = (len(layer.cells) * layer.directions, batch, layer.hidden_size)
    return [draw(seed + k, *shape).astype(layer.dtype) for k in range(len(STATES[cell]))]


def both_passes(
    layer: RecurrentStack,
    x: Floats,
    lengths: list[int],
    initial: list[Floats],
    d_output: Floats | None,
    d_lasts: list[Floats | None],
    **keywords: Any,
) -> tuple[list[Floats], dict[str, Floats]]:
    """Outputs and gradients of padded ``x``, on the host: padded, and by name."""
    backend, packing = layer.backend, Packing.of(np.array(lengths), layer.backend)
    given = [backend.asarray(state.copy()) for state in initial]
    outputs, cache = layer.forward(
        backend.asarray(pack(x, lengths)), *given, packing=packing, **keywords
    )
    layer.zero_grads()
    d_x, *d_initial = layer.backward(
        (
            None if d_output is None else backend.asarray(pack(d_output, lengths)),
            *(None if d is None else backend.asarray(d.copy()) for d in d_lasts),
        ),
        cache,
    )
    output, *finals = (backend.to_numpy(y).copy() for y in outputs)
    assert len(d_initial) == len(finals)
    assert all((d is None) == (not initial) for d in d_initial)
    gradients = {"x": pad(backend.to_numpy(d_x), lengths), **host(backend, layer.grads)}
    gradients |= {f"state {k}": backend.to_numpy(d).copy()
                  for k, d in enumerate(d_initial) if d is not None}  # fmt: skip
    return [pad(output, lengths), *finals], gradients


def assert_same(
    found: dict[str, Floats], expected: dict[str, Floats], bound: float = 1e-12, floor: float = 1.0
) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_close(value, expected[name], bound, floor=floor)


# The same numbers as PyTorch.


@pytest.mark.peers
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_stored_stack(name: str, backend: Backend) -> None:
    with np.load(ORACLES / f"stack_{name}.npz", allow_pickle=False) as file:
        o = dict(file)
    cell = {"rnn": "elman"}.get(name, name)
    bidirectional = "weight_ih_l0_reverse" in o
    num_layers = sum(key.startswith("weight_ih") for key in o) // (1 + bidirectional)
    layer = make(cell, backend, num_layers=num_layers, bidirectional=bidirectional)
    assert (num_layers, bidirectional) == ((3, False) if name == "rnn" else (2, True))
    assert layer.parameters.keys() == {key for key in o if key.startswith(("weight", "bias"))}
    for key, value in layer.parameters.items():
        value[...] = backend.asarray(o[key])
    kinds = STATES[cell]
    outputs, gradients = both_passes(
        layer, o["x"], o["lengths"].tolist(), [o[f"{k}0"] for k in kinds], o["d_hidden"],
        [o[f"d_{k}_last"] for k in kinds],
    )  # fmt: skip
    for found, key in zip(outputs, ["hidden", *(f"{k}_last" for k in kinds)], strict=True):
        assert_close(found, o[key])
    expected = {key: o[f"d_{key}"] for key in ("x", *layer.parameters)}
    expected |= {f"state {k}": o[f"d_{kind}0"] for k, kind in enumerate(kinds)}
    assert_same(gradients, expected, floor=0.0)


def their_module(torch: Any, layer: RecurrentStack, cell: str) -> Any:
    """PyTorch's module with the layer's weights, under the layer's names."""
    module = getattr(torch.nn, THEIRS[cell])(
        layer.cells[0][0].input_size,
        layer.hidden_size,
        num_layers=len(layer.cells),
        bidirectional=layer.directions == 2,
        dtype=torch.float64 if layer.dtype == np.float64 else torch.float32,
    )
    module.load_state_dict(
        {key: torch.tensor(value) for key, value in layer.parameters.items()}, strict=True
    )
    return module


@pytest.mark.peers
@each_cell
@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    with_initial=st.booleans(),
    kind=st.sampled_from(["float64", "float64", "float32"]),
    seed=st.integers(0, 2**32),
)
def test_live_stack(
    torch: Any,
    cell: str,
    lengths: list[int],
    sizes: tuple[int, int],
    num_layers: int,
    bidirectional: bool,
    with_initial: bool,
    kind: str,
    seed: int,
) -> None:
    layer = make(
        cell, input_size=sizes[0], hidden_size=sizes[1], num_layers=num_layers,
        bidirectional=bidirectional, dtype=kind, random=Random(seed),
    )  # fmt: skip
    module, batch = their_module(torch, layer, cell), len(lengths)
    x = draw(seed, max(lengths), batch, sizes[0]).astype(kind)
    initial = states_for(layer, cell, batch, seed + 1) if with_initial else []
    d_output = draw(seed + 3, max(lengths), batch, layer.features).astype(kind)
    d_lasts: list[Floats | None] = [*states_for(layer, cell, batch, seed + 4)]

    rnn = torch.nn.utils.rnn
    x_t = torch.tensor(x, requires_grad=True)
    first = [torch.tensor(state, requires_grad=True) for state in initial]
    packed = rnn.pack_padded_sequence(x_t, lengths, enforce_sorted=False)
    given = (tuple(first) if cell == "lstm" else first[0]) if first else None
    output, last = module(packed, given)
    lasts = last if cell == "lstm" else (last,)
    hidden, _ = rnn.pad_packed_sequence(output)
    loss = (hidden * torch.tensor(d_output)).sum()
    for state, d in zip(lasts, d_lasts, strict=True):
        loss = loss + (state * torch.tensor(d)).sum()
    loss.backward()

    outputs, gradients = both_passes(layer, x, lengths, initial, d_output, d_lasts)
    bound = {"float64": 1e-12, "float32": 1e-5}[kind]
    for found, expected in zip(outputs, [hidden, *lasts], strict=True):
        assert found.dtype == kind
        assert_close(found, expected.detach().numpy(), bound, floor=1.0)
    theirs = {"x": x_t.grad.numpy()}
    theirs |= {key: value.grad.numpy() for key, value in module.named_parameters()}
    theirs |= {f"state {k}": state.grad.numpy() for k, state in enumerate(first)}
    assert_same(gradients, theirs, bound)


@pytest.mark.peers
@each_cell
@both_ways
@pytest.mark.parametrize("num_layers", [1, 3])
def test_live_names_in_their_order(
    torch: Any, cell: str, bidirectional: bool, num_layers: int
) -> None:
    layer = make(cell, num_layers=num_layers, bidirectional=bidirectional)
    module = getattr(torch.nn, THEIRS[cell])(
        D, H, num_layers=num_layers, bidirectional=bidirectional
    )
    theirs = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    ours = {name: value.shape for name, value in layer.parameters.items()}
    assert list(ours.items()) == list(theirs.items())


@pytest.mark.peers
@each_cell
def test_live_two_updates(torch: Any, cell: str) -> None:
    layer = make(cell, num_layers=2, bidirectional=True)
    module = their_module(torch, layer, cell)
    ours = SGD(FlatParameters({"rnn": layer}, NUMPY), NUMPY, 0.1, 0.9)
    theirs = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    rnn = torch.nn.utils.rnn
    for step in range(3):
        x, d_output = draw(step, 5, 5, D), draw(step + 9, 5, 5, layer.features)
        packed = rnn.pack_padded_sequence(torch.tensor(x), LENGTHS, enforce_sorted=False)
        hidden, _ = rnn.pad_packed_sequence(module(packed)[0])
        theirs.zero_grad()
        (hidden * torch.tensor(d_output)).sum().backward()
        theirs.step()
        both_passes(layer, x, LENGTHS, [], d_output, [None] * len(STATES[cell]))
        ours.step()
    for name, value in module.state_dict().items():
        assert_close(layer.parameters[name], value.numpy())


# The same numbers as loops, and what holds without anything to compare with.


def names_of(num_layers: int, bidirectional: bool) -> list[str]:
    return [
        f"{kind}_{of}_l{k}{suffix}"
        for k in range(num_layers)
        for suffix in ("", "_reverse")[: 1 + bidirectional]
        for kind in ("weight", "bias")
        for of in ("ih", "hh")
    ]


@each_cell
@both_ways
@pytest.mark.parametrize("num_layers", [1, 3])
def test_parameters_carry_pytorchs_names(cell: str, bidirectional: bool, num_layers: int) -> None:
    layer = make(cell, num_layers=num_layers, bidirectional=bidirectional)
    assert list(layer.parameters) == list(layer.grads) == names_of(num_layers, bidirectional)
    shapes = {name: value.shape for name, value in layer.parameters.items()}
    rows = {"elman": 1, "gru": 3, "lstm": 4}[cell] * H
    for name, shape in shapes.items():
        columns = {"weight_ih": D if "_l0" in name else layer.features, "weight_hh": H}
        kind = name.split("_l")[0]
        assert shape == ((rows, columns[kind]) if kind in columns else (rows,))
        assert layer.grads[name].shape == shape
    assert layer.features == H * (1 + bidirectional)
    firsts = {float(value.reshape(-1)[0]) for value in layer.parameters.values()}
    assert len(firsts) == len(shapes)  # a stream for each name


@pytest.mark.usefixtures("reset_before")
@pytest.mark.parametrize("cell", STATES)
@property_test
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    with_initial=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_stack_equals_the_loops(
    cell: str,
    backend: Backend,
    lengths: list[int],
    num_layers: int,
    bidirectional: bool,
    with_initial: bool,
    seed: int,
) -> None:
    layer = make(
        cell, backend, num_layers=num_layers, bidirectional=bidirectional, random=Random(seed)
    )
    x, packing = draw(seed, max(lengths), len(lengths), D), Packing.of(np.array(lengths), backend)
    initial = [state * with_initial for state in states_for(layer, cell, len(lengths), seed)]
    expected = reference_cells.run_stack(
        cell, x, lengths, initial, host(backend, layer.parameters),
        num_layers=num_layers, bidirectional=bidirectional,
    )  # fmt: skip
    given = [backend.asarray(state) for state in initial] if with_initial else []
    outputs, _ = layer.forward(backend.asarray(pack(x, lengths)), *given, packing=packing)
    assert_close(pad(backend.to_numpy(outputs[0]), lengths), expected[0].real, floor=1.0)
    for found, wanted in zip(outputs[1:], expected[1:], strict=True):
        assert_close(found, wanted.real, backend=backend, floor=1.0)


@dataclass(frozen=True)
class Expected:
    """Two layers on a small batch, and the gradients of the loops, by complex step."""

    weights: dict[str, Floats]
    x: Floats
    initial: list[Floats]
    seeds: list[list[Floats | None]]
    gradients: list[dict[str, Floats]]


@cache  # every backend is compared with the same
def expected_of(cell: str, bidirectional: bool) -> Expected:
    """Nothing of npnlp's passes is in the numbers, but for the first weights."""
    lengths = [2, 3, 1]
    layer = make(cell, num_layers=2, bidirectional=bidirectional, input_size=2)
    x, initial = draw(0, 3, 3, 2), states_for(layer, cell, 3)
    running = np.arange(3)[:, None, None] < np.array(lengths)[:, None]
    d_output = draw(1, 3, 3, layer.features) * running
    d_lasts: list[Floats | None] = [*states_for(layer, cell, 3, 60)]
    states = {f"state {k}": state for k, state in enumerate(initial)}

    def forward(variables: dict[str, Floats]) -> tuple[Floats, ...]:
        return reference_cells.run_stack(
            cell, variables["x"], lengths, [variables[name] for name in states], variables,
            num_layers=2, bidirectional=bidirectional,
        )  # fmt: skip

    weights = host(NUMPY, layer.parameters)
    seeds = [[d_output, *d_lasts], [None, *d_lasts], [d_output, *(None for _ in d_lasts)]]
    found = reference_cells.gradients(forward, {"x": x, **states, **weights}, *seeds)
    return Expected(weights, x, initial, seeds, found)


@pytest.mark.usefixtures("reset_before")
@pytest.mark.parametrize("cell", STATES)
@both_ways
def test_the_gradients_equal_those_of_the_loops(
    cell: str, bidirectional: bool, backend: Backend
) -> None:
    known = expected_of(cell, bidirectional)
    layer = make(cell, backend, num_layers=2, bidirectional=bidirectional, input_size=2)
    for name, value in layer.parameters.items():
        value[...] = backend.asarray(known.weights[name])
    for (d_output, *d_lasts), expected in zip(known.seeds, known.gradients, strict=True):
        _, found = both_passes(layer, known.x, [2, 3, 1], known.initial, d_output, d_lasts)
        assert_same(found, expected)


VARIANTS: dict[str, dict[str, Any]] = {
    "both ways": {"bidirectional": True},
    "dropout": {"num_layers": 3, "dropout": 0.4},
    "variational": {"num_layers": 3, "dropout": 0.4, "variational": True},
    "all": {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "variational": True},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


@each_cell
@each_variant
def test_gradients_by_complex_step(cell: str, variant: dict[str, Any], backend: Backend) -> None:
    layer, lengths = make(cell, backend, **variant), [3, 1, 2]
    by_token = layer.directions == 2  # both directions then add into one table
    keywords: dict[str, Any] = {"packing": Packing.of(np.array(lengths), backend)}
    keywords["random"] = Random(6, "masks")
    x: Any = backend.asarray(draw(1, V if by_token else sum(lengths), D))
    if by_token:
        x = LookedUp(x, backend.asarray(np.array([0, 3, 3, 1, 4, 0])))
    # every other check is without initial states
    states = [] if by_token else map(backend.asarray, states_for(layer, cell, 3))
    report = check_gradients(layer, x, *states, **keywords)
    assert report.passed, str(report)
    assert {row.quantity for row in report.rows} >= set(layer.parameters) | {"input 0"}


@each_cell
def test_adjoint_over_1024_steps(cell: str, backend: Backend) -> None:
    layer, lengths = make(cell, backend, num_layers=2, bidirectional=True), [513, 1024, 1]
    x = backend.asarray(draw(0, sum(lengths), D))
    states = [backend.asarray(state) for state in states_for(layer, cell, 3)]
    packing = Packing.of(np.array(lengths), backend)
    report = check_adjoint(layer, x, *states, packing=packing)
    assert report.passed, str(report)


@each_cell
def test_looking_up_is_the_same_as_rows_of_the_table(cell: str, backend: Backend) -> None:
    layer = make(cell, backend, num_layers=2, bidirectional=True)
    packing = Packing.of(np.array(LENGTHS), backend)
    tokens = np.random.default_rng(0).integers(0, V, packing.rows)
    table = draw(0, V, D)
    rows, cache = layer.forward(backend.asarray(table[tokens]), packing=packing)
    found, cache_found = layer.forward(
        LookedUp(backend.asarray(table), backend.asarray(tokens)), packing=packing
    )
    dy = tuple(backend.asarray(draw(7 + k, *y.shape)) for k, y in enumerate(rows))
    for ours, wanted in zip(found, rows, strict=True):
        assert_close(ours, backend.to_numpy(wanted), 1e-14, backend)
    d_x = backend.to_numpy(layer.backward(dy, cache)[0])
    expected, d_table = host(backend, layer.grads), np.zeros((V, D))
    np.add.at(d_table, tokens, d_x)
    layer.zero_grads()
    assert_close(layer.backward(dy, cache_found)[0], d_table, backend=backend)
    assert_same(host(backend, layer.grads), expected)


@each_cell
@both_ways
def test_one_layer_is_the_cell_itself(cell: str, bidirectional: bool, backend: Backend) -> None:
    layer, packing = make(cell, backend), Packing.of(np.array(LENGTHS), backend)
    x = backend.asarray(draw(0, packing.rows, D))
    alone = CELLS[cell](D, H, backend=backend, dtype=np.float64, random=SEED)
    for value in alone.parameters.values():
        value *= 2
    (hidden, *lasts), _ = alone.forward(x, packing=packing)
    two = make(cell, backend, bidirectional=bidirectional)
    (output, *finals), _ = two.forward(x, packing=packing)
    np.testing.assert_array_equal(backend.to_numpy(output)[:, :H], backend.to_numpy(hidden))
    for final, last in zip(finals, lasts, strict=True):
        assert final.shape == (1 + bidirectional, len(LENGTHS), H)
        np.testing.assert_array_equal(backend.to_numpy(final)[0], backend.to_numpy(last))
    assert list(layer.parameters) == list(alone.parameters)


@each_cell
@property_test
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_another_sequences_length_changes_nothing(
    cell: str, backend: Backend, data: st.DataObject, seed: int
) -> None:
    """Each is turned around within its own length: what another's padding holds is not seen."""
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    changed = data.draw(st.integers(0, len(lengths) - 1))
    others = [b for b in range(len(lengths)) if b != changed]
    layer = make(cell, backend, num_layers=2, bidirectional=True)
    x, d = draw(seed, 9, len(lengths), D), draw(seed + 1, 9, len(lengths), layer.features)
    initial = states_for(layer, cell, len(lengths), seed)
    found = []
    for length in (lengths[changed], data.draw(st.integers(1, 9))):
        now = [length if b == changed else lengths[b] for b in range(len(lengths))]
        d_lasts: list[Floats | None] = [*initial]
        outputs, gradients = both_passes(layer, x[: max(now)], now, initial, d[: max(now)], d_lasts)
        kept = [outputs[0], gradients["x"]]
        shown = [y[: max(lengths[b] for b in others), others] for y in kept]
        states = [*outputs[1:], *(gradients[f"state {k}"] for k in range(len(initial)))]
        found.append([*shown, *(state[:, others] for state in states)])
    for one, two in zip(*found, strict=True):
        assert_close(one, two, floor=1.0)


@each_cell
def test_each_direction_ends_where_it_should(cell: str, backend: Backend) -> None:
    """The last state forward is the output at the last step, that backward at the first."""
    layer = make(cell, backend, num_layers=2, bidirectional=True)
    x = draw(0, max(LENGTHS), len(LENGTHS), D)
    outputs, _ = both_passes(layer, x, LENGTHS, [], None, [None] * len(STATES[cell]))
    output, h_n = outputs[:2]
    for b, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(output[length - 1, b, :H], h_n[2, b])
        np.testing.assert_array_equal(output[0, b, H:], h_n[3, b])


@each_cell
def test_a_second_backward_pass_agrees_and_adds(cell: str, backend: Backend) -> None:
    layer = make(cell, backend, num_layers=2, bidirectional=True, dropout=0.3)
    packing = Packing.of(np.array(LENGTHS), backend)
    inputs = [draw(0, packing.rows, D), *states_for(layer, cell, len(LENGTHS))]
    given = [backend.asarray(value.copy()) for value in inputs]
    outputs, cache = layer.forward(*given, packing=packing, random=Random(1))
    dy = tuple(backend.asarray(draw(7 + k, *y.shape)) for k, y in enumerate(outputs))
    kept = [backend.to_numpy(value).copy() for value in (*outputs, *dy)]
    first = [backend.to_numpy(d).copy() for d in layer.backward(dy, cache)]
    once = host(backend, layer.grads)
    again = layer.backward(dy, cache)
    for found, expected in zip(again, first, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(found), expected)
    for name, grad in host(backend, layer.grads).items():
        assert_close(grad, 2 * once[name], 1e-14)
    for value, before in zip((*given, *outputs, *dy), [*inputs, *kept], strict=True):
        np.testing.assert_array_equal(backend.to_numpy(value), before)


# Dropout between the layers.


def by_hand(
    layer: RecurrentStack, x: Array, packing: Packing, between: Callable[[Array, int], Array]
) -> Array:
    """The output of the layers one after another, in one direction."""
    for k, (cell,) in enumerate(layer.cells):
        if k:
            x = between(x, k)
        (x, *_), _ = cell.forward(x, packing=packing)
    return x


@each_cell
def test_the_masks_are_those_of_dropout_layers(cell: str, backend: Backend) -> None:
    layer = make(cell, backend, num_layers=3, dropout=0.4)
    packing, random = Packing.of(np.array(LENGTHS), backend), Random(8, "masks").at(5)
    x = backend.asarray(draw(0, packing.rows, D))
    alone = Dropout(0.4, backend=backend, dtype=np.float64)

    def dropped(y: Array, k: int) -> Array:
        return alone.forward(y, random.child(f"layer{k}"))[0]

    (output, *_), cache = layer.forward(x, packing=packing, random=random)
    expected = by_hand(layer, x, packing, dropped)
    np.testing.assert_array_equal(backend.to_numpy(output), backend.to_numpy(expected))
    scales = [backend.to_numpy(one.scale) for one in cache.dropouts]
    assert len(scales) == 2  # none before the first layer, none after the last
    for k, scale in enumerate(scales, start=1):
        keep = random.child(f"layer{k}").keep((packing.rows, H), 0.4)
        assert_close(scale, keep / 0.6, 1e-15)
    assert (scales[0] != scales[1]).any()
    assert backend.to_numpy(output).all()


@each_cell
@pytest.mark.parametrize("variational", [False, True])
def test_nothing_is_dropped_in_evaluation(cell: str, variational: bool, backend: Backend) -> None:
    packing = Packing.of(np.array(LENGTHS), backend)
    x = backend.asarray(draw(0, packing.rows, D))
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    plain = make(cell, backend, **options)
    layer = make(cell, backend, **options, dropout=0.5, variational=variational)
    (expected, *_), _ = plain.forward(x, packing=packing, random=Random(2))
    for twin in (layer, layer.astype(np.float64)):
        (output, *_), _ = twin.forward(x, packing=packing)
        np.testing.assert_array_equal(backend.to_numpy(output), backend.to_numpy(expected))
        (output, *_), _ = twin.forward(x, packing=packing, random=Random(2))
        assert (backend.to_numpy(output) != backend.to_numpy(expected)).any()


@each_cell
def test_one_layer_has_nothing_between_it(cell: str, backend: Backend) -> None:
    packing = Packing.of(np.array(LENGTHS), backend)
    x = backend.asarray(draw(0, packing.rows, D))
    layer = make(cell, backend, dropout=0.9, bidirectional=True)
    (output, *_), cache = layer.forward(x, packing=packing, random=Random(2))
    (expected, *_), _ = layer.forward(x, packing=packing)
    np.testing.assert_array_equal(backend.to_numpy(output), backend.to_numpy(expected))
    assert cache.dropouts == []


@pytest.mark.parametrize("variational", [False, True])
def test_a_mask_is_one_in_the_mean(variational: bool) -> None:
    layer = make("gru", num_layers=2, hidden_size=8, dropout=0.3, variational=variational)
    packing = Packing.of(np.array(LENGTHS), NUMPY)
    x, total = draw(0, packing.rows, D), np.zeros((packing.rows, 8))
    for step in range(300):
        _, cache = layer.forward(x, packing=packing, random=Random(1, "masks").at(step))
        total += cache.dropouts[0].scale
        assert set(np.unique(cache.dropouts[0].scale)) == {0.0, layer.dtype.type(1 / 0.7)}
    spread = np.sqrt(0.3 / 0.7 / 300)
    assert np.abs(total / 300 - 1).max() < 5 * spread
    assert abs((total / 300).mean() - 1) < 5 * spread / np.sqrt(len(LENGTHS) * 8)


def test_a_variational_mask_stays_for_the_whole_sequence(backend: Backend) -> None:
    layer = make("lstm", backend, num_layers=2, hidden_size=8, dropout=0.5, variational=True)
    lengths, random = [3, 1, 5, 2], Random(1, "masks")
    order, masks = packed_order(lengths), []
    packing = Packing.of(np.array(lengths), backend)
    x = backend.asarray(draw(0, packing.rows, D))
    (output, *_), cache = layer.forward(x, packing=packing, random=random)
    scale = backend.to_numpy(cache.dropouts[0].scale)
    for b, length in enumerate(lengths):
        rows = scale[[n for n, (_, of) in enumerate(order) if of == b]]
        assert len(rows) == length
        np.testing.assert_array_equal(rows, np.tile(rows[0], (length, 1)))
        masks.append(rows[0])
    assert len(np.unique(masks, axis=0)) == len(lengths)  # and another for each sequence
    # Row b is of the caller's sequence b, whatever its length.
    keep = random.child("layer1").keep((4, 8), 0.5)
    np.testing.assert_array_equal(masks, 2.0 * keep)

    def masked(y: Array, k: int) -> Array:
        return y * backend.asarray(np.array([masks[b] for _, b in order]))

    expected = by_hand(layer, x, packing, masked)
    np.testing.assert_array_equal(backend.to_numpy(output), backend.to_numpy(expected))


# The stack as a layer.


@pytest.mark.parametrize("cell", ["rnn", "LSTM", ""])
def test_an_unknown_cell_is_refused_with_the_choices(cell: str) -> None:
    with pytest.raises(InputError) as caught:
        RecurrentStack(cell, D, H)
    assert str(caught.value).startswith(f"cell {cell!r} is not known; choose one of ")
    assert all(name in str(caught.value) for name in CELLS)


@pytest.mark.parametrize("num_layers", [0, -1])
def test_fewer_than_one_layer_is_refused(num_layers: int) -> None:
    with pytest.raises(InputError, match=f"num_layers is {num_layers}; .* of at least 1"):
        RecurrentStack("gru", D, H, num_layers=num_layers)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_that_is_no_probability_is_refused(dropout: float, variational: bool) -> None:
    with pytest.raises(InputError, match=r"p of (Variational)?Dropout is"):
        RecurrentStack("gru", D, H, num_layers=2, dropout=dropout, variational=variational)


def test_options_of_the_cell_go_to_every_cell(backend: Backend) -> None:
    layer = make("elman", backend, num_layers=2, cell_options={"nonlinearity": "relu"})
    (output, h_n), _ = layer.forward(
        backend.asarray(draw(0, 9, D)), packing=Packing.of(np.array([4, 5]), backend)
    )
    assert backend.to_numpy(output).min() == 0.0
    assert backend.to_numpy(h_n).min() == 0.0
    lstm = RecurrentStack("lstm", D, H, num_layers=2, cell_options={"forget_bias": 1.5})
    for k in range(2):
        biases = lstm.parameters[f"bias_ih_l{k}"] + lstm.parameters[f"bias_hh_l{k}"]
        assert biases[H : 2 * H].tolist() == [1.5] * H
    with pytest.raises(InputError, match="nonlinearity 'sigmoid' is not known"):
        RecurrentStack("elman", D, H, cell_options={"nonlinearity": "sigmoid"})


def test_one_of_two_initial_states_is_refused() -> None:
    layer, packing = make("lstm", num_layers=2), Packing.of(np.array([2, 1]), NUMPY)
    with pytest.raises(InputError, match=r"1 initial states .* has 2 \(hidden, cell\)"):
        layer.forward(draw(0, 3, D), draw(1, 2, 2, H), packing=packing)


@each_cell
def test_rows_that_do_not_fit_the_packing_are_refused(cell: str) -> None:
    layer, packing = make(cell, bidirectional=True), Packing.of(np.array([2, 1]), NUMPY)
    with pytest.raises(InputError, match="4 rows for a packing of 3 rows"):
        layer.forward(draw(0, 4, D), packing=packing)


@each_cell
def test_parameters_are_views_of_one_buffer_through_two_updates(
    cell: str, backend: Backend
) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    layer, twin = make(cell, backend, **options), make(cell, backend, **options)
    flat = FlatParameters({"rnn": layer}, backend)
    assert list(flat.parameters) == [f"rnn.{name}" for name in names_of(2, True)]
    joined = [value.reshape(-1) for value in host(backend, twin.parameters).values()]
    np.testing.assert_array_equal(backend.to_numpy(flat.values), np.concatenate(joined))
    flat.values += 1
    flat.grads += 3
    for cells in layer.cells:  # the cells' own arrays are the views
        for one in cells:
            for name, value in host(backend, one.parameters).items():
                np.testing.assert_array_equal(value, host(backend, twin.parameters)[name] + 1)
                assert (backend.to_numpy(one.grads[name]) == 3).all()
    flat.values -= 1
    for name, value in twin.parameters.items():  # 1 + w - 1 is not quite w
        layer.parameters[name][...] = value

    optimizer, weights = SGD(flat, backend, 0.1), host(backend, twin.parameters)
    for step in range(2):
        x, d = draw(step, 5, 5, D), draw(step + 9, 5, 5, layer.features)
        none: list[Floats | None] = [None] * len(STATES[cell])
        _, expected = both_passes(twin, x, LENGTHS, [], d, none)
        _, found = both_passes(layer, x, LENGTHS, [], d, none)
        assert_same(found, expected, 1e-14)
        together = [expected[name].reshape(-1) for name in weights]
        assert_close(flat.grads, np.concatenate(together), 1e-14, backend)
        optimizer.step()
        for name in weights:
            weights[name] = weights[name] - 0.1 * expected[name]
            twin.parameters[name][...] = backend.asarray(weights[name])
        assert_same(host(backend, layer.parameters), weights, 1e-14)


@each_cell
def test_a_copy_in_another_dtype_shares_nothing(cell: str) -> None:
    layer = make(cell, num_layers=2, bidirectional=True, dropout=0.5)
    packing, x = Packing.of(np.array(LENGTHS), NUMPY), draw(0, sum(LENGTHS), D)
    (before, *_), _ = layer.forward(x, packing=packing)
    twin = layer.astype(np.float32)
    (found, *_), _ = twin.forward(x.astype(np.float32), packing=packing, random=Random(1))
    assert found.dtype == np.float32
    twin.parameters["weight_ih_l1_reverse"] += 1
    (after, *_), _ = layer.forward(x, packing=packing)
    np.testing.assert_array_equal(after, before)
    (moved, *_), _ = twin.forward(x.astype(np.float32), packing=packing)
    assert np.abs(moved - before).max() > 1e-3


@each_cell
def test_a_probe_sees_every_cell_the_last_layer_first(cell: str, backend: Backend) -> None:
    layer = make(cell, backend, num_layers=2, bidirectional=True)
    packing = Packing.of(np.array(LENGTHS), backend)
    outputs, cache = layer.forward(backend.asarray(draw(0, packing.rows, D)), packing=packing)
    shown: list[Any] = []
    layer.backward(tuple(backend.asarray(draw(1, *y.shape)) for y in outputs), cache, shown.append)
    seen = [next(iter(trace.layer.parameters)) for trace in shown]
    assert sorted(seen[:2]) == ["weight_ih_l1", "weight_ih_l1_reverse"]
    assert sorted(seen[2:]) == ["weight_ih_l0", "weight_ih_l0_reverse"]
    assert cache.nbytes == sum(one.nbytes for cells in cache.cells for one in cells) > 0


def test_padding_of_any_content_is_not_seen(backend: Backend) -> None:
    layer = make("gru", backend, num_layers=2, bidirectional=True)
    x = draw(0, 8, len(LENGTHS), D)
    for b, length in enumerate(LENGTHS):
        x[length:, b] = np.nan
    data, packing = pack_padded_sequence(backend.asarray(x), np.array(LENGTHS), backend)
    outputs, _ = layer.forward(data, packing=packing)
    assert all(np.isfinite(backend.to_numpy(y)).all() for y in outputs)


# Planted mistakes.


class Wrong(RecurrentStack):
    """A stack with one mistake of those below."""


class UnturnedInput(Wrong):
    """The gradient of the input of the backward direction is not turned around again."""

    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        return _with_reverse(cache.packing, lambda calls: calls % 2 == 1, super().backward)(
            dy, cache, probe
        )


class UnturnedOutput(Wrong):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        return _with_reverse(cache.packing, lambda calls: calls % 2 == 0, super().backward)(
            dy, cache, probe
        )


class TurnedBatch(Wrong):
    """Forward turns all rows around, not each sequence within its length."""

    def forward(self, x: Any, *initial: Any, packing: Packing, **keywords: Any) -> Any:
        outputs, cache = super().forward(x[::-1].copy(), *initial, packing=packing, **keywords)
        return outputs, cache


class OneDirection(Wrong):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        d_output = dy[0].copy()
        d_output[:, self.hidden_size :] = 0
        return super().backward((d_output, *dy[1:]), cache, probe)


class SwappedDirections(Wrong):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        return super().backward((np.roll(dy[0], self.hidden_size, axis=1), *dy[1:]), cache, probe)


class NoMaskBackward(Wrong):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        for one in cache.dropouts:
            one.scale[...] = 1.0
        return super().backward(dy, cache, probe)


class StatesUpsideDown(Wrong):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        d_x, *states = super().backward(dy, cache, probe)
        return (d_x, *(d[::-1] for d in states))


class LowerLayerScaled(Wrong):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        gradients = super().backward(dy, cache, probe)
        for grad in self.cells[0][-1].grads.values():
            grad *= 1.001
        return gradients


def _with_reverse(packing: Packing, skip: Callable[[int], bool], run: Any) -> Any:
    """``run`` with every second turn of ``packing`` left out."""

    def wrapped(*arguments: Any) -> Any:
        right, calls = type(packing).reverse, 0

        def reverse(x: Array) -> Array:
            nonlocal calls
            calls += 1
            return x if skip(calls) else right(packing, x)

        object.__setattr__(packing, "reverse", reverse)
        try:
            return run(*arguments)
        finally:
            object.__delattr__(packing, "reverse")

    return wrapped


@each_cell
@pytest.mark.parametrize(
    "wrong",
    [UnturnedInput, UnturnedOutput, TurnedBatch, OneDirection, SwappedDirections, NoMaskBackward,
     StatesUpsideDown, LowerLayerScaled],
)  # fmt: skip
def test_a_planted_mistake_is_caught(cell: str, wrong: type[Wrong]) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "dropout": 0.4}
    right = RecurrentStack(cell, D, H, dtype=np.float64, **options)
    layer = wrong(cell, D, H, dtype=np.float64, **options)
    packing = Packing.of(np.array([3, 1, 2]), NUMPY)
    inputs = [draw(0, packing.rows, D), *states_for(right, cell, 3)]
    keywords: dict[str, Any] = {"packing": packing, "random": Random(6, "masks")}
    for check in (check_gradients, check_adjoint):
        if wrong is UnturnedInput:  # once is enough for what is right
            assert check(right, *inputs, **keywords).passed
        assert not check(layer, *inputs, **keywords).passed
