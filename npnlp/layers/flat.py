"""One contiguous buffer for all parameters of a model, and one for all their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.layers.base import Layer

#: What a copy makes anew.
BUFFERS = ("values", "grads", "ends")


class FlatParameters:
    """Makes the parameters of several layers, and their gradients, views into two buffers.

    The optimizer, the global norm, clipping and checkpoints then work on ``values`` and ``grads``
    as one array each. ``parameters`` and ``views_of_grads`` hold the views by full name,
    ``"prefix.parameter"`` or, where the prefix is empty, ``"parameter"``; ``ends`` are the indices
    that the views end at. A copy, by pickle too, has buffers of its own that its layers view.

    Of a large table a batch may read few rows: ``rows``, by the name of the table, and :meth:`read`
    sets them. Its gradient is zero elsewhere.
    """

    values: Array
    grads: Array
    ends: NDArray[np.int64]

    def __init__(
        self, layers: Mapping[str, Layer] | Sequence[tuple[str, Layer]], backend: Backend
    ) -> None:
        pairs = layers.items() if isinstance(layers, Mapping) else layers
        self._backend = backend
        #: The owners of each parameter: its name here, its layer's two dicts, its name there.
        self._owners = [
            (f"{prefix}.{name}" if prefix else name, layer.parameters, layer.grads, name)
            for prefix, layer in pairs
            for name in layer.parameters
        ]
        self.parameters: dict[str, Array] = {}
        self.views_of_grads: dict[str, Array] = {}
        self.rows: Mapping[str, Array] = {}
        self._make_views()

    def _make_views(self) -> None:
        """Copy the owners' arrays into new buffers, and give them views in exchange."""
        sizes = [owner[name].size for _, owner, _, name in self._owners]
        _, first, _, named = self._owners[0]
        self.values, self.grads = (
            self._backend.zeros((sum(sizes),), first[named].dtype) for _ in range(2)
        )
        self.ends = np.cumsum(sizes)
        for (full_name, values, grads, name), end, size in zip(
            self._owners, self.ends.tolist(), sizes, strict=True
        ):
            for buffer, owner, views in (
                (self.values, values, self.parameters),
                (self.grads, grads, self.views_of_grads),
            ):
                view = buffer[end - size : end].reshape(owner[name].shape)
                view[...] = owner[name]
                owner[name] = views[full_name] = view

    @contextmanager
    def read(self, rows: Mapping[str, Array]) -> Iterator[None]:
        """Inside, a batch reads these ``rows`` alone of the tables that are named, no row twice."""
        self.rows = rows
        try:
            yield
        finally:
            self.rows = {}

    def zero_grads(self) -> None:
        """Set all gradients to zero; of tables, those of ``rows``."""
        if not self.rows:
            self.grads.fill(0)
            return
        for name, grad in self.views_of_grads.items():
            grad[self.rows.get(name, slice(None))] = 0

    def taken(self, views: Mapping[str, Array]) -> dict[str, Array]:
        """``views``, of the parameters or their gradients; of tables, copies of ``rows``."""
        rows = self.rows
        return {n: v.take(rows[n], axis=0) if n in rows else v for n, v in views.items()}

    def __copy__(self) -> Self:
        """The same buffers and views: the owners cannot have two."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """All but the buffers: the owners' arrays hold the same numbers."""
        return {name: value for name, value in vars(self).items() if name not in BUFFERS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_views()
