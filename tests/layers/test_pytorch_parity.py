"""The same numbers as PyTorch: stored ones everywhere, and live ones where it is installed.

The stored ones are written by ``tests/oracles/make_oracles.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Backend, Random, get_backend
from npnlp.layers import (
    Elman,
    Embedding,
    FlatParameters,
    Layer,
    Linear,
    Packing,
    SoftmaxCrossEntropy,
    pack_padded_sequence,
    pad_packed_sequence,
)
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.training.clipping import clip_grad_norm
from npnlp.training.optimizers import SGD, Adam
from npnlp.training.schedule import ReduceLROnPlateau
from tests.support.reference import BOUNDS, assert_close, draw, host, pack, pad

pytestmark = pytest.mark.peers

ORACLES = Path(__file__).parents[1] / "oracles"
NUMPY = get_backend("numpy")
property_test = settings(max_examples=20)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def stored(name: str) -> dict[str, Any]:
    with np.load(ORACLES / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def set_parameters(layer: Layer, values: dict[str, Any]) -> None:
    for name, parameter in layer.parameters.items():
        parameter[...] = layer.backend.asarray(values[name])


def assert_gradients(layer: Layer, expected: dict[str, Any]) -> None:
    for name, gradient in host(layer.backend, layer.grads).items():
        assert_close(gradient, expected[f"d_{name}"])


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_stored_rnn(phi: str, backend: Backend) -> None:
    o = stored(f"rnn_{phi}")
    lengths = o["lengths"].tolist()
    layer = Elman(3, 5, nonlinearity=phi, backend=backend, dtype=np.float64)
    set_parameters(layer, o)
    x, packing = pack_padded_sequence(backend.asarray(o["x"]), o["lengths"], backend)
    (hidden, last), cache = layer.forward(x, backend.asarray(o["h0"]), packing=packing)
    assert_close(pad_packed_sequence(hidden, packing), o["hidden"], backend=backend)
    assert_close(last, o["last"], backend=backend)
    d_hidden = backend.asarray(pack(o["d_hidden"], lengths))
    d_x, d_h0 = layer.backward((d_hidden, backend.asarray(o["d_last"])), cache)
    assert d_h0 is not None
    assert_close(pad(backend.to_numpy(d_x), lengths), o["d_x"])
    assert_close(d_h0, o["d_h0"], backend=backend)
    assert_gradients(layer, o)


def test_stored_linear(backend: Backend) -> None:
    o = stored("linear")
    layer = Linear(3, 5, backend=backend, dtype=np.float64)
    set_parameters(layer, o)
    y, cache = layer.forward(backend.asarray(o["x"]))
    assert_close(y, o["y"], backend=backend)
    assert_close(layer.backward(backend.asarray(o["dy"]), cache), o["d_x"], backend=backend)
    assert_gradients(layer, o)


def test_stored_embedding(backend: Backend) -> None:
    o = stored("embedding")
    layer = Embedding(6, 3, padding_idx=0, backend=backend, dtype=np.float64)
    set_parameters(layer, o)
    y, cache = layer.forward(backend.asarray(o["tokens"]))
    assert_close(y, o["y"], backend=backend)
    layer.backward(backend.asarray(o["dy"]), cache)
    assert_gradients(layer, o)
    assert not o["d_weight"][0].any()


@pytest.mark.parametrize("name", ["plain", "weighted"])
def test_stored_cross_entropy(name: str, backend: Backend) -> None:
    o = stored("cross_entropy")
    weights = backend.asarray(o["class_weights"]) if name == "weighted" else None
    layer = SoftmaxCrossEntropy(weights, backend=backend, dtype=np.float64)
    loss, cache = layer.forward(backend.asarray(o["logits"]), backend.asarray(o["targets"]))
    assert_close(loss, o[f"loss_{name}"], backend=backend)
    assert_close(layer.backward(1.0, cache), o[f"d_logits_{name}"], backend=backend)


def vector(weights: Any, backend: Backend) -> FlatParameters:
    """A parameter buffer of these weights (the bias of a layer without inputs)."""
    layer = Linear(1, len(weights), backend=backend, dtype=np.float64)
    del layer.parameters["weight"]
    layer.parameters["bias"][...] = backend.asarray(weights)
    return FlatParameters({"vector": layer}, backend)


@pytest.mark.parametrize("name", ["adam", "sgd", "sgd_momentum"])
def test_stored_updates(name: str, backend: Backend) -> None:
    o = stored(name)
    flat = vector(o["weight"], backend)
    optimizer = (
        Adam(flat, backend, 0.01)
        if name == "adam"
        else SGD(flat, backend, 0.1, momentum=0.9 if name == "sgd_momentum" else 0.0)
    )
    assert len(o["weights"]) == 3
    for step, weights in enumerate(o["weights"]):
        flat.grads[...] = backend.asarray(o["grads"][step])
        optimizer.step()
        assert_close(flat.values, weights, backend=backend)
        moments = optimizer.state_dict()
        if name == "adam":  # kept as plain sums
            assert_close((1 - 0.9) * moments["first_sum"], o["m"][step])
            assert_close((1 - 0.999) * moments["second_sum"], o["v"][step])
        if name == "sgd_momentum":
            assert_close(moments["momentum"], o["velocity"][step])


def test_stored_clipping(backend: Backend) -> None:
    o = stored("clipping")
    for grad, norm, clipped in zip(o["grads"], o["norms"], o["clipped"], strict=True):
        on_backend = backend.asarray(grad.copy())
        assert_close(clip_grad_norm(on_backend, 1.5, backend), norm, backend=backend)
        assert_close(on_backend, clipped, backend=backend)


def test_stored_plateau() -> None:
    o = stored("plateau")
    schedule = ReduceLROnPlateau(0.8)
    assert [schedule.step(loss) for loss in o["losses"].tolist()] == o["rates"].tolist()
    assert len(set(o["rates"].tolist())) > 2


def test_stored_numbers_are_few() -> None:
    assert sum(file.stat().st_size for file in ORACLES.glob("*.npz")) < 200_000


def test_the_stored_numbers_are_those_of_their_script(torch: Any) -> None:
    from tests.oracles.make_oracles import all_oracles

    found = all_oracles()
    assert {file.stem for file in ORACLES.glob("*.npz")} == set(found)
    for name, arrays in found.items():
        expected = stored(name)
        assert expected.keys() == arrays.keys()
        for key, value in arrays.items():
            assert_close(value, expected[key])


def to_torch(torch: Any, value: Any) -> Any:
    return torch.tensor(np.array(value), requires_grad=np.asarray(value).dtype.kind == "f")


def same_module(torch: Any, layer: Layer, module: Any) -> Any:
    """A PyTorch module with the layer's weights, which have PyTorch's names."""
    state = {name: torch.tensor(value) for name, value in host(NUMPY, layer.parameters).items()}
    module = module.to(dtype=next(iter(state.values())).dtype)
    module.load_state_dict(state, strict=True)
    return module


def assert_module_gradients(layer: Layer, module: Any, bound: float, floor: float = 1.0) -> None:
    expected = {name: value.grad.numpy() for name, value in module.named_parameters()}
    assert expected.keys() == layer.grads.keys()
    for name, gradient in layer.grads.items():
        assert_close(gradient, expected[name], bound, floor=floor)


@property_test
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    phi=st.sampled_from(["tanh", "relu"]),
    kind=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 2**32),
)
def test_live_rnn(
    torch: Any, lengths: list[int], sizes: tuple[int, int], phi: str, kind: str, seed: int
) -> None:
    layer = Elman(*sizes, nonlinearity=phi, dtype=kind, random=Random(seed))
    module = same_module(torch, layer, torch.nn.RNN(*sizes, nonlinearity=phi))
    x = draw(seed, max(lengths), len(lengths), sizes[0]).astype(kind)
    h0, d_last = (draw(seed + i, len(lengths), sizes[1]).astype(kind) for i in (1, 2))
    d_hidden = draw(seed + 3, max(lengths), len(lengths), sizes[1]).astype(kind)

    rnn = torch.nn.utils.rnn
    x_t, h0_t = to_torch(torch, x), to_torch(torch, h0)
    packed = rnn.pack_padded_sequence(x_t, lengths, enforce_sorted=False)
    output, last_t = module(packed, h0_t[None])
    hidden_t, _ = rnn.pad_packed_sequence(output)
    loss = (hidden_t * torch.tensor(d_hidden)).sum() + (last_t[0] * torch.tensor(d_last)).sum()
    loss.backward()

    data, packing = pack_padded_sequence(x, np.array(lengths), NUMPY)
    (hidden, last), cache = layer.forward(data, h0, packing=packing)
    d_x, d_h0 = layer.backward((pack(d_hidden, lengths), d_last), cache)
    bound = BOUNDS[kind]
    assert d_h0 is not None
    assert_close(pad(hidden, lengths), hidden_t.detach().numpy(), bound, floor=1.0)
    assert_close(last, last_t[0].detach().numpy(), bound, floor=1.0)
    assert_close(pad(d_x, lengths), x_t.grad.numpy(), bound, floor=1.0)
    assert_close(d_h0, h0_t.grad.numpy(), bound, floor=1.0)
    assert_module_gradients(layer, module, bound)


@property_test
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    kind=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 2**32),
)
def test_live_linear(torch: Any, sizes: tuple[int, int, int], kind: str, seed: int) -> None:
    rows, *shape = sizes
    layer = Linear(*shape, dtype=kind, random=Random(seed))
    module = same_module(torch, layer, torch.nn.Linear(*shape))
    x, dy = draw(seed, rows, shape[0]).astype(kind), draw(seed + 1, rows, shape[1]).astype(kind)
    x_t = to_torch(torch, x)
    y_t = module(x_t)
    (y_t * torch.tensor(dy)).sum().backward()
    y, cache = layer.forward(x)
    bound = BOUNDS[kind]
    assert_close(y, y_t.detach().numpy(), bound, floor=1.0)
    assert_close(layer.backward(dy, cache), x_t.grad.numpy(), bound, floor=1.0)
    assert_module_gradients(layer, module, bound)


@property_test
@given(
    tokens=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    padding_idx=st.sampled_from([None, 0, 3]),
    kind=st.sampled_from(["float64", "float32"]),
)
def test_live_embedding(torch: Any, tokens: list[int], padding_idx: int | None, kind: str) -> None:
    layer = Embedding(9, 4, padding_idx=padding_idx, dtype=kind)
    module = same_module(torch, layer, torch.nn.Embedding(9, 4, padding_idx=padding_idx))
    dy = draw(0, len(tokens), 4).astype(kind)
    (module(torch.tensor(tokens)) * torch.tensor(dy)).sum().backward()
    y, cache = layer.forward(np.array(tokens))
    layer.backward(dy, cache)
    np.testing.assert_array_equal(y, module(torch.tensor(tokens)).detach().numpy())
    assert_module_gradients(layer, module, BOUNDS[kind])


@property_test
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(2, 9)),
    weighted=st.booleans(),
    kind=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 2**32),
)
def test_live_cross_entropy(
    torch: Any, shape: tuple[int, int], weighted: bool, kind: str, seed: int
) -> None:
    logits = draw(seed, *shape).astype(kind)
    targets = np.random.default_rng(seed).integers(0, shape[1], shape[0])
    weights = 0.1 + np.abs(draw(seed + 1, shape[1])).astype(kind) if weighted else None
    z = to_torch(torch, logits)
    expected = torch.nn.functional.cross_entropy(
        z, torch.tensor(targets), weight=None if weights is None else torch.tensor(weights)
    )
    expected.backward()
    layer = SoftmaxCrossEntropy(weights, dtype=kind)
    loss, cache = layer.forward(logits, targets)
    assert_close(loss, expected.item(), BOUNDS[kind], floor=1.0)
    assert_close(layer.backward(1.0, cache), z.grad.numpy(), BOUNDS[kind], floor=1.0)


@property_test
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    batch_first=st.booleans(),
)
def test_live_packing(torch: Any, lengths: list[int], batch_first: bool) -> None:
    rnn = torch.nn.utils.rnn
    lengths = sorted(lengths, reverse=True)
    x = draw(0, max(lengths) + 1, len(lengths), 2)
    x = x.swapaxes(0, 1).copy() if batch_first else x
    theirs = rnn.pack_padded_sequence(torch.tensor(x), lengths, batch_first=batch_first)
    data, packing = pack_padded_sequence(x, np.array(lengths), NUMPY, batch_first=batch_first)
    np.testing.assert_array_equal(data, theirs.data.numpy())
    assert packing.batch_sizes == theirs.batch_sizes.tolist()
    back, _ = rnn.pad_packed_sequence(theirs, batch_first=batch_first)
    ours = pad_packed_sequence(data, packing, batch_first=batch_first)
    np.testing.assert_array_equal(ours, back.numpy())


def torch_classifier(torch: Any, config: ClassifierConfig) -> Any:
    """The same layers under the same names; dropout is off in the comparison."""
    nn, size = torch.nn, config.rnn_hidden_size
    return nn.ModuleDict(
        {
            "emb": nn.Embedding(config.num_embeddings, config.embedding_size, padding_idx=0),
            "rnn": nn.RNN(config.embedding_size, size, nonlinearity=config.nonlinearity),
            "fc1": nn.Linear(size, size),
            "fc2": nn.Linear(size, config.num_classes),
        }
    )


def torch_logits(torch: Any, module: Any, tokens: Any, lengths: list[int]) -> Any:
    rnn = torch.nn.utils.rnn
    embedded = module["emb"](torch.tensor(tokens))
    _, last = module["rnn"](rnn.pack_padded_sequence(embedded, lengths, enforce_sorted=False))
    return module["fc2"](torch.relu(module["fc1"](last[0])))


@pytest.mark.parametrize("phi", ["tanh", "relu"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_live_classifier_through_three_updates(
    torch: Any, phi: str, optimizer: str, kind: str
) -> None:
    config = ClassifierConfig(
        num_embeddings=7, num_classes=4, embedding_size=3, rnn_hidden_size=5, nonlinearity=phi
    )
    model = SurnameClassifier(config, dtype=kind, random=Random(3))
    module = same_module(torch, model, torch_classifier(torch, config))
    theirs, ours = (
        (torch.optim.Adam(module.parameters(), lr=0.01), Adam(model.flat, NUMPY, 0.01))
        if optimizer == "adam"
        else (
            torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9),
            SGD(model.flat, NUMPY, 0.1, 0.9),
        )
    )
    weights = np.array([0.5, 1.0, 2.0, 3.0], dtype=kind)
    criterion = SoftmaxCrossEntropy(weights, dtype=kind)
    lengths, bound = [3, 5, 1, 5], BOUNDS[kind]
    packing = Packing.of(np.array(lengths), NUMPY)
    for step in range(3):
        tokens = np.random.default_rng(step).integers(0, 7, (5, 4))
        targets = np.random.default_rng(step).integers(0, 4, 4)
        logits_t = torch_logits(torch, module, tokens, lengths)
        loss_t = torch.nn.functional.cross_entropy(
            logits_t, torch.tensor(targets), torch.tensor(weights)
        )
        theirs.zero_grad()
        loss_t.backward()
        norm_t = torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)

        logits, cache = model.forward(pack(tokens, lengths), packing=packing)
        loss, sums = criterion.forward(logits, targets)
        model.zero_grads()
        model.backward(criterion.backward(1.0, sums), cache)
        norm = clip_grad_norm(model.flat.grads, 0.5, NUMPY)

        assert_close(logits, logits_t.detach().numpy(), bound)
        assert_close(loss, loss_t.item(), bound)
        assert_close(norm, norm_t.item(), bound)
        assert_module_gradients(model, module, bound, floor=0.0)
        theirs.step()
        ours.step()
        for name, value in module.state_dict().items():
            assert_close(model.parameters[name], value.numpy(), bound)
