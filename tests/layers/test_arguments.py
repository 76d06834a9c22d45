"""What does not fit is refused before a layer computes with it, by name and on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.layers import (
    GRU,
    LSTM,
    POOLINGS,
    Dropout,
    Elman,
    Embedding,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    Packing,
    RecurrentStack,
    ReLU,
    SoftmaxCrossEntropy,
    TransformerEncoder,
    pack_padded_sequence,
    pad_packed_sequence,
)
from npnlp.layers.ngrams import NgramBag
from npnlp.layers.packing import pack_many
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.models.characters import CharacterEmbedding

D, H, V = 3, 4, 5
LENGTHS = np.array([1, 3, 2])
N, B = 6, 3
CELLS = pytest.mark.parametrize("cell", [Elman, GRU, LSTM])


class Given:
    """Arrays for a backend, and what is made with them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.packing = Packing.of(LENGTHS, backend)

    def ones(self, *shape: int, dtype: Any = np.float32) -> Any:
        return self.backend.asarray(np.ones(shape, dtype))

    def whole(self, *numbers: int) -> Any:
        return self.backend.asarray(np.array(numbers))

    def table(self, *tokens: int) -> LookedUp:
        return LookedUp(self.ones(V, D), self.whole(*tokens))


@pytest.fixture
def given(backend: Backend) -> Given:
    return Given(backend)


def refused(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


@CELLS
def test_an_initial_state_has_one_row_a_sequence(cell: type[Elman], given: Given) -> None:
    layer, right = cell(D, H, backend=given.backend), given.ones(B, H)
    x, states = given.ones(N, D), len(cell.states)
    for shape in ((B, 1), (1, H), (B + 1, H), (B - 1, H), (H,), (1, B, H)):
        wrong = [*[right] * (states - 1), given.ones(*shape)]
        says = rf"initial {cell.states[-1]} state is .* to be float32 of shape \(3, 4\)"
        refused(lambda w=wrong: layer.forward(x, *w, packing=given.packing), says)  # type: ignore[misc]


@CELLS
def test_a_gradient_has_the_shape_of_its_output(cell: type[Elman], given: Given) -> None:
    layer = cell(D, H, backend=given.backend)
    _, cache = layer.forward(given.ones(N, D), packing=given.packing)
    for shape in ((1, H), (N + 1, H), (N, 1)):
        wrong = given.ones(*shape)
        refused(lambda w=wrong: layer.backward((w, None), cache), r"dy\[0\] is")  # type: ignore[misc]
    for shape in ((1, H), (B + 1, H), (B, 1), (B, H + 1)):
        wrong = given.ones(*shape)
        refused(lambda w=wrong: layer.backward((None, w), cache), r"dy\[1\] is")  # type: ignore[misc]
    refused(lambda: layer.backward(given.ones(N, H), cache), "it has to be a tuple")
    refused(lambda: layer.backward((None,) * 4, cache), "dy is 4 gradients")


@pytest.mark.parametrize("token", [-1, V, -V])
def test_a_token_is_a_row_of_the_table(token: int, given: Given) -> None:
    backend, packing = given.backend, given.packing
    says = rf"tokens\[2\] is {token}; it has to be at least 0 and below {V}"
    tokens = given.whole(0, 1, token, 1, 0, 4)
    table = LookedUp(given.ones(V, D), tokens)
    config = ClassifierConfig(V, 2, embedding_size=D, rnn_hidden_size=H)
    refused(lambda: Embedding(V, D, backend=backend).forward(tokens), says)
    refused(lambda: Elman(D, H, backend=backend).forward(table, packing=packing), says)
    transformer = TransformerEncoder(D, H, backend=backend)
    refused(lambda: transformer.forward(table, packing=packing), says)
    bag = NgramBag(9, 2, orders=(1, 2), num_tokens=V, backend=backend)
    refused(lambda: bag.forward(tokens, packing=packing), says)
    characters = CharacterEmbedding(config, backend=backend)
    refused(lambda: characters.forward(tokens, None, packing=packing), says)
    model = SurnameClassifier(config, backend=backend)
    refused(lambda: model.forward(tokens, packing=packing), says)
    fine = given.whole(0, 1, 1, 0, 0, 1)
    vocabulary = given.whole(3, token)
    says = rf"vocabulary\[1\] is {token}; it has to be at least 0 and below {V}"
    refused(lambda: model.forward(fine, packing=packing, vocabulary=vocabulary), says)


@pytest.mark.parametrize("kind", ["float32", "float64", "bool", "uint64"])
def test_tokens_are_whole_numbers(kind: str, given: Given) -> None:
    tokens = given.backend.asarray(np.full(N, 1.5).astype(kind))
    says = rf"tokens is {kind} of shape \(6,\); it has to be whole numbers \(int64\)"
    refused(lambda: Embedding(V, D, backend=given.backend).forward(tokens), says)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "uint32"])
