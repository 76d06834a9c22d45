"""Prediction by trees of prefixes and by a chain: the numbers of the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.classifier import ways
from npnlp.classifier.batches import batches
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.inference import TreePredictor, can_predict, predict_one
from npnlp.inference.prefixes import Trees
from npnlp.layers import softmax
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameVectorizer, clean_name
from npnlp.text.encoding import (
    COMPOSED,
    characters_of,
    clean_names,
    each_once,
    encode_names,
    encode_plain_names,
)
from npnlp.text.vocabulary import SequenceVocabulary, Vocabulary
from tests.support.tables import finished_run

TOKENS, CLASSES = 7, 5
CELLS: dict[str, dict[str, Any]] = {
    "tanh": {"cell": "elman"},
    "relu": {"cell": "elman", "nonlinearity": "relu"},
    "gru": {"cell": "gru"},
    "gru reset before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"},
}
SHAPES: dict[str, dict[str, Any]] = {
    "last": {},
    "one linear layer": {"hidden_layer": False},
    "bidirectional": {"bidirectional": True, "pooling": "last+max+mean"},
    "three layers": {"num_layers": 3, "pooling": "mean+last"},
    "n-grams": {"ngram_orders": (1, 3), "num_ngrams": 60, "ngram_size": 4},
    "wide": {
        "ngram_orders": (1, 2), "num_ngrams": 30, "ngram_size": 4, "hidden_layer": False,
        "bidirectional": True, "pooling": "max+mean",
    },
}  # fmt: skip


def make(dtype: Any = np.float64, **fields: Any) -> SurnameClassifier:
    config = ClassifierConfig(TOKENS, CLASSES, embedding_size=6, rnn_hidden_size=8, **fields)
    model = SurnameClassifier(config, dtype=dtype, random=Random(3, "inference"))
    if model.ngrams is not None:
        model.ngrams.keys = np.arange(1, 1 + config.num_ngrams)  # 1 to 7 are the tokens alone
    return model


def sequences(count: int, longest: int = 9) -> tuple[NDArray[Any], NDArray[Any]]:
    """Many that begin alike, many twice, some of one token."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, longest + 1, count)
    return generator.integers(0, TOKENS, lengths.sum()), lengths


def forward(model: SurnameClassifier, tokens: Any, lengths: Any) -> NDArray[Any]:
    """Probabilities by the model's own forward pass."""
    out = np.empty((len(lengths), CLASSES), dtype=model.dtype)
    zeros = np.zeros(len(lengths), dtype=np.int64)
    split = SplitArrays(tokens, np.cumsum(lengths) - lengths, lengths, zeros)
    for batch in batches(split, np.arange(len(lengths)), 100, model.backend):
        logits, _ = model.forward(**batch.inputs)
        out[batch.rows] = softmax(logits, np)
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_trees_and_chains_find_what_forward_finds(
    cell: str, shape: str, dtype: Any, bound: float
) -> None:
    model = make(dtype, **CELLS[cell], **SHAPES[shape])
    tokens, lengths = sequences(700)
    expected = forward(model, tokens, lengths)
    assert expected.std(axis=0).min() > 1e-4  # the answers differ from each other
    assert can_predict(model)
    many = TreePredictor(model).probabilities(tokens, lengths)
    assert many.dtype == dtype
    assert many == pytest.approx(expected, abs=bound)
    for sequence, row in zip(
        np.split(tokens, np.cumsum(lengths)[:-1])[:40], expected[:40], strict=True
    ):
        assert predict_one(model, sequence) == pytest.approx(row, abs=bound)


def test_several_trees_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (tokens, lengths) = make(), sequences(700)
    expected = TreePredictor(model).probabilities(tokens, lengths)
    monkeypatch.setattr("npnlp.inference.predictor.STEP_NUMBERS", 1)
    predictor = TreePredictor(model)
    assert predictor.block < 100
    assert predictor.probabilities(tokens, lengths) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "fields", [{"cell": "transformer", "num_heads": 2}, {"pooling": "attention"},
               {"bidirectional": True, "num_layers": 2}], ids=str,
)  # fmt: skip
def test_what_cannot_be_predicted_so_is_known(fields: dict[str, Any]) -> None:
    assert not can_predict(make(**fields))


