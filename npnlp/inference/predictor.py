"""What a trained classifier says of sequences of tokens, without a packing and without caches.

The first linear layer sees the poolings of both directions and the n-grams side by side, so its
result is a sum: each part is multiplied with its own columns of the weight, and nothing of a part
is stored but that product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeAlias

import numpy as np

from npnlp.backend import Array
from npnlp.backend.prefix_passes import Integers, SortedSequences
from npnlp.inference.prefixes import Trees, chain
from npnlp.inference.steps import Steps
from npnlp.inference.walk import sum_ngrams, walk, walk_ngrams
from npnlp.layers import softmax
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.models import SurnameClassifier

#: The sums of one step of a tree are at most this many numbers, which stay in a cache.
STEP_NUMBERS = 2**19
#: Of a block all classes' probabilities are at most this many numbers.
BLOCK_NUMBERS = 2**22
#: The first linear layer's sums of the sequences that are sorted together are at most this many.
SUMS = 2**25
#: The backends whose arrays are those of NumPy.
ON_CPU = ("numpy", "numba")
#: Some sequences ``(b,)``, the poolings of a direction ``(b, P H)``, and, where there are n-grams,
#: their part of the first linear layer ``(b, O)``.
Features: TypeAlias = tuple[Integers, Array, Array | None]


def can_predict(model: SurnameClassifier) -> bool:
    """Whether predictors are for ``model``: on the CPU, and each state follows from those before.

    Not so for attention, for layers on top of two directions, and for a cell of one's own.
    """
    config = model.config
    return (
        model.backend.name in ON_CPU
        and config.cell != "transformer"
        and "attention" not in config.poolings
        and not (config.bidirectional and config.num_layers > 1)
        and model.encoder.cells[0].kind() != ""
    )


class TreePredictor:
    """A classifier's answers for many sequences at once, as trees of their prefixes.

    Numbers are those of ``model.forward`` but for the order of sums: to 1e-5 in float32, 1e-12 in
    float64. Weights are those that the model has when this is made, which takes as long as some
    hundred sequences; :func:`can_predict` says for which models. ``block`` sequences have a tree.
    """

    def __init__(self, model: SurnameClassifier, block: int | None = None) -> None:
        config, stack, cell = model.config, model.encoder.rnn, model.encoder.cells[0]
        assert isinstance(stack, RecurrentStack)
        by_classes = BLOCK_NUMBERS // config.num_classes
        by_step = STEP_NUMBERS // (len(cell.gates) * cell.hidden_size)
        self.block = block or max(64, min(by_step, by_classes))
        self.model, directions = model, range(config.directions)
        self.layers = [[Steps(layer[k], self.block) for layer in stack.cells] for k in directions]
        linear = model.fc1 if config.hidden_layer else model.fc2
        weight, self.bias = linear.parameters["weight"], linear.parameters["bias"]
        shape = len(weight), len(config.poolings), config.directions, config.rnn_hidden_size
        parts = weight[:, : model.encoder.features].reshape(shape)
        #: What of the first linear layer sees each direction ``(O, P H)``, and the n-grams.
        self.columns = [
            np.ascontiguousarray(parts[:, :, k].reshape(len(weight), -1)) for k in directions
        ]
        self.ngram_columns = weight[:, model.encoder.features :]

    @cached_property
    def ngram_table(self) -> Array:
        """What each n-gram adds to the first linear layer, ``(R, O)``."""
        assert self.model.ngrams is not None
        table: Array = np.dot(self.model.ngrams.parameters["weight"], self.ngram_columns.T)
        return table

    @cached_property
    def tables(self) -> list[Array]:
        """What the input of each direction is for each token, projected."""
        return [layers[0].project(self.model.parameters["emb.weight"]) for layers in self.layers]

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

    def top(self, tokens: Integers, lengths: Integers, top_k: int) -> tuple[Array, Array]:
        """:func:`most_probable` of each sequence: classes ``(n, k)`` and their probabilities.

        The others are kept for a block of sequences alone.
        """
        shape = len(lengths), min(top_k, self.model.config.num_classes)
        found = np.empty(shape, np.int64), np.empty(shape, self.model.dtype)
        self._predict(tokens, lengths, found, lambda p: most_probable(p, top_k))
        return found

    def one(self, tokens: Integers) -> Array:
        """The probabilities ``(C,)`` of one sequence: a chain of steps, with nothing prepared."""
        model, tokens, before = self.model, tokens.astype(int), None
        x, places = model.parameters["emb.weight"].take(tokens, axis=0), np.arange(len(tokens))
        if model.ngrams is not None:
            before = np.dot(sum_ngrams(model.ngrams, tokens)[None], self.ngram_columns.T)
        for place, layers in enumerate(self.layers):
            pooled = walk(layers, layers[0].project(x), chain(places), model.config.poolings)
            if place < len(self.layers) - 1:
                before, places = self._multiply(pooled, place, before), places[::-1]
        return self._finish(pooled, before, best=False)[0][0]  # type: ignore[no-any-return]

    def _predict(
        self, tokens: Integers, lengths: Integers, found: tuple[Array, ...],
        keep: Callable[[Array], tuple[Array, ...]] | None = None,
    ) -> None:  # fmt: skip
        """Fill ``found``: the probabilities, or what ``keep`` makes of those of a block.

        Without ``keep`` two arrays are for the best classes and their probabilities.
        """
        size = max(1, SUMS // len(self.bias))
        while len(lengths) > size:
            used, rows = int(lengths[:size].sum()), slice(0, size)
            here = tuple(each[rows] for each in found)
            self._predict_together(tokens[:used], lengths[rows], here, keep)
            tokens, lengths, found = tokens[used:], lengths[size:], tuple(f[size:] for f in found)
        self._predict_together(tokens, lengths, found, keep)

    def _predict_together(
        self, tokens: Integers, lengths: Integers, found: tuple[Array, ...],
        keep: Callable[[Array], tuple[Array, ...]] | None,
    ) -> None:  # fmt: skip
        """:meth:`_predict` for sequences whose common prefixes are looked for."""
        sums: Array | None = None  # those of the direction before, (n, O)
        for place in range(len(self.layers)):
            out, is_last = found, place == len(self.layers) - 1
            if not is_last:
                out = (np.empty((len(lengths), len(self.bias)), self.bias.dtype),)
            trees, features = self._features(tokens, lengths, place)
            for rows, pooled, before in features:
                if sums is not None:
                    before = sums.take(rows, axis=0)
                if not is_last:
                    parts: tuple[Array, ...] = (self._multiply(pooled, place, before),)
                elif keep is None:
                    parts = self._finish(pooled, before, best=len(found) == 2)
                else:
                    parts = keep(*self._finish(pooled, before, best=False))
                for array, part in zip(out, parts, strict=True):
                    array[rows] = part
            for array in out:
                array[trees.repeats] = array.take(trees.originals, axis=0)
            sums = out[0]

    def _features(
        self, tokens: Integers, lengths: Integers, place: int
    ) -> tuple[SortedSequences, Iterator[Features]]:
        """The sequences as trees, and block by block the features of one direction.

        n-grams come with the first direction.
        """
        model, reverse = self.model, place == 1
        num_tokens = len(model.parameters["emb.weight"])
        trees = Trees(tokens, lengths, num_tokens, block=self.block, reverse=reverse)

        def of(block: slice) -> Features:
            levels, rows = trees.levels(block)
            pooled = walk(self.layers[place], self.tables[place], levels, model.config.poolings)
            if model.ngrams is None or place:
                return rows, pooled, None
            return rows, pooled, walk_ngrams(model.ngrams, self.ngram_table, levels)

        return trees, map(of, trees.blocks)

    def _multiply(self, pooled: Array, place: int, before: Array | None) -> Array:
        """A direction's part of the first linear layer, and what came ``before``: ``(b, O)``."""
        y: Array = np.dot(pooled, self.columns[place].T)
        if before is not None:
            y += before
        return y

    def _finish(self, pooled: Array, before: Array | None, *, best: bool) -> tuple[Array, ...]:
        """The last direction's part, and all that follows: the probabilities ``(b, C)`` alone.

        With ``best`` the most probable classes and their probabilities.
        """
        y = self._multiply(pooled, -1, before)
        y += self.bias
        if self.model.config.hidden_layer:
            np.maximum(y, 0, out=y)
            y, _ = self.model.fc2.run(y)
        probabilities = softmax(y, np)
        return largest(probabilities) if best else (probabilities,)


