"""Where the gates of PyTorch's cells stand in the arrays of other frameworks, and both ways there.

PyTorch stacks the gates as rows: ``weight_ih (G H, D)``, ``weight_hh (G H, H)`` and two biases
``(G H,)``. The others multiply from the right, so theirs are kernels ``(D, G H)`` with the gates as
columns, in another order, or a kernel for each gate. A :class:`Place` says where one gate is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short

Array = NDArray[Any]
#: The tensors of a cell, in PyTorch's order.
TENSORS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
#: The gates of each cell, in PyTorch's order.
GATES = {"elman": ("h",), "gru": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}


@dataclass(frozen=True)
class Place:
    """Column block ``block`` of ``blocks`` of an array, of its row ``row`` if not None."""

    name: str
    block: int = 0
    blocks: int = 1
    row: int | None = None

    def of(self, arrays: Mapping[str, Array]) -> Array:
        """A view of the gate's part, its columns last."""
        array = arrays[self.name]
        vector = array if self.row is None else array[self.row]
        size = vector.shape[-1] // self.blocks
        return vector[..., self.block * size : (self.block + 1) * size]


Places = tuple[Place | None, ...]


def fused(name: str, order: str, gates: tuple[str, ...], row: int | None = None) -> Places:
    """Places in one array whose column blocks are the gates in the framework's ``order``."""
    return tuple(Place(name, order.index(gate), len(order), row) for gate in gates)


def split(pattern: str, *names: str | None) -> Places:
    """Places in an array for each gate; None for a gate that has none."""
    return tuple(None if name is None else Place(pattern.format(name)) for name in names)


@dataclass(frozen=True)
class Row:
    """A row of the table: what of which framework, and in words what happens to it."""

    framework: str
    classes: tuple[str, ...]
    gates: str
    biases: str
    traps: str = ""


@dataclass(frozen=True)
class CellRow(Row):
    """A cell: the places of its gates, in PyTorch's order, in each of PyTorch's four tensors.

    A gate whose bias has a place on one side only has the sum of PyTorch's two there. With
    ``without_biases`` the framework's cell may have none at all, which are zeros.
    """

    cell: str = "elman"
    reset: str | None = None
    weight_ih: Places = ()
    weight_hh: Places = ()
    bias_ih: Places = ()
    bias_hh: Places = ()
    without_biases: bool = False

    def places(self, tensor: str) -> Places:
        """Of one of :data:`TENSORS`."""
        found: Places = getattr(self, tensor)
        return found

    @property
    def names(self) -> frozenset[str]:
        """The names of the framework's arrays."""
        return frozenset(p.name for t in TENSORS for p in self.places(t) if p is not None)

    @property
    def bias_names(self) -> frozenset[str]:
        """Those that are biases."""
        return frozenset(p.name for t in TENSORS[2:] for p in self.places(t) if p is not None)


def to_torch(row: CellRow, arrays: Mapping[str, Array], where: str) -> dict[str, Array]:
    """PyTorch's four tensors of a cell; ``where`` names it in errors.

    Raises :class:`InputError` for arrays that are missing, unknown or misshapen.
    """
    _require_arrays(row, arrays, where)
    made = {
        tensor: np.concatenate([place.of(arrays).T for place in row.places(tensor) if place])
        for tensor in TENSORS[:2]
    }
    none = np.zeros(made["weight_hh"].shape[1], made["weight_hh"].dtype)
    for tensor in TENSORS[2:]:
        found = [p.of(arrays) if p and p.name in arrays else none for p in row.places(tensor)]
        made[tensor] = np.concatenate(found)
    return made


def from_torch(row: CellRow, cell: Mapping[str, Array], where: str) -> dict[str, Array]:
    """Undo :func:`to_torch`: the framework's arrays of PyTorch's four tensors.

    Raises :class:`InputError` where a bias has no place there and is not zero.
    """
    hidden = cell["weight_hh"].shape[1]
    made = {
        name: np.zeros(shape, cell["weight_hh"].dtype)
        for name, shape in _shapes(row, cell["weight_ih"].shape[1], hidden).items()
    }
    of_gate = {
        tensor: [cell[tensor][start : start + hidden] for start in range(0, len(value), hidden)]
        for tensor, value in cell.items()
    }
    for number, gate in enumerate(GATES[row.cell]):
        for tensor in TENSORS[:2]:
            place = row.places(tensor)[number]
            assert place is not None
            place.of(made)[...] = of_gate[tensor][number].T
        b_ih, b_hh = (of_gate[tensor][number] for tensor in TENSORS[2:])
        of_ih, of_hh = row.bias_ih[number], row.bias_hh[number]
        if of_ih and of_hh:
            of_ih.of(made)[...], of_hh.of(made)[...] = b_ih, b_hh
            continue
        if row.reset == "after" and gate == "n" and b_hh.any():
            raise InputError(
                f"{where}: b_hn is not zero, and {row.framework}'s {row.classes[0]} has none: its "
                "reset gate multiplies W_hn h alone"
            )
        place = of_ih or of_hh
        assert place is not None
        place.of(made)[...] = b_ih + b_hh
    return made


def _shapes(row: CellRow, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The shape of each of the framework's arrays, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor, rows in zip(TENSORS, (inputs, hidden, None, None), strict=True):
        for place in filter(None, row.places(tensor)):
            width = (place.blocks * hidden,)
            first = rows if place.row is None else 2
            shapes[place.name] = width if first is None else (first, *width)
    return shapes


def _require_arrays(row: CellRow, arrays: Mapping[str, Array], where: str) -> None:
    missing = row.names - arrays.keys()
    if row.without_biases and missing == row.bias_names:
        missing = frozenset()
    for name in sorted(missing):
        raise InputError(f"{where}: array {name!r} is missing")
    for name in sorted(arrays.keys() - row.names):
        raise InputError(f"{where}: array {short(name)} is none of {row.classes[0]}'s")
    inside, recurrent = row.weight_ih[0], row.weight_hh[0]
    assert inside is not None
    assert recurrent is not None
    for name in (inside.name, recurrent.name):
        if arrays[name].ndim != 2 or 0 in arrays[name].shape:
            raise InputError(f"{where}: {name!r} has shape {arrays[name].shape}, not two axes")
    expected = _shapes(row, len(arrays[inside.name]), len(arrays[recurrent.name]))
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise InputError(
                f"{where}: {name!r} has shape {array.shape}; that of {row.classes[0]} with "
                f"{len(arrays[recurrent.name])} units has {expected[name]}"
            )
