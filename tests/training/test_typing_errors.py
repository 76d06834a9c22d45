"""Typing errors in training: what they do to names, and that a run with them can be repeated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp import SurnameClassifierEstimator
from npnlp.backend import Random
from npnlp.classifier.evaluation import evaluate
from npnlp.text import SplitArrays, SurnameDataset
from npnlp.text.repeats import merged
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from npnlp.training.typing_errors import with_typing_errors
from tests.support.tables import (
    check_same_weights,
    make_run,
    refusal,
    small_dataset,
    small_rows,
    stop_after,
    train_small,
)

RANDOM = Random(3, "errors")
BEGIN, END = 1, 2


def split_of(names: list[str]) -> SplitArrays:
    """Names whose tokens are their characters' code points."""
    tokens = [[BEGIN, *map(ord, name), END] for name in names]
    lengths = np.array([*map(len, tokens)])
    starts = np.cumsum(lengths) - lengths
    targets = np.arange(len(names)) % 3
    return SplitArrays(np.concatenate(tokens), starts, lengths, targets)


def names_of(split: SplitArrays) -> list[str]:
    found = []
    for start, length in zip(split.starts, split.lengths, strict=True):
        begin, *letters, end = split.tokens[start : start + length].tolist()
        assert (begin, end) == (BEGIN, END)
        assert letters
        found.append("".join(map(chr, letters)))
    return found


def kind_of(name: str, made: str) -> str:
    """What happened to a name of different letters; fails where it is no typing error."""
    n = len(name)
    if len(made) == n - 1:
        assert made in {name[:i] + name[i + 1 :] for i in range(1, n)}
        return "left out"
    if len(made) == n + 1:
        place = max(i for i in range(n) if name[: i + 1] + made[i + 1] + name[i + 1 :] == made)
        return "doubled" if made[place] == made[place + 1] else "inserted"
    places = [i for i in range(n) if name[i] != made[i]]
    if len(places) == 1:
        assert len(made) == n
        assert (places == [0]) == made[0].isupper() or places != [0]
        return "replaced"
    i, j = places
    assert 0 < i == j - 1
    assert made == name[:i] + name[j] + name[i] + name[j + 1 :]
    return "swapped"


def test_each_kind_of_error_has_an_equal_chance() -> None:
    names = ["Rosina", "Vekluq", "Tomise", "Garbil"] * 3000
    split = split_of(names)
    made = names_of(with_typing_errors(split, 0.4, RANDOM))
    wrong = [(name, other) for name, other in zip(names, made, strict=True) if name != other]
    assert len(wrong) / len(names) == pytest.approx(0.4, abs=0.02)
    kinds = Counter(kind_of(*each) for each in wrong)
    for kind, share in {"replaced": 0.25, "left out": 0.25, "swapped": 0.25,
                        "doubled": 0.125, "inserted": 0.125}.items():  # fmt: skip
        assert kinds[kind] / len(wrong) == pytest.approx(share, abs=0.03)
    letters = {letter for name in names for letter in name}
    assert {letter for _, other in wrong for letter in other} <= letters
    firsts = Counter(other[0] for name, other in wrong if other[0] != name[0])
    assert set(firsts) == set("RVTG")


def test_short_names_stay_names() -> None:
    names = ["A", "Bo", "Cia", "D"] * 500
    made = names_of(with_typing_errors(split_of(names), 0.99, RANDOM))
    assert {len(each) for each, name in zip(made, names, strict=True) if name == "A"} == {1, 2}
    assert {each for each, name in zip(made, names, strict=True) if name == "A"} > {"B", "AA", "A"}
    alone = names_of(with_typing_errors(split_of(["A"] * 50), 0.99, RANDOM))
    assert set(alone) == {"A", "AA"}  # there is no other letter


def test_all_but_the_names_stays_and_nothing_given_is_changed() -> None:
    given = split_of(["Rosina", "Vekluq", "Rosina", "Garbil"])
    rows = merged(given, 3)
    before = rows.tokens.copy()
    made = with_typing_errors(rows, 0.99, RANDOM)
    assert len(made) == 3
    assert made.targets is rows.targets
    assert made.shares is rows.shares
    assert made.weights is rows.weights
    assert all(a != b for a, b in zip(names_of(made), names_of(rows), strict=True))
    np.testing.assert_array_equal(rows.tokens, before)
    none = with_typing_errors(rows, 0.0, RANDOM)
    assert names_of(none) == names_of(rows) == ["Rosina", "Vekluq", "Garbil"]


