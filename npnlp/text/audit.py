"""Counts of a table that a reader of accuracies should know."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import short
from npnlp.text.labels import PLURAL, alike, label_word
from npnlp.text.rows import SPLITS, Rows

#: A class with fewer different names is too small to be learned, or measured.
FEW = 5


def audit(rows: Rows) -> dict[str, Any]:
    """The counts, of rows with ``splits``; names are compared letter by letter.

    ``test_names_in_train`` counts test rows whose name is also in train, ``..._same_nationality``
    those where it also has the same label there; ``majority_accuracy_test`` is the accuracy of
    always predicting the most frequent class of train; ``label`` what labels are called, and
    ``labels_alike`` the groups of them that look the same.
    """
    names, codes, values = rows.name_ids, rows.labels.codes, rows.labels.values
    train, test = rows.places("train"), rows.places("test")
    distinct, pairs = np.unique(rows.pairs, return_inverse=True)
    label_of, name_of = np.divmod(distinct, int(names.max()) + 1)
    different = np.bincount(label_of, minlength=len(values)).tolist()
    known, used = rows.names.take(train).characters(), rows.names.characters()
    majority = _majority(codes[train])
    return {
        "rows": len(rows),
        "rows_by_split": {split: len(rows.places(split)) for split in SPLITS},
        "classes": len(values),
        "classes_with_few_names": {
            label: count
            for label, count in sorted(zip(values, different, strict=True))
            if count < FEW
        },
        "duplicate_rows": len(rows) - len(distinct),
        "test_names_in_train": _known(names[test], names[train]),
        "test_names_in_train_same_nationality": _known(pairs[test], pairs[train]),
        "names_with_several_nationalities": int(np.count_nonzero(np.bincount(name_of) > 1)),
        "characters": len(used),
        "characters_unknown_to_train": "".join(sorted(used.keys() - known)),
        "longest_name": int(max(block.lengths.max() for block in rows.names.blocks())),
        "label": label_word(rows),
        "labels_alike": alike(values),
        "majority_nationality": values[majority],
        "majority_accuracy_test": float((codes[test] == majority).mean()),
    }


def _majority(codes: NDArray[np.integer]) -> int:
    """The most frequent one, of several the first."""
    counts = np.bincount(codes)
    return int(codes[(counts[codes] == counts.max()).argmax()])


def _known(values: NDArray[np.integer], others: NDArray[np.integer]) -> int:
    """How many of ``values`` occur among ``others``."""
    occurs = np.zeros(int(max(values.max(initial=0), others.max(initial=0))) + 1, dtype=bool)
    occurs[others] = True
    return int(np.count_nonzero(occurs[values]))


def audit_lines(found: dict[str, Any]) -> list[str]:
    """The audit as lines for a terminal."""
    splits = ", ".join(f"{count:,} {split}" for split, count in found["rows_by_split"].items())
    unknown = found["characters_unknown_to_train"]
    named = f" ({' '.join(unknown)})" if 0 < len(unknown) <= 20 else ""
    label = found["label"]
    labels = PLURAL[label]
    same = [", ".join(map(short, group)) for group in found["labels_alike"]]
    few = found["classes_with_few_names"]
    shown = ", ".join([*map(str, list(few)[:10]), *["..."] * (len(few) > 10)])
    too_few = f"{len(few)}: {shown}; too few to learn or to measure"
    return [
        f"rows                     {found['rows']:,} ({splits})",
        f"{labels:<25}{found['classes']}",
        *([f"with fewer than {FEW} names  {too_few}"] if few else []),
        *(f"{labels + ' that look alike':<25}{group}" for group in same),
        f"duplicate rows           {found['duplicate_rows']:,}",
        f"test names also in train {found['test_names_in_train']:,} "
        f"({found['test_names_in_train_same_nationality']:,} with the same {label})",
        f"names with several       {found['names_with_several_nationalities']:,} {labels}",
        f"characters               {found['characters']}, {len(unknown)} of them not in train"
        f"{named}",
        f"longest name             {found['longest_name']} characters",
        f"always {found['majority_nationality']:<17} {found['majority_accuracy_test']:.1%} "
        "accuracy on test",
    ]
