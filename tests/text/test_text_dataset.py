"""The table seen through a vectorizer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.errors import InputError
from npnlp.text import SPLITS, SurnameDataset, SurnameVectorizer
from tests.support.tables import CLASSES, frame_of, small_dataset, small_rows, write_table


def dataset_of(frame: pd.DataFrame) -> SurnameDataset:
    vectorizer = SurnameVectorizer.from_dataframe(frame_of(small_rows()))
    return SurnameDataset(frame, vectorizer)


@pytest.fixture
def dataset(tmp_path: Path) -> SurnameDataset:
    return small_dataset(tmp_path)


def test_train_is_chosen_at_first(dataset: SurnameDataset) -> None:
    assert len(dataset) == 42
    dataset.set_split("val")
    assert len(dataset) == 9


def test_an_unknown_split_names_the_known_ones(dataset: SurnameDataset) -> None:
    with pytest.raises(InputError, match=r"'dev' is none of train, val, test"):
        dataset.set_split("dev")


def test_an_item_is_a_padded_name_its_class_and_its_length(dataset: SurnameDataset) -> None:
    vectorizer = dataset.get_vectorizer()
    item = dataset[0]
    assert set(item) == {"x_data", "y_target", "x_length"}
    assert item["x_length"] == len("Ramini") + 2
    tokens = [vectorizer.char_vocab.lookup_index(int(i)) for i in item["x_data"]]
    assert tokens[: item["x_length"]] == ["<BEGIN>", *"Ramini", "<END>"]
    assert set(tokens[item["x_length"] :]) == {"<MASK>"}
    assert vectorizer.nationality_vocab.lookup_index(item["y_target"]) == "Italian"


def test_all_items_are_as_long_as_the_longest_name(dataset: SurnameDataset) -> None:
    longest = max(len(name) for _, _, name in small_rows()) + 2
    for split in SPLITS:
        dataset.set_split(split)
        assert {len(item["x_data"]) for item in dataset} == {longest}  # type: ignore[attr-defined]


def test_iterating_a_split_ends(dataset: SurnameDataset) -> None:
    dataset.set_split("test")
    targets = [item["y_target"] for item in dataset]  # type: ignore[attr-defined]
    assert Counter(targets) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 42), (10, 4), (42, 1), (43, 0)])
def test_whole_batches_are_counted(dataset: SurnameDataset, batch_size: int, batches: int) -> None:
    assert dataset.get_num_batches(batch_size) == batches


@pytest.mark.parametrize("split", SPLITS)
def test_arrays_hold_the_items_of_a_split(dataset: SurnameDataset, split: str) -> None:
    arrays = dataset.arrays(split)
    dataset.set_split(split)
    assert len(arrays) == len(dataset)
    for i in range(len(dataset)):
        item = dataset[i]
        name = arrays.tokens[arrays.starts[i] :][: arrays.lengths[i]]
        assert np.array_equal(name, item["x_data"][: item["x_length"]])
        assert arrays.targets[i] == item["y_target"]
    assert arrays.lengths.sum() == len(arrays.tokens)


def test_arrays_of_a_split_without_rows_are_empty() -> None:
    arrays = dataset_of(frame_of(row for row in small_rows() if row[1] == "train")).arrays("val")
    shapes = [a.shape for a in (arrays.tokens, arrays.starts, arrays.lengths, arrays.targets)]
    assert shapes == [(0,)] * 4


def test_vocabularies_are_those_of_train(tmp_path: Path) -> None:
    rows = [*small_rows(), ("Italian", "val", "Zqx"), ("Italian", "test", "\u00d6")]
    path = write_table(tmp_path / "table.csv", rows)
    vocab = SurnameDataset.load_dataset_and_make_vectorizer(path).get_vectorizer().char_vocab
    in_train = {c for _, split, name in rows if split == "train" for c in name}
    assert set(vocab.tokens[4:]) == in_train
    assert "Z" not in vocab


def test_weights_are_one_over_the_rows_of_train() -> None:
    counts = {"Italian": 10, "Russian": 5, "Japanese": 1}
    rows = [(label, "train", f"A{i}") for label, n in counts.items() for i in range(n)]
    rows += [("Russian", "val", "B")] * 50
    dataset = SurnameDataset(frame_of(rows), SurnameVectorizer.from_dataframe(frame_of(rows)))
    inverse, balanced = dataset.class_weights("inverse"), dataset.class_weights("balanced")
    assert inverse is not None
    assert balanced is not None
    assert inverse == pytest.approx([1 / 10, 1 / 5, 1])
    assert balanced == pytest.approx([16 / 30, 16 / 15, 16 / 3])
    assert balanced @ np.array([10, 5, 1]) / 16 == pytest.approx(1)
    assert dataset.class_weights("none") is None


def test_unknown_weights_name_the_known_ones(dataset: SurnameDataset) -> None:
    with pytest.raises(InputError, match=r"'heavy' .* inverse, balanced, none"):
        dataset.class_weights("heavy")


@pytest.mark.parametrize("column", ["surname", "nationality", "split"])
@pytest.mark.parametrize("value", [None, float("nan"), pd.NA, ""])
def test_a_frame_with_a_missing_value_names_column_and_row(column: str, value: Any) -> None:
    frame = frame_of(small_rows()).astype(object)
    frame.loc[17, column] = value
    with pytest.raises(InputError, match=rf"{column}.*17"):
        dataset_of(frame)


def test_a_frame_with_a_blank_name_is_refused() -> None:
    frame = frame_of(small_rows())
    frame.loc[17, "surname"] = "  "
    with pytest.raises(InputError, match=r"surname.*17"):
        dataset_of(frame)


@pytest.mark.parametrize("column", ["surname", "nationality", "split"])
def test_a_frame_without_a_column_names_it(column: str) -> None:
    with pytest.raises(InputError, match=column):
        dataset_of(frame_of(small_rows()).drop(columns=column))


def test_a_frame_without_rows_is_refused() -> None:
    with pytest.raises(InputError):
        dataset_of(frame_of(small_rows()).iloc[:0])


def test_a_saved_vectorizer_is_the_same_one(dataset: SurnameDataset, tmp_path: Path) -> None:
    path = tmp_path / "vectorizer.json"
    dataset.save_vectorizer(path)
    expected = dataset.get_vectorizer().to_serializable()
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert SurnameDataset.load_vectorizer_only(path).to_serializable() == expected


def test_a_loaded_vectorizer_keeps_its_numbers(dataset: SurnameDataset, tmp_path: Path) -> None:
    path = tmp_path / "vectorizer.json"
    dataset.save_vectorizer(path)
    table = write_table(tmp_path / "backwards.csv", small_rows()[::-1])
    loaded = SurnameDataset.load_dataset_and_load_vectorizer(table, path)
    assert loaded.get_vectorizer().nationality_vocab.tokens == list(CLASSES)
    made = SurnameDataset.load_dataset_and_make_vectorizer(table)
    assert made.get_vectorizer().nationality_vocab.tokens != list(CLASSES)


def test_a_nationality_unknown_to_the_vectorizer_is_named_with_its_row(
    dataset: SurnameDataset, tmp_path: Path
) -> None:
    path = tmp_path / "vectorizer.json"
    dataset.save_vectorizer(path)
    table = write_table(tmp_path / "more.csv", [*small_rows(), ("Greek", "train", "Pappas")])
    with pytest.raises(InputError, match=r"more\.csv: row 62, column nationality: 'Greek'"):
        SurnameDataset.load_dataset_and_load_vectorizer(table, path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b"{}", b"\xff\xfe", b'{"char_vocab": {}}', b"[" * 100_000],
)
def test_a_damaged_vectorizer_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vectorizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        SurnameDataset.load_vectorizer_only(path)
    assert str(path) in str(caught.value)


def test_a_missing_vectorizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        SurnameDataset.load_vectorizer_only(tmp_path / "none.json")
