"""A layer made of sub-layers: it has their parameters and gradients, under longer names."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, Self, TypeVar, Unpack

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.layers.base import Layer, LayerOptions

SubLayer = TypeVar("SubLayer", bound=Layer)


class Linked(dict[str, Array]):
    """Arrays by name; setting one that belongs to a sub-layer sets it in the sub-layer too.

    So :class:`npnlp.layers.FlatParameters` can replace a composite's parameters by its views.
    Set them one at a time (``linked[name] = view``): ``update`` would not reach the sub-layers.
    """

    _owners: dict[str, tuple[dict[str, Array], str]]

    def __new__(cls, *args: Any) -> Self:
        """One without owners: unpickling sets the arrays before it sets the attributes."""
        made = super().__new__(cls)
        made._owners = {}
        return made

    def link(self, name: str, owner: dict[str, Array], key: str) -> None:
        """Make ``name`` another name of ``owner[key]``."""
        super().__setitem__(name, owner[key])
        self._owners[name] = owner, key

    def __setitem__(self, name: str, value: Array) -> None:
        super().__setitem__(name, value)
        if name in self._owners:
            owner, key = self._owners[name]
            owner[key] = value


class Composite(Layer):
    """A layer that computes with sub-layers; a subclass adds them and calls them.

    The parameter ``weight`` of a sub-layer added as ``"linear1"`` is ``linear1.weight`` here, the
    same array. :meth:`Layer.add_parameter` adds parameters of the composite itself.
    """

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.parameters = Linked()
        self.grads = Linked()
        self.sublayers: list[tuple[str, Layer]] = []

    def options_of(self, name: str) -> LayerOptions:
        """The options of a sub-layer called ``name``, with a random stream of its own."""
        return {"backend": self.backend, "dtype": self.dtype, "random": self.random.child(name)}

    def add_layer(self, prefix: str, layer: SubLayer) -> SubLayer:
        """Add ``layer`` and return it.

        With an empty ``prefix`` its parameters keep their names. Raises :class:`InputError` where
        a name is taken.
        """
        taken = [name for name in _full_names(prefix, layer) if name in self.parameters]
        if taken:
            raise InputError(f"parameter {taken[0]} is there already; choose another prefix")
        self.sublayers.append((prefix, layer))
        self._link(prefix, layer)
        return layer

    def astype(self, dtype: Any) -> Self:
        """A copy with copies of all sub-layers, also in attributes and lists that hold them."""
        # deepcopy takes from the memo, by id, what replaces an object: its copy in ``dtype``.
        twins = {id(layer): layer.astype(dtype) for _, layer in self.sublayers}
        memo: dict[int, Any] = dict(twins)
        twin = super().astype(dtype)
        common = {"backend", "dtype", "random", "parameters", "grads"}
        for name in vars(self).keys() - common:
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        twin.parameters, twin.grads = Linked(twin.parameters), Linked(twin.grads)
        for prefix, layer in twin.sublayers:
            twin._link(prefix, layer)
        return twin

    def _settings(self) -> list[str]:
        kinds = Counter(type(layer).__name__ for _, layer in self.sublayers)
        return [*super()._settings(), *(f"{count} {kind}" for kind, count in kinds.items())]

    def _link(self, prefix: str, layer: Layer) -> None:
        for full_name, name in _full_names(prefix, layer).items():
            for ours, theirs in ((self.parameters, layer.parameters), (self.grads, layer.grads)):
                assert isinstance(ours, Linked)
                ours.link(full_name, theirs, name)


def _full_names(prefix: str, layer: Layer) -> dict[str, str]:
    """The name of each parameter of ``layer`` in the composite, and in the layer."""
    return {f"{prefix}.{name}" if prefix else name: name for name in layer.parameters}
