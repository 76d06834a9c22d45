"""Multi-head self-attention on packed sequences.

    (1)  [q k v]_n = W_in x_n + b_in           all N packed rows in one product
    (2)  q, k, v split into heads and padded   (B, heads, T, d) with d = E / heads
    (3)  o = softmax(q k^T / sqrt(d)) v        of each head: npnlp/layers/attention/dot_product.py
    (4)  o_n, the heads side by side           packed again (N, E)
    (5)  y_n = W_out o_n + b_out

Padded steps exist only in (3), which masks them, and of which a batch with long sequences has
several parts (npnlp/layers/attention/parts.py). Backward is the same five lines from the last to
the first; padding and packing undo each other. Source: Vaswani et al.,
"Attention is all you need", 2017, section 3.2.2; equal to PyTorch's ``nn.MultiheadAttention``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from npnlp.backend import Array, Random
from npnlp.backend.step_operations import Attended, AttentionPasses
from npnlp.checks import require_whole
from npnlp.errors import InputError
from npnlp.layers.arguments import require_cache, require_random, require_rows
from npnlp.layers.attention.dot_product import DotProductAttention, DotProductCache
from npnlp.layers.attention.parts import Part, QueriesCache, attend, attend_backward, parts_of
from npnlp.layers.base import Cache, LayerOptions
from npnlp.layers.composite import Composite
from npnlp.layers.linear import Linear, LinearCache
from npnlp.layers.packing import Packing, pad_packed_sequence
from npnlp.summary import summarized


class AttentionCache(Cache):
    """``x (N, E)``, ``packing``, its ``parts``, and the caches of (3) for each, and of (5).

    Where a backend has (2) to (4) there are no parts: ``attended`` is what it remembers.
    """

    x: Array
    packing: Packing
    parts: tuple[Part, ...]
    heads: tuple[DotProductCache | QueriesCache, ...]
    out: LinearCache
    attended: Attended | None = None

    @property
    def weights(self) -> Array:
        """``(B, heads, T, T)``: the weight that each step (third axis) gives each (last axis).

        Rows sum to 1; those past a sequence's end are 0. B is in the caller's order. Raises
        :class:`InputError` for a batch in parts, whose weights are too many.
        """
        if self.attended is not None:
            return self.attended.weights
        (first, *others) = self.heads
        if others or isinstance(first, QueriesCache):
            raise InputError("the weights of long sequences are not kept; take shorter ones")
        return first.weights


@summarized
@dataclass(frozen=True)
class AttentionTrace:
    """What a backward pass shows to its probe.

    ``cache`` of the forward pass; ``d_heads (N, heads, d)``: ``dL/do``, the gradient of each head's
    output at each packed row; ``layer``, the index of the layer in an encoder.
    """

    cache: AttentionCache
    d_heads: Array
    layer: int = 0


AttentionProbe = Callable[[AttentionTrace], None]


class MultiHeadAttention(Composite):
    """Self-attention with ``num_heads`` heads of ``embed_size / num_heads`` features each.

    Parameters have PyTorch's names, shapes and initial values: ``in_proj_weight (3E, E)`` of q, k
    and v, uniform in ``+-sqrt(6 / 4E)`` (Glorot and Bengio, 2010); ``in_proj_bias (3E,)``, zero;
    ``out_proj.weight (E, E)``, uniform in ``+-1/sqrt(E)``; ``out_proj.bias (E,)``, zero.
    ``dropout`` is the probability that an attention weight is dropped in training.

    Raises :class:`InputError` where ``num_heads`` does not divide ``embed_size``.
    """

    def __init__(
        self,
        embed_size: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        require_whole("embed_size", embed_size)
        require_whole("num_heads", num_heads)
        if embed_size % num_heads:
            raise InputError(
                f"num_heads is {num_heads}; it has to be a whole number that divides "
                f"embed_size, {embed_size}"
            )
        self.embed_size, self.num_heads = embed_size, num_heads
        bound = (6.0 / (3 * embed_size + embed_size)) ** 0.5
        shape = (3 * embed_size, embed_size)
        self.add_parameter("in_proj_weight", lambda random: random.uniform(shape, -bound, bound))
        self.add_parameter("in_proj_bias", lambda random: random.uniform(shape[:1], 0.0, 0.0))
        self.out_proj = self.add_layer(
            "out_proj", Linear(embed_size, embed_size, **self.options_of("out_proj"))
        )
        self.out_proj.parameters["bias"][...] = 0
        self.attention = self.add_layer(
            "attention", DotProductAttention(dropout, **self.options_of("attention"))
        )

    def forward(
        self, x: Array, random: Random | None = None, *, packing: Packing
    ) -> tuple[Array, AttentionCache]:
        """``y (N, E)`` of packed ``x (N, E)``; without ``random`` (evaluation) no dropout.

        Raises :class:`InputError` where ``x`` is not packed by ``packing``.
        """
        projected = self.backend.xp.dot(x, self.parameters["in_proj_weight"].T)  # (1)
        projected += self.parameters["in_proj_bias"]
        if passes := self._passes(random):
            p = self.attention.dropout.p
            joined, attended = passes.forward(projected, self.num_heads, random, p, packing)
            y, out = self.out_proj.forward(joined)  # (5)
            return y, AttentionCache(x, packing, (), (), out, attended)
        parts, found, heads = self._parts(packing, random), list[Array](), list[Any]()
        for part in parts:
            q, k, v = self._split(projected[part.rows], part.packing)  # (2)
            stream = random.child(f"part {len(heads)}") if random and heads else random
            o, cache = attend(self.attention, q, k, v, stream, part)  # (3)
            found.append(self._join(o[None], part.packing))  # (4)
            heads.append(cache)
        y, out = self.out_proj.forward(self._together(found, parts, packing))  # (5)
        return y, AttentionCache(x, packing, tuple(parts), tuple(heads), out)

    def backward(
        self, dy: Array, cache: AttentionCache, probe: AttentionProbe | None = None
    ) -> Array:
        """Add the gradients of all parameters; return ``dL/dx``; ``probe`` gets each head's."""
        xp, grads = self.backend.xp, self.grads
        d_joined = self.out_proj.backward(dy, cache.out)  # undoes (5)
        if probe is not None:
            probe(AttentionTrace(cache, d_joined.reshape(len(d_joined), self.num_heads, -1)))
        d_projected = self._heads_backward(d_joined, cache)  # undoes (4), (3), (2)
        grads["in_proj_bias"] += d_projected.sum(axis=0)  # undoes (1)
        grads["in_proj_weight"] += xp.dot(d_projected.T, cache.x)  # undoes (1), towards W
        d_x: Array = xp.dot(d_projected, self.parameters["in_proj_weight"])  # undoes (1), to x
        return d_x

    def _heads_backward(self, d_joined: Array, cache: AttentionCache) -> Array:
        """Undo (4), (3) and (2): the gradient of all q, k and v ``(N, 3E)``."""
        if cache.attended is not None:
            passes = self._passes(cache.attended.random)
            assert passes is not None
            return passes.backward(d_joined, cache.attended, cache.packing)
        found = []
        for part, heads in zip(cache.parts, cache.heads, strict=True):
            d_o = self._split(d_joined[part.rows], part.packing)[0]  # undoes (4)
            d_parts = self.backend.xp.stack(attend_backward(self.attention, d_o, heads))  # (3)
            found.append(self._join(d_parts, part.packing))  # undoes (2)
        return self._together(found, cache.parts, cache.packing)

    def _passes(self, random: Random | None) -> AttentionPasses | None:
        """(2) to (4) of the backend; none for a mask that several processes share."""
        if random is not None and random.share is not None:
            return None
        return self.backend.attention_passes(self.dtype)

    def check_forward(self, x: Array, random: Random | None = None, *, packing: Packing) -> None:
        """See :class:`Layer`."""
        require_random(random)
        require_rows(x, packing)
        self.expect("x", x, packing.rows, self.embed_size)

    def check_backward(self, dy: Array, cache: AttentionCache, probe: Any = None) -> None:
        """See :class:`Layer`."""
        require_cache(cache, AttentionCache)
        self.expect("x of the cache", cache.x, cache.packing.rows, self.embed_size)
        self.expect("dy", dy, cache.packing.rows, self.embed_size)

    def _parts(self, packing: Packing, random: Random | None) -> list[Part]:
        """A batch that several processes share stays whole, as its mask is that of all of it."""
        if random is not None and random.share is not None:
            return [Part(slice(None), packing, packing.runs.shape[1])]
        return parts_of(packing, self.num_heads)

    def _together(self, found: list[Array], parts: Sequence[Part], packing: Packing) -> Array:
        """The packed rows of all parts."""
        if len(found) == 1:
            return found[0]
        rows: Array = self.backend.xp.empty((packing.rows, found[0].shape[1]), found[0].dtype)
        for part, own in zip(parts, found, strict=True):
            rows[part.rows] = own
        return rows

    def _split(self, data: Array, packing: Packing) -> Array:
        """Packed rows ``(N, k E)`` as ``(k, B, heads, T, d)``, padded with zeros."""
        padded = pad_packed_sequence(data, packing)
        steps, batch, columns = padded.shape
        blocks = columns // self.embed_size
        parts = padded.reshape(steps, batch, blocks, self.num_heads, -1)
        return parts.transpose(2, 1, 3, 0, 4)

    def _join(self, parts: Array, packing: Packing) -> Array:
        """Undo :meth:`_split`: packed rows ``(N, k E)`` of ``(k, B, heads, T, d)``."""
        blocks, batch, _, steps, _ = parts.shape
        flat = parts.transpose(3, 1, 0, 2, 4).reshape(steps * batch, blocks * self.embed_size)
        return flat.take(packing.padded_rows(), axis=0)