def test_smaller_whole_numbers_are_taken(kind: str, given: Given) -> None:
    layer, tokens = Elman(D, H, backend=given.backend), np.array([0, 4, 2, 1, 0, 3])
    found = [
        layer.forward(
            LookedUp(given.ones(V, D), given.backend.asarray(numbers)), packing=given.packing
        )
        for numbers in (tokens, tokens.astype(kind))
    ]
    small, right = (given.backend.to_numpy(y[0]) for y, _ in found)
    np.testing.assert_array_equal(small, right)


@pytest.mark.parametrize("kind", ["float16", "float64", "complex64", "int64", "bool", ">f4"])
def test_another_type_is_refused_with_the_remedy(kind: str, given: Given) -> None:
    x, backend = given.backend.asarray(np.ones((N, D), kind)), given.backend
    says = rf"x is {kind} of shape \(6, 3\); .* float32 .*: convert it, as x\.astype\(float32\)"
    refused(lambda: Linear(D, H, backend=backend).forward(x), says)
    refused(lambda: LayerNorm(D, backend=backend).forward(x), says)
    refused(lambda: LSTM(D, H, backend=backend).forward(x, packing=given.packing), says)


NO_ARRAYS: list[Any] = [[[1.0] * D] * N, None, 1.0, "x", np.float32(1), (1, 2)]


@pytest.mark.parametrize("x", NO_ARRAYS, ids=lambda x: type(x).__name__)
def test_what_is_no_array_is_refused(x: Any, given: Given) -> None:
    backend, packing = given.backend, given.packing
    made: list[Callable[[], Any]] = [
        lambda: Linear(D, H, backend=backend).forward(x),
        lambda: Embedding(V, D, backend=backend).forward(x),
        lambda: ReLU(backend=backend).forward(x),
        lambda: Dropout(0.5, backend=backend).forward(x, Random(0)),
        lambda: LayerNorm(D, backend=backend).forward(x),
        lambda: Elman(D, H, backend=backend).forward(x, packing=packing),
        lambda: RecurrentStack("gru", D, H, backend=backend).forward(x, packing=packing),
        lambda: MultiHeadAttention(4, 2, backend=backend).forward(x, packing=packing),
        lambda: TransformerEncoder(D, H, backend=backend).forward(x, packing=packing),
        lambda: SoftmaxCrossEntropy(backend=backend).forward(x, given.whole(0)),
        lambda: SoftmaxCrossEntropy(backend=backend).forward(given.ones(1, 2), x),
        *(lambda p=pool: p(D, backend=backend).forward(x, x, packing=packing)
          for pool in POOLINGS.values()),
    ]  # fmt: skip
    for call in made:
        refused(call, r"is .*; it has to be .* of shape \(")


@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
def test_arrays_with_operators_of_their_own_are_refused(kind: Any) -> None:
    x = np.ones((N, D), np.float32).view(kind)
    refused(lambda: Linear(D, H).forward(x), "use np.asarray")


