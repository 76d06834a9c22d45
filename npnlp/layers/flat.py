"""One contiguous buffer for all parameters of a model, and one for all their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npnlp.backend import Array, Backend
from npnlp.layers.base import Layer


class FlatParameters:
    """Makes the parameters of several layers, and their gradients, views into two buffers.

    The optimizer, the global norm, clipping and checkpoints then work on ``values`` and ``grads``
    as one array each. ``parameters`` and ``views_of_grads`` hold the views by full name,
    ``"prefix.parameter"`` or, where the prefix is empty, ``"parameter"``; ``ends`` are the indices
    that the views end at.
    """

    values: Array
    grads: Array

    def __init__(
        self, layers: Mapping[str, Layer] | Sequence[tuple[str, Layer]], backend: Backend
    ) -> None:
        pairs = layers.items() if isinstance(layers, Mapping) else layers
        named = [
            (f"{prefix}.{name}" if prefix else name, layer, name)
            for prefix, layer in pairs
            for name in layer.parameters
        ]
        total = sum(layer.parameters[name].size for _, layer, name in named)
        dtype = named[0][1].dtype
        self.values = backend.zeros((total,), dtype)
        self.grads = backend.zeros((total,), dtype)
        self.parameters: dict[str, Array] = {}
        self.views_of_grads: dict[str, Array] = {}
        start = 0
        for full_name, layer, name in named:
            value = layer.parameters[name]
            end = start + value.size
            view = self.values[start:end].reshape(value.shape)
            view[...] = value
            layer.parameters[name] = self.parameters[full_name] = view
            layer.grads[name] = self.grads[start:end].reshape(value.shape)
            self.views_of_grads[full_name] = layer.grads[name]
            start = end
        self.ends = np.cumsum([value.size for value in self.parameters.values()])
