"""The model card: its figures against those counted by hand, odd names, what is not in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp import Classifier
from npnlp.backend import get_backend
from npnlp.classifier.decision import Decision
from npnlp.classifier.inspection import (
    Outcomes,
    by_class,
    expected_calibration_error,
    reliability,
    wilson_interval,
)
from npnlp.runs.card import is_own_table, model_card, write_card
from npnlp.runs.card_figures import escaped
from npnlp.runs.report import environment
from npnlp.runs.run import Run
from npnlp.text import SPLITS, SurnameDataset, own_table_path
from npnlp.text.rows import Rows
from npnlp.training.config import TrainingConfig
from tests.support.tables import CLASSES, Row, make_run, small_rows

ODD = ("Korea | South", "Cote, $d'Ivoire$", "<b>*A_B*</b> & `C`")


def quoted(rows: Iterable[Row]) -> list[Row]:
    return [('"' + label.replace('"', '""') + '"', split, name) for label, split, name in rows]


def finished(folder: Path, rows: Iterable[Row], **config: Any) -> tuple[Run, str]:
    run = make_run(folder / "run", quoted(rows), **{"num_epochs": 12, **config})
    run.train()
    return run, card_of(run)


def card_of(run: Run) -> str:
    return model_card(run, run.evaluate(), environment(run.trainer.model.backend))


def cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table, as a reader sees them."""
    parts = re.split(r"(?<!\\)\|", line)[1:-1]
    return [re.sub(r"\\(.)", r"\1", part.strip()) for part in parts]


