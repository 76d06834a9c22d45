"""Names in, nationalities out: a model together with its vocabularies, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, get_backend
from npnlp.errors import InputError
from npnlp.layers import softmax
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameVectorizer, clean_name
from npnlp.training.batches import batches
from npnlp.training.evaluate import EVALUATION_BATCH
from npnlp.training.tensors import load_tensors, save_tensors

KIND = "npnlp classifier"


@dataclass(frozen=True)
class Prediction:
    """The most probable nationalities of a name, best first, as (nationality, probability)."""

    surname: str
    top: tuple[tuple[str, float], ...]

    @property
    def nationality(self) -> str:
        """The most probable one."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.top[0][1]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "surname": self.surname,
            "nationality": self.nationality,
            "probability": self.probability,
            "top": [{"nationality": name, "probability": p} for name, p in self.top],
        }


class Classifier:
    """A trained model and its vectorizer.

    ``Classifier.load("model.safetensors").predict(["Nakamoto"])[0].nationality``
    """

    def __init__(self, model: SurnameClassifier, vectorizer: SurnameVectorizer) -> None:
        self.model = model
        self.vectorizer = vectorizer

    def save(self, path: str | Path) -> None:
        """Write weights, configuration and vocabularies."""
        values = {
            "config": self.model.config.to_dict(),
            "vectorizer": self.vectorizer.to_serializable(),
        }
        save_tensors(path, KIND, self.model.state_dict(), values)

    @classmethod
    def load(cls, path: str | Path, backend: Backend | None = None) -> Self:
        """Undo :meth:`save`; raises :class:`InputError` naming file and field where it cannot."""
        state, values = load_tensors(path, KIND)
        try:
            config = ClassifierConfig.from_dict(values["config"])
            vectorizer = SurnameVectorizer.from_serializable(values["vectorizer"])
            sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
            if sizes != (config.num_embeddings, config.num_classes):
                raise InputError(f"vocabularies of {sizes} for a configuration of {config}")
            for name, tensor in state.items():
                if not np.isfinite(tensor).all():
                    raise InputError(f"tensor {name!r} holds numbers that are not finite")
            model = SurnameClassifier(config, backend=backend or get_backend("numpy"))
            model.load_state_dict(state)
        except KeyError as error:
            raise InputError(f"{path}: metadata lacks {error}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return cls(model, vectorizer)

    def unknown_characters(self, surname: str) -> str:
        """The characters of a name that training has never seen; all of them look alike to it."""
        return "".join(c for c in clean_name(surname) if c not in self.vectorizer.char_vocab)

    def probabilities(self, surnames: Sequence[str]) -> NDArray[Any]:
        """The probability of each class for each name ``(len(surnames), C)``.

        Raises :class:`InputError` for a name that is empty.
        """
        for place, surname in enumerate(surnames):
            if not clean_name(surname):
                raise InputError(f"name {place + 1} is empty; give at least one character")
        tokens, lengths = self.vectorizer.vectorize_many(surnames)
        starts = np.cumsum(lengths) - lengths
        arrays = SplitArrays(tokens, starts, lengths, np.zeros(len(lengths), dtype=np.int64))
        backend = self.model.backend
        out = np.empty((len(surnames), self.model.config.num_classes), dtype=self.model.dtype)
        order = np.argsort(lengths, kind="stable")
        for batch in batches(arrays, order, EVALUATION_BATCH, backend):
            logits, _ = self.model.forward(**batch.inputs)
            out[batch.rows] = backend.to_numpy(softmax(logits, backend.xp))
        return out

    def predict(self, surnames: Sequence[str], top_k: int = 1) -> list[Prediction]:
        """The ``top_k`` most probable nationalities of each name.

        Raises :class:`InputError` for an empty name, or a ``top_k`` below 1; one above the number
        of classes gives them all.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; it has to be at least 1")
        if isinstance(surnames, str):
            raise InputError("surnames has to be a list of names; put the one name into a list")
        probabilities = self.probabilities(surnames)
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        names = self.vectorizer.nationality_vocab.tokens
        return [
            Prediction(surname, tuple((names[c], float(row[c])) for c in classes))
            for surname, row, classes in zip(surnames, probabilities, ranked, strict=True)
        ]
