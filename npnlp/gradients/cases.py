"""Small cases of every layer for ``npnlp gradcheck``, with inputs that reach each branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npnlp.backend import Array, Backend, Random
from npnlp.backend.operations import LookedUp
from npnlp.gradients.check import check_adjoint, check_gradients
from npnlp.gradients.report import GradientReport
from npnlp.layers import (
    Dropout,
    Elman,
    Embedding,
    LayerOptions,
    Linear,
    MeanSquaredError,
    Packing,
    ReLU,
    SoftmaxCrossEntropy,
    VariationalDropout,
)
from npnlp.layers.attention.attention import MultiHeadAttention
from npnlp.layers.attention.transformer import TransformerEncoder
from npnlp.layers.layer_norm import LayerNorm
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.layers.recurrent.segments import Segmented
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.summary import summarized

LENGTHS = np.array([3, 1, 5, 5, 2])
LONG = np.array([1024, 1, 1000, 513])
V, D, H, C = 7, 4, 6, 5


@summarized
@dataclass(frozen=True)
class Inputs:
    """Makes options and inputs of the layers, for sequences of :data:`LENGTHS`."""

    backend: Backend
    random: Random
    packing: Packing

    @classmethod
    def of(cls, backend: Backend, seed: int) -> Inputs:
        """The inputs of a seed."""
        return cls(backend, Random(seed, "gradcheck"), Packing.of(LENGTHS, backend))

    @property
    def options(self) -> LayerOptions:
        """The keyword arguments of every layer."""
        return {"backend": self.backend, "dtype": np.float64, "random": self.random}

    def normal(self, name: str, *shape: int) -> Array:
        """Normal numbers, from the random stream ``name``."""
        return self.backend.asarray(self.random.child(name).normal(shape))

    def x(self, features: int = D) -> Array:
        """Packed rows ``(N, D)``."""
        return self.normal("x", self.packing.rows, features)

    def tokens(self) -> Array:
        """A token for each packed row, but never padding (token 0), which has no gradient."""
        drawn = self.random.child("tokens").permutation(self.packing.rows)
        return self.backend.asarray(1 + drawn % (V - 1))

    def initial(self, layer: Recurrent, *shape: int) -> list[Array]:
        """Initial states of a recurrent layer, each of this shape: h0, c0."""
        return [self.normal(f"{state[0]}0", *shape) for state in layer.states]


def layer_reports(backend: Backend, seed: int = 0) -> Iterator[GradientReport]:
    """Check every layer."""
    inputs = Inputs.of(backend, seed)
    yield from plain_reports(inputs)
    for name, layer in cells(inputs, D, H).items():
        yield from cell_reports(inputs, name, layer)
    for name, layer in cells(inputs, D, 2).items():
        yield segments_report(inputs, name, layer)
    for name, layer in cells(inputs, 16, 32).items():
        yield long_report(inputs, name, layer)
    yield from stack_reports(inputs)
    yield from pooling_reports(inputs)
    yield from attention_reports(inputs)


def plain_reports(inputs: Inputs) -> Iterator[GradientReport]:
    """Layers without steps, and both dropouts."""
    options, random, backend, x = inputs.options, inputs.random, inputs.backend, inputs.x()
    yield check_gradients(Embedding(V, D, padding_idx=0, **options), inputs.tokens())
    yield check_gradients(Linear(D, H, **options), x)
    yield check_gradients(ReLU(**options), x)
    yield check_gradients(ReLU(**options), x, method="central")
    yield check_gradients(Dropout(0.3, **options), x, random)
    yield check_gradients(VariationalDropout(0.3, **options), x, random, packing=inputs.packing)
    yield check_gradients(_moved(LayerNorm(D, **options), inputs), x)
    targets = backend.asarray(np.arange(len(LENGTHS)) % C)
    logits = inputs.normal("logits", len(LENGTHS), C)
    weights = backend.asarray(random.child("weights").uniform((C,), 0.1, 2.0))
    yield check_gradients(SoftmaxCrossEntropy(**options), logits, targets)
    weighted = SoftmaxCrossEntropy(weights, **options)
    yield check_gradients(weighted, logits, targets, name="SoftmaxCrossEntropy, weighted")
    values = inputs.normal("values", len(LENGTHS), C)
    yield check_gradients(MeanSquaredError(**options), logits, targets=values)


def cells(inputs: Inputs, features: int, units: int) -> dict[str, Recurrent]:
    """Every recurrent layer, by name."""
    sizes, options = (features, units), inputs.options
    return {
        "Elman tanh": Elman(*sizes, nonlinearity="tanh", **options),
        "Elman relu": Elman(*sizes, nonlinearity="relu", **options),
        "LSTM": LSTM(*sizes, **options),
        "LSTM, forget bias 1": LSTM(*sizes, forget_bias=1.0, **options),
        "GRU": GRU(*sizes, **options),
        "GRU, reset before": GRUResetBefore(*sizes, **options),
    }


def cell_reports(inputs: Inputs, name: str, layer: Recurrent) -> Iterator[GradientReport]:
    """One recurrent layer: given its input, and looking it up."""
    packing, tokens = inputs.packing, inputs.tokens()
    initial = inputs.initial(layer, len(LENGTHS), layer.hidden_size)
    given = (inputs.x(), *initial)
    yield check_gradients(layer, *given, packing=packing, name=name)
    if name == "Elman relu":
        yield check_gradients(layer, *given, packing=packing, name=name, method="central")
    table = LookedUp(inputs.normal("table", V, D), tokens)
    yield check_gradients(layer, table, *initial, packing=packing, name=f"{name}, look-up")


def segments_report(inputs: Inputs, name: str, layer: Recurrent) -> GradientReport:
    """One recurrent layer cut every second step, the segments run forward once more."""
    given = (inputs.x(), *inputs.initial(layer, len(LENGTHS), layer.hidden_size))
    name = f"{name}, segments"
    return check_gradients(Segmented(layer, 2), *given, packing=inputs.packing, name=name)


def long_report(inputs: Inputs, name: str, layer: Recurrent) -> GradientReport:
    """One recurrent layer at :data:`LONG`, in one direction of all variables at once."""
    long = Packing.of(LONG, inputs.backend)
    x = inputs.normal("long", long.rows, layer.input_size)
    initial = [
        inputs.normal(f"{state[0]}0 long", len(LONG), layer.hidden_size) for state in layer.states
    ]
    return check_adjoint(layer, x, *initial, packing=long, name=f"{name}, T = {LONG.max()}")


def stack_reports(inputs: Inputs) -> Iterator[GradientReport]:
    """Two layers in two directions, with each dropout between them."""
    packing, units = inputs.packing, 2
    for cell in ("elman", "lstm", "gru"):
        for variational in (False, True):
            stack = RecurrentStack(
                cell, D, units, num_layers=2, bidirectional=True, dropout=0.3,
                variational=variational, **inputs.options,
            )  # fmt: skip
            initial = inputs.initial(stack.cells[0][0], 4, len(LENGTHS), units)
            name = f"RecurrentStack {cell}" + ", variational" * variational
            yield check_gradients(
                stack, inputs.x(), *initial, packing=packing, random=inputs.random, name=name
            )
    table = LookedUp(inputs.normal("table", V, D), inputs.tokens())
    yield check_gradients(stack, table, packing=packing, name="RecurrentStack gru, look-up")


def pooling_reports(inputs: Inputs) -> Iterator[GradientReport]:
    """Each pooling, on the input that it uses: the last states, or all hidden states."""
    hidden, last = inputs.x(), inputs.normal("last", len(LENGTHS), D)
    for name, kind in POOLINGS.items():
        given: tuple[Any, Any] = (None, last) if name == "last" else (hidden, None)
        pooling = kind(D, **inputs.options)
        for method in ("complex", "central") if name == "max" else ("complex",):
            yield check_gradients(pooling, *given, packing=inputs.packing, method=method)


def attention_reports(inputs: Inputs) -> Iterator[GradientReport]:
    """Attention and the transformer: with dropout, with a look-up, past the last position."""
    packing, random = inputs.packing, inputs.random
    attention = _moved(MultiHeadAttention(H, 2, dropout=0.3, **inputs.options), inputs)
    yield check_gradients(attention, inputs.x(H), random, packing=packing)
    encoder = _moved(TransformerEncoder(
        D, H, num_layers=2, num_heads=2, feedforward_size=5, dropout=0.3, max_positions=4,
        **inputs.options,
    ), inputs)  # fmt: skip
    for method in ("complex", "central"):
        yield check_gradients(encoder, inputs.x(), packing=packing, random=random, method=method)
    table = LookedUp(inputs.normal("table", V, D), inputs.tokens())
    yield check_gradients(encoder, table, packing=packing, name="TransformerEncoder, look-up")


def _moved(layer: Any, inputs: Inputs) -> Any:
    """``layer`` with its parameters moved away from zeros and ones, which can hide a mistake."""
    for name, value in layer.parameters.items():
        value += 0.1 * inputs.normal(f"moved {name}", *value.shape)
    return layer
