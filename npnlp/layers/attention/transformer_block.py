"""One layer of a pre-norm transformer: attention, then a feedforward network, both residual.

    (1)  a = MHA(LN1(h))              npnlp/layers/attention/attention.py
    (2)  m = h + dropout(a)
    (3)  f = relu(W_1 LN2(m) + b_1)
    (4)  f = W_2 dropout(f) + b_2
    (5)  y = m + dropout(f)

The gradient of a sum goes to both of its terms, so the gradient of y reaches h unchanged along the
residual path:

    undoes (5)  dm = dy, df = dropout.backward(dy)
    undoes (2)  dh = dm, da = dropout.backward(dm)

The gradient through (4) and (3) is added to dm, that through (1) to dh. The norms are inside the
branches ("pre-norm"), so the residual path has none, and training needs no warm-up. Source: Xiong
et al., "On layer normalization in the transformer architecture", 2020, table 1; equal to PyTorch's
``nn.TransformerEncoderLayer(norm_first=True)``.
"""

from __future__ import annotations

from typing import Any, Unpack

from npnlp.backend import Array, Random
from npnlp.layers.activation import ReLU, ReLUCache
from npnlp.layers.arguments import require_cache
from npnlp.layers.attention.attention import AttentionCache, AttentionProbe, MultiHeadAttention
from npnlp.layers.base import Cache, LayerOptions
from npnlp.layers.composite import Composite
from npnlp.layers.dropout import Dropout, DropoutCache
from npnlp.layers.layer_norm import LayerNorm, LayerNormCache
from npnlp.layers.linear import Linear, LinearCache
from npnlp.layers.packing import Packing


class BlockCache(Cache):
    """The caches of the sub-layers in the order of the forward pass."""

    norm1: LayerNormCache
    self_attn: AttentionCache
    dropout1: DropoutCache
    norm2: LayerNormCache
    linear1: LinearCache
    relu: ReLUCache
    dropout: DropoutCache
    linear2: LinearCache
    dropout2: DropoutCache


class TransformerBlock(Composite):
    """``m = h + dropout(MHA(LN1(h)))``, ``y = m + dropout(FF2(dropout(relu(FF1(LN2(m))))))``.

    Sub-layers have PyTorch's names: ``self_attn``, ``linear1``, ``linear2``, ``norm1``, ``norm2``.
    ``dropout`` is the probability of all four dropouts: of attention weights, of both branches'
    results, and inside the feedforward network.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        num_heads: int,
        feedforward_size: int,
        dropout: float = 0.1,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        add, of, size = self.add_layer, self.options_of, hidden_size
        self.self_attn = add(
            "self_attn", MultiHeadAttention(size, num_heads, dropout=dropout, **of("self_attn"))
        )
        self.linear1 = add("linear1", Linear(size, feedforward_size, **of("linear1")))
        self.linear2 = add("linear2", Linear(feedforward_size, size, **of("linear2")))
        self.norm1 = add("norm1", LayerNorm(size, **of("norm1")))
        self.norm2 = add("norm2", LayerNorm(size, **of("norm2")))
        self.relu = add("relu", ReLU(**of("relu")))
        self.dropout = add("dropout", Dropout(dropout, **of("dropout")))

    def forward(
        self, h: Array, random: Random | None = None, *, packing: Packing
    ) -> tuple[Array, BlockCache]:
        """``y (N, H)`` of packed ``h (N, H)``; without ``random`` (evaluation) no dropout."""

        def stream(name: str) -> Random | None:
            return None if random is None else random.child(name)

        z, norm1 = self.norm1.forward(h)
        a, self_attn = self.self_attn.forward(z, stream("self_attn"), packing=packing)  # (1)
        a, dropout1 = self.dropout.forward(a, stream("dropout1"))
        m = h + a  # (2)
        z, norm2 = self.norm2.forward(m)
        f, linear1 = self.linear1.forward(z)
        f, relu = self.relu.forward(f)  # (3)
        f, dropout = self.dropout.forward(f, stream("dropout"))
        f, linear2 = self.linear2.forward(f)  # (4)
        f, dropout2 = self.dropout.forward(f, stream("dropout2"))
        cache = BlockCache(
            norm1, self_attn, dropout1, norm2, linear1, relu, dropout, linear2, dropout2
        )
        return m + f, cache  # (5)

    def check_forward(self, h: Array, random: Random | None = None, *, packing: Packing) -> None:
        """See :class:`Layer`."""
        self.self_attn.check_forward(h, random, packing=packing)

    def check_backward(self, dy: Array, cache: BlockCache, probe: Any = None) -> None:
        """See :class:`Layer`."""
        require_cache(cache, BlockCache)
        self.self_attn.check_backward(dy, cache.self_attn)

    def backward(self, dy: Array, cache: BlockCache, probe: AttentionProbe | None = None) -> Array:
        """Add the gradients of all parameters; return ``dL/dh``. ``probe`` sees attention."""
        d_f = self.dropout.backward(dy, cache.dropout2)  # undoes (5), the branch
        d_f = self.linear2.backward(d_f, cache.linear2)  # undoes (4)
        d_f = self.dropout.backward(d_f, cache.dropout)
        d_f = self.relu.backward(d_f, cache.relu)  # undoes (3)
        d_f = self.linear1.backward(d_f, cache.linear1)
        d_m = dy + self.norm2.backward(d_f, cache.norm2)  # undoes (5), the residual path
        d_a = self.dropout.backward(d_m, cache.dropout1)  # undoes (2), the branch
        d_a = self.self_attn.backward(d_a, cache.self_attn, probe)  # undoes (1)
        return d_m + self.norm1.backward(d_a, cache.norm1)  # undoes (2), the residual path
