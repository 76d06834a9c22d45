"""Counts of a table that a reader of accuracies should know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npnlp.errors import short
from npnlp.text.labels import PLURAL, alike, label_word

if TYPE_CHECKING:
    import pandas as pd


#: A class with fewer different names is too small to be learned, or measured.
FEW = 5


def audit(frame: pd.DataFrame) -> dict[str, Any]:
    """The counts, from a frame with a ``split`` column; names are compared letter by letter.

    ``test_names_in_train`` counts test rows whose name is also in train, ``..._same_nationality``
    those where it also has the same label there; ``majority_accuracy_test`` is the accuracy of
    always predicting the most frequent class of train; ``label`` what labels are called, and
    ``labels_alike`` the groups of them that look the same.
    """
    train = frame[frame["split"] == "train"]
    test = frame[frame["split"] == "test"]
    train_pairs = set(zip(train["surname"], train["nationality"], strict=True))
    test_pairs = list(zip(test["surname"], test["nationality"], strict=True))
    labels = frame.groupby("surname")["nationality"].nunique()
    known = set().union(*train["surname"])
    majority = train["nationality"].value_counts().idxmax()
    return {
        "rows": len(frame),
        "rows_by_split": {
            split: int((frame["split"] == split).sum()) for split in ("train", "val", "test")
        },
        "classes": int(frame["nationality"].nunique()),
        "classes_with_few_names": {
            label: count
            for label, count in frame.groupby("nationality")["surname"].nunique().items()
            if count < FEW
        },
        "duplicate_rows": int(frame.duplicated(["nationality", "surname"]).sum()),
        "test_names_in_train": int(test["surname"].isin(set(train["surname"])).sum()),
        "test_names_in_train_same_nationality": sum(pair in train_pairs for pair in test_pairs),
        "names_with_several_nationalities": int((labels > 1).sum()),
        "characters": len(set().union(*frame["surname"])),
        "characters_unknown_to_train": "".join(sorted(set().union(*frame["surname"]) - known)),
        "longest_name": int(frame["surname"].str.len().max()),
        "label": label_word(frame),
        "labels_alike": alike(frame["nationality"].unique()),
        "majority_nationality": str(majority),
        "majority_accuracy_test": float((test["nationality"] == majority).mean()),
    }


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
