"""What ``npnlp.train`` gives: tables, mistakes, and what a notebook shows while it trains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import npnlp
from npnlp.errors import DivergenceError, InputError
from npnlp.runs.shown import Lines
from npnlp.runs.trained import Trained
from tests.support.tables import frame_of, small_rows

SETTINGS: dict[str, Any] = {
    "embedding_size": 6, "rnn_hidden_size": 8, "batch_size": 16, "learning_rate": 0.02,
    "num_epochs": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A user's own table: other names, other columns beside, rows in another order."""
    rows = frame_of(small_rows()).sample(frac=1, random_state=1)
    return rows.rename(columns={"surname": "who", "nationality": "from"}).assign(note="x")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def one(frame: pd.DataFrame, kept: Path) -> Trained:
    return npnlp.train(frame, "who", "from", seed=5, save_dir=kept, **SETTINGS)


@pytest.fixture(scope="module")
def two(frame: pd.DataFrame) -> Trained:
    return npnlp.train(frame, "who", "from", seeds=2, seed=5, **SETTINGS)


def test_the_tables_are_those_of_the_files(one: Trained, kept: Path) -> None:
    for name, found in (("history", one.history_), ("gradient_flow", one.gradient_flow_)):
        assert found.equals(pd.read_csv(kept / "seed-5" / f"{name}.csv"))
    assert one.history_["epoch"].tolist() == [0, 1, 2]


def test_of_several_seeds_the_tables_say_whose_a_row_is(one: Trained, two: Trained) -> None:
    clock = ["seconds", "names_per_second"]
    for found, alone in (
        (two.history_.drop(columns=clock), one.history_.drop(columns=clock)),
        (two.gradient_flow_, one.gradient_flow_),
    ):
        assert list(found) == ["seed", *alone]
        assert found["seed"].unique().tolist() == [5, 6]
        first = found[found["seed"] == 5].drop(columns="seed")
        pd.testing.assert_frame_equal(first, alone)
    losses = {seed: metrics["val"]["loss"] for seed, metrics in two.done.items()}
    assert two.classifier is two.classifiers[min(losses, key=lambda seed: losses[seed])]


def test_predictions_are_the_classifiers_and_lead_back_to_the_table(
    one: Trained, frame: pd.DataFrame
) -> None:
    for split in ("train", "val", "test"):
        found = one.predictions(split)
        rows = frame.iloc[found.index]
        assert rows["split"].unique().tolist() == [split]
        assert found["name"].tolist() == rows["who"].tolist()
        assert found["label"].tolist() == rows["from"].tolist()
        answers = one.classifier.predict(found["name"])
        assert found["predicted"].tolist() == [answer.nationality for answer in answers]
        np.testing.assert_allclose(found["probability"], [answer.probability for answer in answers])
    right = (one.predictions()["predicted"] == one.predictions()["label"]).mean()
    assert right == pytest.approx(one.done[5]["test"]["accuracy"])


def test_mistakes_are_the_wrong_ones_the_surest_first(two: Trained) -> None:
    for seed in (5, 6):
        found, every = two.mistakes("train", seed), two.predictions("train", seed)
        assert 0 < len(found) < len(every)
        assert (found["predicted"] != found["label"]).all()
        assert len(found) == (every["predicted"] != every["label"]).sum()
        assert found["probability"].is_monotonic_decreasing


def test_what_there_is_not_is_said(two: Trained) -> None:
    with pytest.raises(InputError, match="split 'tests' is not known; choose one of train, val"):
        two.mistakes("tests")
    with pytest.raises(InputError, match="seed is 7; models are there of the seeds 5, 6"):
        two.predictions(seed=7)


def test_a_notebook_shows_a_short_table(one: Trained, two: Trained) -> None:
    for found, caption in ((one, "1 model; 3 epochs"), (two, "2 models; 3 epochs; mean ±")):
        shown_html = found._repr_html_()
        assert caption in shown_html
        assert re.findall(r"<tr><td>(\w+)</td>", shown_html) == ["train", "val", "test"]
        assert shown_html.count("<td>") == 15
    assert f"<td>{one.done[5]['test']['accuracy']:.4f}</td>" in one._repr_html_()
    assert repr(one) == (
        f"<Trained: 1 done, 0 failed, accuracy {one.done[5]['test']['accuracy']:.4f} on test>"
    )
    assert repr(two).startswith("<Trained: 2 done, 0 failed, accuracy ")
    assert " to " in repr(two)


def test_a_failed_seed_is_named_and_escaped(two: Trained) -> None:
    failed = Trained(
        two.done, {7: DivergenceError("a <b> & c")}, [], two.classifiers, dataset=two.dataset,
        history_=two.history_, gradient_flow_=two.gradient_flow_,
    )  # fmt: skip
    assert "seed 7 failed: a &lt;b&gt; &amp; c" in failed._repr_html_()


def test_nothing_is_printed_where_nobody_looks(
    frame: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    npnlp.train(frame, "who", "from", **SETTINGS | {"num_epochs": 1})
    assert capfd.readouterr() == ("", "")


def test_a_line_says_where_a_seed_is() -> None:
    lines = Lines([5, 6], 10)
    assert repr(lines) == "seed 5: 0 of at most 10 epochs\nseed 6: 0 of at most 10 epochs"
    lines.note(6, "note", {"val_loss": 1.5})
    assert lines.of(6).startswith("seed 6: 1 of at most 10 epochs, ")
    lines.note(5, "note", {"val_loss": 1.5})
    lines.note(5, "note", {"val_loss": 2.0})
    assert lines.of(5) == "seed 5: 2 of at most 10 epochs, lowest validation loss 1.5000"
    assert '<progress max="10" value="2">' in str(lines._repr_html_())
    lines.note(5, "done", {"test": {}})
    lines.note(6, "done", DivergenceError("a <b>"))
    assert lines.of(5) == "seed 5: done, 2 epochs, lowest validation loss 1.5000"
    assert lines.of(6) == "seed 6: failed: a <b>, 1 epoch, lowest validation loss 1.5000"
    assert lines._repr_html_() is None  # plain text is kept in a notebook's file
