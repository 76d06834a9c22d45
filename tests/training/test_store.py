"""``store``: weights that are rounded to float16 at the end of training, and the file of half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.weights import narrowed, rounded_to_half
from npnlp.exchange import read_state_dict
from npnlp.files.tensors import State, read_tensors
from npnlp.models.surname_classifier import KEYS
from npnlp.runs.run import Run
from tests.support.tables import check_same_weights, make_run, read_json, run_main, stop_after

NAMES = ["Ramini", "Vamov", "Namoto", "Q"]
SHAPE = {"ngram_orders": (1, 2, 3), "ngram_size": 4}
#: The weights are those of the last epoch; the correction comes after them, and before rounding.
CONFIG: dict[str, Any] = {"schedule": "cosine", "prior_correction": 0.3}


def made(folder: Path, store: str = "float16") -> Run:
    return make_run(folder, shape=SHAPE, store=store, **CONFIG)


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = made(tmp_path_factory.mktemp("store") / "run")
    run.train()
    return run


def test_the_file_of_half_predicts_what_the_rounded_model_does(halved: Run, tmp_path: Path) -> None:
    whole = made(tmp_path / "run", "float32")
    whole.train()
    plain = whole.trainer.model.state_dict()
    saved, _ = read_tensors(halved.model_file)
    assert saved.keys() == plain.keys()
    for name, value in plain.items():
        if name != KEYS:
            assert saved[name].dtype == np.float16
            np.testing.assert_array_equal(saved[name], value.astype(np.float16), strict=True)
    whole.trainer.model.load_state_dict(
        {n: v if n == KEYS else v.astype(np.float16).astype(np.float32) for n, v in plain.items()}
    )
    expected = whole.classifier.probabilities(NAMES, exact=True)
    for found in (Classifier.load(halved.model_file), halved.classifier):
        assert found.model.flat.values.dtype == np.float32
        assert found.probabilities(NAMES, exact=True).tobytes() == expected.tobytes()


def test_keys_are_small_in_the_file_and_int64_in_the_model(halved: Run) -> None:
    saved, _ = read_tensors(halved.model_file)
    loaded = Classifier.load(halved.model_file).model.state_dict()[KEYS]
    assert [keys.dtype.name for keys in (saved[KEYS], loaded)] == ["int16", "int64"]
    np.testing.assert_array_equal(saved[KEYS], loaded)
    np.testing.assert_array_equal(loaded, halved.trainer.model.state_dict()[KEYS])


def test_the_tensors_alone_are_enough_beside_the_vocabularies(halved: Run, tmp_path: Path) -> None:
    saved, _ = read_tensors(halved.model_file)
    save_file(saved, tmp_path / "bare.safetensors")
    found = read_state_dict(tmp_path / "bare.safetensors", halved.vectorizer_file)
    expected = halved.trainer.model.flat.values
    assert found.model.flat.values.tobytes() == expected.tobytes()


def test_saving_again_keeps_the_file(halved: Run, tmp_path: Path) -> None:
    Classifier.load(halved.model_file).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == halved.model_file.read_bytes()


def test_what_resuming_needs_is_whole(halved: Run) -> None:
    tensors, _ = read_tensors(halved.checkpoint_file)
    assert {tensors[f"{part}.fc2.weight"].dtype for part in ("model", "best")} == {
        np.dtype("float32")
    }
    best = tensors["best.fc2.weight"]
    assert (best.astype(np.float16) != best).any()


@pytest.mark.parametrize("batches", [1, 4])
def test_a_stop_leaves_no_trace(halved: Run, tmp_path: Path, batches: int) -> None:
    stop_after(made(tmp_path / "parts"), batches)
    parts = made(tmp_path / "parts")
    assert parts.resume()
    parts.train()
    check_same_weights(halved.save_dir, parts.save_dir)
    finished = made(tmp_path / "parts")
    assert finished.resume()
    finished.train()  # nothing is left to do
    check_same_weights(halved.save_dir, parts.save_dir)


def test_the_reported_scores_are_those_of_the_file(tmp_path: Path) -> None:
    run = made(tmp_path / "unused")
    run.dataset.surname_df.to_csv(tmp_path / "table.csv", index=False)
    given = ("--surname-csv", tmp_path / "table.csv", "--save-dir", tmp_path / "run")
    options = ("--recipe", "light", "--num-epochs", "1", "--rnn-hidden-size", "6", "--quiet")
    assert run_main("train", *given, *options, "--no-pictures") == 0
    metrics = read_json(tmp_path / "run/metrics.json")
    assert metrics["training"]["store"] == "float16"
    evaluated = Classifier.load(tmp_path / "run/model.safetensors")
    frame = run.dataset.frames["test"]
    labels = evaluated.vectorizer.nationality_vocab.tokens
    columns = [labels.index(label) for label in frame["nationality"]]
    probabilities = evaluated.probabilities(list(frame["surname"]))
    loss = -np.log(probabilities[np.arange(len(columns)), columns].astype(float)).mean()
    assert metrics["test"]["loss"] == pytest.approx(loss, rel=1e-6)


def test_nothing_is_rounded_where_one_is_beyond_half() -> None:
    values = np.array([1 / 3, 65504.0], dtype=np.float32)
    expected = np.array([np.float16(1 / 3), 65504.0], dtype=np.float32)
    np.testing.assert_array_equal(rounded_to_half(values, np), expected, strict=True)
    for beyond in (65520.0, np.inf, np.nan):
        beside = np.array([1 / 3, beyond], dtype=np.float32)
        np.testing.assert_array_equal(rounded_to_half(beside, np), beside, strict=True)


def test_a_file_is_narrow_only_where_no_number_changes() -> None:
    halves = np.array([0.5, -0.0], dtype=np.float32)
    for third in (1 / 3, 65520.0, np.nan):
        state: State = {"a": halves, "b": np.array([third], dtype=np.float32), KEYS: np.arange(3)}
        assert narrowed(state) is state
    found = narrowed({"a": halves, KEYS: np.arange(3)})
    assert found["a"].tobytes() == halves.astype(np.float16).tobytes()


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(127, "int8"), (128, "int16"), (2**15, "int32"), (2**31 - 1, "int32"), (2**31, "int64"),
     (2**62, "int64")],
)  # fmt: skip
def test_keys_take_the_smallest_type_that_holds_them(largest: int, dtype: str) -> None:
    keys = np.array([0, largest])
    found = narrowed({"a": np.zeros(1, dtype=np.float32), KEYS: keys})[KEYS]
    np.testing.assert_array_equal(found, keys.astype(dtype), strict=True)
