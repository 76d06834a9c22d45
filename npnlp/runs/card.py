"""``MODEL_CARD.md``: what a saved model is, what it was made from, and what it is not for.

The same run gives the same bytes: no time, no path and no name of a person or a machine is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

from npnlp.classifier.evaluation import Evaluation
from npnlp.files import markdown_table, write_atomic
from npnlp.models import ClassifierConfig
from npnlp.runs.card_decisions import decisions
from npnlp.runs.card_figures import (
    by_nationality,
    calibration,
    escaped,
    results,
    seen,
    train_rows,
)
from npnlp.runs.card_text import LICENCES, NOT_FOR, TELLS_NOT, TEMPLATE
from npnlp.runs.run import Run
from npnlp.text import SurnameVectorizer, own_table_path
from npnlp.text.labels import PLURAL
from npnlp.text.parts import SplitAt
from npnlp.text.provenance import sorted_sha256
from npnlp.text.rows import Rows
from npnlp.text.table import read_rows

#: What happens to the letters of a name, by the letter case that val chose.
READ_IN = {
    "as written": "names are read as they are written: another letter case is another name",
    "title": "names in capitals or in lower case are read in title case, others as written",
    "lower": "names are read in lower case",
    "upper": "names are read in capitals",
}


def _split_at(split_at: SplitAt) -> str:
    """What happens to a name of several parts, by the separators that val chose."""
    if not split_at:
        return "names are read whole, pairs such as Garcia-Lopez too"
    kinds = ", ".join(f"{kind} {way}" for kind, way in split_at.items())
    return f"split at {kinds}, and the parts averaged; the figures are of names read whole"


def write_card(
    path: str | Path,
    run: Run,
    evaluations: Mapping[str, Evaluation],
    environment: Mapping[str, str],
) -> None:
    """Write the card of a finished run, atomically."""
    write_atomic(path, model_card(run, evaluations, environment))


def model_card(
    run: Run, evaluations: Mapping[str, Evaluation], environment: Mapping[str, str]
) -> str:
    """The card of a finished run as Markdown; ``evaluations`` are those of ``run.evaluate()``."""
    config = run.trainer.model.config
    before, on_test = evaluations["test"].outcomes
    read = run.dataset.get_vectorizer()
    sections = {
        **_words(run),
        "classes": f"{config.num_classes}",
        "model_name": escaped(run.model_file.name),
        "model_file": json.dumps(run.model_file.name, ensure_ascii=False),
        "not_for": Template(NOT_FOR).substitute(_words(run)),
        "tells_not": TELLS_NOT[run.audit["label"]],
        "model": _pairs(_model(config, str(run.trainer.model.dtype), read, _words(run))),
        "data": _pairs(_data(run)),
        "balance": _balance(run),
        "licence": LICENCES[is_own_table(run.dataset.rows)],
        "training": _pairs(_training(run)),
        "results": results(run, evaluations),
        "by_nationality": by_nationality(run, evaluations),
        "seen": seen(run, on_test),
        "calibration": calibration(run, before, on_test),
        "decisions": decisions(run, evaluations),
        "environment": _pairs(environment.items()),
    }
    return TEMPLATE.substitute(sections)


def is_own_table(rows: Rows) -> bool:
    """Whether the rows, in any order and however split, are those of the table of npnlp."""
    own = read_rows(own_table_path())
    pairs = [replace(each, splits=None) for each in (own, rows)]
    return len(own) == len(rows) and sorted_sha256(pairs[0]) == sorted_sha256(pairs[1])


def _pairs(rows: Iterable[tuple[str, Any]]) -> str:
    return markdown_table(["property", "value"], [[k, escaped(str(value))] for k, value in rows])


def _words(run: Run) -> dict[str, str]:
    """What the table holds, and an example of it."""
    label = run.audit["label"]
    surnames = label == "nationality"
    return {
        "label": label,
        "labels": PLURAL[label],
        "name": "surname" if surnames else "name",
        "example": '"Nakamoto"' if surnames else '"A name"',
        "guessed": "origin" if surnames else "class",
    }


def _model(
    config: ClassifierConfig, dtype: str, read: SurnameVectorizer, words: dict[str, str]
) -> list[tuple[str, str]]:
    options = [f"{name} {value}" for name, value in config.cell_options.items()]
    if config.cell == "transformer":
        options.append(f"{config.num_heads} heads")
    reading = ", ".join([
        f"{config.cell} ({', '.join(options)})" if options else config.cell,
        f"{config.rnn_hidden_size} hidden",
        f"{config.num_layers} layer{'s' if config.num_layers > 1 else ''}",
    ])  # fmt: skip
    if config.cell != "transformer":
        reading += ", both directions" if config.bidirectional else ", one direction"
    if config.rnn_dropout:
        reading += f", dropout {config.rnn_dropout} within"
    drop = f"dropout {config.dropout}"
    layers = [f"embedding of {config.embedding_size}", reading, f"pooling: {config.pooling}"]
    if config.ngram_orders:
        orders = ", ".join(map(str, config.ngram_orders))
        layers.append(f"beside it {config.ngram_size} of a bag of n-grams, n = {orders}")
    if config.hidden_layer:
        layers += [drop, f"linear to {config.rnn_hidden_size}", "ReLU"]
    layers += [drop, f"linear to {config.num_classes}", "softmax"]
    return [
        ("architecture", " → ".join(layers)),
        ("parameters", f"{config.parameter_count:,} numbers, {dtype}"),
        ("input", f"a {words['name']}, letter by letter, in Unicode's composed form (NFC)"),
        ("letter case", READ_IN[read.letter_case]),
        ("names of several parts", _split_at(read.split_at)),
        ("output", f"a probability for each of {config.num_classes} {words['labels']}"),
    ]


def _data(run: Run) -> list[tuple[str, str]]:
    found, words = run.audit, _words(run)
    splits = ", ".join(f"{count:,} {split}" for split, count in found["rows_by_split"].items())
    return [
        ("rows", f"{found['rows']:,} ({splits})"),
        (words["labels"], f"{found['classes']}"),
        ("duplicate rows", f"{found['duplicate_rows']:,}"),
        (f"names with several {words['labels']}", f"{found['names_with_several_nationalities']:,}"),
        (
            "test rows whose name stands in train too",
            f"{found['test_names_in_train']:,}, of them "
            f"{found['test_names_in_train_same_nationality']:,} with the same {words['label']}",
        ),
        (
            "different characters",
            f"{found['characters']}, of them {len(found['characters_unknown_to_train'])} not in "
            "train",
        ),
        ("longest name", f"{found['longest_name']} characters"),
        ("SHA-256 of the rows in their order", run.dataset.sha256),
    ]


def _balance(run: Run) -> str:
    names = run.dataset.get_vectorizer().nationality_vocab.tokens
    sizes = {name: rows for name, rows in zip(names, train_rows(run), strict=True) if rows}
    most, least = max(sizes, key=lambda n: sizes[n]), min(sizes, key=lambda n: sizes[n])
    fraction = sizes[most] / sum(sizes.values())
    return (
        f"The largest {run.audit['label']} of train, {escaped(most)}, has {sizes[most]:,} rows "
        f"({fraction:.1%}), the smallest, {escaped(least)}, {sizes[least]:,}: "
        f"{sizes[most] / sizes[least]:.1f} times as many. Always answering "
        f"{escaped(run.audit['majority_nationality'])} would be right on "
        f"{run.audit['majority_accuracy_test']:.4f} of the test rows."
    )


def _training(run: Run) -> list[tuple[str, Any]]:
    progress = run.trainer.progress
    best = f"epoch {progress.best_epoch + 1}"
    if progress.best_epoch < 0:
        best = "the weights that it started from"
    settings = [(name.replace("_", " "), value) for name, value in vars(run.trainer.config).items()]
    return [
        *settings,
        ("epochs trained", len(progress.history)),
        ("weights kept", f"{best}, by the loss on val"),
    ]