def table(card: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    section = card.split(f"{heading}\n", 1)[1]
    lines = section.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    assert all(len(row) == len(rows[0]) for row in rows)
    return rows[2:]


def properties(card: str, heading: str) -> dict[str, str]:
    return {row[0]: row[1] for row in table(card, heading)}


def guesses(run: Run) -> list[tuple[str, str, str, float]]:
    """For each test row its name, its label, and the answer with its probability, one by one."""
    frame = run.dataset.frames["test"]
    found = []
    for name, label in zip(frame["surname"], frame["nationality"], strict=True):
        best = run.classifier.predict([name])[0]
        found.append((name, label, best.nationality, best.probability))
    return found


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run that errs, with names that train has too and a class without test rows."""
    rows = small_rows(ODD)
    rows = [row for row in rows if row[:2] != (ODD[2], "test")]
    rows += [(ODD[0], "test", "Rametti"), (ODD[1], "test", "Rametti"), (ODD[0], "test", "Vamov")]
    rows += [(ODD[0], "train", "Rametti")]
    return finished(tmp_path_factory.mktemp("card"), rows, num_epochs=5)


def test_scores_of_the_splits_are_those_of_the_evaluation(mixed: tuple[Run, str]) -> None:
    run, card = mixed
    rows = {row[0]: row[1:] for row in table(card, "## Results")}
    assert list(rows) == list(SPLITS)
    for split, found in run.evaluate().items():
        names = ("loss", "accuracy", "balanced_accuracy", "macro_f1")
        assert rows[split][0] == str(len(run.dataset.frames[split]))
        assert rows[split][1:] == [f"{found.metrics[name]:.4f}" for name in names]


def test_scores_by_nationality_are_those_counted_by_hand(mixed: tuple[Run, str]) -> None:
    run, card = mixed
    found = guesses(run)
    pairs = Counter((label, answer) for _, label, answer, _ in found)
    assert sum(label != answer for _, label, answer, _ in found) > 1, "this case has to err"
    rows = table(card, "### By class, on test")
    assert [row[0] for row in rows] == list(ODD)
    for label, in_train, in_test, precision, recall, f1, worst in rows:
        train = run.dataset.frames["train"]["nationality"]
        assert in_train == str(sum(train == label))
        true = sum(count for (truth, _), count in pairs.items() if truth == label)
        answered = sum(count for (_, answer), count in pairs.items() if answer == label)
        hits = pairs[label, label]
        assert in_test == str(true)
        assert precision == (f"{hits / answered:.4f}" if answered else "–")
        assert recall == (f"{hits / true:.4f}" if true else "–")
        assert f1 == (f"{2 * hits / (true + answered):.4f}" if true + answered else "–")
        wrong = {answer: n for (truth, answer), n in pairs.items() if answer != truth == label}
        assert (worst == "–") == (not wrong)
        if wrong:
            taken_for, count = re.fullmatch(r"(.+) \((\d+)\)", worst).groups()  # type: ignore[union-attr]
            assert wrong[taken_for] == int(count) == max(wrong.values())


def test_a_class_without_test_rows_has_no_recall(mixed: tuple[Run, str]) -> None:
    row = table(mixed[1], "### By class, on test")[2]
    assert row[0] == ODD[2]
    assert (row[2], row[4], row[6]) == ("0", "–", "–")


def test_accuracy_on_seen_and_on_new_names(mixed: tuple[Run, str]) -> None:
    run, card = mixed
    train = set(run.dataset.frames["train"]["surname"])
    right: dict[bool, list[bool]] = {True: [], False: []}
    for name, label, answer, _ in guesses(run):
        right[name in train].append(label == answer)
    assert [len(right[True]), len(right[False])] == [3, 6]
    expected = [[str(len(right[seen])), f"{np.mean(right[seen]):.4f}"] for seen in (True, False)]
    rows = table(card, "### Names that training has seen, and others")
    assert [row[1:] for row in rows] == expected


def test_calibration_is_that_counted_by_hand(mixed: tuple[Run, str]) -> None:
    run, card = mixed
    found = [(probability, label == answer) for _, label, answer, probability in guesses(run)]
    section = card.split("### Are its probabilities")[1]
    text = " ".join(section.split())
    mean, accuracy = (float(value) for value in re.findall(r"(?:of|and) (\d\.\d{4})", text)[:2])
    assert mean == pytest.approx(np.mean([p for p, _ in found]), abs=1e-4)
    assert accuracy == pytest.approx(np.mean([right for _, right in found]), abs=1e-4)
    gaps = 0.0
    for low in range(15):
        rows = [(p, right) for p, right in found if low / 15 < p <= (low + 1) / 15]
        gaps += abs(sum(p for p, _ in rows) - sum(right for _, right in rows))
    scores = dict(row[::2] for row in table(card, "### Are its probabilities to be believed?"))
    error = float(scores["expected calibration error"])
    assert error == pytest.approx(gaps / len(found), abs=1e-4)
    bins = table(section, "by chance alone.\n")
    assert sum(int(row[1]) for row in bins) == len(found)
    assert "nothing was calibrated" in text
    assert "are refused for this model" in card


def test_thresholds_and_sets_are_those_of_the_saved_model(tmp_path: Path) -> None:
    rows = [
        (label, split, f"{name}{split[0]}{chr(97 + n % 26)}{chr(97 + n // 26)}")
        for label, name in zip(CLASSES, ("Ka", "Ka", "Ro"), strict=True)
        for n in range(90)
        for split in ("train", "val", "test")
    ]
    run, card = finished(tmp_path, rows, num_epochs=3)
    assert run.calibration is not None
    names = run.dataset.frames["test"]
    classifier = Classifier.load(run.model_file)
    p = classifier.probabilities(names["surname"])
    labels = np.array(classifier.vectorizer.nationality_vocab.tokens)
    right = labels[p.argmax(axis=1)] == names["nationality"]
    asked, least, answered, of_them = table(card, "### When to answer")[0]
    if answered != "–":
        exact = Decision(precision=0.9).least(classifier.calibration)
        assert float(least) == pytest.approx(exact, abs=1e-4)
        sure = p.max(axis=1) >= exact
        assert float(answered) == pytest.approx(sure.mean(), abs=1e-3)
        assert float(of_them) == pytest.approx(right[sure].mean(), abs=1e-3)
    assert asked == "0.9"
    section = card.split("### When to answer")[1].split("--sets", 1)[1]
    level, covered, size, _ = cells(section.splitlines()[2])
    found = classifier.predict(names["surname"], decision=Decision(sets=float(level)))
    holds = [y in each.labels for y, each in zip(names["nationality"], found, strict=True)
             if each.labels is not None]  # fmt: skip
    assert float(covered) == pytest.approx(np.mean(holds), abs=1e-4)
    assert float(size) == pytest.approx(
        np.mean([len(each.labels or ()) for each in found]), abs=0.01
    )
    assert ("the temperature that suits val best" in card) == (run.temperature != 1)


def test_the_audit_and_the_settings_are_there(mixed: tuple[Run, str]) -> None:
    run, card = mixed
    data = properties(card, "## Data")
    assert data["rows"] == "61 (43 train, 9 val, 9 test)"
    assert data["names with several classes"] == "2"
    assert data["duplicate rows"] == "2"
    seen = "test rows whose name stands in train too"
    assert data[seen] == "3, of them 1 with the same class"
    assert len(data["SHA-256 of the rows in their order"]) == 64
    training = properties(card, "## Training")
    assert training["learning rate"] == "0.02"
    assert training["epochs trained"] == str(len(run.trainer.progress.history))
    model = properties(card, "## Model")
    count = sum(value.size for value in run.trainer.model.parameters.values())
    assert model["parameters"] == f"{count:,} numbers, float32"
    assert "has 15 rows (34.9%)" in card
    assert "1.1 times as many" in card


@pytest.mark.parametrize(
    "shape",
    [{"cell": "gru", "bidirectional": True, "num_layers": 2, "rnn_dropout": 0.25},
     {"cell": "transformer", "num_heads": 2, "pooling": "mean"}],
    ids=["gru", "transformer"],
)  # fmt: skip
def test_the_architecture_is_named(tmp_path: Path, shape: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", shape=shape, num_epochs=1, gradient_flow=False)
    run.train()
    text = properties(card_of(run), "## Model")["architecture"]
    words = {
        "gru": ("gru (reset after), 8 hidden, 2 layers, both directions, dropout 0.25", "last"),
        "transformer": ("transformer (2 heads), 8 hidden, 1 layer →", "pooling: mean"),
    }[shape["cell"]]
    assert all(word in text for word in words)


@pytest.mark.parametrize("word", [
    "must not be used for", "does not tell a person's sex", "hiring", "credit", "policing",
    "border control", "medicine", "averages over rows", 'cannot answer "none"', "unknown to npnlp",
])  # fmt: skip
def test_what_it_is_not_for_is_said(mixed: tuple[Run, str], word: str) -> None:
    assert word in mixed[1]


def test_the_lines_that_load_it_do(mixed: tuple[Run, str], monkeypatch: Any, capsys: Any) -> None:
    run, card = mixed
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(run.save_dir)
    exec(code)
    assert capsys.readouterr().out.startswith("[Prediction(surname='A name'")
    assert Classifier.load(run.model_file).predict(["Nakamoto"])


def test_the_same_run_gives_the_same_bytes_and_names_no_place(tmp_path: Path) -> None:
    contents = []
    for folder in ("first", "another place"):
        run, _ = finished(tmp_path / folder, small_rows(), num_epochs=2)
        path = run.save_dir / "MODEL_CARD.md"
        write_card(path, run, run.evaluate(), environment(run.trainer.model.backend))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    text = contents[0].decode()
    for part in (str(tmp_path), str(Path.home()), "another place"):
        assert part not in text
    assert not re.search(r"\b20\d\d-\d\d|\d\d:\d\d", text)


def test_no_html_and_whole_tables_whatever_the_names(mixed: tuple[Run, str]) -> None:
    outside = re.sub(r"\\.", "", mixed[1])
    assert not re.search(r"<\w|</", outside)
    assert "$" not in outside


def test_a_perfect_run_has_no_confusions(tmp_path: Path) -> None:
    _, card = finished(tmp_path, small_rows(), num_epochs=40)
    rows = table(card, "### By nationality, on test")
    assert [row[0] for row in rows] == list(CLASSES)
    assert {row[6] for row in rows if row[4] == "1.0000"} == {"–"}
    unseen = table(card, "### Names that training has seen, and others")
    assert unseen[0][1:] == ["0", "–"]


def test_weights_that_were_never_bettered_are_said_to_be_those_it_began_with(
    tmp_path: Path,
) -> None:
    run, _ = finished(tmp_path, small_rows(), num_epochs=20)
    again = make_run(tmp_path / "run", num_epochs=1, learning_rate=3.0)
    again.trainer.model.load_state_dict(run.trainer.model.state_dict())
    again.trainer.begin_from_here()
    again.train()
    assert "the weights that it started from, by" in card_of(again)


def test_the_table_of_npnlp_is_known_by_its_rows() -> None:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    frame = dataset.surname_df
    assert is_own_table(dataset.rows)
    assert is_own_table(Rows.of(frame.iloc[::-1].assign(split="test")))
    assert not is_own_table(Rows.of(frame.iloc[1:]))
    config = TrainingConfig(num_epochs=1)
    sizes = {"embedding_size": 2, "rnn_hidden_size": 2}
    run = Run.make(dataset, config, sizes, get_backend("numpy"), Path())
    card = card_of(run)
    assert "Faker's own MIT licence" in card
    assert "unknown to npnlp" not in card


@pytest.mark.parametrize("text", [*ODD, r"a\|b", "two\nlines", "[x](y)", "~~a~~ #1"])
def test_escaped_text_reads_as_it_is(text: str) -> None:
    assert cells(f"| {escaped(text)} |") == [" ".join(text.split())]


def test_bins_are_closed_above_and_cover_all() -> None:
    confidence = np.array([0.0, 0.1, 0.5, 0.55, 1.0])
    found = Outcomes(np.array([False, True, False, True, True]), confidence, confidence, confidence)
    bins = reliability(found)
    assert [(each.low, each.rows) for each in bins] == [(0, 2), (0.4, 1), (0.5, 1), (0.9, 1)]
    by_hand = (2 * abs(0.5 - 0.05) + 0.5 + 0.45 + 0) / 5
    assert expected_calibration_error(bins) == pytest.approx(by_hand)


def test_the_interval_is_wilsons() -> None:
    # 20 of 100: Wilson's 95 % interval as printed in tables.
    assert wilson_interval(0.2, 100) == pytest.approx((0.1334, 0.2888), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_scores_of_a_class_that_is_never_answered() -> None:
    never, always = by_class(np.array([[0, 3], [0, 2]]))
    assert (never.precision, never.recall, never.f1) == (None, 0, 0)
    assert never.confused_with == (1, 3)
    assert (always.precision, always.recall, always.confused_with) == (0.4, 1, None)
