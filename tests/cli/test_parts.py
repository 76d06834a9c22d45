"""Names in parts: every way out of a model reads a pair alike, alone and among many."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npnlp import Classifier, SurnameClassifierEstimator
from npnlp.text import SurnameDataset
from npnlp.text.parts import EVERYWHERE
from tests.support.tables import npnlp, read_json, run_main, small_rows, train_small, write_table

Capture = pytest.CaptureFixture[str]
PAIRS = ["Ramini-Rametti", "Vamov-Vamenko", "Nammoto Namsaki", "Ramini-Vamov", "RAMINI-VAMOV"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned the small table."""
    made = tmp_path_factory.mktemp("parts") / "run"
    assert train_small(made, epochs=20) == 0
    return made


@pytest.fixture
def classifier(folder: Path) -> Classifier:
    made = Classifier.load(folder / "model.safetensors")
    made.vectorizer.split_at = {"hyphens": EVERYWHERE, "spaces": EVERYWHERE}
    return made


def by_hand(classifier: Classifier, parts: list[str]) -> np.ndarray:
    """``prod p_i^{n_i / n}``, scaled to a sum of one."""
    lengths = np.array([len(part) for part in parts])[:, None]
    said = classifier.probabilities(parts).astype(np.float64)
    product = np.exp((lengths * np.log(said)).sum(axis=0) / lengths.sum())
    return np.asarray(product / product.sum())


def test_a_pair_is_the_mean_of_its_parts(classifier: Classifier) -> None:
    found = classifier.probabilities(PAIRS)
    for pair, row in zip(PAIRS, found, strict=True):
        parts = pair.replace(" ", "-").split("-")
        np.testing.assert_allclose(row, by_hand(classifier, parts), rtol=1e-5)
    np.testing.assert_allclose(found[3], found[4], rtol=1e-5)  # each part in its letter case


def test_a_pair_alone_and_among_many_are_alike(classifier: Classifier) -> None:
    singles = [name for _, _, name in small_rows()]
    many = [*singles * 4, *PAIRS, "Ramini-", *singles * 2]
    place = 4 * len(singles)
    rows = slice(place, place + len(PAIRS))
    alone = np.concatenate([classifier.probabilities([pair]) for pair in PAIRS])
    np.testing.assert_allclose(classifier.probabilities(many)[rows], alone, rtol=1e-4)
    classes, best = classifier.best(many)
    np.testing.assert_array_equal(classes[rows, 0], alone.argmax(axis=1))
    np.testing.assert_allclose(best[rows, 0], alone.max(axis=1), rtol=1e-4)
    top, _ = classifier.best(many, top_k=3)
    np.testing.assert_array_equal(top[:, 0], classes[:, 0])
    labels = classifier.vectorizer.nationality_vocab.tokens
    said = [prediction.nationality for prediction in classifier.predict(many)]
    assert said == [labels[place] for place in classes[:, 0]]
    exact = classifier.probabilities(many, exact=True)[rows]
    one_by_one = [classifier.probabilities([pair], exact=True) for pair in PAIRS]
    assert exact.tobytes() == np.concatenate(one_by_one).tobytes()
    np.testing.assert_allclose(exact, alone, rtol=1e-4)


def test_other_names_keep_their_bits(classifier: Classifier) -> None:
    singles = [name for _, _, name in small_rows()]
    read_in_parts = classifier.probabilities([*singles, "Ramini-"])
    classifier.vectorizer.split_at = {}
    assert classifier.probabilities([*singles, "Ramini-"]).tobytes() == read_in_parts.tobytes()


def test_a_separator_that_is_split_at_is_not_unknown(classifier: Classifier) -> None:
    assert classifier.unknown_characters("Ramini-Vamov") == ""
    assert classifier.unknown_characters("Ramini-") == "-"
    classifier.vectorizer.split_at = {}
    assert classifier.unknown_characters("Ramini-Vamov") == "-"


def test_an_empty_name_is_named_by_its_own_place(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="name 2 is empty"):
        classifier.probabilities(["Ramini-Vamov", " "])


def by_length() -> list[tuple[str, str, str]]:
    """Names that only their length tells apart: a pair of short ones looks long."""
    stems = ["ra", "ni", "mo", "ta", "se", "vi", "lo", "ke"]
    short = [a + b for a in stems for b in stems[:5]]
    long = [f"{name}{stems[place % 7]}ne" for place, name in enumerate(short)]
    splits = ["train"] * 28 + ["val"] * 6 + ["test"] * 6
    return [
        (label, split, name.title())
        for label, names in (("Short", short), ("Long", long))
        for split, name in zip(splits, names, strict=True)
    ]


def test_training_chooses_and_every_file_says_so(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "run"
    write_table(tmp_path / "small.csv", by_length())
    assert train_small(folder, epochs=20) == 0
    capsys.readouterr()
    chosen = read_json(folder / "vectorizer.json")["split_at"]
    assert chosen == {"hyphens": EVERYWHERE, "spaces": EVERYWHERE}
    assert Classifier.load(folder / "model.safetensors").vectorizer.split_at == chosen
    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    assert "split at hyphens everywhere, spaces everywhere" in card
    state = tmp_path / "state.safetensors"
    assert run_main("export", "--save-dir", folder, "--output", state) == 0
    assert "split at hyphens and spaces" in capsys.readouterr().out
    assert run_main("import", state, "--save-dir", tmp_path / "again") == 0
    made = SurnameDataset.load_vectorizer_only(tmp_path / "again" / "vectorizer.json")
    assert made.split_at == chosen
    done = npnlp("predict", "--save-dir", folder, "--json", "-", stdin=b"Rani-Mora\nTara\n")
    said = Classifier.load(folder / "model.safetensors").predict(["Rani-Mora", "Tara"])
    assert [each["nationality"] for each in json.loads(done.stdout)] == [
        prediction.nationality for prediction in said
    ]
    assert b"never seen" not in done.stderr


def test_the_estimator_chooses_too() -> None:
    names = [name for _, _, name in by_length()]
    labels = [label for label, _, _ in by_length()]
    fitted = SurnameClassifierEstimator(
        embedding_size=6, rnn_hidden_size=8, batch_size=16, learning_rate=0.02, num_epochs=20,
        validation_fraction=0.2, random_state=5,
    ).fit(names, labels)  # fmt: skip
    assert "hyphens" in fitted.vectorizer_.split_at
    pairs = [f"{name}-{name}" for name in names]
    assert (fitted.predict(pairs) == fitted.predict(names)).all()