def test_a_map_of_a_file_is_an_array(tmp_path: Any) -> None:
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(N, D))
    assert Linear(D, H).forward(x)[0].shape == (N, H)


def test_a_cache_belongs_to_the_layer(given: Given) -> None:
    backend, packing, x = given.backend, given.packing, given.ones(N, D)
    (hidden, _), of_gru = GRU(D, H, backend=backend).forward(x, packing=packing)
    elman = Elman(D, H, backend=backend)
    refused(lambda: elman.backward((hidden, None), of_gru), "cache is of a layer gru, and this is")
    (wide, _), of_wide = Elman(D, H + 1, backend=backend).forward(x, packing=packing)
    refused(lambda: elman.backward((wide, None), of_wide), "hidden of the cache is")
    _, of_linear = Linear(D, H, backend=backend).forward(x)
    wrong: Any = of_linear
    refused(lambda: elman.backward((hidden, None), wrong), "has to be the RecurrentCache that")
    other = Linear(D + 1, H, backend=backend)
    refused(lambda: other.backward(given.ones(N, H), of_linear), "x of the cache is")
    relu = ReLU(backend=backend)
    refused(lambda: relu.backward(x, None), "cache is None; it has to be the ReLUCache")  # type: ignore[arg-type]


@pytest.mark.parametrize("packing", [None, [1, 2, 3], LENGTHS, "packing"], ids=str)
def test_a_packing_is_a_packing(packing: Any, given: Given) -> None:
    elman = Elman(D, H, backend=given.backend)
    refused(lambda: elman.forward(given.ones(N, D), packing=packing), "make one with Packing.of")


def test_a_packing_belongs_to_the_batch(given: Given) -> None:
    elman, other = Elman(D, H, backend=given.backend), Packing.of(np.array([2, 2]), given.backend)
    says = "x has 6 rows for a packing of 4 rows"
    refused(lambda: elman.forward(given.ones(N, D), packing=other), says)
    refused(lambda: elman.forward(given.table(0, 1, 2, 3, 0, 1), packing=other), says)
    refused(lambda: other.sort(given.ones(3, D)), "it has to be an array of 2 rows")
    refused(lambda: other.unsort(given.ones(1, D)), "it has to be an array of 2 rows")
    refused(lambda: other.reverse(given.ones(3, D)), "it has to be an array of 4 rows")
    refused(lambda: pad_packed_sequence(given.ones(1, D), other), "of 4 rows")
    refused(lambda: pack_padded_sequence([[1.0]], [1], given.backend), "x is a list")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ([[2, 3]], "not sorted; give the longest first"),
        ([[2, 0]], r"lengths\[1\] is 0"),
        ([2, 1], r"shape \(K, B\)"),
        ([[2.0, 1.0]], "float64"),
    ],
)
def test_lengths_of_many_batches_are_looked_at(lengths: Any, says: str, given: Given) -> None:
    refused(lambda: pack_many(np.array(lengths), given.backend), says)


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint64"])
def test_lengths_of_any_whole_type_give_the_same_mean(kind: str, given: Given) -> None:
    """One over a length of one byte would be a number of half precision."""
    pool, x = POOLINGS["mean"](D, backend=given.backend), given.backend.asarray(
        np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    )  # fmt: skip
    means = [
        pool.forward(x, x, packing=Packing.of(lengths, given.backend))[0]
        for lengths in (LENGTHS, LENGTHS.astype(kind))
    ]
    small, right = map(given.backend.to_numpy, means)
    np.testing.assert_array_equal(small, right)


def test_a_packing_keeps_its_lengths_when_the_caller_changes_his() -> None:
    lengths = LENGTHS.copy()
    packing = Packing.of(lengths, get_backend("numpy"))
    lengths[:] = 9
    np.testing.assert_array_equal(packing.lengths, LENGTHS)


