"""Embedding: each token becomes a row of a table."""

from __future__ import annotations

from typing import Any, Unpack

from numpy.typing import NDArray

from npnlp.backend import Array, Random
from npnlp.checks import require_whole
from npnlp.errors import InputError, short
from npnlp.layers.arguments import require_cache, require_indices
from npnlp.layers.base import Cache, Layer, LayerOptions


class EmbeddingCache(Cache):
    """``tokens (N,)``: the rows that were looked up."""

    tokens: Array


class Embedding(Layer):
    """``y_n = W[token_n]``; backward ``dW[v] = sum of dy_n over token_n == v``.

    Shapes: ``weight (V, D)``, tokens ``(N,)`` integers, y ``(N, D)``.
    The row ``padding_idx`` starts at zero and gets no gradient, so it stays zero.
    Weights start standard normal, as in PyTorch. Raises :class:`InputError` for a size below 1, a
    ``padding_idx`` that is no row, and tokens that are not whole numbers in ``[0, V)``.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        require_whole("num_embeddings", num_embeddings)
        require_whole("embedding_dim", embedding_dim)
        if padding_idx is not None and padding_idx not in range(num_embeddings):
            raise InputError(
                f"padding_idx is {short(padding_idx)}; it has to be a row, 0 to "
                f"{num_embeddings - 1}, or None"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx

        def draw(random: Random) -> NDArray[Any]:
            weight = random.normal((num_embeddings, embedding_dim))
            if padding_idx is not None:
                weight[padding_idx] = 0.0
            return weight

        self.add_parameter("weight", draw)

    def forward(self, tokens: Array) -> tuple[Array, EmbeddingCache]:
        """Look rows up."""
        y = self.parameters["weight"].take(tokens, axis=0)  # (1)
        return y, EmbeddingCache(tokens)

    def backward(self, dy: Array, cache: EmbeddingCache) -> None:
        """Add ``dL/dW``; tokens are integers and have no gradient."""
        grad = self.grads["weight"]
        self.backend.scatter_add(grad, cache.tokens, dy)  # undoes (1)
        if self.padding_idx is not None:
            grad[self.padding_idx] = 0

    def add_grad(self, rows: Array | slice, d_rows: Array) -> None:
        """Add the gradient of some rows of the table, no row twice; that of padding stays zero.

        For a layer that takes the table and looks rows up itself, as :class:`Elman` does with
        ``tokens``.
        """
        grad = self.grads["weight"]
        self.backend.add_rows(grad, rows, d_rows)
        if self.padding_idx is not None:
            grad[self.padding_idx] = 0

    def check_forward(self, tokens: Array) -> None:
        """See :class:`Layer`."""
        require_indices("tokens", tokens, None, self.num_embeddings, self.backend)

    def check_backward(self, dy: Array, cache: EmbeddingCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, EmbeddingCache)
        require_indices("cache", cache.tokens, None, self.num_embeddings, self.backend)
        self.expect("dy", dy, len(cache.tokens), self.embedding_dim)
