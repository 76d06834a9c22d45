"""A step of training repeated, with every array in it looked at in the order of computation.

The model itself is run, with a :class:`_Tap` in place of each of its layers that notes what the
layer is given and returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.diagnosis.replay import Rebuilt, Replay
from npnlp.layers import Layer, Packing, SoftmaxCrossEntropy
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.layers.recurrent.stack import StackCache
from npnlp.training.clipping import clip_grad_norm, squared_norms

#: In which order the layers' backward passes add into the gradients of their parameters.
BACKWARD = ("weight_hh", "bias_ih", "bias_hh", "weight_ih", "bias", "weight")


@dataclass(frozen=True)
class Reading:
    """An array of a step, and the first number in it that is not finite.

    ``where`` is "weight" (before the step), "activation", "loss", "gradient", "gradient norm" or
    "update" (the weights after the step). A gradient without ``parameter`` is that of the layer's
    input, or of a recurrent layer's ``a_t``. ``largest`` is the largest magnitude, NaN aside.
    ``value`` is "nan", "inf" or "-inf", or "" where all is finite; ``index`` is its place in a
    parameter; ``step`` counts from 0, the start of the sequence; ``row`` is that of the split. Of
    a weight, step and row say where it is first used, if the batch shows that.
    """

    where: str
    layer: str
    parameter: str | None = None
    largest: float = 0.0
    value: str = ""
    index: tuple[int, ...] = ()
    step: int | None = None
    row: int | None = None


def read_step(replay: Replay, backend: Backend) -> list[Reading]:
    """Every array of the step in the order of computation; of a step on ``val``, to the loss."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _Repetition(replay, backend).readings


def _backward_order(name: str) -> int:
    kind = name.partition("_l")[0]
    return BACKWARD.index(kind) if kind in BACKWARD else len(BACKWARD)


