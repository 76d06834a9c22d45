"""What :class:`npnlp.inference.reader.Reader` does, by the compiled passes of a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend import Array
from npnlp.backend.tuned.loop import CELLS
from npnlp.backend.tuned.maps import AffineMaps
from npnlp.inference.prefixes import Integers
from npnlp.inference.reader import (
    Reader,
    columns_of_directions,
    columns_of_ngrams,
    first_linear,
)
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.models import SurnameClassifier


def make_reader(model: SurnameClassifier) -> Reader | FusedReader:
    """The fastest reader there is: compiled passes are for one layer of cells that they know."""
    cell = model.encoder.cells[0]
    if model.config.num_layers == 1:
        passes = model.backend.reading(cell.kind(), model.dtype)
        if passes is not None:
            return FusedReader(model, passes)
    return Reader(model)


class FusedReader:
    """As :class:`Reader`, of one recurrent layer in each direction.

    A sequence has the same bits whatever others it is read with.
    """

    def __init__(self, model: SurnameClassifier, passes: Any) -> None:
        self._model, self._passes = model, passes
        self._weights = columns_of_directions(model)
        self._tables = [self._project(cell) for cell in model.encoder.cells]
        if model.ngrams is not None:
            self._grams = np.dot(model.ngrams.parameters["weight"], columns_of_ngrams(model))

    def _project(self, cell: Recurrent) -> Array:
        """What the input is to each gate for each token: ``(G, V, H)``."""
        emb, gates = self._model.parameters["emb.weight"], len(cell.gates)
        w_ih, _, b_ih, b_hh = cell.weights
        bias = CELLS[cell.kind()](cell.hidden_size, np).bias_of_input(b_ih, b_hh)
        u = AffineMaps(np, cell.backend.small_product).affine(emb, w_ih, bias, gates)
        return u.reshape(gates, len(emb), cell.hidden_size)

    def probabilities(self, tokens: Integers, lengths: Integers) -> Array:
        """See :meth:`Reader.probabilities`."""
        out = np.empty((len(lengths), self._model.config.num_classes), dtype=self._model.dtype)
        self._read(tokens, lengths, out)
        return out

    def best(self, tokens: Integers, lengths: Integers) -> tuple[Array, Array]:
        """See :meth:`Reader.best`."""
        found = np.empty(len(lengths), np.int64), np.empty(len(lengths), self._model.dtype)
        self._read(tokens, lengths, found)
        return found

    def _read(
        self, tokens: Integers, lengths: Integers, found: Array | tuple[Array, Array]
    ) -> None:
        model, passes, size = self._model, self._passes, self._tables[0].shape[1]
        first, bag = first_linear(model).parameters["bias"], model.ngrams
        second = tuple(model.fc2.parameters.values()) if model.config.hidden_layer else None
        sums = None
        if bag is not None or model.config.bidirectional:
            sums = np.zeros((len(lengths), len(first)), dtype=model.dtype)
        for place, cell in enumerate(model.encoder.cells):
            prefixes = passes.sort(tokens, lengths, size, place == 1)
            if bag is not None and not place:
                passes.add_ngrams(prefixes, bag.orders, size, bag.keys, self._grams, sums)
            weight, is_last = self._weights[place], place == model.config.directions - 1
            for block in passes.blocks(len(prefixes.order), len(weight)):
                rows = prefixes.order[block]
                pooled = passes.walk(
                    cell.kind(), prefixes, block, model.config.poolings, self._tables[place],
                    cell.weight("weight_hh"),
                    CELLS[cell.kind()](cell.hidden_size, np).bias_in_step(cell.weight("bias_hh")),
                )  # fmt: skip
                if is_last:
                    passes.finish(pooled, weight, rows, sums, first, second, found)
                else:
                    passes.add_linear(pooled, weight, rows, sums)
            made = sums if sums is not None and not is_last else found
            for array in made if isinstance(made, tuple) else (made,):
                array[prefixes.repeats] = array.take(prefixes.originals, axis=0)
