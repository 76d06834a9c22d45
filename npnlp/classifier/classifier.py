"""Names in, nationalities out: a model together with its vocabularies, in one file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, get_backend
from npnlp.backend.threads import in_one_blas_thread
from npnlp.checks import require_whole
from npnlp.classifier.batches import EVALUATION_BATCH, by_length
from npnlp.classifier.weights import checked_weights, narrowed, require_room
from npnlp.errors import InputError, short
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.inference import can_predict, largest, make_predictor, predict_one
from npnlp.layers import softmax
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.summary import one_line
from npnlp.text import SplitArrays, SurnameVectorizer
from npnlp.text.encoding import encode_names, encode_plain_names
from npnlp.text.given import as_texts
from npnlp.text.letter_case import LETTER_CASES
from npnlp.text.provenance import TableNote

KIND = "npnlp classifier"
#: From this many names on it pays to prepare the model for many.
MANY = 256
#: A number that is not finite is found in the result; NumPy's warnings would say no more.
QUIET = np.errstate(over="ignore", invalid="ignore")
#: What is wrong with a name of which the model makes no finite number.
NOT_FINITE = "probabilities that are not finite; leave it out, or use another model"
#: Sequences longer than this have few prefixes in common with others: they go in packed batches.
LONGEST = 64
#: The most steps of a batch of long sequences, so that memory does not grow with their length.
MOST_ROWS = 2**17


@dataclass(frozen=True, repr=False)
class Prediction:
    """The most probable nationalities of a name, best first, as (nationality, probability).

    ``top`` is empty where there is no prediction: see :meth:`Classifier.predict`.
    """

    surname: str
    top: tuple[tuple[str, float], ...]

    def __repr__(self) -> str:
        best = "top=()"
        if self.top:
            best = f"nationality={short(self.nationality)}, probability={self.probability:.3f}"
        return f"{type(self).__name__}(surname={short(self.surname)}, {best})"

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
        nationality, probability = self.top[0] if self.top else (None, None)
        return {
            "surname": self.surname,
            "nationality": nationality,
            "probability": probability,
            "top": [{"nationality": name, "probability": p} for name, p in self.top],
        }


class Classifier:
    """A trained model, its vectorizer and, where that is known, a note on its table.

    ``Classifier.load("model.safetensors").predict(["Nakamoto"])[0].nationality``
    """

    def __init__(
        self,
        model: SurnameClassifier,
        vectorizer: SurnameVectorizer,
        table: TableNote | None = None,
    ) -> None:
        self.model = model
        self.vectorizer = vectorizer
        self.table = table

    def __repr__(self) -> str:
        return one_line(type(self).__name__, [repr(self.model), repr(self.vectorizer)])

    def save(self, path: str | Path) -> None:
        """Write weights, configuration and vocabularies, and the hash of the table.

        Weights that all are numbers of float16 are written as such: half the file, the same bits.
        """
        values = {
            "config": self.model.config.to_dict(),
            "vectorizer": self.vectorizer.to_serializable(),
        }
        if self.table is not None:
            values["table"] = asdict(self.table)
        save_tensors(path, KIND, narrowed(self.model.state_dict()), values)

    @classmethod
    def load(cls, path: str | Path, backend: Backend | None = None) -> Self:
        """Undo :meth:`save`; raises :class:`InputError` naming file and field where it cannot."""
        state, values = load_tensors(path, KIND)
        try:
            config = ClassifierConfig.from_dict(values["config"])
            vectorizer = SurnameVectorizer.from_serializable(values["vectorizer"])
            table = TableNote.from_dict(values.get("table"))
            sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
            if sizes != (config.num_embeddings, config.num_classes):
                raise InputError(f"vocabularies of {sizes} for a configuration of {config}")
            state = checked_weights(state)
            require_room(config, state)
            model = SurnameClassifier(config, backend=backend or get_backend("numpy"))
            model.load_state_dict(state)
        except KeyError as error:
            raise InputError(f"{path}: metadata lacks {error}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return cls(model, vectorizer, table)

    def unknown_characters(self, surname: str) -> str:
        """The characters of a name that training has never seen; all of them look alike to it."""
        (read,) = self.vectorizer.as_read(as_texts("surname", [surname]))
        return "".join(c for c in read if c not in self.vectorizer.char_vocab)

    @in_one_blas_thread
    @QUIET
    def probabilities(self, surnames: Iterable[Any], *, exact: bool = False) -> NDArray[Any]:
        """The probability of each class for each name ``(len(surnames), C)``.

        ``surnames`` is what :func:`npnlp.text.given.as_texts` takes: a list, an array, a Series, a
        table of one column.
        A single name, and many names, go a shorter way where the model allows it
        (:func:`npnlp.inference.can_predict`): the same numbers, but for the order of sums.
        Where the model overflows, as with ReLU on a very long name, they are NaN. With ``exact``
        each name is predicted alone, and has the same bits whatever others stand beside it. Raises
        :class:`InputError` for a name that is empty or no text.
        """
        tokens, lengths = self._encode(as_texts("surnames", surnames))
        return (self._alone if exact else self._probabilities)(tokens, lengths)

    def best(
        self, surnames: Iterable[Any], top_k: int = 1, *, exact: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The ``top_k`` most probable classes of each name, best first, and their probabilities.

        Both are ``(len(surnames), k)``; of equals the first class comes first. Numbers that are not
        finite are returned as they are; ``exact`` as for :meth:`probabilities`. Raises
        :class:`InputError` for an empty name, or a ``top_k`` below 1.
        """
        return self._best(as_texts("surnames", surnames), top_k, exact)

    @in_one_blas_thread
    @QUIET
    def _best(
        self, surnames: list[str], top_k: int, exact: bool
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        require_whole("top_k", top_k)
        tokens, lengths = self._encode(surnames)
        if top_k > 1 or exact:
            probabilities = (self._alone if exact else self._probabilities)(tokens, lengths)
            classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
            return classes, np.take_along_axis(probabilities, classes, axis=1)
        if len(lengths) >= MANY and can_predict(self.model) and lengths.max() <= LONGEST:
            best, probability = make_predictor(self.model).best(tokens, lengths)
        else:
            best, probability = largest(self._probabilities(tokens, lengths))
        return best[:, None], probability[:, None]

    def _alone(self, tokens: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
        """Each sequence by itself, and one that occurs again once."""
        out = np.empty((len(lengths), self.model.config.num_classes), dtype=self.model.dtype)
        seen: dict[bytes, int] = {}
        for row, (own, length) in enumerate(
            zip(np.split(tokens, np.cumsum(lengths)[:-1]), lengths, strict=True)
        ):
            first = seen.setdefault(own.tobytes(), row)
            if first == row:
                out[row] = self._probabilities(own, np.array([length]))[0]
            else:
                out[row] = out[first]
        return out

    def _probabilities(self, tokens: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
        """By the way that is fastest for this number of sequences and their lengths."""
        shorter = can_predict(self.model)
        if len(lengths) == 1 and shorter and len(tokens) <= LONGEST:
            return predict_one(self.model, tokens)[None]
        if len(lengths) < MANY or not shorter:
            return self.packed_probabilities(tokens, lengths)
        read, short = make_predictor(self.model).probabilities, lengths <= LONGEST
        if short.all():
            return read(tokens, lengths)
        out = np.empty((len(lengths), self.model.config.num_classes), dtype=self.model.dtype)
        for rows, way in ((short, read), (~short, self.packed_probabilities)):
            if rows.any():
                out[rows] = way(tokens[np.repeat(rows, lengths)], lengths[rows])
        return out

    def _encode(self, surnames: list[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        """All tokens, one name after another, and the length of each."""
        vocab = self.vectorizer.char_vocab
        if len(surnames) >= MANY:
            encoded = encode_plain_names(LETTER_CASES[self.vectorizer.letter_case](surnames), vocab)
            if encoded is not None:
                return encoded
        read = self.vectorizer.as_read(surnames)
        if not all(read):
            place = read.index("") + 1
            raise InputError(f"name {place} is empty; give at least one character")
        if len(read) == 1:
            tokens = np.array(self.vectorizer.tokens_of(read[0]))
            return tokens, np.array([len(tokens)])
        return encode_names(read, vocab)

    @in_one_blas_thread
    def packed_probabilities(self, tokens: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
        """The probabilities of tokens, one name after another, by packed batches."""
        backend = self.model.backend
        starts = np.cumsum(lengths) - lengths
        targets = np.zeros(len(lengths), dtype=np.int64)
        arrays = SplitArrays(tokens.astype(np.int64), starts, lengths, targets)
        out = np.empty((len(lengths), self.model.config.num_classes), dtype=self.model.dtype)
        size = max(1, min(EVALUATION_BATCH, MOST_ROWS // int(lengths.max(initial=1))))
        for batch in by_length(arrays, backend, size):
            logits, _ = self.model.forward(**batch.inputs)
            out[batch.rows] = backend.to_numpy(softmax(logits, backend.xp))
        return out

    def predict(
        self, surnames: Iterable[Any], top_k: int = 1, *, exact: bool = False, blank: bool = False
    ) -> list[Prediction]:
        """The ``top_k`` most probable nationalities of each name; see :meth:`probabilities`.

        With ``blank``, a name whose probabilities are not finite has an empty ``top``. Raises
        :class:`InputError` for a name that is empty or no text, without ``blank`` for one whose
        probabilities are not finite, and for a ``top_k`` below 1; one above the number of classes
        gives them all.
        """
        texts, names = as_texts("surnames", surnames), self.vectorizer.nationality_vocab.tokens
        classes, probabilities = self._best(texts, top_k, exact)
        bad = not_finite(probabilities)
        if bad and not blank:
            require_finite(probabilities, texts)
        found = [
            Prediction(surname, tuple((names[c], p) for c, p in zip(of_name, row, strict=True)))
            for surname, of_name, row in zip(
                texts, classes.tolist(), probabilities.tolist(), strict=True
            )
        ]
        for place in bad:
            found[place] = Prediction(texts[place], ())
        return found


def require_finite(probabilities: NDArray[Any], surnames: Sequence[str]) -> None:
    """Raise :class:`InputError`, naming the first row of ``(n, k)`` that is not finite."""
    for place in not_finite(probabilities):
        raise InputError(f"name {place + 1}, {short(surnames[place])}, has {NOT_FINITE}")


def not_finite(probabilities: NDArray[Any]) -> list[int]:
    """The rows of ``(n, k)`` that hold a number that is not finite."""
    if math.isfinite(np.vdot(probabilities, probabilities)):  # the quickest question
        return []
    places: list[int] = np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist()
    return places
