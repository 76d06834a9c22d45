"""Prediction by the passes of a backend, where it has them."""

from __future__ import annotations

import numpy as np

from npnlp.backend import Array
from npnlp.backend.prefix_passes import Integers, PrefixPasses, PrefixTrees
from npnlp.inference.predictor import Predictor
from npnlp.inference.steps import bias_in_step, projected
from npnlp.inference.trees import TreePredictor
from npnlp.models import SurnameClassifier


def make_predictor(model: SurnameClassifier) -> TreePredictor | CompiledPredictor:
    """The fastest predictor there is: compiled passes are for one layer of cells they know."""
    cell = model.encoder.cells[0]
    if model.config.num_layers == 1:
        passes = model.backend.prefix_passes(cell.kind(), model.dtype)
        if passes is not None:
            return CompiledPredictor(model, passes)
    return TreePredictor(model)


class CompiledPredictor(Predictor[PrefixTrees]):
    """One recurrent layer in each direction.

    A sequence has the same bits whatever others it is predicted with.
    """

    def __init__(self, model: SurnameClassifier, passes: PrefixPasses) -> None:
        super().__init__(model)
        self.passes, linear = passes, model.fc2.parameters
        #: The second linear layer, where there are two.
        self.last = (linear["weight"], linear["bias"]) if model.config.hidden_layer else None
        table = model.parameters["emb.weight"]
        self.tables = [projected(cell, table) for cell in self.cells]
        if model.ngrams is not None:
            weight = model.ngrams.parameters["weight"]
            self.grams = np.dot(weight, self.columns_of_ngrams().T)

    def _sort(self, tokens: Integers, lengths: Integers, *, reverse: bool) -> PrefixTrees:
        num_tokens, width = self.tables[0].shape[1], self.columns[0].shape[1]
        return self.passes.sort(tokens, lengths, num_tokens, width, reverse=reverse)

    def _features(
        self, trees: PrefixTrees, block: slice, place: int
    ) -> tuple[Integers, Array, Array | None]:
        cell, bag = self.cells[place], self.model.ngrams
        pooled = trees.walk(
            block, self.model.config.poolings, self.tables[place], cell.weight("weight_hh"),
            bias_in_step(cell),
        )  # fmt: skip
        if bag is None or place:
            return trees.order[block], pooled, None
        return trees.order[block], pooled, trees.ngrams(block, bag.orders, bag.keys, self.grams)

    def _multiply(self, features: Array, columns: Array, before: Array | None) -> Array:
        y = self.passes.multiply(features, columns)
        if before is not None:
            y += before
        return y

    def _finish(self, features: Array, before: Array | None, *, best: bool) -> tuple[Array, ...]:
        return self.passes.finish(
            features, self.columns[-1], before, self.first.parameters["bias"], self.last, best=best
        )
