"""The temperature of a model, and what it says of rows held out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.backend import Random, get_backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.calibration import Calibration, evenly
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.finishing import finish
from npnlp.classifier.inspection import (
    Outcomes,
    error_by_chance,
    expected_calibration_error,
    logits_of,
    outcomes,
    probability_scores,
    reliability,
)
from npnlp.classifier.reading import choose_reading
from npnlp.classifier.temperature import calibrate, fit_temperature
from npnlp.errors import InputError
from npnlp.files.rows import rows_to_text
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.layers import softmax
from npnlp.models import SurnameClassifier
from npnlp.text import SurnameDataset, own_table_path


def _logits(rows: int = 4000, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn by the probabilities that they give: their temperature is 1."""
    random = Random(seed, "calibration")
    logits = 2 * random.normal((rows, classes))
    drawn = random.child("targets").uniform((rows, 1))
    return logits, (drawn > softmax(logits, np).cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_is_found(temperature: float) -> None:
    logits, targets = _logits()
    plain = fit_temperature(logits, targets)
    assert plain == pytest.approx(1.0, abs=0.05)
    # Of scaled logits it is scaled as well, to all digits.
    assert fit_temperature(temperature * logits, targets) == pytest.approx(temperature * plain)


def test_loss_is_least_at_the_temperature() -> None:
    logits, targets = _logits(300)
    weights = np.linspace(0.1, 2.0, 300)

    def loss(t: float) -> float:
        p = softmax(logits / t, np)[np.arange(300), targets]
        return float(np.average(-np.log(p), weights=weights))

    found = fit_temperature(logits, targets, weights)
    assert loss(found) < min(loss(found * 1.0001), loss(found / 1.0001))


@pytest.mark.parametrize(("right", "found"), [(True, 1 / 20), (False, 20.0)])
def test_temperature_stays_within_its_bounds(right: bool, found: float) -> None:
    logits = np.array([[3.0, 0.0, -1.0], [0.0, 2.0, 1.0]])
    targets = np.array([0, 1]) if right else np.array([2, 0])
    assert fit_temperature(logits, targets) == pytest.approx(found)
    assert fit_temperature(logits[:0], targets[:0]) == 1.0
    assert fit_temperature(np.ones((3, 4)), np.array([0, 1, 3])) == 1.0


@pytest.fixture(scope="module")
def dataset() -> SurnameDataset:
    return SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())


@pytest.mark.parametrize("shape", [{}, {"hidden_layer": False, "ngram_orders": [1, 2]}])
def test_no_answer_changes(dataset: SurnameDataset, shape: dict[str, object]) -> None:
    model = make_classifier(dataset, shape, get_backend("numpy"), seed=3)
    val, test = dataset.arrays("val"), dataset.arrays("test")
    model.fc2.parameters["weight"][...] *= 0.1
    shares = np.bincount(val.targets, minlength=18) / len(val)
    model.fc2.parameters["bias"][...] = 3 * np.log(shares)
    before = logits_of(model, test)
    made = calibrate(model, val)
    assert made is not None
    after = logits_of(model, test)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_allclose(after * made.temperature, before, rtol=1e-4, atol=1e-5)
    # Once more there is nothing left to find.
    again = calibrate(model, val)
    assert again is not None
    assert again.temperature == pytest.approx(1.0, abs=1e-5)
    assert made.temperature == pytest.approx(3.0, rel=0.1)
    p = softmax(logits_of(model, val), np)
    np.testing.assert_allclose(made.truth, p[np.arange(len(p)), val.targets], rtol=1e-5)
    np.testing.assert_array_equal(made.right, p.argmax(axis=1) == val.targets)


def test_scores_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])
    truth = p[[0, 1], [0, 2]]
    found = Outcomes(
        np.array([True, False]), p.max(axis=1), np.log(truth),
        np.array([0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.5**2 + 0.6**2]),
    )  # fmt: skip
    scores = probability_scores(found)
    assert scores["log_loss"] == pytest.approx(-(np.log(0.7) + np.log(0.4)) / 2)
    assert scores["brier"] == pytest.approx((0.14 + 0.62) / 2)
    assert scores["calibration_error"] == pytest.approx((0.3 + 0.5) / 2)


def test_outcomes_are_those_of_the_probabilities(dataset: SurnameDataset) -> None:
    model, test = make_classifier(dataset, {}, get_backend("numpy"), 0), dataset.arrays("test")
    found, p = outcomes(model, test, 2.0), softmax(2 * logits_of(model, test), np)
    one_hot = np.eye(p.shape[1])[test.targets]
    np.testing.assert_allclose(found.brier, ((p - one_hot) ** 2).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_truth), (p * one_hot).sum(axis=1), rtol=1e-5)


def test_error_by_chance_is_that_of_answers_drawn_by_their_probability() -> None:
    random = Random(1, "chance")
    confidence = random.uniform((1660,), 0.2, 1.0)
    drawn = []
    for place in range(300):
        right = random.child(str(place)).uniform((1660,)) < confidence
        found = Outcomes(right, confidence, np.log(confidence), confidence)
        drawn.append(expected_calibration_error(reliability(found, 15)))
    assert error_by_chance(found) == pytest.approx(np.mean(drawn), rel=0.03)


