"""Why a name got its answer, letter by letter."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import get_backend
from npnlp.backend.random import UNDRAWN
from npnlp.backend.threads import in_one_blas_thread
from npnlp.checks import require_fraction
from npnlp.classifier.contributions import difference, inputs_of, share_out
from npnlp.classifier.ways import packed
from npnlp.errors import InputError
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SurnameVectorizer

if TYPE_CHECKING:
    import pandas as pd

#: What the contributions may miss of the difference that they share out; sums round at the least.
TOLERANCE, LEAST = 1e-3, 1e-9
#: Two methods disagree about a letter where their signs differ, and both say at least this share of
#: all that they say.
NOTICED = 0.05


@dataclass(frozen=True)
class Letter:
    """A letter of an explained name.

    ``probabilities (C,)`` are those of the name that ends here; ``gradient`` is the norm of the
    gradient of the difference that reaches the letter's embedding, ``|dg/de_t|``; ``contribution``
    is the letter's share by integrated gradients, and ``left_out`` is what the difference loses
    where the letter is left out.
    """

    letter: str
    probabilities: tuple[float, ...]
    gradient: float
    contribution: float
    left_out: float


@summarized
@dataclass(frozen=True)
class Explanation:
    """Why a name, or a part of one, got the label ``answer`` and not ``runner_up``.

    ``difference`` is that of their logits (:mod:`npnlp.classifier.contributions`): ``nothing``,
    which a sequence without letters gives, and the contributions of the letters, to within the
    ``residue``. ``labels (C,)`` are those of the letters' probabilities.
    """

    surname: str
    answer: str
    probability: float
    runner_up: str
    runner_up_probability: float
    difference: float
    nothing: float
    residue: float
    letters: tuple[Letter, ...]
    labels: tuple[str, ...]

    @property
    def disagreements(self) -> list[int]:
        """The places of letters that count for the answer by one method and against it by the
        other.
        """
        shared = [each.contribution for each in self.letters]
        left = [each.left_out for each in self.letters]
        least = [NOTICED * sum(map(abs, each)) for each in (shared, left)]
        return [
            place
            for place, (a, b) in enumerate(zip(shared, left, strict=True))
            if a * b < 0 and abs(a) >= least[0] and abs(b) >= least[1]
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "labels"}
        values["letters"] = [
            {**vars(each), "probabilities": dict(zip(self.labels, each.probabilities, strict=True))}
            for each in self.letters
        ]
        return {**values, "disagreements": self.disagreements}

    def table(self) -> pd.DataFrame:
        """A row a letter: the answer of the name that ends there with its ``probability``, and the
        other numbers of :class:`Letter`.
        """
        import pandas as pd

        best = [int(np.argmax(each.probabilities)) for each in self.letters]
        return pd.DataFrame({
            "letter": [each.letter for each in self.letters],
            "the answer then": [self.labels[place] for place in best],
            "probability": [
                each.probabilities[place]
                for each, place in zip(self.letters, best, strict=True)
            ],
            "gradient": [each.gradient for each in self.letters],
            "contribution": [each.contribution for each in self.letters],
            "left out": [each.left_out for each in self.letters],
        })  # fmt: skip

    def _repr_html_(self) -> str:
        """The table, below what it explains, for a notebook."""
        said = (
            f"{self.surname}: {self.answer} {self.probability:.3f}, "
            f"runner-up {self.runner_up} {self.runner_up_probability:.3f}"
        )
        table: str = self.table().to_html(index=False, float_format="{:.3g}".format)
        return f"<p>{escape(said)}</p>\n{table}"


def exact_copy(model: SurnameClassifier) -> SurnameClassifier:
    """The same model in float64 on NumPy."""
    twin = SurnameClassifier(
        model.config, backend=get_backend("numpy"), dtype=np.float64, random=UNDRAWN
    )
    twin.load_state_dict(model.state_dict())
    return twin


@in_one_blas_thread
def explain(
    model: SurnameClassifier, vectorizer: SurnameVectorizer, read: str,
    tolerance: float = TOLERANCE,
) -> Explanation:  # fmt: skip
    """Explain what ``model``, an :func:`exact_copy`, says of a name as it is ``read``.

    Raises :class:`InputError` where its numbers are not finite, and for a ``tolerance`` outside
    ``[1e-9, 1)``.
    """
    require_fraction("tolerance", tolerance)
    if tolerance < LEAST:
        raise InputError(f"tolerance is {tolerance}; it has to be at least {LEAST}")
    tokens = np.array(vectorizer.tokens_of(read))
    begin, letters, end = tokens[:1], tokens[1:-1], tokens[-1:]
    upto = [np.concatenate([begin, letters[: n + 1], end]) for n in range(len(letters))]
    without = [np.delete(tokens, n + 1) for n in range(len(letters))]
    probabilities = _forward(model, upto)
    whole = probabilities[-1]
    first, second = np.argsort(-whole, kind="stable")[:2].tolist() if len(whole) > 1 else (0, 0)
    direction = np.zeros(len(whole))
    direction[second] -= 1
    direction[first] += 1
    inputs = inputs_of(model, tokens)
    shared = share_out(model, inputs, direction, tolerance)
    bag = inputs.bag.sum(axis=0)[None]
    g, d_x, _ = difference(model, inputs.embeddings[None], bag, direction)
    gradients = np.linalg.norm(d_x[0], axis=1)
    logs = np.log(np.maximum(_forward(model, without), np.finfo(float).tiny))
    left_out = float(g[0]) - (logs[:, first] - logs[:, second])
    labels = tuple(map(str, vectorizer.nationality_vocab.tokens))
    return Explanation(
        read, labels[first], float(whole[first]), labels[second], float(whole[second]),
        float(g[0]), shared.nothing, shared.residue,
        tuple(
            Letter(letter, tuple(probabilities[n].tolist()), float(gradients[n + 1]),
                   float(shared.contributions[n + 1]), float(left_out[n]))
            for n, letter in enumerate(read)
        ),
        labels,
    )  # fmt: skip


def _forward(model: SurnameClassifier, sequences: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    lengths = np.array(list(map(len, sequences)))
    found: NDArray[np.float64] = packed(model, np.concatenate(sequences), lengths)[0]
    return found