def paths(trees: Trees) -> list[tuple[int, list[int]]]:
    """Each sequence that ends in a tree, with the tokens on the way to it."""
    found = []
    for block in trees.blocks:
        levels, ends = trees.levels(block)
        above: list[list[int]] = [[]]
        left = list(ends)
        for level in levels:
            assert level.parents is not None
            here = [
                [*above[parent], token]
                for token, parent in zip(level.tokens.tolist(), level.parents.tolist(), strict=True)
            ]
            above = here[: level.inner]
            for nodes in (above, here[level.inner :]):  # no prefix is there twice
                assert len({tuple(path) for path in nodes}) == len(nodes)
            found += [(int(left.pop(0)), path) for path in here[level.inner :]]
        assert left == []
    return found


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=30),
    st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_each_sequence_is_a_path_from_a_root(
    given_sequences: list[list[int]], block: int, reverse: bool
) -> None:
    tokens = np.concatenate([np.array(s) for s in given_sequences])
    lengths = np.array([len(s) for s in given_sequences])
    trees = Trees(tokens, lengths, 4, block=block, reverse=reverse)
    found = dict(paths(trees))
    for again, original in zip(trees.repeats.tolist(), trees.originals.tolist(), strict=True):
        assert again not in found
        found[again] = found[original]
    step = -1 if reverse else 1
    assert [found[n] for n in range(len(lengths))] == [s[::step] for s in given_sequences]


def test_what_sequences_share_is_there_once() -> None:
    words = ["lee", "lees", "li", "lee"]
    tokens = np.array([ord(c) - ord("a") for c in "".join(words)])
    lengths = np.array([len(word) for word in words])
    trees = Trees(tokens, lengths, 26, block=9)
    (block,) = trees.blocks
    levels, _ = trees.levels(block)
    assert [len(level.tokens) for level in levels] == [1, 2, 2, 1]  # l | e i. | e e. | s.
    assert len(trees.repeats) == 1


NASTY = [
    "Nakamoto", " Lee ", "Rene\u0301", "Ren\u00e9", "\u5c71\u672c", "O'Neill", "\u1e9b\u0323",
    "a" * 200, "\U0001f600x", "\u00a0\u0130\u00a0", "<END>", "\uac00\u1100\u1161", "Z",
]  # fmt: skip


def vectorizer() -> SurnameVectorizer:
    chars, labels = SequenceVocabulary(), Vocabulary()
    chars.add_many("NakmotLeRn\u00e9O'Z\u5c71abcdefghij")
    labels.add_many("xyz")
    return SurnameVectorizer(chars, labels)


def test_many_names_are_encoded_as_each() -> None:
    known = vectorizer()
    cleaned = clean_names(NASTY)
    assert cleaned == [clean_name(name) for name in NASTY]
    tokens, lengths = encode_names(cleaned, known.char_vocab)
    expected, expected_lengths = known.vectorize_many(NASTY)
    assert tokens.tolist() == expected.tolist()
    assert lengths.tolist() == expected_lengths.tolist()
    none, of_none = encode_names([], known.char_vocab)
    assert (len(none), len(of_none)) == (0, 0)


@pytest.mark.parametrize(
    "names", [["Lee", "Li"], ["Ren\u00e9", "a b", "\u02ff"], ["Z" * 200]], ids=ascii
)
def test_plain_names_are_encoded_as_any(names: list[str]) -> None:
    known = vectorizer().char_vocab
    found = encode_plain_names(names, known)
    assert found is not None
    for one, other in zip(found, encode_names(clean_names(names), known), strict=True):
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    "name", [*NASTY[1:3], "\u5c71", "\u00a0x", "x\n", "a\nb", "a\rb", "\r", ""]
)
def test_names_that_are_not_plain_are_known(name: str) -> None:
    known = vectorizer().char_vocab
    for names in ([name], ["Lee", name, "Li"], [name, "Li"], ["Lee", name]):
        assert encode_plain_names(names, known) is None
    assert encode_plain_names([], known) is None


