"""The surname classifier: embedding, recurrent layer, last hidden state, two linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random
from npnlp.errors import InputError
from npnlp.layers import (
    CELLS,
    Dropout,
    Embedding,
    FlatParameters,
    Layer,
    LayerOptions,
    Linear,
    Packing,
    ReLU,
)
from npnlp.layers.recurrent import Probe

#: Training needs some ten times the memory of the parameters: 10 GB for this many.
LARGEST = 2**28


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything that decides the shapes and the function; saved with the weights.

    ``num_embeddings`` is V, ``num_classes`` is C, ``embedding_size`` is D, ``rnn_hidden_size``
    is H.
    """

    num_embeddings: int
    num_classes: int
    embedding_size: int = 100
    rnn_hidden_size: int = 64
    cell: str = "elman"
    nonlinearity: str = "tanh"
    dropout: float = 0.5
    padding_idx: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.cell, str) or self.cell not in CELLS:
            raise InputError(f"cell {self.cell!r} is not known; choose one of {', '.join(CELLS)}")
        for name in ("num_embeddings", "num_classes", "embedding_size", "rnn_hidden_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {value!r}; it has to be a whole number above 0")
        if type(self.padding_idx) is not int or not 0 <= self.padding_idx < self.num_embeddings:
            raise InputError(f"padding_idx is {self.padding_idx!r}; it has to be a row's number")
        if type(self.dropout) not in (int, float):
            raise InputError(f"dropout is {self.dropout!r}; it has to be a number")
        if self.parameter_count > LARGEST:
            raise InputError(
                f"a model of {self.parameter_count:,} numbers is too large (the limit is "
                f"{LARGEST:,}); choose a smaller rnn_hidden_size or embedding_size"
            )

    @property
    def parameter_count(self) -> int:
        """How many numbers the model learns."""
        hidden, size = self.rnn_hidden_size, self.embedding_size
        recurrent = hidden * (size + hidden + 2)
        linear = hidden * (hidden + 1) + self.num_classes * (hidden + 1)
        return self.num_embeddings * size + recurrent + linear

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`; raises :class:`InputError` for a missing or unknown field."""
        if not isinstance(values, Mapping):
            raise InputError(f"configuration is {values!r:.40}; it has to be a table of fields")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"configuration has an unknown field {unknown[0]!r}")
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"configuration is incomplete: {error}") from error


@dataclass(frozen=True)
class ClassifierCache:
    """The caches of the layers in the order of the forward pass."""

    vocabulary: Array | None
    rnn: Any
    dropout1: Any
    fc1: Any
    relu: Any
    dropout2: Any
    fc2: Any


class SurnameClassifier(Layer):
    """Tokens of a batch of names to one logit a class.

        (1) e = Embedding[token]     (2) h = Elman(e), last step     (3) z = dropout(h)
        (4) z = fc1(z)    (5) z = ReLU(z)    (6) z = dropout(z)    (7) logits = fc2(z)

    Parameters carry PyTorch's names (``emb.weight``, ``rnn.weight_ih_l0``, ..., ``fc2.bias``) and
    are views into ``flat``. The embedding is not looked up before the recurrent layer projects it:
    see :meth:`Recurrent.forward`. Source: Rao and McMahan, "Natural Language Processing with
    PyTorch", 2019, chapter 6.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        *,
        backend: Backend | None = None,
        dtype: Any = np.float32,
        random: Random | None = None,
    ) -> None:
        super().__init__(backend=backend, dtype=dtype, random=random)
        self.config = config

        def options(name: str) -> LayerOptions:
            return {"backend": self.backend, "dtype": dtype, "random": self.random.child(name)}

        size = config.rnn_hidden_size
        self.emb = Embedding(
            config.num_embeddings,
            config.embedding_size,
            padding_idx=config.padding_idx,
            **options("emb"),
        )
        self.rnn = CELLS[config.cell](
            config.embedding_size, size, nonlinearity=config.nonlinearity, **options("rnn")
        )
        self.dropout1 = Dropout(config.dropout, **options("dropout1"))
        self.fc1 = Linear(size, size, **options("fc1"))
        self.relu = ReLU(**options("relu"))
        self.dropout2 = Dropout(config.dropout, **options("dropout2"))
        self.fc2 = Linear(size, config.num_classes, **options("fc2"))
        layers = {"emb": self.emb, "rnn": self.rnn, "fc1": self.fc1, "fc2": self.fc2}
        self.flat = FlatParameters(layers, self.backend)
        self.parameters = self.flat.parameters
        self.grads = self.flat.views_of_grads

    def forward(
        self,
        tokens: Array,
        *,
        packing: Packing,
        vocabulary: Array | None = None,
        random: Random | None = None,
    ) -> tuple[Array, ClassifierCache]:
        """Logits ``(B, C)``, in the caller's order, of packed ``tokens (N,)``.

        ``vocabulary (R,)`` are the rows of the embedding that occur, none twice; ``tokens`` then
        number those. So that nothing is done for characters that the batch does not have.
        ``random`` is the stream of the dropout masks; without it (evaluation) nothing is dropped.
        """
        table = self.emb.parameters["weight"]
        if vocabulary is not None:
            table = table.take(vocabulary, axis=0)  # (1), less the look-up
        (_, h), rnn = self.rnn.forward(table, packing=packing, tokens=tokens)  # (1), (2)
        z, dropout1 = self.dropout1.forward(h, random and random.child("dropout1"))  # (3)
        z, fc1 = self.fc1.forward(z)  # (4)
        z, relu = self.relu.forward(z)  # (5)
        z, dropout2 = self.dropout2.forward(z, random and random.child("dropout2"))  # (6)
        logits, fc2 = self.fc2.forward(z)  # (7)
        return logits, ClassifierCache(vocabulary, rnn, dropout1, fc1, relu, dropout2, fc2)

    def backward(self, d_logits: Array, cache: ClassifierCache, probe: Probe | None = None) -> None:
        """Add the gradients of all parameters; the input is integers and has none.

        ``probe`` is shown the gradient at every step of the recurrent layer.
        """
        d = self.fc2.backward(d_logits, cache.fc2)  # undoes (7)
        d = self.dropout2.backward(d, cache.dropout2)  # undoes (6)
        d = self.relu.backward(d, cache.relu)  # undoes (5)
        d = self.fc1.backward(d, cache.fc1)  # undoes (4)
        d = self.dropout1.backward(d, cache.dropout1)  # undoes (3)
        d_table, _ = self.rnn.backward((None, d), cache.rnn, probe)  # undoes (2)
        rows = slice(None) if cache.vocabulary is None else cache.vocabulary
        self.emb.add_grad(rows, d_table)  # undoes (1)

    def zero_grads(self) -> None:
        """Set all gradients to zero, in one write."""
        self.flat.grads[...] = 0

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """A copy of every parameter on the host, by name."""
        return {
            name: self.backend.to_numpy(value).copy() for name, value in self.parameters.items()
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every parameter; raises :class:`InputError` naming what is missing or misshapen."""
        for name in sorted(set(state) - set(self.parameters)):
            raise InputError(f"tensor {name!r} does not belong to this model")
        for name, value in self.parameters.items():
            if name not in state:
                raise InputError(f"tensor {name!r} is missing")
            if state[name].shape != value.shape:
                raise InputError(
                    f"tensor {name!r} has shape {state[name].shape}, not {value.shape}"
                )
            value[...] = self.backend.asarray(state[name], dtype=self.dtype)

    def astype(self, dtype: Any) -> Self:
        """A copy with parameters of another dtype; nothing is shared with this model."""
        twin = type(self)(self.config, backend=self.backend, dtype=dtype, random=self.random)
        twin.flat.values[...] = self.flat.values.astype(dtype)
        return twin
