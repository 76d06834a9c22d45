"""Layers with forward and backward side by side. One file a layer.

Every layer has ``forward(...) -> (y, cache)`` and ``backward(dy, cache) -> dx``; it keeps nothing
between the two calls. Gradients of parameters are added into ``layer.grads``, by name.

Sizes, everywhere: ``T`` steps, ``B`` batch, ``D`` input features, ``H`` hidden, ``V`` vocabulary,
``C`` classes, ``N`` packed rows (the sum of all lengths).
"""

from npnlp.layers.activation import ReLU
from npnlp.layers.base import Layer, LayerOptions
from npnlp.layers.cells import CELLS
from npnlp.layers.dropout import Dropout
from npnlp.layers.elman import Elman
from npnlp.layers.embedding import Embedding
from npnlp.layers.flat import FlatParameters
from npnlp.layers.linear import Linear
from npnlp.layers.loss import MeanSquaredError, SoftmaxCrossEntropy, softmax
from npnlp.layers.packing import Packing, pack_padded_sequence, pad_packed_sequence

__all__ = [
    "CELLS",
    "Dropout",
    "Elman",
    "Embedding",
    "FlatParameters",
    "Layer",
    "LayerOptions",
    "Linear",
    "MeanSquaredError",
    "Packing",
    "ReLU",
    "SoftmaxCrossEntropy",
    "pack_padded_sequence",
    "pad_packed_sequence",
    "softmax",
]
