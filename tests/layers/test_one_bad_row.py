"""A sequence with a number that is not finite never touches its neighbours.

What a layer makes of every other sequence, and the gradient of every other sequence's input, keep
their bits, whatever stands in the bad row. The gradients of weights become non-finite, rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.operations import LookedUp
from npnlp.inference import can_predict, make_predictor
from npnlp.layers import (
    GRU,
    LSTM,
    Dropout,
    Elman,
    Embedding,
    Linear,
    Packing,
    ReLU,
    SoftmaxCrossEntropy,
    VariationalDropout,
)
from npnlp.layers.attention.attention import MultiHeadAttention
from npnlp.layers.attention.transformer import TransformerEncoder
from npnlp.layers.layer_norm import LayerNorm
from npnlp.layers.ngrams import NgramBag
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.recurrent.gru import GRUResetBefore
from npnlp.layers.recurrent.segments import Segmented
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.layers.soft_loss import Consistency, SoftCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier
from tests.support.cupy_on_shim import CupyOnShim
from tests.support.reference import draw
from tests.support.shim import compiler

LENGTHS = np.array([3, 1, 5, 5, 2, 4])
H, BAD = 8, 3  # the size of all rows, and the sequence that is not finite
#: The last sequence of tokens alone has token 1, which stands behind one that the others have, too.
TOKENS = np.array([2, 3, 4, 5, 2, 3, 3, 4, 5, 2, 3, 4, 4, 5, 2, 3, 4, 2, 1, 5])
#: An array that a layer makes, and the sequence that each of its rows belongs to.
Made = list[tuple[Any, Any]]
Case = Callable[[Backend, Any, Packing, Any, Any], Made]


def plain(make: Callable[..., Any], *extra: Any, **named: Any) -> Case:
    """A layer of rows."""

    def run(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
        layer = make(backend=backend, dtype=kind, random=Random(1, "layer"))
        options = {"packing": packing} if named.get("packed") else {}
        y, cache = layer.forward(x, *extra, **options)
        return [(y, packing.sequences), (layer.backward(dy, cache), packing.sequences)]

    return run


def pooled(name: str) -> Case:
    def run(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
        layer = POOLINGS[name](H, backend=backend, dtype=kind, random=Random(1, "layer"))
        each, last = np.arange(len(packing.lengths)), packing.last_rows
        y, cache = layer.forward(x, x.take(last, axis=0), packing=packing)
        d_hidden, d_last = layer.backward(dy.take(last, axis=0), cache)
        d = (d_last, each) if d_hidden is None else (d_hidden, packing.sequences)
        return [(y, each), d]

    return run


def recurrent(make: Callable[..., Any], *, looked_up: bool = False, given: bool = False) -> Case:
    """A layer with states; looked up, the table has a row of its own for each packed row."""

    def run(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
        layer = make(H, H, backend=backend, dtype=kind, random=Random(1, "layer"))
        each, last = np.arange(len(packing.lengths)), packing.last_rows
        start = [x.take(last, axis=0) for _ in layer.states] if given else []
        tokens = backend.asarray(np.random.default_rng(0).permutation(packing.rows))
        rows = LookedUp(x, tokens) if looked_up else x
        (hidden, *lasts), cache = layer.forward(rows, *start, packing=packing)
        d_lasts = [dy.take(last, axis=0) for _ in lasts]
        d_x, *d_start = layer.backward((dy, *d_lasts), cache)
        owners = packing.sequences
        if looked_up:  # row n of the table is in the place of row tokens[n]
            owners = packing.sequences[np.argsort(backend.to_numpy(tokens))]
        found = [(hidden, packing.sequences), *((state, each) for state in lasts), (d_x, owners)]
        return found + [(d, each) for d in d_start if d is not None]

    return run


def segmented(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
    layer = Segmented(Elman(H, H, backend=backend, dtype=kind, random=Random(1, "layer")), 2)
    each = np.arange(len(packing.lengths))
    last, cache = layer.forward(x, packing=packing)
    d_x, _ = layer.backward(dy.take(packing.last_rows, axis=0), cache)
    return [(last, each), (d_x, packing.sequences)]


def stacked(make: Callable[..., Any], **options: Any) -> Case:
    """An encoder; its last states are left out, those of several layers lying side by side."""

    def run(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
        layer = make(H, backend=backend, dtype=kind, random=Random(1, "layer"), **options)
        (hidden, _), cache = layer.forward(x, packing=packing, random=Random(2, "masks"))
        d_x = layer.backward((dy, None), cache)
        d_x = d_x[0] if isinstance(d_x, tuple) else d_x
        return [(hidden, packing.sequences), (d_x, packing.sequences)]

    return run


def embedded(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
    """Each packed row is a token of its own."""
    layer = Embedding(packing.rows, H, backend=backend, dtype=kind)
    layer.parameters["weight"][...] = x
    y, cache = layer.forward(backend.asarray(np.arange(packing.rows)))
    layer.backward(dy, cache)
    return [(y, packing.sequences), (layer.grads["weight"], packing.sequences)]


def bagged(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
    """Each packed row is an n-gram of its own."""
    options: Any = {"orders": (1,), "num_tokens": packing.rows}
    bag = NgramBag(packing.rows, H, **options, backend=backend, dtype=kind)
    bag.keys = backend.asarray(np.arange(1, packing.rows + 1))
    bag.parameters["weight"][...] = x
    y, cache = bag.forward(backend.asarray(np.arange(packing.rows)), packing=packing)
    bag.backward(dy.take(packing.last_rows, axis=0), cache)
    return [(y, np.arange(len(packing.lengths))), (bag.grads["weight"], packing.sequences)]


def losses(backend: Backend, kind: Any, packing: Packing, x: Any, dy: Any) -> Made:
    """The loss is of all rows; its gradient is each row's own."""
    options: Any = {"backend": backend, "dtype": kind}
    targets = backend.asarray(np.arange(packing.rows) % H)
    ones = backend.asarray(np.ones(packing.rows, kind))
    shares = backend.asarray(np.full((packing.rows, H), 1 / H, kind))
    hard, soft, both = (
        SoftmaxCrossEntropy(**options), SoftCrossEntropy(**options), Consistency(**options)
    )  # fmt: skip
    found = [hard.backward(1.0, hard.forward(x, targets)[1])]
    found += [soft.backward(1.0, soft.forward(x, shares, ones)[1])]
    found += both.backward(1.0, both.forward(x, dy, ones)[1])
    return [(d, packing.sequences) for d in found]


