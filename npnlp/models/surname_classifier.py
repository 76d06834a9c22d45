"""The surname classifier: embedding, encoder, two linear layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random
from npnlp.backend.operations import Learned
from npnlp.errors import InputError
from npnlp.layers import Dropout, FlatParameters, Layer, LayerOptions, Linear, Packing, ReLU
from npnlp.layers.arguments import require_cache, require_indices
from npnlp.layers.ngrams import FoundNgrams, NgramBag
from npnlp.models.characters import CharacterEmbedding
from npnlp.models.classifier_config import ClassifierConfig
from npnlp.models.encoder import Encoder
from npnlp.summary import summarized

#: The name of the n-grams' keys among the tensors of a model; training does not change them.
KEYS = "ngrams.keys"


@summarized
class ClassifierCache(NamedTuple):
    """The caches of the layers in forward order; None for a layer that the model does not have."""

    emb: Any
    encoder: Any
    ngrams: Any
    dropout1: Any
    fc1: Any
    relu: Any
    dropout2: Any
    fc2: Any


class SurnameClassifier(Layer):
    """Tokens of a batch of names to one logit per class.

        (1) e = Embedding[token]     (2) h = Encoder(e), pooled      (3) z = dropout([h, Ngrams])
        (4) z = fc1(z)    (5) z = ReLU(z)    (6) z = dropout(z)    (7) logits = fc2(z)

    The n-grams in (3) and the hidden layer, (4) to (6), depend on the configuration. Parameters
    have PyTorch's names (``emb.weight``, ``rnn.weight_ih_l0``, ..., ``fc2.bias``) and
    are views into ``flat``. Source: Rao and McMahan, "Natural Language Processing with PyTorch",
    2019, chapter 6.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        *,
        backend: Backend | str | None = None,
        dtype: Any = np.float32,
        random: Random | None = None,
    ) -> None:
        super().__init__(backend=backend, dtype=dtype, random=random)
        self.config = config

        def options(name: str = "") -> LayerOptions:
            stream = self.random.child(name) if name else self.random
            return {"backend": self.backend, "dtype": dtype, "random": stream}

        size = config.rnn_hidden_size
        self.characters = CharacterEmbedding(config, **options())
        self.encoder = Encoder(config, config.embedding_size, size, **options())
        layers: list[tuple[str, Layer]] = [("", self.characters), ("", self.encoder)]
        self.ngrams: NgramBag | None = None
        if config.ngram_orders:
            self.ngrams = NgramBag(
                config.num_ngrams, config.ngram_size, orders=config.ngram_orders,
                num_tokens=config.num_embeddings, dropout=config.ngram_dropout,
                **options("ngrams"),
            )  # fmt: skip
            layers.append(("ngrams", self.ngrams))
        self.dropout1 = Dropout(config.dropout, **options("dropout1"))
        features = config.features
        if config.hidden_layer:
            self.fc1 = Linear(features, size, **options("fc1"))
            layers.append(("fc1", self.fc1))
            self.relu = ReLU(**options("relu"))
            self.dropout2 = Dropout(config.dropout, **options("dropout2"))
            features = size
        self.fc2 = Linear(features, config.num_classes, **options("fc2"))
        self.flat = FlatParameters([*layers, ("fc2", self.fc2)], self.backend)
        self.parameters = self.flat.parameters
        self.grads = self.flat.views_of_grads

    def forward(
        self,
        tokens: Array,
        *,
        packing: Packing,
        vocabulary: Array | None = None,
        ngrams: FoundNgrams | None = None,
        random: Random | None = None,
    ) -> tuple[Array, ClassifierCache]:
        """Logits ``(B, C)``, in the caller's order, of packed ``tokens (N,)``.

        With ``vocabulary (R,)``, the different rows of the embedding that occur in the batch,
        ``tokens`` index ``vocabulary``; nothing is then computed for other characters. ``ngrams``
        are those of the batch, where they have been found. ``random`` is the stream of the dropout
        masks; without it (evaluation) nothing is dropped.
        """
        found = self._features(tokens, packing, vocabulary, ngrams, random)  # (1), (2)
        h, emb, encoder, bag = found
        fc1 = relu = dropout2 = None
        z, dropout1 = self.dropout1.run(h, random and random.child("dropout1"))  # (3)
        if self.config.hidden_layer:
            z, fc1 = self.fc1.run(z)  # (4)
            z, relu = self.relu.run(z)  # (5)
            z, dropout2 = self.dropout2.run(z, random and random.child("dropout2"))  # (6)
        logits, fc2 = self.fc2.run(z)  # (7)
        return logits, ClassifierCache(emb, encoder, bag, dropout1, fc1, relu, dropout2, fc2)

    def backward(self, d_logits: Array, cache: ClassifierCache, probe: Any = None) -> None:
        """Add the gradients of all parameters; the input is integers and has none.

        ``probe`` is called with the gradients of every recurrent or attention layer.
        """
        d = self.fc2.undo(d_logits, cache.fc2)  # undoes (7)
        if self.config.hidden_layer:
            d = self.dropout2.undo(d, cache.dropout2)  # undoes (6)
            d = self.relu.undo(d, cache.relu)  # undoes (5)
            d = self.fc1.undo(d, cache.fc1)  # undoes (4)
        d = self.dropout1.undo(d, cache.dropout1)  # undoes (3)
        self._features_backward(d, cache[:3], probe)  # undoes (2), (1)

    def check_forward(
        self, tokens: Array, *, packing: Packing, vocabulary: Array | None = None,
        ngrams: FoundNgrams | None = None, random: Random | None = None,
    ) -> None:  # fmt: skip
        """See :class:`Layer`."""
        self.characters.check_forward(tokens, vocabulary, random, packing=packing)

    def check_backward(self, d_logits: Array, cache: ClassifierCache, probe: Any = None) -> None:
        """See :class:`Layer`."""
        require_cache(cache, ClassifierCache)
        self.fc2.check_backward(d_logits, cache.fc2)

    def learn(
        self,
        tokens: Array,
        targets: Array,
        random: Random,
        *,
        packing: Packing,
        vocabulary: Array | None = None,
        ngrams: FoundNgrams | None = None,
        probe: Any = None,
    ) -> Learned | None:
        """:meth:`forward`, the mean cross-entropy at ``targets (B,)``, and :meth:`backward`.

        The gradients are set, not added to. Returns None, and does nothing, where the backend has
        no single call for (3) to (7) and the loss; the call gives the same bits as the layers.
        """
        self.check_forward(tokens, packing=packing, vocabulary=vocabulary, random=random)
        batch, classes = len(packing.lengths), self.config.num_classes
        require_indices("targets", targets, batch, classes, self.backend)
        return self.learn_unchecked(
            tokens, targets, random, packing=packing, vocabulary=vocabulary, ngrams=ngrams,
            probe=probe,
        )  # fmt: skip

    def learn_unchecked(
        self, tokens: Array, targets: Array, random: Random, *, packing: Packing,
        vocabulary: Array | None = None, ngrams: FoundNgrams | None = None, probe: Any = None,
    ) -> Learned | None:  # fmt: skip
        """:meth:`learn` of arguments that have been checked, as :meth:`run` is :meth:`forward`."""
        head = self.backend.classifier_head(self.dtype)
        if head is None or not self.config.hidden_layer or random.share is not None:
            return None
        h, *caches = self._features(tokens, packing, vocabulary, ngrams, random)  # (1), (2)
        self.zero_grads()
        learned = head(
            h, targets, (*self.fc1.parameters.values(), *self.fc2.parameters.values()),
            (*self.fc1.grads.values(), *self.fc2.grads.values()),
            (random.child("dropout1"), random.child("dropout2")), self.config.dropout,
        )  # (3) to (7), and what undoes them  # fmt: skip
        self._features_backward(learned.d_h, caches, probe)  # undoes (2), (1)
        return learned

    def _features(
        self, tokens: Array, packing: Packing, vocabulary: Array | None,
        found: FoundNgrams | None, random: Random | None,
    ) -> tuple[Array, Any, Any, Any]:  # fmt: skip
        """(1) and (2), with the n-grams: ``(B, F)``, and the three caches."""
        x, emb = self.characters.run(tokens, vocabulary, random, packing=packing)  # (1)
        h, encoder = self.encoder.run(x, packing=packing, random=random)  # (2)
        if self.ngrams is None:
            return h, emb, encoder, None
        rows = tokens if vocabulary is None else vocabulary.take(tokens)
        stream = random and random.child("ngrams")
        bag, ngrams = self.ngrams.run(rows, stream, packing=packing, found=found)
        return self.backend.xp.concatenate([h, bag], axis=1), emb, encoder, ngrams

    def _features_backward(self, d: Array, caches: Sequence[Any], probe: Any) -> None:
        emb, encoder, ngrams = caches
        if self.ngrams is not None:
            features = self.encoder.features
            self.ngrams.undo(d[:, features:], ngrams)
            d = d[:, :features]
        d_x = self.encoder.undo(d, encoder, probe)  # undoes (2)
        self.characters.undo(d_x, emb)  # undoes (1)

    def zero_grads(self) -> None:
        """Set all gradients to zero, in one write."""
        self.flat.zero_grads()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all parameters, by name, and of the keys of n-grams; on the host."""
        state = {
            name: self.backend.to_numpy(value).copy() for name, value in self.parameters.items()
        }
        if self.ngrams is not None:
            state[KEYS] = self.backend.to_numpy(self.ngrams.keys).copy()
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set all parameters; raises :class:`InputError` naming a tensor that does not fit."""
        expected = {name: value.shape for name, value in self.parameters.items()}
        if self.ngrams is not None:
            expected[KEYS] = self.ngrams.keys.shape
        for name in sorted(set(state) - set(expected)):
            raise InputError(f"tensor {name!r} does not belong to this model")
        for name, shape in expected.items():
            if name not in state:
                raise InputError(f"tensor {name!r} is missing")
            if state[name].shape != shape:
                raise InputError(f"tensor {name!r} has shape {state[name].shape}, not {shape}")
        if self.ngrams is not None:
            keys = state[KEYS]
            if keys.dtype.kind != "i" or (keys[1:] <= keys[:-1]).any():
                raise InputError(f"tensor {KEYS!r} has to hold whole numbers in rising order")
            self.ngrams.keys = self.backend.asarray(keys.copy())
        for name, value in self.parameters.items():
            value[...] = self.backend.asarray(state[name], dtype=self.dtype)

    def astype(self, dtype: Any) -> Self:
        """A copy with parameters of another dtype; it shares no array with this model."""
        twin = type(self)(self.config, backend=self.backend, dtype=dtype, random=self.random)
        twin.flat.values[...] = self.flat.values.astype(dtype)
        if self.ngrams is not None and twin.ngrams is not None:
            twin.ngrams.keys = self.ngrams.keys.copy()
        return twin