class _Repetition:
    """A step that notes all its arrays in ``readings``."""

    def __init__(self, replay: Replay, backend: Backend) -> None:
        self.readings: list[Reading] = []
        self.backend = backend
        parts = Rebuilt(replay, backend)
        self.rows, model, batch = parts.rows, parts.model, parts.batch
        host = backend.to_numpy
        packing = batch.packing
        used = host(batch.vocabulary)[host(batch.tokens)]
        self.note_table(model.characters.emb, used, packing.steps, self.rows[packing.places])
        for name, layer in list(vars(model).items()):
            if isinstance(layer, Layer) and layer not in (model.characters, model.encoder):
                setattr(model, name, _Tap(name, layer, self))
        encoder: Any = model.encoder
        encoder.rnn = _Tap("rnn", encoder.rnn, self)
        encoder.pools = [_Tap("pool", pool, self) for pool in encoder.pools]
        logits, cache = model.forward(**batch.inputs, random=parts.random)
        loss, sums = parts.criterion.forward(logits, batch.targets)
        self.note_loss(loss, logits, batch.targets, parts.criterion)
        if replay.split != "train":
            return
        d_logits = parts.criterion.backward(1.0, sums)
        self.note("gradient", "loss", d_logits, rows=self.rows)
        model.zero_grads()
        model.backward(d_logits, cache)
        self.note_parameters("gradient", "emb", model.characters.emb.grads)
        squares = host(squared_norms(model.flat, backend))
        norm = clip_grad_norm(model.flat.grads, replay.training.clip_norm, backend)
        self.note("gradient norm", "all parameters", norm)
        if self.readings[-1].value:
            bad = [p for p, s in zip(model.parameters, squares, strict=True) if not np.isfinite(s)]
            self.readings[-1] = replace(self.readings[-1], parameter=bad[0] if bad else None)
        parts.optimizer.step()
        for name, value in model.parameters.items():
            self.note("update", name.partition(".")[0], value, name)

    def note(
        self,
        where: str,
        layer: str,
        array: Array,
        parameter: str | None = None,
        rows: NDArray[np.int64] | None = None,
        steps: NDArray[np.int64] | None = None,
        said: NDArray[np.int64] | None = None,
    ) -> Reading:
        """Add a reading; ``rows`` and ``steps`` say what the array's first axis stands for.

        The steps of a gradient are computed from the last to the first. ``said`` are the steps to
        name, where a layer that runs from the end counts its own otherwise.
        """
        host = np.atleast_1d(self.backend.to_numpy(array))
        reading = Reading(where, layer, parameter, float(np.fmax.reduce(np.abs(host), axis=None)))
        bad = ~np.isfinite(host)
        if bad.any():
            first = np.flatnonzero(bad.reshape(len(host), -1).any(axis=1))
            if steps is not None and where == "gradient":
                first = first[steps[first] == steps[first].max()]
            n = int(first[0])
            index = (n, *(int(i) for i in np.argwhere(bad[n])[0]))
            reading = replace(
                reading,
                value=str(host[index]),
                index=index if parameter else (),
                step=None if steps is None else int((steps if said is None else said)[n]),
                row=None if rows is None else int(rows[n]),
            )
        self.readings.append(reading)
        return reading

    def note_parameters(self, where: str, layer: str, arrays: Mapping[str, Array]) -> None:
        """Add a reading of each parameter, or of its gradient."""
        names = list(arrays) if where == "weight" else sorted(arrays, key=_backward_order)
        for name in names:
            self.note(where, layer, arrays[name], f"{layer}.{name}")

    def note_table(
        self, emb: Layer, used: NDArray[Any], steps: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> None:
        """Add the embedding table: of its bad rows, the one that the batch uses first."""
        table = emb.parameters["weight"]
        reading = self.note("weight", "emb", table, "emb.weight")
        bad = ~np.isfinite(self.backend.to_numpy(table)).all(axis=1)
        uses = np.flatnonzero(bad[used])
        if len(uses):
            n = int(uses[0])
            row = self.backend.to_numpy(table)[used[n]]
            column = int(np.flatnonzero(~np.isfinite(row))[0])
            self.readings[-1] = replace(
                reading, value=str(row[column]), index=(int(used[n]), column),
                step=int(steps[n]), row=int(rows[n]),
            )  # fmt: skip

    def note_first_uses(self, layer: str, packing: Packing) -> None:
        """Add to readings of recurrent weights the step at which they first enter."""
        for place, reading in enumerate(self.readings):
            if (reading.where, reading.layer) == ("weight", layer) and reading.value:
                step = int("weight_hh" in str(reading.parameter))
                if step < len(packing.offsets):
                    row = int(self.rows[packing.places[packing.offsets[step]]])
                    self.readings[place] = replace(reading, step=step, row=row)

    def note_loss(
        self, loss: Array, logits: Array, targets: Array, criterion: SoftmaxCrossEntropy
    ) -> None:
        """Add the loss; where it is not finite, the row whose own loss is not."""
        reading = self.note("loss", "loss", loss)
        if not reading.value:
            return
        for n, row in enumerate(self.rows):
            _, own = criterion.forward(logits[n : n + 1], targets[n : n + 1])
            if not np.isfinite(float(own.loss_sum)):
                self.readings[-1] = replace(reading, row=int(row))
                return


class _Tap:
    """Stands in the place of a layer, does what it does, and notes what goes through."""

    def __init__(self, name: str, layer: Any, notes: _Repetition) -> None:
        self._name, self._layer, self._notes = name, layer, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Note the parameters and what the layer returns."""
        layer, notes, name = self._layer, self._notes, self._name
        y, cache = layer.forward(*inputs, **options)
        notes.note_parameters("weight", name, layer.parameters)
        if isinstance(cache, StackCache):
            notes.note_first_uses(name, cache.packing)
            self._note_cells(cache)
        elif isinstance(y, tuple):
            packing = cache.packing
            rows = notes.rows[packing.places]
            notes.note("activation", name, y[0], rows=rows, steps=packing.steps)
        else:
            notes.note("activation", name, y, rows=notes.rows)
        return y, cache

    def _note_cells(self, cache: StackCache) -> None:
        packing = cache.packing
        rows = self._notes.rows[packing.places]
        for of_layer, caches in zip(self._layer.cells, cache.cells, strict=True):
            for cell, kept in zip(of_layer, caches, strict=True):
                self._notes.note(
                    "activation", self._name_of(cell), kept.hidden, rows=rows,
                    steps=packing.steps, said=_steps_of(cell, packing),
                )  # fmt: skip

    def _name_of(self, cell: Recurrent) -> str:
        """``rnn``, or which of several recurrent layers it is: ``rnn.l1_reverse``."""
        alone = len(self._layer.cells) == self._layer.directions == 1
        return self._name if alone else f"{self._name}.{cell.suffix[1:]}"

    def backward(self, dy: Any, cache: Any, probe: None = None) -> Any:
        """Note the gradients that the layer adds and returns."""
        layer, notes, name = self._layer, self._notes, self._name

        def keep(trace: Any) -> None:
            packing = cache.packing
            rows, recurrent = notes.rows[packing.places], isinstance(trace, RecurrentTrace)
            where = self._name_of(trace.layer) if recurrent else f"{name}.l{trace.layer}"
            notes.note(
                "gradient", where, trace.delta if recurrent else trace.d_heads, rows=rows,
                steps=packing.steps, said=_steps_of(trace.layer, packing) if recurrent else None,
            )  # fmt: skip

        if name == "rnn":
            d = layer.backward(dy, cache, keep)
            notes.note_parameters("gradient", name, layer.grads)
            return d
        d = layer.backward(dy, cache)
        notes.note_parameters("gradient", name, layer.grads)
        if name not in ("pool", "ngrams"):
            notes.note("gradient", name, d, rows=notes.rows)
        return d


def _steps_of(cell: Recurrent, packing: Packing) -> NDArray[np.int64]:
    """Of each packed row as ``cell`` saw it, the step of the sequence, counted from its start."""
    if cell.suffix.endswith("_reverse"):
        return packing.lags
    return packing.steps