CASES: dict[str, Case] = {
    "linear": plain(lambda **options: Linear(H, H, **options)),
    "relu": plain(lambda **options: ReLU(**options)),
    "layer norm": plain(lambda **options: LayerNorm(H, **options)),
    "dropout": plain(lambda **options: Dropout(0.3, **options), Random(2, "mask")),
    "variational dropout": plain(
        lambda **options: VariationalDropout(0.3, **options), Random(2, "mask"), packed=True
    ),
    "attention": plain(lambda **options: MultiHeadAttention(H, 2, **options), packed=True),
    "embedding": embedded,
    "n-grams": bagged,
    "losses": losses,
    **{f"{name} pooling": pooled(name) for name in POOLINGS},
    "tanh": recurrent(Elman),
    "relu, looked up": recurrent(
        lambda *sizes, **options: Elman(*sizes, nonlinearity="relu", **options), looked_up=True
    ),
    "lstm, initial states": recurrent(LSTM, given=True),
    "lstm, looked up": recurrent(LSTM, looked_up=True),
    "gru": recurrent(GRU),
    "gru, looked up, initial states": recurrent(GRU, looked_up=True, given=True),
    "gru, reset before": recurrent(GRUResetBefore),
    "segments": segmented,
    "stack": stacked(
        lambda size, **options: RecurrentStack("gru", size, size // 2, **options),
        num_layers=2, bidirectional=True, dropout=0.3,
    ),
    "transformer": stacked(
        lambda size, **options: TransformerEncoder(size, size, **options),
        num_layers=2, num_heads=2, feedforward_size=5, dropout=0.3, max_positions=4,
    ),
}  # fmt: skip
each_value = pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])


def others(made: Made, backend: Backend) -> list[bytes]:
    """The bits of all sequences but the bad one."""
    return [backend.to_numpy(array)[owners != BAD].tobytes() for array, owners in made]


@each_value
@pytest.mark.parametrize("place", ["input", "gradient"])
@pytest.mark.parametrize("name", CASES)
def test_neighbours_keep_their_bits(
    name: str, place: str, value: float, dtype: np.dtype[Any], backend: Backend
) -> None:
    packing = Packing.of(LENGTHS, backend)
    arrays = [draw(seed, packing.rows, H).astype(dtype) for seed in (0, 1)]
    row = int(np.flatnonzero(packing.sequences == BAD)[1])  # its second step

    def run() -> Made:
        given = (backend.asarray(array.copy()) for array in arrays)
        return CASES[name](backend, dtype, packing, *given)

    with np.errstate(all="ignore"):
        expected = others(run(), backend)
        arrays[place == "gradient"][row, 2] = value
        assert others(run(), backend) == expected


