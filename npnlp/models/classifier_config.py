"""The configuration of the surname classifier: all that decides its shapes and its function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from npnlp.checks import from_fields, require_flag, require_fraction, require_whole
from npnlp.errors import InputError, short
from npnlp.models.encoder import EncoderConfig
from npnlp.summary import summarized

#: A model has at most this many parameters; training them takes some 10 GB.
LARGEST = 2**28


@summarized
@dataclass(frozen=True)
class ClassifierConfig(EncoderConfig):
    """The configuration of a :class:`SurnameClassifier`; it is saved with the weights.

    ``num_embeddings`` is V, ``num_classes`` is C, ``embedding_size`` is D, ``rnn_hidden_size``
    is H; the fields of the encoder are those of :class:`EncoderConfig`. ``hidden_layer`` says
    whether there is a linear layer with ReLU between the encoder and the last linear layer. With
    ``ngram_orders`` the model has a bag of n-grams beside the encoder: ``num_ngrams`` known n-grams
    of these lengths, with ``ngram_size`` features each; those that fewer than ``ngram_min_count``
    names of train contain are not among them.

    Dropout, in training only: ``dropout`` before each linear layer, ``embedding_dropout`` of the
    same features of all characters of a name, ``ngram_dropout`` of n-grams; ``char_dropout`` makes
    characters unknown.
    """

    num_embeddings: int
    num_classes: int
    embedding_size: int = 100
    rnn_hidden_size: int = 64
    dropout: float = 0.5
    padding_idx: int = 0
    unk_idx: int = 1
    hidden_layer: bool = True
    embedding_dropout: float = 0.0
    char_dropout: float = 0.0
    ngram_orders: tuple[int, ...] = ()
    num_ngrams: int = 0
    ngram_size: int = 64
    ngram_dropout: float = 0.5
    ngram_min_count: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_embeddings", "num_classes", "embedding_size", "rnn_hidden_size"):
            require_whole(name, getattr(self, name))
        if self.cell == "transformer" and self.rnn_hidden_size % self.num_heads:
            raise InputError(
                f"num_heads is {self.num_heads}; it has to divide rnn_hidden_size, "
                f"{self.rnn_hidden_size}"
            )
        for name in ("padding_idx", "unk_idx"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < self.num_embeddings:
                raise InputError(f"{name} is {short(value)}; it has to be a row's number")
        require_flag("hidden_layer", self.hidden_layer)
        for name in ("dropout", "embedding_dropout", "char_dropout", "ngram_dropout"):
            require_fraction(name, getattr(self, name))
        self._check_ngrams()
        if self.parameter_count > LARGEST:
            raise InputError(
                f"a model of {self.parameter_count:,} numbers is too large (the limit is "
                f"{LARGEST:,}); choose a smaller rnn_hidden_size or embedding_size"
            )

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        hidden, size = self.rnn_hidden_size, self.embedding_size
        encoder = self.encoder_parameters(size, hidden)
        bag = self.num_ngrams * self.ngram_size
        linear, last = 0, self.features
        if self.hidden_layer:
            linear, last = hidden * (last + 1), hidden
        return self.num_embeddings * size + encoder + bag + linear + self.num_classes * (last + 1)

    @property
    def features(self) -> int:
        """The number of features per name that the linear layers get."""
        encoder = len(self.poolings) * self.directions * self.rnn_hidden_size
        return encoder + (self.ngram_size if self.ngram_orders else 0)

    def _check_ngrams(self) -> None:
        orders = self.ngram_orders
        if not isinstance(orders, list | tuple) or not (
            len(orders) <= 8 and all(type(n) is int and 1 <= n <= 8 for n in orders)
        ):
            raise InputError(
                f"ngram_orders is {short(orders)}; they have to be whole numbers, 1 to 8"
            )
        object.__setattr__(self, "ngram_orders", tuple(orders))  # JSON knows lists only
        require_whole("ngram_size", self.ngram_size)
        require_whole("ngram_min_count", self.ngram_min_count)
        if orders:
            require_whole("num_ngrams", self.num_ngrams)
        elif type(self.num_ngrams) is not int or self.num_ngrams:
            raise InputError(
                f"num_ngrams is {short(self.num_ngrams)}, but there are no ngram_orders"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a file."""
        return asdict(self) | {"ngram_orders": list(self.ngram_orders)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`; raises :class:`InputError` for a missing or unknown field."""
        return from_fields(cls, values, "configuration")
