"""A step of training repeated: every array in it is checked, in the order of computation.

The model itself is run. In the place of each of its layers stands a :class:`_Tap`, which notes what
the layer is given and what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.diagnosis.replay import Rebuilt
from npnlp.layers import Layer, Packing
from npnlp.layers.recurrent.cell import Cell
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.stack import StackCache
from npnlp.training.clipping import clip_grad_norm, squared_norms
from npnlp.training.step_record import Replay

#: In which order the layers' backward passes add into the gradients of their parameters.
BACKWARD = ("weight_hh", "bias_ih", "bias_hh", "weight_ih", "bias", "weight")


@dataclass(frozen=True)
class ArrayCheck:
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


def check_step(replay: Replay, backend: Backend) -> list[ArrayCheck]:
    """Check every array of the step, in the order of computation; on ``val``, up to the loss."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _Repetition(replay, backend).checks


def _backward_order(name: str) -> int:
    kind = name.partition("_l")[0]
    return BACKWARD.index(kind) if kind in BACKWARD else len(BACKWARD)


class _Repetition:
    """Takes the step, and notes all its arrays in ``checks``."""

    def __init__(self, replay: Replay, backend: Backend) -> None:
        self.checks: list[ArrayCheck] = []
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
        if parts.objective is not None:
            parts.objective.in_layers = True
            for name in ("loss", "divergence"):
                setattr(parts.objective, name, _LossTap(getattr(parts.objective, name), self))
            assert parts.random is not None
            parts.objective(model, batch, parts.random, None)
        else:
            criterion = _LossTap(parts.criterion, self)
            logits, cache = model.run(**batch.inputs, random=parts.random)
            _, sums = criterion.run(logits, batch.targets)
            if replay.split != "train":
                return
            d_logits = criterion.undo(1.0, sums)
            model.zero_grads()
            model.undo(d_logits, cache)
        self.note_parameters("gradient", "emb", model.characters.emb.grads)
        squares = host(squared_norms(model.flat, backend))
        norm = clip_grad_norm(model.flat.grads, replay.training.clip_norm, backend)
        self.note("gradient norm", "all parameters", norm)
        if self.checks[-1].value:
            bad = [p for p, s in zip(model.parameters, squares, strict=True) if not np.isfinite(s)]
            self.checks[-1] = replace(self.checks[-1], parameter=bad[0] if bad else None)
        parts.optimizer.step()
        for name, value in model.parameters.items():
            self.note("update", name.partition(".")[0], value, name)

    def note(
        self,
        where: str,
        layer: str,
        array: Array,
        parameter: str | None = None,
        *,
        by_row: bool = False,
        packing: Packing | None = None,
        reverse: bool = False,
    ) -> ArrayCheck:
        """Add a check of an array.

        ``by_row``: its first axis are the sequences. ``packing``: they are the steps, and with
        ``reverse`` those of a layer that runs from the end.
        """
        host = np.atleast_1d(self.backend.to_numpy(array))
        check = ArrayCheck(where, layer, parameter, float(np.fmax.reduce(np.abs(host), axis=None)))
        bad = ~np.isfinite(host)
        if bad.any():
            first = np.flatnonzero(bad.reshape(len(host), -1).any(axis=1))
            if packing is not None and where == "gradient":  # of the last step first
                first = first[packing.steps[first] == packing.steps[first].max()]
            n = int(first[0])
            index = (n, *(int(i) for i in np.argwhere(bad[n])[0]))
            check = replace(check, value=str(host[index]), index=index if parameter else ())
            if packing is not None:
                steps = packing.lags if reverse else packing.steps
                check = replace(check, step=int(steps[n]), row=int(self.rows[packing.places[n]]))
            elif by_row:
                check = replace(check, row=int(self.rows[n]))
        self.checks.append(check)
        return check

    def note_parameters(self, where: str, layer: str, arrays: Mapping[str, Array]) -> None:
        """Add a check of each parameter, or of its gradient."""
        names = list(arrays) if where == "weight" else sorted(arrays, key=_backward_order)
        for name in names:
            self.note(where, layer, arrays[name], f"{layer}.{name}")

    def note_table(
        self, emb: Layer, used: NDArray[Any], steps: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> None:
        """Add the embedding table: of its bad rows, the one that the batch uses first."""
        table = emb.parameters["weight"]
        check = self.note("weight", "emb", table, "emb.weight")
        bad = ~np.isfinite(self.backend.to_numpy(table)).all(axis=1)
        uses = np.flatnonzero(bad[used])
        if len(uses):
            n = int(uses[0])
            row = self.backend.to_numpy(table)[used[n]]
            column = int(np.flatnonzero(~np.isfinite(row))[0])
            self.checks[-1] = replace(
                check, value=str(row[column]), index=(int(used[n]), column),
                step=int(steps[n]), row=int(rows[n]),
            )  # fmt: skip

    def note_first_uses(self, layer: str, packing: Packing) -> None:
        """Add to checks of recurrent weights the step at which they are first used."""
        for place, check in enumerate(self.checks):
            if (check.where, check.layer) == ("weight", layer) and check.value:
                step = int("weight_hh" in str(check.parameter))
                if step < len(packing.offsets):
                    row = int(self.rows[packing.places[packing.offsets[step]]])
                    self.checks[place] = replace(check, step=step, row=row)


class _LossTap:
    """Stands in for a loss of all rows: notes it, and the gradient of each row."""

    def __init__(self, layer: Any, notes: _Repetition) -> None:
        self._layer, self._notes = layer, notes

    def run(self, *inputs: Array) -> Any:
        """Note the loss; where it is not finite, with the row whose own loss is not."""
        loss, cache = self._layer.run(*inputs)
        notes = self._notes
        check = notes.note("loss", "loss", loss)
        for n, row in enumerate(notes.rows if check.value else ()):
            own, sums = self._layer.run(*(rows[n : n + 1] for rows in inputs))
            if not np.isfinite(float(getattr(sums, "loss_sum", own))):
                notes.checks[-1] = replace(check, row=int(row))
                break
        return loss, cache

    def undo(self, d_loss: Any, cache: Any) -> Any:
        """Note the gradient, or that of either pass."""
        d = self._layer.undo(d_loss, cache)
        for gradient in d if isinstance(d, tuple) else (d,):
            self._notes.note("gradient", "loss", gradient, by_row=True)
        return d


class _Tap:
    """Stands in for a layer: calls it, and notes what goes in and out."""

    def __init__(self, name: str, layer: Any, notes: _Repetition) -> None:
        self._name, self._layer, self._notes = name, layer, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def run(self, *inputs: Any, **options: Any) -> Any:
        """Note the parameters and what the layer returns."""
        layer, notes, name = self._layer, self._notes, self._name
        y, cache = layer.run(*inputs, **options)
        notes.note_parameters("weight", name, layer.parameters)
        if isinstance(cache, StackCache):
            notes.note_first_uses(name, cache.packing)
            for cells, caches in zip(layer.cells, cache.cells, strict=True):
                for cell, own in zip(cells, caches, strict=True):
                    self._note_steps("activation", cell, own.hidden, cache.packing)
        elif isinstance(y, tuple):
            notes.note("activation", name, y[0], packing=cache.packing)
        else:
            notes.note("activation", name, y, by_row=True)
        return y, cache

    def _note_steps(self, where: str, cell: Cell, array: Array, packing: Packing) -> None:
        """Note an array of all steps of ``cell``: of ``rnn``, or of ``rnn.l1_reverse``."""
        single = len(self._layer.cells) == self._layer.directions == 1
        name = self._name if single else f"{self._name}.{cell.suffix[1:]}"
        reverse = cell.suffix.endswith("_reverse")
        self._notes.note(where, name, array, packing=packing, reverse=reverse)

    def undo(self, dy: Any, cache: Any, probe: None = None) -> Any:
        """Note the gradients that the layer adds and returns."""
        layer, notes, name = self._layer, self._notes, self._name

        def show(trace: Any) -> None:
            if isinstance(trace, RecurrentTrace):
                self._note_steps("gradient", trace.layer, trace.delta, cache.packing)
            else:
                block = f"{name}.l{trace.layer}"
                notes.note("gradient", block, trace.d_heads, packing=cache.packing)

        d = layer.undo(dy, cache, show) if name == "rnn" else layer.undo(dy, cache)
        notes.note_parameters("gradient", name, layer.grads)
        if name not in ("rnn", "pool", "ngrams"):
            notes.note("gradient", name, d, by_row=True)
        return d
