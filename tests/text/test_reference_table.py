"""The surname table of the book, where it is at hand: its licence keeps it out of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from npnlp.text import SurnameDataset, own_table_path, read_table
from npnlp.text.audit import audit, audit_lines
from npnlp.text.rows import Rows
from tests.support.tables import ROOT, divided

BESIDE = ROOT.parent / "shared" / "data" / "surnames_with_splits.csv"
TABLE = Path(os.environ.get("NPNLP_SURNAMES_CSV", BESIDE))
pytestmark = pytest.mark.skipif(
    not TABLE.is_file(),
    reason="the reference table is not here; name it in NPNLP_SURNAMES_CSV",
)
SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return read_table(TABLE)


def test_the_audit_finds_what_is_known(frame: pd.DataFrame) -> None:
    found = audit(Rows.of(frame))
    assert found["rows"] == 10_980
    assert found["rows_by_split"] == {"train": 7680, "val": 1640, "test": 1660}
    assert found["classes"] == 18
    assert found["duplicate_rows"] == 1597
    assert found["test_names_in_train"] == 338
    assert found["test_names_in_train_same_nationality"] == 262
    assert found["names_with_several_nationalities"] == 296
    assert found["characters"] == 84
    assert len(found["characters_unknown_to_train"]) == 8
    assert found["longest_name"] == 17
    assert found["majority_nationality"] == "English"
    assert found["majority_accuracy_test"] == pytest.approx(0.269, abs=0.0005)


def test_the_audit_is_printed_with_its_figures(frame: pd.DataFrame) -> None:
    text = "\n".join(audit_lines(audit(Rows.of(frame))))
    for figure in (
        "10,980",
        "7,680",
        "1,640",
        "1,660",
        "18",
        "1,597",
        "338",
        "262",
        "296",
        "26.9%",
    ):
        assert figure in text


def test_the_largest_and_smallest_classes(frame: pd.DataFrame) -> None:
    counts = frame["nationality"].value_counts()
    assert counts[["English", "Russian", "Arabic", "Vietnamese", "Portuguese"]].to_list() == [
        2972, 2373, 1603, 58, 55,
    ]  # fmt: skip
    assert frame.loc[frame["nationality"] == "Arabic", "surname"].nunique() == 108


def test_vocabulary_and_lengths(frame: pd.DataFrame) -> None:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(TABLE)
    vectorizer = dataset.get_vectorizer()
    assert len(vectorizer.char_vocab) == 80
    assert len(vectorizer.nationality_vocab) == 18
    lengths = [vectorizer.vectorize(name)[1] for name in frame["surname"]]
    assert max(lengths) == 19
    assert min(lengths) == 3
    assert sum(lengths) / len(lengths) == pytest.approx(8.66, abs=0.005)
    assert dataset.arrays("train").lengths.mean() == pytest.approx(8.64, abs=0.005)
    unknown = {split: int((dataset.arrays(split).tokens == 1).sum()) for split in SHARES}
    assert unknown["train"] == 0
    assert unknown["val"] + unknown["test"] >= 8


def test_by_name_no_name_stands_in_two_splits(frame: pd.DataFrame) -> None:
    result = divided(frame, "name")
    names = result["surname"].str.casefold()
    assert result.groupby(names)["split"].nunique().max() == 1
    shares = result["split"].value_counts(normalize=True)
    for split, share in SHARES.items():
        assert shares[split] == pytest.approx(share, abs=0.02)
    assert audit(Rows.of(result))["test_names_in_train"] == 0


def test_by_nationality_every_class_is_divided_70_15_15(frame: pd.DataFrame) -> None:
    result = divided(frame, "nationality")
    for _, group in result.groupby("nationality"):
        counts = group["split"].value_counts()
        for split, share in SHARES.items():
            assert abs(counts[split] - share * len(group)) <= 1


def test_the_own_table_has_the_nationalities_of_the_reference(frame: pd.DataFrame) -> None:
    assert set(read_table(own_table_path())["nationality"]) == set(frame["nationality"])


def test_the_data_card_says_how_many_pairs_the_reference_has_too(frame: pd.DataFrame) -> None:
    card = (own_table_path().parent / "README.md").read_text(encoding="utf-8")
    section = card.split("## Against the reference table")[1].split("\n## ")[0]
    own = read_table(own_table_path())
    pairs, others = (set(zip(f["nationality"], f["surname"], strict=True)) for f in (own, frame))
    assert f"{len(pairs & others):,}" in section