def largest(probabilities: Array) -> tuple[Array, Array]:
    """Where each row of ``(n, C)`` is largest, the first of equals, and the number there."""
    classes = probabilities.argmax(axis=1)
    places = classes + np.arange(0, probabilities.size, probabilities.shape[1])
    return classes, probabilities.reshape(-1).take(places)


def most_probable(probabilities: Array, top_k: int) -> tuple[Array, Array]:
    """The ``top_k`` largest of each row of ``(n, C)``, largest first: where, and how large.

    Of equals the first class comes first. A few largest are looked for one after another, which
    takes less than sorting them all, or than parting them from the rest.
    """
    if top_k == 1:
        best, probability = largest(probabilities)
        return best[:, None], probability[:, None]
    if 1 < probabilities.shape[1] < 4 * top_k:
        classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return classes, np.take_along_axis(probabilities, classes, axis=1)
    count, left = len(probabilities), probabilities
    classes, rows = np.zeros((count, min(top_k, left.shape[1])), np.intp), np.arange(count)
    for place in range(classes.shape[1]):
        if place:
            left = left if place > 1 else left.copy()
            left[rows, classes[:, place - 1]] = -np.inf
        classes[:, place] = left.argmax(axis=1)
    return classes, np.take_along_axis(probabilities, classes, axis=1)
