"""The embedding of a name's characters, with the two dropouts of training."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from npnlp.backend import Array, Random
from npnlp.backend.operations import LookedUp, Rows
from npnlp.layers import Embedding, LayerOptions, Packing, VariationalDropout
from npnlp.layers.arguments import require_cache, require_indices, require_random, require_rows
from npnlp.layers.composite import Composite
from npnlp.layers.embedding import EmbeddingCache
from npnlp.models.classifier_config import ClassifierConfig
from npnlp.summary import summarized

#: Tokens below this are no characters: padding, unknown, beginning and end.
SPECIAL_TOKENS = 4


@summarized
class CharacterCache(NamedTuple):
    """``rows``, the rows of the embedding that were used, and the cache of the ``dropout``.

    Without dropout they are the rows of the table that the encoder was given, else the row of each
    packed token.
    """

    rows: Array | slice
    dropout: Any


class CharacterEmbedding(Composite):
    """Packed tokens to the input of the encoder.

        (1) in training, a character is unknown with probability ``char_dropout``
        (2) e_n = weight[token_n]
        (3) e_n = dropout(e_n), the same features for all characters of a name

    Where (3) does nothing, (2) is left to the encoder, which projects the table before it looks
    rows up: see :meth:`Recurrent.forward`. The parameter is ``emb.weight``.
    """

    def __init__(self, config: ClassifierConfig, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.config = config
        emb = Embedding(
            config.num_embeddings, config.embedding_size, padding_idx=config.padding_idx,
            **self.options_of("emb"),
        )  # fmt: skip
        self.emb = self.add_layer("emb", emb)
        dropout = VariationalDropout(config.embedding_dropout, **self.options_of("dropout"))
        self.dropout = self.add_layer("dropout", dropout)

    def forward(
        self,
        tokens: Array,
        vocabulary: Array | None,
        random: Random | None = None,
        *,
        packing: Packing,
    ) -> tuple[Rows, CharacterCache]:
        """``tokens (N,)``, or numbers in ``vocabulary (R,)``, rows of the embedding."""
        config, weight = self.config, self.emb.parameters["weight"]
        if random is not None and config.char_dropout:
            given = vocabulary
            tokens = vocabulary.take(tokens) if vocabulary is not None else tokens
            tokens, vocabulary = self._drop_characters(tokens, random.child("characters")), None
            if given is not None and not config.embedding_dropout and len(weight) > len(tokens):
                vocabulary, tokens = self.backend.xp.unique(tokens, return_inverse=True)
        if random is None or not config.embedding_dropout:
            if vocabulary is None:
                return LookedUp(weight, tokens), CharacterCache(slice(None), None)
            table = weight.take(vocabulary, axis=0)
            return LookedUp(table, tokens), CharacterCache(vocabulary, None)
        rows = tokens if vocabulary is None else vocabulary.take(tokens)
        e = weight.take(rows, axis=0)  # (2)
        e, dropout = self.dropout.run(e, random.child("embedding"), packing=packing)  # (3)
        return e, CharacterCache(rows, dropout)

    def backward(self, d_x: Array, cache: CharacterCache) -> None:
        """Add the gradient of the embedding; tokens are integers and have none."""
        if cache.dropout is None:
            self.emb.add_grad(cache.rows, d_x)
            return
        d_e = self.dropout.undo(d_x, cache.dropout)  # undoes (3)
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
