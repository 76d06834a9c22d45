"""What a file of predictions looks like: the lines of a CSV, or objects of JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from npnlp.checks import require_whole
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.decision import ALL, Decided, Decision
from npnlp.classifier.prediction import Prediction, not_finite
from npnlp.text.columns import Layout, folded

#: An object on a line, in ASCII.
to_json_line = json.JSONEncoder(allow_nan=False).encode


class Answers(NamedTuple):
    """How many classes a prediction shows, as JSON or CSV; whether it may be left empty.

    ``exact`` and ``decision`` are those of :meth:`Classifier.predict`.
    """

    top_k: int = 1
    as_json: bool = False
    blank: bool = False
    exact: bool = False
    decision: Decision = ALL


def csv_header(classifier: Classifier, layout: Layout | None, answers: Answers) -> str:
    """The columns of a table and those of :func:`predicted`.

    A table that has a column of the same name gets ``predicted_nationality`` and so on.
    """
    require_whole("top_k", answers.top_k)
    above, fields, delimiter = "", ["surname"], ","
    if layout is not None:
        above, fields, delimiter = layout.above, [*layout.fields], layout.delimiter
    count = min(answers.top_k, len(classifier.vectorizer.nationality_vocab))
    ends = ["", *(f"_{place}" for place in range(2, count + 1))]
    added = [name + end for end in ends for name in ("nationality", "probability")]
    added += ["reason"] * answers.decision.abstains + ["set"] * (answers.decision.sets is not None)
    if not {*map(folded, fields)}.isdisjoint(map(folded, added)):
        added = [f"predicted_{name}" for name in added]
    return above + delimiter.join([*quoted(fields, delimiter), *added]) + "\n"


def predicted(
    classifier: Classifier, names: list[str], heads: Sequence[str], answers: Answers, delimiter: str
) -> tuple[list[str], list[str]]:
    """A line for each name; the names for which the model's numbers are not finite.

    Of a CSV, behind the name's part of ``heads``, nationalities and probabilities, the most
    probable first; of JSON, the object that ``--json`` lists, in ASCII, so that every terminal can
    show it.
    """
    exact = answers.exact
    if answers.as_json:
        found = classifier.predict(
            names, answers.top_k, exact=exact, blank=True, decision=answers.decision
        )
        without = [each.surname for each in found if not each.top and not each.reason]
        return [_json(prediction, exact=exact) for prediction in found], without
    decided = classifier.decided(names, answers.top_k, answers.decision, exact=exact)
    classes, best = decided.classes, decided.probabilities
    labels = quoted(classifier.vectorizer.nationality_vocab.tokens, delimiter)
    starts = [f"{delimiter}{label}{delimiter}" for label in labels]
    rows, left = list(heads), classes.shape[1]
    behind = _behind(decided, classifier, answers, delimiter)
    for of_place, probabilities in zip(classes.T.tolist(), best.T.tolist(), strict=True):
        left -= 1
        end = "" if left or behind else "\n"
        rows = [
            f"{row}{starts[c]}{probability:.6f}{end}"
            for row, c, probability in zip(rows, of_place, probabilities, strict=True)
        ]
    for place in decided.reasons:
        rows[place] = heads[place] + no_prediction("", classifier, answers, delimiter, end="")
    if behind:
        rows = [row + end for row, end in zip(rows, behind, strict=True)]
    bad = not_finite(best)
    for place in bad:
        rows[place] = heads[place] + no_prediction("", classifier, answers, delimiter)
    return rows, [names[place] for place in bad]


def _behind(
    decided: Decided, classifier: Classifier, answers: Answers, delimiter: str
) -> list[str]:
    """The ends of the lines of a CSV: reasons, where answers are held back, and sets."""
    parts: list[Sequence[str]] = []
    count, names = len(decided.classes), classifier.vectorizer.nationality_vocab.tokens
    if answers.decision.abstains:
        parts.append([decided.reasons.get(place, "") for place in range(count)])
    if decided.sets is not None:
        sets = ["|".join(names[c] for c in members) for members in decided.sets]
        parts.append(quoted(sets, delimiter))
    if not parts and not decided.reasons:
        return []
    ends = (delimiter + delimiter.join(each) for each in zip(*parts, strict=True))
    return [f"{end}\n" for end in ends] if parts else ["\n"] * count


def no_prediction(
    name: str, classifier: Classifier, answers: Answers, delimiter: str, end: str | None = None
) -> str:
    """What stands in the place of a prediction that there is not, up to its ``end``."""
    if answers.as_json:
        labels = None if answers.decision.sets is None else ()
        return _json(Prediction(name, (), labels=labels), exact=True)
    empty = 2 * min(answers.top_k, len(classifier.vectorizer.nationality_vocab)) * delimiter
    decision = answers.decision
    more = delimiter * (decision.abstains + (decision.sets is not None))
    return empty + (f"{more}\n" if end is None else end)


def described(prediction: Prediction, *, exact: bool) -> dict[str, Any]:
    """For JSON. But with ``exact``, digits that depend on the names beside it are left out."""
    values = prediction.to_dict()
    if not exact:
        for found in (values, *values["top"]) if values["top"] else ():
            found["probability"] = float(f"{found['probability']:.6g}")
    return values


def _json(prediction: Prediction, *, exact: bool) -> str:
    return to_json_line(described(prediction, exact=exact)) + "\n"


def with_columns(made: list[str], records: Sequence[str], layout: Layout) -> list[str]:
    """Objects of :func:`predicted` with the fields of the table as ``columns``."""
    rows = csv.reader(records, delimiter=layout.delimiter, strict=True)
    return [
        f'{text[:-2]}, "columns": {to_json_line(dict(zip(layout.fields, fields, strict=True)))}}}\n'
        for text, fields in zip(made, rows, strict=True)
    ]


def quoted(texts: Sequence[str], delimiter: str) -> Sequence[str]:
    """Texts as fields of a CSV."""
    special = re.compile(f'["\r\n{re.escape(delimiter)}]')
    if special.search("".join(texts)) is None:
        return texts
    return ['"' + t.replace('"', '""') + '"' if special.search(t) else t for t in texts]
