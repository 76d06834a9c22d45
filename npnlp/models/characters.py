"""The embedding of a name's characters, with the two dropouts of training."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from npnlp.backend import Array, Random
from npnlp.backend.operations import LookedUp, Rows
from npnlp.layers import Embedding, LayerOptions, Packing
from npnlp.layers.arguments import require_cache, require_indices, require_random, require_rows
from npnlp.layers.composite import Composite
from npnlp.layers.embedding import EmbeddingCache
from npnlp.layers.pooling.per_sequence import spread
from npnlp.models.classifier_config import ClassifierConfig
from npnlp.summary import summarized

#: Tokens below this are no characters: padding, unknown, beginning and end.
SPECIAL_TOKENS = 4
#: A name draws its mask of features from 2 to this power, which a batch draws.
BITS = 3


@summarized
class CharacterCache(NamedTuple):
    """``rows (R,)`` of the embedding that were looked up, or all, and their ``scale (R, D)``.

    ``scale`` is 0 where dropped, ``1/(1-p)`` elsewhere, and None where nothing is.
    """

    rows: Array | slice
    scale: Array | None


class CharacterEmbedding(Composite):
    """Packed tokens to the input of the encoder.

        (1) in training, a character is unknown with probability ``char_dropout``
        (2) e_n = weight[token_n]
        (3) e_n = e_n m_b / (1 - p), p the ``embedding_dropout``, m_b the mask of n's name b

    The encoder gets the rows (3) once for each mask and token that occur together, projects them,
    and then looks them up: see :meth:`Recurrent.forward`. So that these are few, a batch draws 8
    masks, and a name one of them: each mask has the same distribution as if it were the name's own,
    and the gradient the same mean. The parameter is ``emb.weight``.
    """

    def __init__(self, config: ClassifierConfig, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.config = config
        emb = Embedding(
            config.num_embeddings, config.embedding_size, padding_idx=config.padding_idx,
            **self.options_of("emb"),
        )  # fmt: skip
        self.emb = self.add_layer("emb", emb)

    def forward(
        self,
        tokens: Array,
        vocabulary: Array | None,
        random: Random | None = None,
        *,
        packing: Packing,
    ) -> tuple[Rows, CharacterCache]:
        """``tokens (N,)``, or numbers in ``vocabulary (R,)``, rows of the embedding."""
        config, xp, weight = self.config, self.backend.xp, self.emb.parameters["weight"]
        numbered = vocabulary is not None
        if random is not None and config.char_dropout:
            tokens = vocabulary.take(tokens) if vocabulary is not None else tokens
            tokens, vocabulary = self._drop_characters(tokens, random.child("characters")), None
            if numbered and not config.embedding_dropout and len(weight) > len(tokens):
                vocabulary, tokens = xp.unique(tokens, return_inverse=True)
        if random is None or not config.embedding_dropout:
            if vocabulary is None:
                return LookedUp(weight, tokens), CharacterCache(slice(None), None)
            table = weight.take(vocabulary, axis=0)
            return LookedUp(table, tokens), CharacterCache(vocabulary, None)
        rows = tokens if vocabulary is None else vocabulary.take(tokens)
        masks, mask = self._masks(random, packing)
        if numbered:  # else the number of rows has to be the same for each batch of N tokens
            pairs, tokens = xp.unique(mask * len(weight) + rows, return_inverse=True)
            mask, rows = xp.divmod(pairs, len(weight))
        scale = masks.take(mask, axis=0)
        e = weight.take(rows, axis=0) * scale  # (2), (3)
        return (LookedUp(e, tokens) if numbered else e), CharacterCache(rows, scale)

    def backward(self, d_x: Array, cache: CharacterCache) -> None:
        """Add the gradient of the embedding; tokens are integers and have none."""
        if cache.scale is None:
            self.emb.add_grad(cache.rows, d_x)
            return
        d_e = d_x * cache.scale  # undoes (3)
        self.emb.undo(d_e, EmbeddingCache(cache.rows))  # type: ignore[arg-type]  # undoes (2)

    def check_forward(
        self, tokens: Array, vocabulary: Array | None, random: Random | None = None, *,
        packing: Packing,
    ) -> None:  # fmt: skip
        """See :class:`Layer`."""
        require_random(random)
        require_rows(tokens, packing, "tokens")
        known = self.emb.num_embeddings
        if vocabulary is not None:
            require_indices("vocabulary", vocabulary, None, known, self.backend)
            known = len(vocabulary)
        require_indices("tokens", tokens, packing.rows, known, self.backend)

    def check_backward(self, d_x: Array, cache: CharacterCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, CharacterCache)
        rows = self.emb.num_embeddings if isinstance(cache.rows, slice) else len(cache.rows)
        self.expect("d_x", d_x, rows, self.emb.embedding_dim)

    def _drop_characters(self, tokens: Array, random: Random) -> Array:
        keep = self.backend.keep_mask(random, tokens.shape, self.config.char_dropout)
        return self.backend.xp.where(  # type: ignore[no-any-return]
            keep | (tokens < SPECIAL_TOKENS), tokens, self.config.unk_idx
        )  # (1)

    def _masks(self, random: Random, packing: Packing) -> tuple[Array, Array]:
        """The masks of (3), divided by 1 - p ``(8, D)``, and that of each packed token ``(N,)``."""
        xp, keep_mask, p = self.backend.xp, self.backend.keep_mask, self.config.embedding_dropout
        shared = random.within(None).child("embedding")  # the same ones for every part of a batch
        shape = 2**BITS, self.emb.embedding_dim
        masks = keep_mask(shared, shape, p) * self.dtype.type(1.0 / (1.0 - p))
        bits = keep_mask(random.child("mask"), (len(packing.lengths), BITS), 0.5)
        return masks, spread((bits * 2 ** xp.arange(BITS)).sum(axis=1), packing)
