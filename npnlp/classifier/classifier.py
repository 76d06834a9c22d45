"""Names in, nationalities out: a model together with its vocabularies, in one file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend
from npnlp.backend.threads import in_one_blas_thread
from npnlp.checks import require_whole
from npnlp.classifier.calibration import Calibration
from npnlp.classifier.decision import ALL, LITTLE, UNLIKE, UNREAD, Decided, Decision
from npnlp.classifier.model_file import ModelParts, load_parts, own_model_path, save_parts
from npnlp.classifier.prediction import Prediction, not_finite, require_finite
from npnlp.classifier.ways import MANY, packed, probabilities_of
from npnlp.errors import InputError
from npnlp.inference import most_probable
from npnlp.inference.predictor import BLOCK_NUMBERS as BLOCK_NUMBERS
from npnlp.models import SurnameClassifier
from npnlp.summary import one_line
from npnlp.text import SurnameVectorizer
from npnlp.text.encoding import characters_of, encode_names, encode_plain_names
from npnlp.text.familiarity import Familiarity
from npnlp.text.given import as_texts
from npnlp.text.letter_case import LETTER_CASES
from npnlp.text.parts import Parts, in_parts
from npnlp.text.provenance import TableNote

if TYPE_CHECKING:
    from npnlp.classifier.explanation import Explanation

#: A number that is not finite is found in the result; NumPy's warnings would say no more.
QUIET = np.errstate(over="ignore", invalid="ignore")


class Classifier:
    """A trained model and its vectorizer; where they are known, its table, calibration and names.

    ``Classifier.load("model.safetensors").predict(["Nakamoto"])[0].nationality``
    """

    def __init__(
        self,
        model: SurnameClassifier,
        vectorizer: SurnameVectorizer,
        table: TableNote | None = None,
        calibration: Calibration | None = None,
        familiarity: Familiarity | None = None,
    ) -> None:
        self.model = model
        self.vectorizer = vectorizer
        self.table = table
        self.calibration = calibration
        self.familiarity = familiarity

    def __repr__(self) -> str:
        return one_line(type(self).__name__, [repr(self.model), repr(self.vectorizer)])

    @property
    def temperature(self) -> float:
        """That of its calibration; 1 without one."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def save(self, path: str | Path) -> None:
        """Write all of it into one file (:mod:`npnlp.classifier.model_file`)."""
        save_parts(path, self._parts())

    @classmethod
    def load(cls, path: str | Path | None = None, backend: Backend | None = None) -> Self:
        """Undo :meth:`save`; without a path, the model that comes with npnlp.

        Raises :class:`InputError` naming file and field where it cannot.
        """
        return cls(*load_parts(own_model_path() if path is None else path, backend))

    def _parts(self) -> ModelParts:
        return ModelParts(
            self.model, self.vectorizer, self.table, self.calibration, self.familiarity
        )

    def unknown_characters(self, surname: str) -> str:
        """The characters of a name that training has never seen; all of them look alike to it."""
        (text,) = as_texts("surname", [surname])
        read = "".join(self.vectorizer.parts_as_read(text))
        return "".join(c for c in read if c not in self.vectorizer.char_vocab)

    @in_one_blas_thread
    @QUIET
    def probabilities(self, surnames: Iterable[Any], *, exact: bool = False) -> NDArray[Any]:
        """The probability of each class for each name ``(len(surnames), C)``.

        ``surnames`` is what :func:`npnlp.text.given.as_texts` takes: a list, an array, a Series, a
        table of one column.
        A single name, and many names, go a shorter way where the model allows it
        (:func:`npnlp.inference.can_predict`): the same numbers, but for the order of sums. Where
        ``vectorizer.split_at`` says so, a name is read in parts (:mod:`npnlp.text.parts`).
        Where the model overflows, as with ReLU on a very long name, they are NaN. With ``exact``
        each name is predicted alone, and has the same bits whatever others stand beside it. Raises
        :class:`InputError` for a name that is empty or no text.
        """
        return self._read(as_texts("surnames", surnames), exact)

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
        classes, best = probabilities_of(self.model, *self._encode(surnames), top_k, exact=exact)
        if parts := in_parts(surnames, self.vectorizer.split_at):
            for some in parts.of_at_most(self._block):
                rows, found = some.places, most_probable(self._averaged(some, exact), top_k)
                classes[rows], best[rows] = found
        return classes, best

    @property
    def _block(self) -> int:
        """How many names are looked at together where all their classes are needed."""
        return max(1, BLOCK_NUMBERS // self.model.config.num_classes)

    def _read(self, surnames: list[str], exact: bool) -> NDArray[Any]:
        """The probabilities of each name; one in parts is read whole first, which is simple."""
        (found,) = probabilities_of(self.model, *self._encode(surnames), exact=exact)
        if parts := in_parts(surnames, self.vectorizer.split_at):
            for some in parts.of_at_most(self._block):
                found[some.places] = self._averaged(some, exact)
        return found

    def _averaged(self, parts: Parts, exact: bool) -> NDArray[Any]:
        (read,) = probabilities_of(self.model, *self._encode(parts.names), exact=exact)
        return parts.averaged(read)

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

    def packed_probabilities(self, tokens: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
        """The probabilities of tokens, one name after another, by packed batches."""
        return packed(self.model, tokens, lengths)[0]

    def decided(
        self, surnames: Iterable[Any], top_k: int = 1, decision: Decision = ALL, *,
        exact: bool = False,
    ) -> Decided:  # fmt: skip
        """:meth:`best`, with the reasons of names that get no answer, and sets where asked for.

        Raises :class:`InputError` as :meth:`best`, and where the model has no rows held out, which
        a precision and sets are found by.
        """
        return self._decided(as_texts("surnames", surnames), top_k, decision, exact)

    def _decided(self, texts: list[str], top_k: int, decision: Decision, exact: bool) -> Decided:
        sets: list[list[int]] | None = None
        if decision.sets is None:
            classes, best = self._best(texts, top_k, exact)
        else:
            sets, found = [], list[tuple[NDArray[Any], NDArray[Any]]]()
            for first in range(0, max(len(texts), 1), self._block):
                every = self.probabilities(texts[first : first + self._block], exact=exact)
                found.append(most_probable(every, top_k))
                of_block = decision.sets_of(every, self.calibration)
                for place in not_finite(every):
                    of_block[place] = []
                sets += of_block
            classes, best = map(np.concatenate, zip(*found, strict=True))
        reasons: dict[int, str] = {}
        if decision is ALL:
            return Decided(classes, best, reasons, sets)
        if decision.abstains:
            little = np.flatnonzero(best[:, 0] < decision.least(self.calibration))
            reasons = dict.fromkeys(little.tolist(), LITTLE)
        if decision.unlike:
            reasons |= dict.fromkeys(self.unlike(texts), UNLIKE)
        for place in self.unread(texts) if decision.unread else ():
            reasons[place] = UNREAD
            if sets:
                sets[place] = []
        return Decided(classes, best, reasons, sets)

    def explain(self, surname: str, tolerance: float = 1e-3) -> list[Explanation]:
        """Why a name gets its answer, letter by letter (:mod:`npnlp.classifier.explanation`).

        One explanation, or one for each part where the name is read in parts. The contributions of
        the letters sum to the difference of the logits to within ``tolerance`` of it. Raises
        :class:`InputError` for a name that is empty or no text, for a ``tolerance`` outside
        ``[1e-9, 1)``, and where the model's numbers are not finite.
        """
        from npnlp.classifier.explanation import exact_copy, explain  # predicting needs neither

        (text,) = as_texts("surname", [surname])
        read = self.vectorizer.parts_as_read(text)
        if not all(read):
            raise InputError("the name is empty; give at least one character")
        model = exact_copy(self.model)
        return [explain(model, self.vectorizer, part, tolerance) for part in read]

    def unread(self, surnames: list[str]) -> list[int]:
        """The places of names of which no character is known to the model."""
        known = self.vectorizer.char_vocab
        if all(character in known for character in characters_of(surnames)):
            return []
        letters = frozenset(known.tokens)
        first = [n for n, name in enumerate(surnames) if name[0] not in letters]  # most are known
        doubtful = [n for n in first if letters.isdisjoint(surnames[n])]
        read = self.vectorizer.as_read(surnames[n] for n in doubtful)
        return [n for n, name in zip(doubtful, read, strict=True) if letters.isdisjoint(name)]

    def unlike(self, surnames: list[str]) -> list[int]:
        """The places of names that are unlike those of training (:mod:`npnlp.text.familiarity`)."""
        if self.familiarity is None:
            raise InputError(
                "the model does not know what the names of its training look like; train it again"
            )
        scores = self.familiarity.scores(*self._encode(surnames))
        places: list[int] = np.flatnonzero(scores < self.familiarity.threshold).tolist()
        return places

    def predict(
        self,
        surnames: Iterable[Any],
        top_k: int = 1,
        *,
        exact: bool = False,
        blank: bool = False,
        decision: Decision = ALL,
    ) -> list[Prediction]:
        """The ``top_k`` most probable nationalities of each name; see :meth:`probabilities`.

        Every name gets an answer, unless ``decision`` says what an answer takes. With ``blank``, a
        name whose probabilities are not finite has an empty ``top``. Raises :class:`InputError` for
        a name that is empty or no text, without ``blank`` for one whose probabilities are not
        finite, and for a ``top_k`` below 1; one above the number of classes gives them all.
        """
        texts, names = as_texts("surnames", surnames), self.vectorizer.nationality_vocab.tokens
        classes, probabilities, reasons, sets = self._decided(texts, top_k, decision, exact)
        bad = not_finite(probabilities)
        if bad and not blank:
            require_finite(probabilities, texts)
        found = [
            Prediction(surname, tuple((names[c], p) for c, p in zip(of_name, row, strict=True)))
            for surname, of_name, row in zip(
                texts, classes.tolist(), probabilities.tolist(), strict=True
            )
        ]
        for place, reason in reasons.items():
            found[place] = Prediction(texts[place], (), reason)
        for place in bad:
            found[place] = Prediction(texts[place], ())
        for place, members in enumerate(sets or ()):
            found[place] = replace(found[place], labels=tuple(names[c] for c in members))
        return found