@each_value
@pytest.mark.parametrize("columns", [3, 200])
@pytest.mark.parametrize("rows", [40, 5000])
def test_segments_keep_their_bits(
    rows: int, columns: int, value: float, dtype: np.dtype[Any], backend: Backend
) -> None:
    values = draw(0, rows, columns).astype(dtype)
    segments = np.random.default_rng(0).integers(0, 5, rows)

    def run() -> Any:
        given = backend.asarray(values.copy()), backend.asarray(segments)
        return backend.to_numpy(backend.segment_sum(*given, 5)).copy()

    expected = run()
    row = int(np.flatnonzero(segments == 2)[0])
    values[row, 1] = value
    expected[2, 1] = value
    np.testing.assert_array_equal(run(), expected)


def test_a_sum_beyond_the_largest_number_is_its_segments_own(backend: Backend) -> None:
    values = np.ones((64, 128))
    values[::2] = 1.7e308
    segments = np.arange(64) % 2
    with np.errstate(over="ignore"):
        summed = backend.segment_sum(backend.asarray(values), backend.asarray(segments), 2)
    np.testing.assert_array_equal(backend.to_numpy(summed)[:, 0], [np.inf, 32])


def test_infinities_of_both_signs_are_nan(backend: Backend) -> None:
    values, segments = np.array([[np.inf], [-np.inf], [1.0]]), np.array([0, 0, 1])
    summed = backend.segment_sum(backend.asarray(values), backend.asarray(segments), 2)
    np.testing.assert_array_equal(backend.to_numpy(summed), [[np.nan], [1.0]])


def test_a_device_without_kernels_keeps_segments_apart() -> None:
    if compiler() is None:
        pytest.skip("no C++ compiler to run kernels on the CPU with")
    device: Any = CupyOnShim()
    device.fused = False
    values, segments = np.ones((4, 2)), np.array([0, 1, 0, 1])
    values[1] = [np.inf, np.nan]
    found = device.segment_sum(values, segments, 2)
    np.testing.assert_array_equal(found, [[2, 2], [np.inf, np.nan]])


def test_the_mean_of_a_finite_sequence_beside_an_infinite_one(backend: Backend) -> None:
    packing = Packing.of(np.array([2, 2]), backend)
    hidden = np.ones((4, 3))
    hidden[1, 0] = np.inf  # the first step of the second sequence
    layer = POOLINGS["mean"](3, dtype=np.float64, backend=backend)
    x = backend.asarray(hidden)
    y, _ = layer.forward(x, x.take(packing.last_rows, axis=0), packing=packing)
    np.testing.assert_array_equal(backend.to_numpy(y), [[1, 1, 1], [np.inf, 1, 1]])


MODELS: dict[str, dict[str, Any]] = {
    "relu, attention": {"cell": "elman", "nonlinearity": "relu", "pooling": "attention"},
    "relu, all": {"cell": "elman", "nonlinearity": "relu", "pooling": "mean+max+last"},
    "lstm, both directions": {"cell": "lstm", "bidirectional": True, "pooling": "max+mean"},
    "gru, n-grams": {
        "cell": "gru", "ngram_orders": (1, 2), "num_ngrams": 20, "ngram_size": 4, "num_layers": 2
    },
    "transformer": {"cell": "transformer", "num_heads": 2, "pooling": "mean+max"},
}  # fmt: skip


@each_value
@pytest.mark.parametrize("name", MODELS)
def test_predictions_of_other_names_keep_their_bits(
    name: str, value: float, dtype: np.dtype[Any], backend: Backend
) -> None:
    config = ClassifierConfig(6, 3, embedding_size=H, rnn_hidden_size=H, **MODELS[name])
    model = SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(0, "model"))
    packing = Packing.of(LENGTHS, backend)
    starts = np.cumsum(LENGTHS) - LENGTHS
    tokens = TOKENS[starts[packing.sequences] + packing.steps]

    def predictions() -> list[Any]:
        logits, _ = model.forward(tokens=backend.asarray(tokens), packing=packing)
        found = [backend.to_numpy(logits).copy()]
        if isinstance(backend, NumpyBackend) and can_predict(model):
            predictor = make_predictor(model)
            found += [predictor.probabilities(TOKENS, LENGTHS)]
            found += [row[:, None] for row in predictor.best(TOKENS, LENGTHS)]
        return found

    with np.errstate(all="ignore"):
        expected = predictions()
        model.parameters["emb.weight"][1, 2] = value
        for found, clean in zip(predictions(), expected, strict=True):
            assert found[:-1].tobytes() == clean[:-1].tobytes()
