"""What a trained classifier says of sequences of tokens, without a packing and without caches.

The first linear layer sees the poolings of both directions and the n-grams side by side, so what
it makes of them is a sum: each part is multiplied with its own columns of the weight, and nothing
of a part has to be kept but that product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npnlp.backend import Array
from npnlp.inference.prefixes import Forest, Integers, chain
from npnlp.inference.steps import Steps
from npnlp.inference.walk import sum_ngrams, walk, walk_ngrams
from npnlp.layers import Linear, softmax
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.models import SurnameClassifier

#: The sums of one step of a tree are so many numbers: few enough to stay in a cache.
STEP_NUMBERS = 2**19
#: The backends whose arrays are those of NumPy.
ON_CPU = ("numpy", "numba")


def can_read(model: SurnameClassifier) -> bool:
    """Whether this is for ``model``: on the CPU, and each state follows from those before it.

    Not so for attention, and for layers on top of two directions.
    """
    config = model.config
    return (
        model.backend.name in ON_CPU
        and config.cell != "transformer"
        and "attention" not in config.poolings
        and not (config.bidirectional and config.num_layers > 1)
    )


class Direction(NamedTuple):
    """The layers that read in one direction, and the columns that see them, ``(P H, O)``."""

    layers: list[Steps]
    weight: Array


class Reader:
    """The classifier's probabilities for many sequences at once.

    Numbers are those of ``model.forward`` but for the order of sums: to 1e-5 in float32, 1e-12 in
    float64. Weights are those that the model has when this is made, which takes as long as some
    hundred sequences; :func:`can_read` says for which models.
    """

    def __init__(self, model: SurnameClassifier) -> None:
        self._model, xp = model, model.backend.xp
        cell = model.encoder.cells[0]
        self._block = max(64, STEP_NUMBERS // (len(cell.gates) * cell.hidden_size))
        self._directions = _directions(model, self._block)
        table = model.parameters["emb.weight"]
        twice = xp.concatenate([table, table])  # a last token is counted from V on
        self._tables = [direction.layers[0].project(twice) for direction in self._directions]
        if model.ngrams is not None:
            weight = model.ngrams.parameters["weight"]
            self._grams = xp.dot(weight, columns_of_ngrams(model))

    def best(self, tokens: Integers, lengths: Integers) -> tuple[Array, Array]:
        """The most probable class of each sequence ``(n,)``, the first of equals, and how probable.

        It is for who wants no more, which is faster.
        """
        return largest(self.probabilities(tokens, lengths))

    def probabilities(self, tokens: Integers, lengths: Integers) -> Array:
        """``(n, C)`` of n sequences of ``tokens (N,)``, one after another, of these ``lengths``.

        It takes some 30 bytes of memory a token, besides the result.
        """
        xp, last = self._model.backend.xp, len(self._directions) - 1
        sums: Array | None = None
        for place, (layers, weight) in enumerate(self._directions):
            forest = Forest(
                tokens, lengths, len(self._model.parameters["emb.weight"]),
                block=self._block, reverse=place == 1,
            )  # fmt: skip
            out: Array | None = None
            for levels, sequences in forest:
                pooled = walk(layers, self._tables[place], levels, self._model.config.poolings)
                part = xp.dot(pooled, weight)
                if self._model.ngrams is not None and not place:
                    part += walk_ngrams(self._model.ngrams, self._grams, levels)
                if sums is not None:
                    part += sums.take(sequences, axis=0)
                if place == last:
                    part = _finished(self._model, part)
                if out is None:
                    out = xp.empty((len(lengths), part.shape[1]), dtype=part.dtype)
                out[sequences] = part
            assert out is not None  # there is at least one sequence
            out[forest.repeats] = out.take(forest.originals, axis=0)
            sums = out
        assert sums is not None
        return sums


def read_one(model: SurnameClassifier, tokens: Integers) -> Array:
    """The probabilities ``(C,)`` of one sequence: a chain of steps, with nothing prepared."""
    xp, poolings = model.backend.xp, model.config.poolings
    tokens = tokens.astype(int)
    x = model.parameters["emb.weight"].take(tokens, axis=0)
    places, sums = xp.arange(len(tokens)), xp.zeros(1, dtype=model.dtype)
    for layers, weight in _directions(model, 1):
        pooled = walk(layers, layers[0].project(x), chain(places), poolings)
        sums = sums + xp.dot(pooled, weight)
        places = places[::-1]
    if model.ngrams is not None:
        sums += xp.dot(sum_ngrams(model.ngrams, tokens), columns_of_ngrams(model))
    probabilities: Array = _finished(model, sums)[0]
    return probabilities


def largest(probabilities: Array) -> tuple[Array, Array]:
    """Where each row of ``(n, C)`` is largest, the first of equals, and the number there."""
    classes = probabilities.argmax(axis=1)
    places = classes + np.arange(0, probabilities.size, probabilities.shape[1])
    return classes, probabilities.reshape(-1).take(places)


def first_linear(model: SurnameClassifier) -> Linear:
    """The linear layer that sees the encoder and the n-grams."""
    return model.fc1 if model.config.hidden_layer else model.fc2


def _finished(model: SurnameClassifier, sums: Array) -> Array:
    """The probabilities ``(m, C)``, from the products of the first linear layer ``(m, O)``."""
    xp = model.backend.xp
    sums += first_linear(model).parameters["bias"]
    if model.config.hidden_layer:
        xp.maximum(sums, 0, out=sums)
        sums, _ = model.fc2.forward(sums)
    return softmax(sums, xp)


def _directions(model: SurnameClassifier, batch: int) -> list[Direction]:
    """Of each direction the layers from below, for up to ``batch`` rows."""
    stack = model.encoder.rnn
    assert isinstance(stack, RecurrentStack)
    return [
        Direction([Steps(layer[place], batch) for layer in stack.cells], weight)
        for place, weight in enumerate(columns_of_directions(model))
    ]


def columns_of_directions(model: SurnameClassifier) -> list[Array]:
    """What of the first linear layer sees the poolings of each direction, ``(P H, O)``."""
    config, weight = model.config, first_linear(model).parameters["weight"]
    shape = len(weight), len(config.poolings), config.directions, config.rnn_hidden_size
    blocks, xp = weight[:, : model.encoder.features].reshape(shape), model.backend.xp
    return [
        xp.ascontiguousarray(blocks[:, :, place].reshape(len(weight), -1)).T
        for place in range(config.directions)
    ]


def columns_of_ngrams(model: SurnameClassifier) -> Array:
    """What of the first linear layer sees the n-grams, ``(F, O)``."""
    columns: Array = first_linear(model).parameters["weight"][:, model.encoder.features :].T
    return columns
