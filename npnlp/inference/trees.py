"""Prediction in array calls: many sequences as trees of prefixes, and one as a chain."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from npnlp.backend import Array
from npnlp.backend.prefix_passes import Integers
from npnlp.inference.predictor import Predictor
from npnlp.inference.prefixes import Trees, chain
from npnlp.inference.steps import Steps
from npnlp.inference.walk import sum_ngrams, walk, walk_ngrams
from npnlp.layers import softmax
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.models import SurnameClassifier

#: The sums of one step of a tree are at most this many numbers, which stay in a cache.
STEP_NUMBERS = 2**19


class TreePredictor(Predictor[Trees]):
    """The reference: any recurrent cell, and layers on top of each other.

    ``block`` is how many sequences have a tree.
    """

    def __init__(self, model: SurnameClassifier, block: int | None = None) -> None:
        super().__init__(model)
        stack, width = model.encoder.rnn, len(self.cells[0].gates) * self.cells[0].hidden_size
        assert isinstance(stack, RecurrentStack)
        self.block = block or max(64, STEP_NUMBERS // width)
        self.layers = [
            [Steps(layer[place], self.block) for layer in stack.cells]
            for place in range(model.config.directions)
        ]

    @cached_property
    def _tables(self) -> list[Array]:
        """What the input of each direction is for each token, projected."""
        return [layers[0].project(self.model.parameters["emb.weight"]) for layers in self.layers]

    @cached_property
    def _grams(self) -> Array:
        """What each n-gram adds to the first linear layer, ``(R, O)``."""
        assert self.model.ngrams is not None
        weight = self.model.ngrams.parameters["weight"]
        return np.dot(weight, self.columns_of_ngrams().T)  # type: ignore[no-any-return]

    def one(self, tokens: Integers) -> Array:
        """The probabilities ``(C,)`` of one sequence: a chain of steps, with nothing prepared."""
        model, tokens, before = self.model, tokens.astype(int), None
        x, places = model.parameters["emb.weight"].take(tokens, axis=0), np.arange(len(tokens))
        *others, last = [
            walk(layers, layers[0].project(x), chain(order), model.config.poolings)
            for layers, order in zip(self.layers, (places, places[::-1]), strict=False)
        ]
        if model.ngrams is not None:
            before = np.dot(sum_ngrams(model.ngrams, tokens)[None], self.columns_of_ngrams().T)
        for features in others:
            before = self._multiply(features, self.columns[0], before)
        return self._finish(last, before, best=False)[0][0]  # type: ignore[no-any-return]

    def _sort(self, tokens: Integers, lengths: Integers, *, reverse: bool) -> Trees:
        num_tokens = len(self.model.parameters["emb.weight"])
        return Trees(tokens, lengths, num_tokens, block=self.block, reverse=reverse)

    def _features(
        self, trees: Trees, block: slice, place: int
    ) -> tuple[Integers, Array, Array | None]:
        levels, rows = trees.levels(block)
        bag = self.model.ngrams
        pooled = walk(self.layers[place], self._tables[place], levels, self.model.config.poolings)
        if bag is None or place:
            return rows, pooled, None
        return rows, pooled, walk_ngrams(bag, self._grams, levels)

    def _multiply(self, features: Array, columns: Array, before: Array | None) -> Array:
        y: Array = np.dot(features, columns.T)
        if before is not None:
            y += before
        return y

    def _finish(self, features: Array, before: Array | None, *, best: bool) -> tuple[Array, ...]:
        y = self._multiply(features, self.columns[-1], before)
        y += self.first.parameters["bias"]
        if self.model.config.hidden_layer:
            np.maximum(y, 0, out=y)
            y, _ = self.model.fc2.forward(y)
        probabilities = softmax(y, np)
        return largest(probabilities) if best else (probabilities,)


def predict_one(model: SurnameClassifier, tokens: Integers) -> Array:
    """The probabilities ``(C,)`` of one sequence of ``tokens (T,)``."""
    return TreePredictor(model, block=1).one(tokens)


def largest(probabilities: Array) -> tuple[Array, Array]:
    """Where each row of ``(n, C)`` is largest, the first of equals, and the number there."""
    classes = probabilities.argmax(axis=1)
    places = classes + np.arange(0, probabilities.size, probabilities.shape[1])
    return classes, probabilities.reshape(-1).take(places)