@pytest.fixture
def saved(dataset: SurnameDataset, tmp_path: Path) -> tuple[Classifier, Path]:
    model = make_classifier(dataset, {}, get_backend("numpy"), seed=3)
    calibration = calibrate(model, dataset.arrays("val"))
    classifier = Classifier(model, dataset.get_vectorizer(), None, calibration)
    classifier.save(tmp_path / "model.safetensors")
    return classifier, tmp_path / "model.safetensors"


def test_file_holds_it(saved: tuple[Classifier, Path]) -> None:
    classifier, path = saved
    loaded = Classifier.load(path)
    assert classifier.calibration is not None
    assert loaded.calibration is not None
    for field in dataclasses.fields(Calibration):
        np.testing.assert_array_equal(
            getattr(loaded.calibration, field.name), getattr(classifier.calibration, field.name)
        )
    names = ["Nakamoto", "O'Neill"]
    np.testing.assert_array_equal(loaded.probabilities(names), classifier.probabilities(names))


ONE, HALF = np.ones(1, dtype=np.int32), np.full(1, 0.5, dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": HALF}, "held has to be the rows"),
        ({"truth": None}, "held has to be the rows"),
        ({"more": HALF}, "held has to be the rows"),
        ({"target": np.zeros(2, dtype=np.int32)}, "one number for each row"),
        ({"target": ONE[:0], "truth": HALF[:0], "confidence": HALF[:0]}, "one number for each row"),
        ({"confidence": np.full(1, np.nan, dtype=np.float32)}, "no probability"),
        ({"truth": 2 * HALF}, "no probability"),
        ({"target": 18 * ONE}, "no class"),
        ({"shares": np.full(17, 0.05)}, "a share for each of 18"),
        ({"shares": np.zeros(18)}, "a share for each of 18"),
    ],
)
def test_damaged_rows_are_refused(
    saved: tuple[Classifier, Path], change: dict[str, np.ndarray | None], said: str
) -> None:
    rows: dict[str, np.ndarray | None] = {
        "confidence": HALF, "truth": HALF, "target": ONE, "shares": np.full(18, 1 / 18),
    }  # fmt: skip
    held = {name: row for name, row in (rows | change).items() if row is not None}
    refuse(saved[1], {"temperature": 1.0, "held": rows_to_text(held)}, said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "has to hold temperature and held"),
        ({"temperature": 1.0}, "has to hold temperature and held"),
        ({"temperature": 0.0, "held": {}}, "1/20 to 20"),
        ({"temperature": "1", "held": {}}, "1/20 to 20"),
        ({"temperature": 1.0, "held": []}, "rows of numbers"),
        ({"temperature": 1.0, "held": {"truth": "f4"}}, "held.truth is 'f4'"),
        ({"temperature": 1.0, "held": {"truth": "O:AAAA"}}, "held.truth is"),
        ({"temperature": 1.0, "held": {"truth": "f4:A*AA"}}, "held.truth: damaged"),
        ({"temperature": 1.0, "held": {"truth": "f4:AAAA"}}, "held.truth: damaged"),
    ],
)
def test_other_damage_is_refused(saved: tuple[Classifier, Path], value: object, said: str) -> None:
    refuse(saved[1], value, said)


def refuse(path: Path, calibration: object, said: str) -> None:
    tensors, values = load_tensors(path, "npnlp classifier")
    save_tensors(path, "npnlp classifier", tensors, values | {"calibration": calibration})
    with pytest.raises(InputError, match=said) as raised:
        Classifier.load(path)
    assert str(path) in str(raised.value)


def test_files_of_before_have_none(saved: tuple[Classifier, Path]) -> None:
    classifier, path = saved
    classifier.calibration = None
    classifier.save(path)
    _, values = load_tensors(path, "npnlp classifier")
    assert set(values) == {"config", "vectorizer"}
    assert Classifier.load(path).calibration is None


def test_a_model_is_finished_by_so_many_rows_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a larger table no more rows held out are looked at, so it takes no longer."""
    monkeypatch.setattr("npnlp.classifier.finishing.KEPT", 120)
    monkeypatch.setattr("npnlp.classifier.finishing.READ", 50)
    read: list[int] = []

    def noted(dataset: SurnameDataset, model: SurnameClassifier, held: NDArray[np.int64]) -> None:
        read.append(len(held))
        choose_reading(dataset, model, held)

    monkeypatch.setattr("npnlp.classifier.finishing.choose_reading", noted)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    backend = get_backend("numpy")
    model = make_classifier(dataset, {"embedding_size": 4, "rnn_hidden_size": 4}, backend, 0)
    made = finish(dataset, model, "val")
    assert made.calibration is not None
    assert len(made.calibration.target) == 120
    assert read == [50]
    every = dataset.arrays("val").targets
    assert np.array_equal(made.calibration.target, every[evenly(len(every), 120)])


@pytest.mark.parametrize(("count", "most"), [(0, 5), (1, 5), (7, 5), (5, 5), (100, 7)])
def test_rows_that_are_looked_at_are_evenly_spaced(count: int, most: int) -> None:
    places = evenly(count, most)
    assert len(places) == min(count, most)
    assert np.ptp(np.diff(places)) <= 1 if len(places) > 1 else True
    if count:
        assert (places[0], places[-1]) == (0, count - 1)