def test_a_backend_may_be_named() -> None:
    assert Elman(D, H, backend="reference").backend.name == "reference"
    assert RecurrentStack("gru", D, H, backend="reference").cells[0][0].backend.name == "reference"
    assert Packing.of(LENGTHS, "reference").backend.name == "reference"
    config = ClassifierConfig(V, 2)
    assert SurnameClassifier(config, backend="reference").fc2.backend.name == "reference"
    refused(lambda: Linear(D, H, backend="torch"), "backend 'torch' is not known; choose one of")
    refused(lambda: Linear(D, H, backend=np), "is not known; choose one of numpy")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [int, bool, "int64", object, "words", str])
def test_a_layer_computes_with_real_or_complex_numbers(dtype: Any) -> None:
    refused(lambda: Linear(D, H, dtype=dtype), "it has to be one of real or complex numbers")
    refused(lambda: Linear(D, H).astype(dtype), "it has to be one of real or complex numbers")


def test_a_dtype_in_another_byte_order_is_this_machines() -> None:
    assert Linear(D, H, dtype=">f8").dtype == np.float64


SIZES: list[tuple[str, Callable[[Any], Any]]] = [
    ("input_size", lambda n: Elman(n, H)), ("hidden_size", lambda n: LSTM(D, n)),
    ("hidden_size", lambda n: RecurrentStack("gru", D, n)), ("in_features", lambda n: Linear(n, H)),
    ("num_layers", lambda n: RecurrentStack("gru", D, H, num_layers=n)),
    ("out_features", lambda n: Linear(D, n)), ("num_embeddings", lambda n: Embedding(n, D)),
    ("embedding_dim", lambda n: Embedding(V, n)), ("normalized_size", LayerNorm),
    ("embed_size", lambda n: MultiHeadAttention(n, 1)), ("features", POOLINGS["mean"]),
    ("features", lambda n: NgramBag(3, n, orders=(1,), num_tokens=V)),
]  # fmt: skip


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "3", None])
@pytest.mark.parametrize(("name", "make"), SIZES)
def test_a_size_is_a_whole_number_above_0(name: str, make: Callable[[Any], Any], size: Any) -> None:
    refused(lambda: make(size), f"{name} is .*; it has to be a whole number of at least 1")


@pytest.mark.parametrize("row", [V, -1, 1.5])
def test_padding_is_a_row(row: Any) -> None:
    refused(lambda: Embedding(V, D, padding_idx=row), "it has to be a row, 0 to 4, or None")


def test_a_model_of_its_own_is_checked_by_what_it_inherits(given: Given) -> None:
    class Doubled(Linear):
        """A layer of one's own: what it overrides is checked too, and is what a model runs."""

        def forward(self, x: Any) -> Any:
            y, cache = super().forward(x)
            return y + y, cache

    layer, x = Doubled(D, H, backend=given.backend), given.ones(N, D)
    once, _ = Linear(D, H, backend=given.backend).forward(x)
    for y, _ in (layer.forward(x), layer.run(x)):
        np.testing.assert_array_equal(
            given.backend.to_numpy(y), given.backend.to_numpy(once + once)
        )
    refused(lambda: layer.forward(given.ones(N, D + 1)), "x is")


def test_learning_is_checked_too(backend: Backend) -> None:
    given = Given(backend)
    model = SurnameClassifier(ClassifierConfig(V, 2, rnn_hidden_size=H), backend=backend)
    tokens, targets = given.whole(0, 1, 2, 3, 4, 0), given.whole(0, 1, 1)

    def learn(tokens: Any, targets: Any) -> None:
        model.learn(tokens, targets, Random(0), packing=given.packing)

    learn(tokens, targets)
    refused(lambda: learn(given.whole(0, 1, 2), targets), "tokens has 3 rows for a packing of 6")
    refused(lambda: learn(given.whole(0, 1, 2, 3, 4, 5), targets), r"tokens\[5\] is 5")
    refused(lambda: learn(tokens, given.whole(0, 1)), r"targets is int64 of shape \(2,\)")
    refused(lambda: learn(tokens, given.whole(0, 1, -100)), r"targets\[2\] is -100")