def test_the_errors_are_a_function_of_seed_and_epoch() -> None:
    split = split_of(["Rosina", "Vekluq", "Tomise", "Garbil"] * 20)
    first, again, later, other = (
        names_of(with_typing_errors(split, 0.5, random))
        for random in (RANDOM.at(1), RANDOM.at(1), RANDOM.at(2), Random(4, "errors").at(1))
    )
    assert first == again
    assert first != later
    assert first != other


@pytest.mark.parametrize("shape", [{}, {"cell": "gru", "ngram_orders": [1, 2], "pooling": "max"}])
@pytest.mark.parametrize("batches", [1, 4, 5])
def test_a_resumed_run_ends_in_the_same_bits(
    tmp_path: Path, batches: int, shape: dict[str, Any]
) -> None:
    config: dict[str, Any] = {"typing_errors": 0.5, "shape": shape, "merge_repeats": bool(shape)}
    make_run(tmp_path / "whole", **config).train()
    stop_after(make_run(tmp_path / "parts", **config), batches)
    parts = make_run(tmp_path / "parts", **config)
    assert parts.resume()
    parts.train()
    check_same_weights(tmp_path / "whole", tmp_path / "parts")
    make_run(tmp_path / "without", **config | {"typing_errors": 0.0}).train()
    with pytest.raises(AssertionError):
        check_same_weights(tmp_path / "whole", tmp_path / "without")


def test_each_epoch_reads_other_names_and_evaluation_those_that_are(tmp_path: Path) -> None:
    trainer: Trainer = make_run(tmp_path / "run", typing_errors=0.5).trainer
    seen = []
    for _ in range(2):
        trainer.run_epoch()
        seen.append(trainer.splits["train"].tokens.tolist())
    assert seen[0] != seen[1]
    assert trainer.train.tokens.tolist() not in seen
    dataset: SurnameDataset = small_dataset(tmp_path)
    found = evaluate(trainer.model, dataset.arrays("train"), trainer.criterion)
    assert found.loss == evaluate(trainer.model, trainer.train, trainer.criterion).loss


def test_a_step_is_recorded_with_the_names_it_had(tmp_path: Path) -> None:
    trainer = make_run(tmp_path / "run", typing_errors=0.9, merge_repeats=True).trainer
    trainer.run_epoch()
    rows, read = np.array([3, 0, 7]), trainer.splits["train"]
    kept = trainer.record(rows, "train", 1)
    expected = [read.tokens[read.starts[row] :][: read.lengths[row]] for row in rows]
    np.testing.assert_array_equal(kept.tokens, np.concatenate(expected))
    np.testing.assert_array_equal(kept.rows, rows)  # no name occurs twice here


@pytest.mark.parametrize("value", ["-0.1", "1", "nan", "much"])
def test_what_is_no_fraction_is_refused(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path / "run", "--typing-errors", value) == 2
    assert "typing" in capsys.readouterr().err


def test_the_command_takes_it_and_a_resume_with_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path / "run", "--typing-errors", "0.25") == 0
    capsys.readouterr()
    assert train_small(tmp_path / "run", "--resume", "--typing-errors", "0.5") == 2
    refusal(capsys.readouterr().err, "that run had typing_errors 0.25, this one 0.5")
    assert TrainingConfig().typing_errors == 0


def test_the_estimator_takes_it() -> None:
    names = [name for _, _, name in small_rows()]
    labels = [label for label, _, _ in small_rows()]

    def fitted(**given: Any) -> Any:
        return SurnameClassifierEstimator(
            embedding_size=6, rnn_hidden_size=8, batch_size=16, num_epochs=2, **given
        ).fit(names, labels).predict_proba(names)  # fmt: skip

    plain, none, some = fitted(), fitted(typing_errors=0.0), fitted(typing_errors=0.5)
    np.testing.assert_array_equal(plain, none)
    assert not np.array_equal(plain, some)
