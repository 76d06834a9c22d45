"""Parameters of Flax by path: which are the embedding, the cells and the linear layers.

    linen  ('params', 'rnn_0', 'cell', 'ir', 'kernel')
    nnx    ('rnn', '0', 'cell', 'dense_i', 'kernel')

A module is known by the names inside it, whatever it is called; the order of several follows from
the numbers in their names. A ``Bidirectional`` names its two cells ``forward_rnn`` and
``backward_rnn``, but where linen creates them in a compact method they are numbered as any others:
then shapes have to tell one model from two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from npnlp.errors import InputError, short
from npnlp.exchange.frameworks.cells import Array, CellRow
from npnlp.exchange.frameworks.flax_msgpack import Tree
from npnlp.exchange.frameworks.parts import Arrays, Found, Parts, state_of
from npnlp.exchange.frameworks.table import CELLS
from npnlp.exchange.prefixes import listed

Path = tuple[str, ...]
#: State of random numbers, which is no weight.
RANDOM = "rngs"
ROWS = tuple(row for row in CELLS if row.framework != "Keras")
#: Names of the last part of a path by which a tree is known to be Flax's.
LEAVES = ("kernel", "embedding")
FORWARD, BACKWARD = "forward_rnn", "backward_rnn"


def flax_paths(names: Iterable[str]) -> dict[str, Path] | None:
    """The paths that flat names of a safetensors file stand for, ``.`` or ``/`` between the parts.

    None where they are not Flax's.
    """
    for mark in "./":
        if any(name.split(mark)[-1] in LEAVES and mark in name for name in names):
            return {name: tuple(name.split(mark)) for name in names}
    return None


def flax_found(tree: Tree, poolings: int = 1) -> Found:
    """What the parameters of a model are; ``poolings`` is how many are beside each other.

    Raises :class:`InputError` for parameters that belong to no module of the table, and for an
    order that names and shapes do not say.
    """
    weights = _weights(tree)
    row, cells = _cells(weights)
    rest = {path: each for path, each in weights.items()
            if not any(path[: len(at)] == at for at in cells)}  # fmt: skip
    embeddings = [path for path in rest if path[-1] == "embedding"]
    linear = sorted({path[:-1] for path in rest if path[-1] == "kernel"}, key=_natural)
    known = {*embeddings, *((*at, leaf) for at in linear for leaf in ("kernel", "bias"))}
    for path in sorted(set(rest) - known):
        raise InputError(f"parameter {short('.'.join(path))} belongs to no module that is known "
                         f"here: embeddings, linear layers, and cells of linen and nnx"
                         )  # fmt: skip
    for what, found, most in (("embeddings", embeddings, 1), ("linear layers", linear, 2)):
        if not 1 <= len(found) <= most:
            there = listed(".".join(path) for path in found)
            raise InputError(f"{len(found)} {what} ({there}); a model here has {most} at most, "
                             "and one at least")  # fmt: skip
    embedding = rest[embeddings[0]]
    _require_axes(embedding, embeddings[0])
    layers, width = _layers(cells, row, embedding, [rest[(*at, "kernel")] for at in linear],
                            poolings)  # fmt: skip
    linear = _in_order(linear, rest, width * poolings)
    parts = Parts(
        row, embedding, [[cells[at] for at in layer] for layer in layers],
        [_linear(rest, at) for at in linear],
    )  # fmt: skip
    names = [".".join(layer[0]) for layer in layers]
    return Found(
        state_of(parts, names),
        {"reset": row.reset} if row.reset else {},
        notes=[f"{row.framework} {row.classes[0]} from {', '.join(names)}",
               f"linear layers from {', '.join('.'.join(at) for at in linear)}"],
    )  # fmt: skip


def _weights(tree: Tree) -> Tree:
    """Without ``params`` above all, and without the state of random numbers."""
    kept = {path: array for path, array in tree.items() if RANDOM not in path}
    if kept and all(path[0] == "params" for path in kept):
        kept = {path[1:]: array for path, array in kept.items()}
    for path in kept:
        if not path:
            raise InputError("params is an array, not a table of modules")
    return kept


def _cells(weights: Tree) -> tuple[CellRow, dict[Path, Arrays]]:
    """The cells by their paths, all of one row of the table."""
    inside: dict[Path, Arrays] = {}
    for path, array in weights.items():
        if len(path) >= 2:
            inside.setdefault(path[:-2], {})[".".join(path[-2:])] = array
    cells: dict[Path, Arrays] = {}
    rows: dict[Path, CellRow] = {}
    for at, arrays in inside.items():
        row = next((row for row in ROWS if row.names == arrays.keys() and _fits(row, arrays)), None)
        if row is not None:
            cells[at], rows[at] = arrays, row
    if not cells:
        raise InputError(
            f"no cell of linen or nnx among the parameters: {listed('.'.join(p) for p in weights)}"
        )
    kinds = {row.cell: row for row in rows.values()}
    if len(kinds) > 1 or len({row.framework for row in rows.values()}) > 1:
        raise InputError(f"cells of several kinds ({', '.join(sorted(kinds))}); a model has one")
    return next(iter(rows.values())), dict(
        sorted(cells.items(), key=lambda item: _natural(item[0]))
    )


def _fits(row: CellRow, arrays: Arrays) -> bool:
    """Whether the kernel of the hidden side has as many blocks as the row says."""
    place = row.weight_hh[0]
    assert place is not None
    kernel = arrays[place.name]
    return kernel.ndim == 2 and kernel.shape[1] == place.blocks * kernel.shape[0]


def _layers(
    cells: dict[Path, Arrays], row: CellRow, embedding: Array, kernels: list[Array], poolings: int
) -> tuple[list[list[Path]], int]:
    """The paths of the cells of each layer, and the width of the states of the last layer."""
    paths = list(cells)
    named = [path for path in paths if FORWARD in path or BACKWARD in path]
    if named and len(named) < len(paths):
        raise InputError(
            "some recurrent layers are bidirectional and some are not; a model has one kind"
        )
    names = listed(".".join(path) for path in paths)
    stems = [_stem(path) for path in paths]
    if (len(set(stems)) > 1 and not named) or len({_one_way(s) for s in stems}) > 1:
        raise InputError(f"which of {names} comes first is not "
                         "said; number their names")  # fmt: skip
    kernel, recurrent = row.weight_ih[0], row.weight_hh[0]
    assert kernel is not None
    assert recurrent is not None
    inputs = [cells[path][kernel.name].shape[0] for path in paths]
    hidden = cells[paths[0]][recurrent.name].shape[0]
    if named:
        return _pairs(paths), 2 * hidden
    firsts = [k.shape[0] for k in kernels if k.ndim]
    fitting = []
    for directions in (1, 2):
        count, rest = divmod(len(paths), directions)
        expected = [embedding.shape[1]] * directions + [directions * hidden] * (
            directions * (count - 1)
        )
        if not rest and inputs == expected and directions * hidden * poolings in firsts:
            fitting.append(directions)
    if len(fitting) != 1:
        why = "fit each other in no way" if not fitting else (
            "fit one direction and both; name the cells in a setup method"
        )  # fmt: skip
        raise InputError(
            f"the shapes of {names} and of the linear layers {why}"
            f" (with {poolings} pooling{'s' if poolings > 1 else ''})"
        )
    step = fitting[0]
    return [paths[k : k + step] for k in range(0, len(paths), step)], step * hidden


def _pairs(paths: list[Path]) -> list[list[Path]]:
    """Each forward cell with the backward cell of its module."""
    forward = [path for path in paths if FORWARD in path]
    other = [tuple(BACKWARD if part == FORWARD else part for part in path) for path in forward]
    if set(other) != set(paths) - set(forward):
        raise InputError("a forward_rnn without its backward_rnn, or the other way round")
    return [[one, two] for one, two in zip(forward, other, strict=True)]


def _in_order(linear: list[Path], rest: Tree, features: int) -> list[Path]:
    """The hidden layer first; raises :class:`InputError` where names and shapes do not say."""
    for at in linear:
        _require_axes(rest[(*at, "kernel")], (*at, "kernel"))
    if len(linear) < 2:
        return linear
    shapes = {at: rest[(*at, "kernel")].shape for at in linear}
    orders = [order for order in (linear, linear[::-1])
              if shapes[order[0]] == (features, shapes[order[1]][0])]  # fmt: skip
    if len(orders) == 2 and _stem(linear[0]) != _stem(linear[1]):
        raise InputError(f"which of {'.'.join(linear[0])} and {'.'.join(linear[1])} comes first is "
                         "not said; call them fc1 and fc2")  # fmt: skip
    if not orders:
        raise InputError(
            f"linear layers {short(list(shapes.values()))} after {features} features; with several "
            "poolings, name them with --pooling"
        )
    return orders[0]


def _linear(rest: Tree, at: Path) -> tuple[Array, Array]:
    kernel = rest[(*at, "kernel")]
    return kernel, rest.get((*at, "bias"), np.zeros(kernel.shape[1], kernel.dtype))


def _require_axes(array: Array, path: Path) -> None:
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"parameter {short('.'.join(path))} has shape {array.shape}; it has to "
                         "have two axes, none empty")  # fmt: skip


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts 2 before 10."""
    parts = re.split(r"(\d+)", ".".join(path))
    return [(int(part[:18]), "") if part.isdecimal() else (-1, part) for part in parts]


def _stem(path: Path) -> str:
    return re.sub(r"\d+", "#", ".".join(path))


def _one_way(stem: str) -> str:
    return stem.replace(BACKWARD, FORWARD)
