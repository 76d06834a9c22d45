"""The fastest way for a model: the passes of its backend, where there are any."""

from __future__ import annotations

from collections.abc import Iterator

from npnlp.backend import Array
from npnlp.backend.prefix_passes import Integers, PrefixPasses, SortedSequences
from npnlp.inference.predictor import Features, TreePredictor
from npnlp.inference.steps import bias_in_step, projected
from npnlp.models import SurnameClassifier

#: As many classes take the place of one number that a pass computes, when blocks are laid out.
CLASSES_IN_WIDTH = 32


def make_predictor(model: SurnameClassifier) -> TreePredictor:
    """The fastest predictor there is: a backend has passes for one layer of cells that it knows."""
    if model.config.num_layers == 1:
        passes = model.backend.prefix_passes(model.encoder.cells[0].kind(), model.dtype)
        if passes is not None:
            return CompiledPredictor(model, passes)
    return TreePredictor(model)


def predict_one(model: SurnameClassifier, tokens: Integers) -> Array:
    """The probabilities ``(C,)`` of one sequence of ``tokens (T,)``."""
    return TreePredictor(model, block=1).one(tokens)


class CompiledPredictor(TreePredictor):
    """The same by ``passes``; a sequence has the same bits whatever others it is predicted with."""

    def __init__(self, model: SurnameClassifier, passes: PrefixPasses) -> None:
        super().__init__(model)
        self.passes, self.cells = passes, model.encoder.cells
        emb, last = model.parameters["emb.weight"], model.fc2.parameters
        self.sums_of_inputs = [projected(cell, emb) for cell in self.cells]
        self.second = (last["weight"], last["bias"]) if model.config.hidden_layer else None

    def _features(
        self, tokens: Integers, lengths: Integers, place: int
    ) -> tuple[SortedSequences, Iterator[Features]]:
        table, cell, bag = self.sums_of_inputs[place], self.cells[place], self.model.ngrams
        poolings, width = self.model.config.poolings, self.columns[place].shape[1]
        width = max(width, self.model.config.num_classes // CLASSES_IN_WIDTH)
        trees = self.passes.sort(tokens, lengths, table.shape[1], width, reverse=place == 1)
        weights = cell.weight("weight_hh"), bias_in_step(cell)

        ngrams: Array | None = None  # of all sequences at once: their table stays in the cache
        if bag is not None and not place:
            ngrams = trees.ngrams(bag.orders, bag.keys, self.ngram_table)

        def of(block: slice) -> Features:
            pooled = trees.walk(block, poolings, table, *weights)
            return trees.order[block], pooled, None if ngrams is None else ngrams[block]

        return trees, map(of, trees.blocks)

    def _multiply(self, pooled: Array, place: int, before: Array | None) -> Array:
        return self.passes.multiply(pooled, self.columns[place], before)

    def _finish(self, pooled: Array, before: Array | None, *, best: bool) -> tuple[Array, ...]:
        return self.passes.finish(
            pooled, self.columns[-1], before, self.bias, self.second, best=best
        )
