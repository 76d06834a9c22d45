"""Familiarity: its probabilities, its tensors, and how well it tells names from other strings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.lab.ngram_models import BEGIN, END, NgramModel
from npnlp.lab.strings import area_under_curve, random_strings
from npnlp.text import SequenceVocabulary, familiarity, ngram_counts, own_table_path, read_table
from npnlp.text.encoding import characters_of, encode_names
from npnlp.text.familiarity import Familiarity
from npnlp.text.letter_case import LETTER_CASES
from npnlp.text.ngram_counts import fitted
from npnlp.text.ngram_tree import MOST_GROUPS, MOST_TOKENS, ZERO, ngram_keys
from tests.support.tables import ROOT, small_rows
from tests.text.test_reference_table import TABLE

OTHERS = ROOT / "experiments" / "data" / "companies_and_products.txt"
ROWS = small_rows()
NAMES = [name for _, _, name in ROWS]
CLASSES = np.unique([label for label, _, _ in ROWS], return_inverse=True)[1]

Encoded = tuple[NDArray[Any], NDArray[Any]]


def vocabulary_of(names: list[str]) -> SequenceVocabulary:
    made = SequenceVocabulary()
    made.add_many(characters_of(names))
    return made


VOCAB = vocabulary_of(NAMES)


def model_of(names: list[str] = NAMES, classes: NDArray[np.int64] | None = CLASSES) -> Familiarity:
    return Familiarity.of(*encode_names(names, VOCAB), len(VOCAB), classes)


def same_tensors(first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> bool:
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def kept(q: float) -> float:
    """What a byte keeps of a number."""
    return 2 ** (-math.ceil(-16 * math.log2(q)) / 16)


def test_the_probabilities_of_two_names_are_those_by_hand() -> None:
    vocab = vocabulary_of(["ab", "ac"])
    made = Familiarity.of(*encode_names(["ab", "ac"], vocab), len(vocab))
    # V = 7. Trigrams: ^^a twice; ^ab, ^ac, ab$, ac$ once: D = 5/8.
    # Different tokens before bigrams: one each before ^a, ab, ac, b$, c$: D = 6/7.
    # Before a, b, c one, before $ two: D = 4/7.
    letter, end = kept(3 / 35), kept(2 / 7)
    left = 1 - 3 * letter - end
    after = {
        "^a": letter + left / 7, "b": letter + left / 7, "$": end + left / 7, "?": left / 7,
    }  # fmt: skip
    a_begin = kept(1 / 7) + (1 - kept(1 / 7)) * after["^a"]
    b_a = kept(1 / 14) + (1 - 2 * kept(1 / 14)) * after["b"]
    end_b = kept(1 / 7) + (1 - kept(1 / 7)) * after["$"]
    steps = [
        kept(11 / 16) + (1 - kept(11 / 16)) * a_begin,
        kept(3 / 16) + (1 - 2 * kept(3 / 16)) * b_a,
        kept(3 / 8) + (1 - kept(3 / 8)) * end_b,
    ]
    keys = ngram_keys(*encode_names(["ab"], vocab), len(vocab))
    assert np.exp(made.log_probabilities(keys))[:, 0] == pytest.approx(steps, rel=1e-6)
    (score,) = made.scores(*encode_names(["ab"], vocab))
    assert score == pytest.approx(np.mean(np.log(steps)), rel=1e-6)
    # x is unknown: nothing is known of ^^x but what is left, and nothing of $ after it.
    steps = [
        (1 - kept(11 / 16)) * (1 - kept(1 / 7)) * after["?"],
        after["$"],
    ]
    keys = ngram_keys(*encode_names(["x"], vocab), len(vocab))
    assert np.exp(made.log_probabilities(keys))[:, 0] == pytest.approx(steps, rel=1e-6)


def test_the_score_is_that_of_the_best_class_and_its_contrast() -> None:
    made, (tokens, lengths) = model_of(), encode_names(NAMES, VOCAB)
    logs = made.log_probabilities(ngram_keys(tokens, lengths, len(VOCAB))).astype(float)
    means = [own.mean(axis=0) for own in np.split(logs, np.cumsum(lengths - 1)[:-1])]
    expected = [1.3 * own.max() - 0.3 * own.mean() for own in means]
    assert made.scores(tokens, lengths) == pytest.approx(expected, rel=1e-5)
    best = np.array([own.argmax() for own in means])
    sizes = np.bincount(CLASSES)  # the largest class is the first
    assert (best == np.argsort(np.argsort(-sizes, kind="stable"))[CLASSES]).mean() > 0.95


def test_the_numbers_are_those_of_a_model_in_dictionaries() -> None:
    model = NgramModel(NAMES, 3, len(VOCAB))
    levels = fitted(*encode_names(NAMES, VOCAB), np.zeros(len(NAMES), dtype=int), len(VOCAB))
    spelled = {VOCAB.begin_seq_index: BEGIN, VOCAB.end_seq_index: END}
    parents = [""]
    for n, level in enumerate(levels):
        last = [spelled.get(token, VOCAB.lookup_index(token)) for token in level.tokens.tolist()]
        begins = np.repeat(np.arange(len(parents)), level.children).tolist()
        parents = [parents[row] + token for row, token in zip(begins, last, strict=True)]
        codes = dict(zip(parents, level.codes.tolist(), strict=True))
        assert {ngram for ngram, code in codes.items() if code != ZERO} == set(model.counts[n])
        for ngram, count in model.counts[n].items():
            q = (count - model.discounts[n]) / model.totals[n][ngram[:-1]]
            assert codes[ngram] == math.ceil(-16 * math.log2(q)), ngram


@pytest.mark.parametrize("most", [10, 100, 8000])
def test_probabilities_sum_to_one_in_every_context(most: int) -> None:
    size = len(VOCAB)
    levels = fitted(*encode_names(NAMES, VOCAB), CLASSES, size, most)
    assert max(len(level.tokens) for level in levels[2:]) <= most
    made = Familiarity(levels, size)
    p = np.exp(made.log_probabilities(np.arange(size**3)))
    assert p.reshape(size * size, size, -1).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_order_of_names_and_how_many_are_counted_at_once_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = np.random.default_rng(0).permutation(len(NAMES))
    whole = model_of().to_tensors()
    assert same_tensors(whole, model_of([NAMES[i] for i in order], CLASSES[order]).to_tensors())
    monkeypatch.setattr(ngram_counts, "BLOCK", 50)
    assert same_tensors(whole, model_of().to_tensors())


def test_a_score_has_the_same_bits_whatever_stands_beside_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, names = model_of(), [*NAMES, "x", "Xyz \u5c71", "R" * 200]
    together = made.scores(*encode_names(names, VOCAB)).tolist()
    assert np.isfinite(together).all()
    assert [made.scores(*encode_names([name], VOCAB)).item() for name in names] == together
    monkeypatch.setattr(familiarity, "BLOCK", 50)
    assert made.scores(*encode_names(names, VOCAB)).tolist() == together
    assert made.scores(*encode_names([], VOCAB)).tolist() == []


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.1])
def test_the_threshold_leaves_a_fraction_of_held_out_names_below(fraction: float) -> None:
    made, held = model_of(), encode_names(NAMES, VOCAB)
    assert made.threshold == -math.inf
    made.calibrate(*held, fraction)
    below = (made.scores(*held) < made.threshold).mean()
    assert fraction - 0.05 < below <= fraction


def test_the_smallest_of_many_classes_are_one() -> None:
    names = NAMES * 2
    labels = np.arange(len(names)) % 80
    assert len(model_of(names, labels).levels[0].children) == MOST_GROUPS
    assert len(model_of(classes=None).levels[0].children) == 1
    assert len(model_of(classes=1000 * CLASSES).levels[0].children) == CLASSES.max() + 1


def test_tensors_round_trip_to_the_bit() -> None:
    made, encoded = model_of(), encode_names(NAMES, VOCAB)
    for fraction in (None, 0.1):
        if fraction is not None:
            made.calibrate(*encoded, fraction)
        again = Familiarity.from_tensors(made.to_tensors())
        assert same_tensors(again.to_tensors(), made.to_tensors())
        assert again.scores(*encoded).tobytes() == made.scores(*encoded).tobytes()
        assert again.threshold == made.threshold


def changed(name: str, change: Any) -> dict[str, NDArray[Any]]:
    tensors = model_of().to_tensors()
    tensors[name] = change(tensors[name])
    return tensors


def with_first(value: int) -> Any:
    return lambda array: np.concatenate([np.array([value], dtype=array.dtype), array[1:]])


DAMAGES: dict[str, tuple[str, Any]] = {
    "no number": ("threshold", lambda array: array * np.nan),
    "of a size of its own": ("num_tokens", lambda array: np.array([1, 2])),
    "too many tokens": ("num_tokens", lambda array: array * 0 + MOST_TOKENS),
    "no tokens": ("num_tokens", lambda array: array * 0),
    "fewer tokens": ("num_tokens", lambda array: array - 1),
    "of another kind": ("num_tokens", lambda array: array.astype(float)),
    "no groups": ("children.1", lambda array: array[:0]),
    "too many groups": ("children.1", lambda array: np.resize(array, MOST_GROUPS + 1)),
    "a huge number of children": (
        "children.2", lambda array: with_first(2**32 - 1)(array.astype(np.uint32))),
    "one child more": ("children.3", lambda array: with_first(int(array[0]) + 1)(array)),
    "fewer parents": ("children.3", lambda array: array[1:]),
    "fewer n-grams": ("tokens.3", lambda array: array[1:]),
    "not rising": ("tokens.2", lambda array: array[::-1]),
    "signed": ("tokens.2", lambda array: array.astype(np.int16)),
    "of two dimensions": ("tokens.2", lambda array: array[None]),
    "of certainties": ("codes.2", lambda array: array * 0),
    "beyond the codes": ("codes.3", lambda array: with_first(256)(array.astype(np.uint16))),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tensors_are_refused(damage: str) -> None:
    name, change = DAMAGES[damage]
    with pytest.raises(InputError, match=name.split(".")[0].replace("num_tokens", "token")):
        Familiarity.from_tensors(changed(name, change))


@pytest.mark.parametrize("name", model_of().to_tensors())
def test_a_missing_tensor_is_named(name: str) -> None:
    tensors = model_of().to_tensors()
    del tensors[name]
    with pytest.raises(InputError, match=name):
        Familiarity.from_tensors(tensors)


def test_whatever_byte_has_changed_tensors_are_refused_or_give_finite_scores() -> None:
    whole, encoded = model_of().to_tensors(), encode_names(NAMES[:5], VOCAB)
    random, refused = np.random.default_rng(0), 0
    for _ in range(300):
        tensors = {name: tensor.copy() for name, tensor in whole.items()}
        name = random.choice(list(tensors))
        octets = tensors[name].view(np.uint8)
        octets[random.integers(len(octets))] = random.integers(256)
        try:
            made = Familiarity.from_tensors(tensors)
        except InputError:
            refused += 1
        else:
            assert np.isfinite(made.scores(*encoded)).all()
    assert refused > 100


def test_what_is_given_wrongly_is_refused() -> None:
    made, (tokens, lengths) = model_of(), encode_names(NAMES, VOCAB)
    for wrong in ((tokens[:-1], lengths), (tokens + 100, lengths), (tokens, lengths * 0 + 1)):
        with pytest.raises(InputError, match="tokens have to be names"):
            made.scores(*wrong)
    with pytest.raises(InputError, match="num_tokens"):
        Familiarity.of(tokens, lengths, MOST_TOKENS)
    nothing = encode_names([], VOCAB)
    with pytest.raises(InputError, match="at least one"):
        Familiarity.of(*nothing, len(VOCAB))
    with pytest.raises(InputError, match="at least one"):
        made.calibrate(*nothing)
    with pytest.raises(InputError, match="fraction"):
        made.calibrate(tokens, lengths, 1.0)


def test_random_strings_are_letters_in_the_lengths_of_names() -> None:
    strings = random_strings(3000, ["Ab", "Cdefg"], seed=1)
    assert strings == random_strings(3000, ["Ab", "Cdefg"], seed=1)
    assert strings != random_strings(3000, ["Ab", "Cdefg"], seed=2)
    lengths = [len(each) for each in strings]
    assert set(lengths) == {2, 5}
    assert np.mean(lengths) == pytest.approx(3.5, abs=0.15)
    assert all(each.isascii() and each.istitle() for each in strings)
    counts = np.bincount(bytearray("".join(strings).lower(), "ascii"))[ord("a") :]
    assert len(counts) == 26
    assert counts.min() > 0.7 * counts.mean()


def test_the_area_under_the_curve_counts_pairs() -> None:
    assert area_under_curve(np.array([3, 2]), np.array([1, 0])) == 1
    assert area_under_curve(np.array([1]), np.array([0, 1, 2, 3])) == (1 + 0.5) / 4


def areas(frame: pd.DataFrame) -> tuple[float, float, int]:
    """Of the test names against random strings and companies; the bytes of the model's tensors."""
    read = LETTER_CASES["title"]
    train, test = (frame[frame["split"] == split] for split in ("train", "test"))
    names = read(train["surname"].tolist())
    vocab, held = vocabulary_of(names), test["surname"].tolist()
    classes = np.unique(train["nationality"].to_numpy(dtype=str), return_inverse=True)[1]
    made = Familiarity.of(*encode_names(names, vocab), len(vocab), classes)
    others = OTHERS.read_text(encoding="utf-8").splitlines()
    assert len(set(others)) == 200
    own, random, company = (made.scores(*encode_names(read(each), vocab))
                            for each in (held, random_strings(2000, held, 0), others))  # fmt: skip
    size = sum(tensor.nbytes for tensor in made.to_tensors().values())
    return area_under_curve(own, random), area_under_curve(own, company), size


def test_names_of_the_own_table_stand_out() -> None:
    random, company, size = areas(read_table(own_table_path()))
    assert random > 0.95
    assert company > 0.78
    assert size < 40_960


@pytest.mark.skipif(not Path(TABLE).is_file(), reason="the reference table is not here")
def test_names_of_the_reference_table_stand_out() -> None:
    random, company, size = areas(read_table(TABLE))
    assert random > 0.95
    assert company > 0.85
    assert size < 40_960
