"""A pre-norm transformer encoder with learned positions, on packed sequences.

    (1)  u_n = W_in x_n + b_in                 all N packed rows in one product
    (2)  h_n = u_n + P[min(t_n, M - 1)]        t_n is the step of packed row n
    (3)  h = dropout(h)
    (4)  h = block_l(h), for each layer l      npnlp/layers/attention/transformer_block.py
    (5)  hidden = LN(h)
    (6)  h_last, b = hidden_{length_b}, b      each sequence's own last step

Backward is the same six lines from the last to the first; the gradient of a position is the sum
over the rows that looked it up. Attention leads from hidden_t to x_s in one step, however far apart
t and s are; a recurrent layer needs a product of t - s Jacobians. Source: Vaswani et al.,
"Attention is all you need", 2017; Xiong et al., "On layer normalization in the transformer
architecture", 2020.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from npnlp.backend import Array, Random
from npnlp.backend.operations import LookedUp, Rows
from npnlp.checks import require_whole
from npnlp.layers.arguments import require_cache, require_outputs, require_random
from npnlp.layers.attention.attention import AttentionProbe
from npnlp.layers.attention.transformer_block import BlockCache, TransformerBlock
from npnlp.layers.base import Cache, LayerOptions
from npnlp.layers.composite import Composite
from npnlp.layers.dropout import Dropout, DropoutCache
from npnlp.layers.layer_norm import LayerNorm, LayerNormCache
from npnlp.layers.linear import Linear, LinearCache
from npnlp.layers.packing import Packing

#: The default number of learned positions.
MAX_POSITIONS = 64


class TransformerCache(Cache):
    """``tokens (N,)``, or None where x was packed rows; ``positions (N,)``: the rows of P that were
    looked up; ``packing``; the caches of (1), (3), each block of (4), and (5).
    """

    tokens: Array | None
    positions: Array
    packing: Packing
    input: LinearCache
    dropout: DropoutCache
    blocks: tuple[BlockCache, ...]
    norm: LayerNormCache


class TransformerEncoder(Composite):
    """Packed sequences to hidden states, with the interface of a recurrent layer.

    ``input_size`` is D, ``hidden_size`` is H, ``feedforward_size`` 4 H unless given,
    ``max_positions`` is M. Sequences may have more than M steps, but all steps from M - 1 on have
    the same position.

    Parameters: ``input.weight (H, D)``, ``input.bias (H,)``; ``position.weight (M, H)``, initially
    normal with standard deviation 0.02; the others have the names of PyTorch's
    ``nn.TransformerEncoder`` (``norm_first=True``, with a final norm):
    ``layers.0.self_attn.in_proj_weight``, ..., ``norm.weight``, ``norm.bias``.

    Raises :class:`InputError` for a size below 1, a ``num_heads`` that does not divide
    ``hidden_size`` and a ``dropout`` outside ``[0, 1)``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        num_heads: int = 4,
        feedforward_size: int | None = None,
        dropout: float = 0.1,
        max_positions: int = MAX_POSITIONS,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        inner = 4 * hidden_size if feedforward_size is None else feedforward_size
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers,
                 "feedforward_size": inner, "max_positions": max_positions}  # fmt: skip
        for name, size in sizes.items():
            require_whole(name, size)
        self.input_size = input_size
        self.hidden_size, self.max_positions = hidden_size, max_positions
        add, of = self.add_layer, self.options_of
        self.input = add("input", Linear(input_size, hidden_size, **of("input")))
        shape = (max_positions, hidden_size)
        self.add_parameter("position.weight", lambda random: 0.02 * random.normal(shape))
        self.dropout = add("dropout", Dropout(dropout, **of("dropout")))
        self.blocks: list[TransformerBlock] = []
        for index in range(num_layers):
            name = f"layers.{index}"
            block = TransformerBlock(
                hidden_size,
                num_heads=num_heads,
                feedforward_size=inner,
                dropout=dropout,
                **of(name),
            )
            self.blocks.append(add(name, block))
        self.norm = add("norm", LayerNorm(hidden_size, **of("norm")))

    def forward(
        self,
        x: Rows,
        *,
        packing: Packing,
        random: Random | None = None,
    ) -> tuple[tuple[Array, Array], TransformerCache]:
        """``(hidden (N, H), h_last (B, H))`` of packed ``x (N, D)``; h_last in the caller's order.

        Of a :class:`LookedUp` the table is projected, and then looked up. Without ``random``
        (evaluation) nothing is dropped.
        """
        tokens = x.tokens if isinstance(x, LookedUp) else None
        h, input_cache = self.input.forward(x.table if isinstance(x, LookedUp) else x)  # (1)
        if tokens is not None:
            h = h.take(tokens, axis=0)  # (1'), the look-up
        positions = self.backend.asarray(packing.steps.clip(max=self.max_positions - 1))
        h += self.parameters["position.weight"].take(positions, axis=0)  # (2)
        stream = None if random is None else random.child("dropout")
        h, dropout = self.dropout.forward(h, stream)  # (3)
        blocks = []
        for index, block in enumerate(self.blocks):
            stream = None if random is None else random.child(f"layers.{index}")
            h, cache = block.forward(h, stream, packing=packing)  # (4)
            blocks.append(cache)
        hidden, norm = self.norm.forward(h)  # (5)
        hidden = packing.without_spare(hidden)
        h_last = hidden.take(packing.last_rows, axis=0)  # (6)
        return (hidden, h_last), TransformerCache(
            tokens, positions, packing, input_cache, dropout, tuple(blocks), norm
        )

    def backward(
        self,
        dy: tuple[Array | None, Array | None],
        cache: TransformerCache,
        probe: AttentionProbe | None = None,
    ) -> Array:
        """``dL/dx`` from ``dy``, the gradients of all hidden states and of the last ones.

        Either part of ``dy`` may be None where nothing used that output. ``probe`` is shown the
        gradient by head, once a layer, from the last layer to the first.
        """
        d_h = self.norm.backward(self._join_gradients(dy, cache), cache.norm)  # undoes (6), (5)
        for index in reversed(range(len(self.blocks))):
            block_probe = None if probe is None else _of_layer(probe, index)
            d_h = self.blocks[index].backward(d_h, cache.blocks[index], block_probe)  # undoes (4)
        d_h = self.dropout.backward(d_h, cache.dropout)  # undoes (3)
        segment_sum = self.backend.segment_sum
        d_positions = segment_sum(d_h, cache.positions, self.max_positions)
        self.grads["position.weight"] += d_positions  # undoes (2)
        if cache.tokens is not None:
            d_h = segment_sum(d_h, cache.tokens, len(cache.input.x))  # undoes (1')
        return self.input.backward(d_h, cache.input)  # undoes (1)

    def check_forward(
        self, x: Rows, *, packing: Packing, random: Random | None = None
    ) -> None:  # fmt: skip
        """See :class:`Layer`."""
        require_random(random)
        self.expect_rows(x, packing, self.input_size)

    def check_backward(
        self, dy: tuple[Array | None, Array | None], cache: TransformerCache, probe: Any = None
    ) -> None:
        """See :class:`Layer`."""
        require_cache(cache, TransformerCache)
        require_outputs(dy, 2, least=2)
        rows = cache.packing.rows, len(cache.packing.lengths)
        for place, (d, size) in enumerate(zip(dy, rows, strict=True)):
            if d is not None:
                self.expect(f"dy[{place}]", d, size, self.hidden_size)
        self.expect("z of the cache", cache.norm.z, rows[0], self.hidden_size)

    def top(self, h_last: Array) -> Array:
        """``h_last`` itself, as there is one last state; see :meth:`RecurrentStack.top`."""
        return h_last

    def top_backward(self, d: Array) -> Array:
        """Undo :meth:`top`."""
        return d

    def _join_gradients(
        self, dy: tuple[Array | None, Array | None], cache: TransformerCache
    ) -> Array:
        """``dL/dhidden (N, H)``, summed over both outputs: undoes (6)."""
        d_hidden, d_last = dy
        if d_hidden is None:
            joined = self.backend.zeros((cache.packing.rows, self.hidden_size), self.dtype)
        elif d_last is None:
            return cache.packing.without_spare(d_hidden)
        else:
            joined = cache.packing.without_spare(d_hidden).copy()
        if d_last is not None:
            joined[cache.packing.last_rows] += d_last  # no row is named twice
        return joined


def _of_layer(probe: AttentionProbe, layer: int) -> AttentionProbe:
    """``probe``, with the index of the layer in the trace."""
    return lambda trace: probe(replace(trace, layer=layer))
