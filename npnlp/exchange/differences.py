"""Differences of outputs and gradients from PyTorch's, and of outputs from onnxruntime's.

The difference of two arrays is the largest of all entries, divided by the largest entry of the
other array where that is above 1 (in float32, logits of 100 cannot agree to 1e-5). Gradients are
those of the mean cross-entropy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from npnlp.checks import require_whole
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.layers import SoftmaxCrossEntropy, pack_padded_sequence
from npnlp.models import SurnameClassifier
from npnlp.optional import needs
from npnlp.summary import summarized

if TYPE_CHECKING:
    import pandas as pd

    from npnlp.text import SurnameVectorizer

BOUNDS = {"float32": 1e-5, "float64": 1e-12}
Passed = tuple[NDArray[Any], Any, Mapping[str, NDArray[Any]]]


@summarized
@dataclass(frozen=True)
class Names:
    """Padded ``tokens (B, T)``, ``lengths (B,)`` and ``targets (B,)``."""

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]

    @classmethod
    def of(cls, frame: pd.DataFrame, vectorizer: SurnameVectorizer, count: int) -> Names:
        """``count`` evenly spaced names of a table, or all where it has fewer.

        They are of its split test, if it has one, and of nationalities that the vectorizer knows.
        Raises :class:`InputError` where there are none.
        """
        require_whole("names", count)
        classes = vectorizer.nationality_vocab
        rows = frame[[name in classes for name in frame["nationality"]]]
        if "split" in rows and (rows["split"] == "test").any():
            rows = rows[rows["split"] == "test"]
        if not len(rows):
            raise InputError("no name of a nationality that the model has")
        rows = rows.iloc[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        targets = np.array([classes.lookup_token(name) for name in rows["nationality"]])
        return cls(*padded(vectorizer, rows["surname"]), targets)


def padded(
    vectorizer: SurnameVectorizer, names: Iterable[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens ``(B, T)``, padded with the mask, and lengths ``(B,)``."""
    flat, lengths = vectorizer.vectorize_many(names)
    tokens = np.full((len(lengths), lengths.max()), vectorizer.char_vocab.mask_index)
    tokens[np.arange(lengths.max()) < lengths[:, None]] = flat
    return tokens, lengths


@dataclass(frozen=True)
class Difference:
    """The difference ``value`` of a ``quantity`` in ``dtype``, and its ``largest`` entry."""

    quantity: str
    dtype: str
    value: float
    largest: float

    @property
    def passed(self) -> bool:
        """Whether it is within the bound of its dtype; a NaN is not."""
        return self.value <= BOUNDS[self.dtype]


def difference(quantity: str, ours: Any, theirs: Any) -> Difference:
    """The difference of two arrays; raises :class:`InputError` where their shapes differ."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise InputError(f"{quantity} {theirs.shape} for {ours.shape}: not the same model")
    largest = float(np.abs(theirs).max(initial=0.0))
    value = float(np.abs(ours - theirs).max(initial=0.0)) / max(1.0, largest)
    return Difference(quantity, ours.dtype.name, value, largest)


def own_logits(
    model: SurnameClassifier, tokens: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """Logits ``(B, C)`` of padded ``tokens (B, T)``, without any gradient."""
    return model.backend.to_numpy(_forward(model, tokens, lengths)[0])


def _forward(
    model: SurnameClassifier, tokens: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[Any, Any]:
    on_backend = model.backend.asarray(tokens.T)
    packed, packing = pack_padded_sequence(on_backend, lengths, model.backend)
    return model.forward(packed, packing=packing)


def own_pass(model: SurnameClassifier, names: Names) -> Passed:
    """Logits, the mean cross-entropy and its gradients by name, which also set ``model.grads``."""
    logits, cache = _forward(model, names.tokens, names.lengths)
    criterion = SoftmaxCrossEntropy(backend=model.backend, dtype=model.dtype)
    loss, sums = criterion.forward(logits, model.backend.asarray(names.targets))
    model.zero_grads()
    model.backward(criterion.backward(1.0, sums), cache)
    host = model.backend.to_numpy
    return host(logits), host(loss), {name: host(grad) for name, grad in model.grads.items()}


def from_torch(model: SurnameClassifier, names: Names) -> list[Difference]:
    """Differences of logits, loss and all gradients from PyTorch's, in float32 and in float64."""
    with needs("a comparison with PyTorch", "torch"):
        from npnlp.exchange.torch_model import torch_pass
    found = []
    for dtype in BOUNDS:
        twin = model.astype(dtype)
        logits, loss, grads = own_pass(twin, names)
        theirs = torch_pass(
            model.config, twin.state_dict(), names.tokens, names.lengths, names.targets
        )
        found += [difference("logits", logits, theirs[0]), difference("loss", loss, theirs[1])]
        found += [difference(f"gradient of {k}", grads[k], theirs[2][k]) for k in grads]
    return found


def from_onnx(classifier: Classifier, path: Path | bytes, names: Names) -> list[Difference]:
    """The difference of logits from those that onnxruntime computes from an ONNX file."""
    with needs("a comparison with ONNX", "onnxruntime"):
        from npnlp.exchange.onnx_run import onnx_logits
    theirs = onnx_logits(path, names.tokens, names.lengths)
    ours = own_logits(classifier.model, names.tokens, names.lengths)
    return [difference("logits", ours, theirs)]
