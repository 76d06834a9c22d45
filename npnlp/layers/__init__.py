"""Layers with forward and backward side by side. One file a layer.

Every layer has ``forward(...) -> (y, cache)`` and ``backward(dy, cache) -> dx``; it keeps nothing
between the two calls. Gradients of parameters are added into ``layer.grads``, by name.

Sizes, everywhere: ``T`` steps, ``B`` batch, ``D`` input features, ``H`` hidden, ``V`` vocabulary,
``C`` classes, ``N`` packed rows (the sum of all lengths).
"""

from npnlp.layers.activation import ReLU
from npnlp.layers.attention.attention import MultiHeadAttention
from npnlp.layers.attention.transformer import TransformerEncoder
from npnlp.layers.base import Cache, Layer, LayerOptions
from npnlp.layers.dropout import Dropout, VariationalDropout
from npnlp.layers.embedding import Embedding
from npnlp.layers.flat import FlatParameters
from npnlp.layers.layer_norm import LayerNorm
from npnlp.layers.linear import Linear
from npnlp.layers.loss import MeanSquaredError, SoftmaxCrossEntropy, softmax
from npnlp.layers.packing import Packing, pack_padded_sequence, pad_packed_sequence
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.recurrent.cells import CELLS
from npnlp.layers.recurrent.elman import Elman
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.stack import RecurrentStack

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "POOLINGS",
    "Cache",
    "Dropout",
    "Elman",
    "Embedding",
    "FlatParameters",
    "GRUResetBefore",
    "Layer",
    "LayerNorm",
    "LayerOptions",
    "Linear",
    "MeanSquaredError",
    "MultiHeadAttention",
    "Packing",
    "ReLU",
    "RecurrentStack",
    "SoftmaxCrossEntropy",
    "TransformerEncoder",
    "VariationalDropout",
    "pack_padded_sequence",
    "pad_packed_sequence",
    "softmax",
]
