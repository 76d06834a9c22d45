"""Why a name got its answer: gradients, contributions and what is lost without a letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.contributions import Inputs, difference, inputs_of, share_out
from npnlp.classifier.explanation import exact_copy
from npnlp.errors import InputError
from npnlp.layers import Packing
from npnlp.models import SurnameClassifier
from npnlp.text import SurnameDataset
from tests.support.tables import refusal, run_main, small_dataset

Capture = pytest.CaptureFixture[str]
#: Settings of models: every cell, direction, pooling, n-grams, and no hidden layer.
KINDS: dict[str, dict[str, Any]] = {
    "elman": {},
    "relu": {"nonlinearity": "relu"},
    "gru": {"cell": "gru", "num_layers": 2},
    "gru before": {"cell": "gru", "reset": "before"},
    "lstm, both, mean": {"cell": "lstm", "bidirectional": True, "pooling": "mean"},
    "attention": {"cell": "gru", "bidirectional": True, "num_layers": 2, "pooling": "attention"},
    "transformer": {"cell": "transformer", "num_heads": 2, "pooling": "mean"},
    "max": {"pooling": "max"},
    "wide": {"cell": "gru", "bidirectional": True, "pooling": "max+mean", "ngram_orders": (1, 2, 3),
             "ngram_size": 6},
    "no hidden layer": {"hidden_layer": False},
}  # fmt: skip
NAMES = ("Ramini", "Vamov", "Nerimoto", "R", "Qqq")
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SurnameDataset:
    return small_dataset(tmp_path_factory.mktemp("explained"))


def made(dataset: SurnameDataset, kind: str) -> Classifier:
    settings = {"embedding_size": 7, "rnn_hidden_size": 8, **KINDS[kind]}
    model = make_classifier(dataset, settings, get_backend("numpy"), seed=3)
    for name, value in model.parameters.items():  # first weights leave most answers near a tie
        value *= 1.5 if name.startswith("fc") else 2.5
    return Classifier(model, dataset.get_vectorizer())


def case(classifier: Classifier, name: str) -> tuple[SurnameClassifier, Inputs, Any]:
    tokens, _ = classifier.vectorizer.vectorize_many([name])
    model = exact_copy(classifier.model)
    return model, inputs_of(model, tokens), np.array([1.0, -1.0, 0.0])


def bag_of(inputs: Inputs) -> Any:
    return inputs.bag.sum(axis=0)


@each_kind
def test_the_difference_is_that_of_the_model_s_logits(dataset: SurnameDataset, kind: str) -> None:
    model, inputs, direction = case(classifier := made(dataset, kind), "Nerimoto")
    tokens, lengths = classifier.vectorizer.vectorize_many(["Nerimoto"])
    logits, _ = model.forward(tokens, packing=Packing.of(lengths, model.backend))
    g, _, _ = difference(model, inputs.embeddings[None], bag_of(inputs)[None], direction)
    np.testing.assert_allclose(g, logits @ direction, rtol=1e-12)


@each_kind
def test_gradients_by_complex_step(dataset: SurnameDataset, kind: str) -> None:
    model, inputs, direction = case(made(dataset, kind), "Vamov")
    e, n = inputs.embeddings[None], bag_of(inputs)[None]
    _, d_e, d_n = difference(model, e, n, direction)
    random, step = np.random.default_rng(0), 1e-30
    v, w = random.normal(size=e.shape), random.normal(size=n.shape)
    turned = model.astype(np.complex128)
    g, _, _ = difference(turned, e + step * 1j * v, n + step * 1j * w, direction.astype(complex))
    expected = (d_e * v).sum() + (d_n * w).sum()
    np.testing.assert_allclose(g.imag / step, expected, rtol=1e-12)


@each_kind
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_contributions_sum_to_the_difference(
    dataset: SurnameDataset, kind: str, tolerance: float
) -> None:
    classifier = made(dataset, kind)
    for name in NAMES:
        (found,) = classifier.explain(name, tolerance)
        total = found.nothing + sum(letter.contribution for letter in found.letters)
        assert abs(found.difference - total) <= tolerance * abs(found.difference)
        assert found.residue == pytest.approx(found.difference - total, abs=1e-12)


@each_kind
def test_contributions_are_the_integral(dataset: SurnameDataset, kind: str) -> None:
    model, inputs, direction = case(made(dataset, kind), "Ramini")
    found = share_out(model, inputs, direction, 1e-7)
    moved = inputs.embeddings * inputs.letters[:, None]
    fixed = inputs.embeddings - moved
    spelt = [range(end - n + 1, end + 1) for end, n in zip(inputs.ends, inputs.orders, strict=True)]
    letters = [[place for place in places if inputs.letters[place]] for places in spelt]
    alone = np.array([not own for own in letters], dtype=bool)
    bag_fixed, bag = inputs.bag[alone].sum(axis=0), inputs.bag[~alone].sum(axis=0)
    at = (np.arange(4096) + 0.5) / 4096
    expected = np.zeros(len(moved))
    for some in np.split(at, 16):
        _, d_e, d_n = difference(
            model, fixed + some[:, None, None] * moved, bag_fixed + some[:, None] * bag, direction
        )
        expected += np.einsum("btd,td->t", d_e, moved) / len(at)
        for row, own in zip(inputs.bag, letters, strict=True):
            if own:
                expected[own] += (d_n @ row).sum() / len(at) / len(own)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.contributions, expected, atol=1e-3 * scale)
    assert not found.contributions[[0, -1]].any()


def test_n_grams_stand_where_the_name_has_them(dataset: SurnameDataset) -> None:
    model, inputs, _ = case(classifier := made(dataset, "wide"), "Nerimoto")
    tokens, _ = classifier.vectorizer.vectorize_many(["Nerimoto"])
    assert model.ngrams is not None
    keys, weight = model.ngrams.keys.tolist(), model.ngrams.parameters["weight"]
    expected = []
    for n in (1, 2, 3):
        for end in range(n - 1, len(tokens)):
            key = 0
            for token in tokens[end - n + 1 : end + 1]:
                key = key * (model.ngrams.num_tokens + 1) + int(token) + 1
            if key in keys:
                expected.append((end, n, weight[keys.index(key)]))
    assert len(expected) > 10
    assert [(end, n) for end, n, _ in expected] == list(
        zip(inputs.ends.tolist(), inputs.orders.tolist(), strict=True)
    )
    rows = np.array([row for *_, row in expected]) / np.sqrt(len(expected))
    np.testing.assert_allclose(inputs.bag, rows, rtol=1e-12)


def test_a_name_that_is_shorter_than_every_n_gram(dataset: SurnameDataset) -> None:
    settings = {"embedding_size": 7, "rnn_hidden_size": 8, "ngram_orders": (4,), "ngram_size": 6}
    model = make_classifier(dataset, settings, get_backend("numpy"), seed=3)
    (found,) = Classifier(model, dataset.get_vectorizer()).explain("R")
    assert [letter.letter for letter in found.letters] == ["R"]


@each_kind
def test_letters_are_left_out_and_read_one_after_another(
    dataset: SurnameDataset, kind: str
) -> None:
    classifier, name = made(dataset, kind), "Vamov"
    (found,) = classifier.explain(name)
    first, second = (found.labels.index(label) for label in (found.answer, found.runner_up))
    whole = classifier.probabilities([name])[0]
    assert whole.argmax() == first
    assert (found.probability, found.runner_up_probability) == pytest.approx(
        (whole[first], whole[second]), rel=1e-4
    )
    for n, letter in enumerate(found.letters):
        upto, without = classifier.probabilities([name[: n + 1], name[:n] + name[n + 1 :]])
        assert letter.letter == name[n]
        np.testing.assert_allclose(letter.probabilities, upto, rtol=1e-4)
        lost = found.difference - np.log(without[first] / without[second])
        assert letter.left_out == pytest.approx(lost, abs=1e-3)


def test_a_pair_is_explained_part_by_part_and_nothing_is_changed() -> None:
    classifier = Classifier.load()
    before = {k: v.copy() for k, v in classifier.model.state_dict().items()}
    found = classifier.explain("GARCIA-LOPEZ")
    assert [each.surname for each in found] == ["Garcia", "Lopez"]
    for name, value in classifier.model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert not classifier.model.flat.grads.any()
    values = found[0].to_dict()
    assert json.loads(json.dumps(values)) == json.loads(json.dumps(found[0].to_dict()))
    assert sum(values["letters"][-1]["probabilities"].values()) == pytest.approx(1)


def test_methods_that_disagree_are_said() -> None:
    (found, _) = Classifier.load().explain("Garcia-Lopez")
    place = found.disagreements[0]
    letter = found.letters[place]
    assert letter.contribution * letter.left_out < 0
    nakamoto = Classifier.load().explain("Nakamoto")[0]
    assert nakamoto.disagreements == []


@pytest.mark.parametrize("tolerance", [0.0, 1e-10, 1.0, -1.0, float("nan")])
def test_a_tolerance_that_nothing_meets_is_refused(tolerance: float) -> None:
    with pytest.raises(InputError, match="tolerance"):
        Classifier.load().explain("Li", tolerance)


def test_numbers_that_are_not_finite_are_refused(dataset: SurnameDataset) -> None:
    classifier = made(dataset, "relu")
    classifier.model.parameters["rnn.weight_hh_l0"][...] = 1e30
    with pytest.raises(InputError, match="not finite"), np.errstate(all="ignore"):
        classifier.explain("Nerimoto" * 10)


@pytest.mark.slow
@each_kind
def test_five_hundred_names_have_a_small_residue(dataset: SurnameDataset, kind: str) -> None:
    classifier = made(dataset, kind)
    names = dict.fromkeys(
        "".join(np.random.default_rng(n).choice(list("abceimnorstvN"), 3 + n % 9))
        for n in range(520)
    )
    for name in [*names][:500]:
        for found in classifier.explain(name):
            assert abs(found.residue) <= 1e-3 * abs(found.difference)


def test_the_command_shows_a_table_json_and_a_picture(tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "explained.png"
    assert run_main("explain", "Nakamoto", "--picture", picture) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Nakamoto: Japanese 0.985, runner-up Arabic")
    assert [line[0] for line in lines[2:10]] == list("Nakamoto")
    assert "the logit of Japanese less that of Arabic" in lines[10]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run_main("explain", "Garcia-Lopez", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert [each["surname"] for each in values] == ["Garcia", "Lopez"]
    assert values[0]["letters"][5]["letter"] == "a"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), ("name is empty",)),
        (("Li", "--tolerance", "0"), ("tolerance is 0.0",)),
        (("Li", "--save-dir", "gone"), ("no such file", "npnlp train --save-dir gone")),
        (("Li", "--picture", "gone/a.png"), ("gone",)),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run_main("explain", *arguments) == 2
    refusal(capsys.readouterr().err.splitlines(keepends=True)[-1], *words)


def test_the_page_shows_what_the_command_prints(capsys: Capture) -> None:
    page = (Path(__file__).parents[2] / "docs/explanations.md").read_text(encoding="utf-8")
    assert run_main("explain", "Nakamoto") == 0
    shown = page.split("$ npnlp explain Nakamoto\n")[1].split("```")[0].splitlines()
    printed = capsys.readouterr().out.replace("#", "█").splitlines()
    assert shown[:-1] == printed[:-1]
    assert shown[-1].split(" residue")[0][:40] == printed[-1].split(" residue")[0][:40]
