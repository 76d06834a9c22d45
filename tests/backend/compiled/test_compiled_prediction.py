"""Predicting many sequences by compiled passes: the numbers of NumPy, and what a sort finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npnlp.backend import get_backend
from npnlp.classifier import ways
from npnlp.classifier.classifier import Classifier
from npnlp.inference import CompiledPredictor, TreePredictor, can_predict, largest, make_predictor
from npnlp.models import SurnameClassifier
from tests.inference.test_inference import CELLS, CLASSES, SHAPES, make, random_names, sequences
from tests.support.tables import finished_run
from tests.support.tables import npnlp as npnlp_command

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers

NUMBA = get_backend("numba")


def compiled(model: SurnameClassifier) -> SurnameClassifier:
    """The same model on the compiled backend."""
    twin = SurnameClassifier(model.config, backend=NUMBA, dtype=model.dtype)
    twin.load_state_dict(model.state_dict())
    if model.ngrams is not None:
        assert twin.ngrams is not None
        twin.ngrams.keys = model.ngrams.keys
    return twin


def compiled_predictor(model: SurnameClassifier) -> CompiledPredictor:
    predictor = make_predictor(compiled(model))
    assert isinstance(predictor, CompiledPredictor)
    return predictor


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_numbers_are_those_of_numpy(cell: str, shape: str, dtype: Any, bound: float) -> None:
    model = make(dtype, **CELLS[cell], **SHAPES[shape])
    tokens, lengths = sequences(1700)  # several trees, and many sequences twice
    expected = TreePredictor(model).probabilities(tokens, lengths)
    twin = compiled(model)
    assert can_predict(twin)
    predictor = make_predictor(twin)
    has_passes = cell != "gru reset before" and shape != "three layers"
    assert isinstance(predictor, CompiledPredictor) == has_passes
    found = predictor.probabilities(tokens, lengths)
    assert found.dtype == dtype
    assert found == pytest.approx(expected, abs=bound)
    for one, other in zip(predictor.best(tokens, lengths), largest(found), strict=True):
        np.testing.assert_array_equal(one, other)


def parted(tokens: NDArray[Any], lengths: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(tokens, np.cumsum(lengths)[:-1])


@pytest.mark.parametrize("shape", ["last", "wide", "n-grams"])
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_bits_do_not_depend_on_the_other_sequences(cell: str, shape: str) -> None:
    predictor = compiled_predictor(make(np.float32, **CELLS[cell], **SHAPES[shape]))
    tokens, lengths = sequences(1700)
    expected, names = predictor.probabilities(tokens, lengths), parted(tokens, lengths)
    for chosen in (np.random.default_rng(0).permutation(1700)[:601], np.array([3])):
        some = np.concatenate([names[n] for n in chosen])
        found = predictor.probabilities(some, lengths[chosen])
        np.testing.assert_array_equal(found, expected[chosen])


@pytest.mark.parametrize("size", [1, 33, 70, 200])
def test_any_size_of_a_layer(size: int) -> None:
    fields = {"cell": "lstm", "bidirectional": True, "pooling": "last+mean"}
    config = make(np.float32, **fields).config.to_dict() | {"rnn_hidden_size": size}
    model = SurnameClassifier(type(make().config).from_dict(config))
    tokens, lengths = sequences(700)
    expected = TreePredictor(model).probabilities(tokens, lengths)
    assert compiled_predictor(model).probabilities(tokens, lengths) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("shape", ["last", "wide"])
@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_what_is_not_a_number_stays_in_its_sequences_and_is_not_hidden(
    cell: str, shape: str
) -> None:
    model = make(np.float32, **CELLS[cell], **SHAPES[shape])
    model.parameters["emb.weight"][3] = np.nan
    tokens, lengths = sequences(700)
    concerned = np.array([3 in name for name in parted(tokens, lengths)])
    predictor = compiled_predictor(model)
    found = predictor.probabilities(tokens, lengths)
    assert concerned.any()
    assert not concerned.all()
    np.testing.assert_array_equal(np.isnan(found), np.repeat(concerned[:, None], CLASSES, axis=1))
    for one, other in zip(predictor.best(tokens, lengths), largest(found), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_that_change_are_seen_by_the_next_predictor() -> None:
    model, (tokens, lengths) = compiled(make(np.float32)), sequences(300)
    before = make_predictor(model).probabilities(tokens, lengths)
    model.flat.values[...] *= -1
    assert np.abs(make_predictor(model).probabilities(tokens, lengths) - before).max() > 1e-3


SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=40)


@given(SEQUENCES, st.sampled_from([4, 2**20, 2**31 - 1]), st.booleans())
def test_a_sort_holds_every_sequence(
    given_sequences: list[list[int]], num_tokens: int, reverse: bool
) -> None:
    """A key has room for 21 tokens, for 3, and for 2."""
    from npnlp.backend.compiled.inference.prefixes import sort, token_at

    tokens = np.concatenate([np.array(s) for s in given_sequences])
    lengths = np.array([len(s) for s in given_sequences])
    prefixes = sort(tokens, lengths, num_tokens, reverse)
    turned = [s[:: -1 if reverse else 1] for s in given_sequences]
    made: dict[int, list[int]] = {}
    before: list[int] = []
    for r, i in enumerate(prefixes.order.tolist()):
        now = [int(token_at(prefixes, r, t)) for t in range(prefixes.lengths[r])]
        shared = int(prefixes.shared[r])
        assert now[:shared] == before[:shared]
        assert shared < len(now)
        assert shared <= max(len(before) - 1, 0)
        made[i], before = now, now
    for again, original in zip(prefixes.repeats.tolist(), prefixes.originals.tolist(), strict=True):
        assert again not in made
        made[again] = turned[original]
    assert [made[i] for i in range(len(turned))] == turned


def test_a_sort_shares_what_it_can() -> None:
    from npnlp.backend.compiled.inference.prefixes import TREE, sort

    words = ["lees", "li", "lee", "lee", "m"]
    tokens = np.array([ord(c) - ord("a") for c in "".join(words)])
    lengths = np.array([len(word) for word in words])
    prefixes = sort(tokens, lengths, 26, False)
    assert [words[n] for n in prefixes.order] == ["lee", "lees", "li", "m"]
    assert prefixes.shared.tolist() == [0, 2, 1, 0]  # the last e of lee is a node of its own
    assert (prefixes.repeats.tolist(), prefixes.originals.tolist()) == ([3], [2])
    many = np.arange(3 * TREE)
    digits = np.stack([many // 100, many // 10 % 10, many % 10], axis=1)
    prefixes = sort(digits.ravel(), np.full(len(many), 3), 16, False)
    assert prefixes.shared[::TREE].tolist() == [0, 0, 0]
    assert prefixes.order.tolist() == many.tolist()


@pytest.mark.parametrize(
    ("tokens", "lengths", "error"),
    [([0, 7], [2], IndexError), ([0, -1], [1, 1], IndexError), ([0, 1], [1], ValueError),
     ([0, 1], [2, 0], ValueError)],
)  # fmt: skip
def test_what_are_no_sequences_is_recompiled_predictor(
    tokens: list[int], lengths: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        compiled_predictor(make(np.float32)).probabilities(np.array(tokens), np.array(lengths))


def test_what_has_no_compiled_passes_is_known() -> None:
    assert NUMBA.prefix_passes("", np.dtype("float32")) is None
    assert NUMBA.prefix_passes("gru", np.dtype("float16")) is None
    assert NUMBA.prefix_passes("gru", np.dtype("float64")) is not None
    assert get_backend("numpy").prefix_passes("gru", np.dtype("float64")) is None


@pytest.mark.parametrize("extra", [[], ["Ram" * 3_000], [" Re\u0301m "]], ids=["", "long", "mark"])
def test_names_have_numpys_answers(
    tmp_path_factory: pytest.TempPathFactory, extra: list[str]
) -> None:
    path = finished_run(tmp_path_factory) / "model.safetensors"
    ours, theirs = Classifier.load(path, NUMBA), Classifier.load(path)
    names = [*random_names(2 * ways.MANY), *extra]
    expected = theirs.probabilities(names)
    for some in (names, names[:50], names[:1], names[-1:]):
        rows = slice(len(names) - 1, None) if some == names[-1:] else slice(0, len(some))
        assert ours.probabilities(some) == pytest.approx(expected[rows], abs=1e-5)
    for top_k in (1, 2):
        classes, shares = ours.best(names, top_k)
        assert shares == pytest.approx(np.sort(expected)[:, ::-1][:, :top_k], abs=1e-5)
        assert shares == pytest.approx(np.take_along_axis(expected, classes, axis=1), abs=1e-5)


def test_the_command_predicts_a_file_as_with_numpy(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder, source = finished_run(tmp_path_factory), tmp_path / "names.txt"
    source.write_text("\n".join(random_names(3_000)) + "\n", encoding="utf-8")
    rows, said = [], []
    for backend in ("numba", "numpy"):
        done = npnlp_command("predict", "--save-dir", folder, "--input", source,
                             "--backend", backend)  # fmt: skip
        assert done.returncode == 0
        said.append(done.stderr)
        lines = done.stdout.decode().splitlines()
        rows.append([line.split(",") for line in lines[1:]])
    assert len(rows[0]) == 3_000
    assert said[0] == said[1]
    for (name, label, share), (other, expected, probability) in zip(*rows, strict=True):
        assert name == other
        assert bool(share) == bool(probability)
        if not share:  # no character of it is known
            continue
        assert float(share) == pytest.approx(float(probability), abs=2e-5)
        if float(share) > 0.5 + 1e-4:
            assert label == expected
