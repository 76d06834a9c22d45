"""What a trained classifier says of many sequences, without a packing and without caches.

The first linear layer sees the poolings of both directions and the n-grams side by side, so its
result is a sum: each part is multiplied with its own columns of the weight, and nothing of a part
is stored but that product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from npnlp.backend import Array
from npnlp.backend.prefix_passes import Integers, SortedSequences
from npnlp.models import SurnameClassifier

#: The backends whose arrays are those of NumPy.
ON_CPU = ("numpy", "numba")
T = TypeVar("T", bound=SortedSequences)


def can_predict(model: SurnameClassifier) -> bool:
    """Whether predictors are for ``model``: on the CPU, and each state follows from those before.

    Not so for attention, and for layers on top of two directions.
    """
    config = model.config
    return (
        model.backend.name in ON_CPU
        and config.cell != "transformer"
        and "attention" not in config.poolings
        and not (config.bidirectional and config.num_layers > 1)
    )


class Predictor(ABC, Generic[T]):
    """A classifier's answers for many sequences at once, each different one computed once.

    Numbers are those of ``model.forward`` but for the order of sums: to 1e-5 in float32, 1e-12 in
    float64. Weights are those that the model has when this is made, which takes as long as some
    hundred sequences; :func:`can_predict` says for which models.
    """

    def __init__(self, model: SurnameClassifier) -> None:
        self.model, self.cells = model, model.encoder.cells
        self.first = model.fc1 if model.config.hidden_layer else model.fc2
        self.columns = self._columns_of_directions()

    def _columns_of_directions(self) -> list[Array]:
        """What of the first linear layer sees the poolings of each direction, ``(O, P H)``."""
        config, weight = self.model.config, self.first.parameters["weight"]
        shape = len(weight), len(config.poolings), config.directions, config.rnn_hidden_size
        blocks, xp = weight[:, : self.model.encoder.features].reshape(shape), self.model.backend.xp
        return [
            xp.ascontiguousarray(blocks[:, :, place].reshape(len(weight), -1))
            for place in range(config.directions)
        ]

    def columns_of_ngrams(self) -> Array:
        """What of the first linear layer sees the n-grams, ``(O, F)``."""
        return self.first.parameters["weight"][:, self.model.encoder.features :]

    def probabilities(self, tokens: Integers, lengths: Integers) -> Array:
        """``(n, C)`` of n sequences of ``tokens (N,)``, one after another, of these ``lengths``.

        It takes some 30 bytes of memory a token, besides the result.
        """
        found = np.empty((len(lengths), self.model.config.num_classes), self.model.dtype)
        self._predict(tokens, lengths, (found,))
        return found

    def best(self, tokens: Integers, lengths: Integers) -> tuple[Array, Array]:
        """The most probable class of each sequence ``(n,)``, the first of equals, and how probable.

        It is for callers that want no more, and is faster.
        """
        found = np.empty(len(lengths), np.int64), np.empty(len(lengths), self.model.dtype)
        self._predict(tokens, lengths, found)
        return found

    def _predict(self, tokens: Integers, lengths: Integers, found: tuple[Array, ...]) -> None:
        """Fill ``found``: the probabilities alone, or the best classes and their probabilities."""
        sums: Array | None = None  # those of the direction before, (n, O)
        for place, columns in enumerate(self.columns):
            trees, out = self._sort(tokens, lengths, reverse=place == 1), found
            is_last = place == len(self.columns) - 1
            if not is_last:
                out = (np.empty((len(lengths), len(columns)), columns.dtype),)
            for block in trees.blocks:
                rows, features, before = self._features(trees, block, place)
                if sums is not None:
                    before = sums.take(rows, axis=0)
                if is_last:
                    parts = self._finish(features, before, best=len(found) == 2)
                else:
                    parts = (self._multiply(features, columns, before),)
                for array, part in zip(out, parts, strict=True):
                    array[rows] = part
            for array in out:
                array[trees.repeats] = array.take(trees.originals, axis=0)
            sums = out[0]

    @abstractmethod
    def _sort(self, tokens: Integers, lengths: Integers, *, reverse: bool) -> T:
        """The sequences as trees of prefixes."""

    @abstractmethod
    def _features(self, trees: T, block: slice, place: int) -> tuple[Integers, Array, Array | None]:
        """The sequences of a block ``(b,)``, and what a direction's poolings make of them.

        The poolings are ``(b, P H)``. Last, the n-grams' part of the first linear layer ``(b, O)``;
        it comes with the first direction, where there are n-grams, else None.
        """

    @abstractmethod
    def _multiply(self, features: Array, columns: Array, before: Array | None) -> Array:
        """A direction's part of the first linear layer, added to that of features before."""

    @abstractmethod
    def _finish(self, features: Array, before: Array | None, *, best: bool) -> tuple[Array, ...]:
        """The last direction's part of the first linear layer, and all that follows it.

        The probabilities ``(b, C)`` alone; with ``best`` the most probable classes and theirs.
        """