@given(st.lists(st.text(st.characters(max_codepoint=0x310), max_size=5), min_size=1, max_size=4))
def test_what_is_plain_is_encoded_right(names: list[str]) -> None:
    known = vectorizer().char_vocab
    found = encode_plain_names(names, known)
    cleaned = clean_names(names)
    plain = cleaned == names and all(names) and max(map(max, names)) < chr(COMPOSED)
    plain &= not any("\n" in name or "\r" in name for name in names)
    assert (found is not None) == plain
    if found is not None:
        for one, other in zip(found, encode_names(cleaned, known), strict=True):
            assert one.tolist() == other.tolist()


def test_names_once_or_as_they_are() -> None:
    names = [str(n) for n in range(10_000)]
    assert each_once(names) is names
    assert each_once([]) == []
    assert each_once(["a", "b", "a"]) == ["a", "b"]
    assert each_once([*names, "0"] * 2) == names  # far from each other
    assert each_once([name for name in names for _ in range(2)]) == names  # side by side


def test_characters_are_listed_once() -> None:
    assert characters_of(["baab", "\U0001f600c", ""]) == "abc\U0001f600"


def random_names(count: int) -> list[str]:
    generator = np.random.default_rng(1)
    letters = list("RamVbelcordnfgh")
    return ["".join(generator.choice(letters, size)) for size in generator.integers(1, 12, count)]


@pytest.mark.parametrize(
    "extra", [[], ["Ram" * 3_000], ["Ram" * n for n in range(1, 60)]], ids=["", "one", "many"]
)
def test_one_few_and_many_names_have_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, extra: Sequence[str]
) -> None:
    classifier = Classifier.load(finished_run(tmp_path_factory) / "model.safetensors")
    names = [*random_names(2 * ways.MANY), *extra]
    many = classifier.probabilities(names)
    few = np.concatenate(
        [classifier.probabilities(names[n : n + 50]) for n in range(0, len(names), 50)]
    )
    assert many == pytest.approx(few, abs=1e-6)
    for place in (0, 1, 2, len(names) - 1):
        (alone,) = classifier.probabilities([names[place]])
        assert alone == pytest.approx(few[place], abs=1e-6)


def test_many_names_may_all_be_long(tmp_path_factory: pytest.TempPathFactory) -> None:
    classifier = Classifier.load(finished_run(tmp_path_factory) / "model.safetensors")
    names = ["Ram" * 30 + name for name in random_names(ways.MANY)]
    one = classifier.probabilities(names[:1])
    assert classifier.probabilities(names)[:1] == pytest.approx(one, abs=1e-6)


def test_the_best_are_those_of_the_probabilities(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    classifier = Classifier.load(finished_run(tmp_path_factory) / "model.safetensors")
    for names in (random_names(5), random_names(2 * ways.MANY)):
        expected = classifier.probabilities(names)
        for top_k in (1, 2, 9):
            classes, shares = classifier.best(names, top_k)
            order = np.argsort(-expected, axis=1, kind="stable")[:, :top_k]
            assert classes.tolist() == order.tolist()
            assert shares.tolist() == np.take_along_axis(expected, order, axis=1).tolist()
    with pytest.raises(InputError, match="top_k is 0"):
        classifier.best(["Ramini"], 0)


def test_training_on_is_seen_by_the_next_prediction(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    classifier = Classifier.load(finished_run(tmp_path_factory) / "model.safetensors")
    for names in (["Ramini"], random_names(ways.MANY)):
        before = classifier.probabilities(names)
        classifier.model.flat.values[...] *= -1
        assert np.abs(classifier.probabilities(names) - before).max() > 1e-3


def test_no_names_have_no_probabilities(tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = finished_run(tmp_path_factory) / "model.safetensors"
    assert Classifier.load(path).probabilities([]).shape == (0, 3)
