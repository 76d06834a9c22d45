"""Stacked and bidirectional recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Unpack

from npnlp.backend import Array, Random
from npnlp.backend.operations import LookedUp, Rows
from npnlp.checks import require_whole
from npnlp.errors import InputError, require_known
from npnlp.layers.arguments import require_cache, require_outputs, require_packing, require_random
from npnlp.layers.base import LayerOptions
from npnlp.layers.composite import Composite
from npnlp.layers.dropout import Dropout, VariationalDropout
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.cells import CELLS
from npnlp.layers.recurrent.memory import RecurrentCache, RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.summary import summarized


@summarized
class StackCache(NamedTuple):
    """For each layer, the first one first: the caches of its directions, and of its dropout."""

    cells: list[list[RecurrentCache]]
    dropouts: list[Any]
    packing: Packing

    @property
    def nbytes(self) -> int:
        """Bytes that the recurrent layers hold for backward."""
        return sum(cache.nbytes for layer in self.cells for cache in layer)


class RecurrentStack(Composite):
    """``num_layers`` recurrent layers, in one or both directions.

        (1) x_k = dropout(y_{k-1})                  between the layers; x_0 is the input
        (2) y_k = [cell(x_k), reverse(cell'(reverse(x_k)))]    the second with ``bidirectional``

    ``reverse`` reverses each sequence within its own length. Parameters have PyTorch's names,
    ``weight_ih_l0``, ``weight_ih_l0_reverse``, ``weight_ih_l1``, ...; ``cell_options`` go to every
    cell. With ``variational`` the mask of (1) is the same at all steps of a sequence (Gal and
    Ghahramani, 2016). Source: Schuster and Paliwal, "Bidirectional recurrent neural networks",
    1997. Raises :class:`InputError` for a cell that is not known or fewer than one layer.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        variational: bool = False,
        cell_options: Mapping[str, Any] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        require_known("cell", cell, CELLS)
        for name, size in (("num_layers", num_layers), ("hidden_size", hidden_size)):
            require_whole(name, size)
        suffixes = ("", "_reverse") if bidirectional else ("",)
        self.directions, self.hidden_size = len(suffixes), hidden_size
        self.features = self.directions * hidden_size
        self.cells = [
            [
                self.add_layer("", CELLS[cell](
                    self.features if k else input_size, hidden_size, suffix=f"_l{k}{suffix}",
                    backend=self.backend, dtype=self.dtype, random=self.random,
                    **(cell_options or {}),
                ))
                for suffix in suffixes
            ]
            for k in range(num_layers)
        ]  # fmt: skip
        #: The cell if there is only one: then nothing has to be concatenated.
        self.alone = self.cells[0][0] if len(self.all_cells) == 1 else None
        of_dropout = self.options_of("dropout")
        self.variational = variational
        between = VariationalDropout if variational else Dropout
        self.dropout: Any = self.add_layer("dropout", between(dropout, **of_dropout))

    @property
    def all_cells(self) -> list[Recurrent]:
        """The cells of all layers and directions, in the order of ``h_n``."""
        return [cell for layer in self.cells for cell in layer]

    def forward(
        self,
        x: Rows,
        *initial: Array | None,
        packing: Packing,
        random: Random | None = None,
        every: bool = True,
    ) -> tuple[tuple[Any, ...], StackCache]:
        """The states of the last layer, and the last states of all: ``((N, F), (K, B, H), ...)``.

        F is ``directions * H`` and K ``num_layers * directions``, in PyTorch's order; ``initial``
        are ``(K, B, H)`` too. ``x`` is as for :meth:`Recurrent.forward`; ``random`` is
        the stream of the dropout masks, without it nothing is dropped. Without ``every`` the states
        of the last layer may be left out: there is then None in their place.
        """
        if self.alone is not None:
            first = [None if state is None else state[0] for state in initial]
            (x, *last), of_cell = self.alone.run(x, *first, packing=packing, whole=False)
            return (x, *[state[None] for state in last]), StackCache([[of_cell]], [], packing)
        given = [state for state in initial if state is not None]
        caches: list[list[RecurrentCache]] = []
        dropouts: list[Any] = []
        lasts: list[tuple[Array, ...]] = []
        for k, layer in enumerate(self.cells):
            if k:
                x, dropped = self._drop(x, k, packing, random)  # (1)
                dropouts.append(dropped)
            outputs, of_layer = [], []
            for cell, turn in zip(layer, (_same, packing.reverse), strict=False):
                first = [state[len(lasts)] for state in given]
                (hidden, *last), cache = cell.run(
                    _turned(x, turn), *first, packing=packing, whole=False
                )  # (2)
                if every or k + 1 < len(self.cells):
                    outputs.append(turn(hidden))
                of_layer.append(cache)
                lasts.append(tuple(last))
            x = self._beside(outputs)
            caches.append(of_layer)
        stack = self.backend.xp.stack
        finals = (stack(states) for states in zip(*lasts, strict=True))
        return (x, *finals), StackCache(caches, dropouts, packing)

    def backward(
        self,
        dy: tuple[Array | None, ...],
        cache: StackCache,
        probe: Callable[[RecurrentTrace], None] | None = None,
    ) -> tuple[Any, ...]:
        """``(dL/dx, dL/d initial, ...)``; ``dy`` and the results are as in forward, or None.

        ``probe`` is called for every cell, those of the last layer first.
        """
        if self.alone is not None:
            d, *d_n = dy
            d_of = [None if state is None else state[0] for state in d_n]
            d, *d_first = self.alone.undo((d, *d_of), cache.cells[0][0], probe)
            return (d, *[None if state is None else state[None] for state in d_first])
        d, *d_lasts = dy
        packing, size = cache.packing, self.hidden_size
        d_initial: list[tuple[Any, ...]] = []
        for k in range(len(self.cells) - 1, -1, -1):
            d_x: Any = None
            for direction in range(self.directions - 1, -1, -1):
                turn = packing.reverse if direction else _same
                place = k * self.directions + direction
                columns = slice(direction * size, (direction + 1) * size)
                d_hidden = None if d is None else turn(d[:, columns])
                d_last = (None if state is None else state[place] for state in d_lasts)
                d_turned, *d_first = self.cells[k][direction].undo(
                    (d_hidden, *d_last), cache.cells[k][direction], probe
                )  # undoes (2)
                if not isinstance(cache.cells[k][direction].x, LookedUp):
                    d_turned = turn(d_turned)
                d_x = d_turned if d_x is None else d_x + d_turned
                d_initial.insert(0, tuple(d_first))
            d = self.dropout.undo(d_x, cache.dropouts[k - 1]) if k else d_x  # undoes (1)
        if d_initial[0][0] is None:
            return (d, *(None for _ in d_initial[0]))
        stack = self.backend.xp.stack
        return (d, *(stack(states) for states in zip(*d_initial, strict=True)))

    def top(self, h_n: Array) -> Array:
        """The last states of the last layer, both directions concatenated ``(B, F)``."""
        if self.directions == 1:
            last: Array = h_n[-1]
            return last
        return self.backend.xp.concatenate([h_n[-2], h_n[-1]], axis=1)  # type: ignore[no-any-return]

    def top_backward(self, d: Array) -> Array:
        """``dL/dh_n (K, B, H)`` from that of :meth:`top`, zero for the layers below."""
        places = len(self.cells) * self.directions
        if places == 1:
            return d[None]
        d_n = self.backend.zeros((places, len(d), self.hidden_size), d.dtype)
        for direction in range(self.directions):
            columns = slice(direction * self.hidden_size, (direction + 1) * self.hidden_size)
            d_n[places - self.directions + direction] = d[:, columns]
        return d_n

    def check_forward(
        self, x: Rows, *initial: Array | None, packing: Packing, random: Random | None = None,
        every: bool = True,
    ) -> None:  # fmt: skip
        """See :class:`Layer`."""
        require_random(random)
        require_packing(packing)
        self._expect_states("initial[{}]", initial, packing)
        first = [None if state is None else state[0] for state in initial]
        self.all_cells[0].check_forward(x, *first, packing=packing)

    def check_backward(
        self, dy: tuple[Array | None, ...], cache: StackCache, probe: Any = None
    ) -> None:
        """See :class:`Layer`."""
        require_cache(cache, StackCache)
        require_outputs(dy, 1 + len(self.all_cells[0].states))
        if [len(layer) for layer in cache.cells] != [len(layer) for layer in self.cells]:
            raise InputError("cache is of a stack of other layers; give that of this stack")
        if dy[0] is not None:
            self.expect("dy[0]", dy[0], cache.packing.rows, self.features)
        self._expect_states("dy[{}]", dy[1:], cache.packing, 1)
        caches = [own for layer in cache.cells for own in layer]
        for cell, own in zip(self.all_cells, caches, strict=True):
            cell.check_backward((None,), own)

    def _expect_states(self, name: str, states: Any, packing: Packing, first: int = 0) -> None:
        """Raise :class:`InputError` unless each is ``(K, B, H)`` or None."""
        shape = len(self.cells) * self.directions, len(packing.lengths), self.hidden_size
        for place, state in enumerate(states, first):
            if state is not None:
                self.expect(name.format(place), state, *shape)

    def _drop(
        self, x: Any, k: int, packing: Packing, random: Random | None
    ) -> tuple[Array, Any]:  # fmt: skip
        stream = random and random.child(f"layer{k}")
        if self.variational:
            return self.dropout.run(x, stream, packing=packing)  # type: ignore[no-any-return]
        return self.dropout.run(x, stream)  # type: ignore[no-any-return]

    def _beside(self, outputs: list[Array]) -> Any:
        if len(outputs) < 2:
            return outputs[0] if outputs else None
        return self.backend.xp.concatenate(outputs, axis=1)


def _same(x: Array) -> Array:
    return x


def _turned(x: Rows, turn: Callable[[Array], Array]) -> Rows:
    """``x`` reordered by ``turn``: its rows, or the tokens of a :class:`LookedUp`."""
    return LookedUp(x.table, turn(x.tokens)) if isinstance(x, LookedUp) else turn(x)
