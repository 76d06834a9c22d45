"""Bad input is one line on standard error and status 2, and no file is made or changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from tests.support.tables import (
    BAD_TABLES,
    SMALL,
    UNFIT_TABLES,
    Bad,
    finished_run,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    tree,
    write_table,
)

Capture = pytest.CaptureFixture[str]
ALL_TABLES = BAD_TABLES | UNFIT_TABLES
tables = pytest.mark.parametrize("bad", ALL_TABLES.values(), ids=list(ALL_TABLES))


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def check_refused(capsys: Capture, name: str, status: int, *words: str | Path) -> None:
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.startswith(f"npnlp {name}: ")
    refusal(printed.err, *words)


def train(table: Path, folder: Path, *options: str) -> int:
    run = ("train", "--surname-csv", table, "--save-dir", folder, "--num-epochs", "1")
    return run_main(*run, *SMALL, *options)


@tables
def test_training_on_a_bad_table_makes_no_folder(tmp_path: Path, bad: Bad, capsys: Capture) -> None:
    path = bad.put(tmp_path / "bad table.csv")
    check_refused(capsys, "train", train(path, tmp_path / "run"), path, *bad.words)
    assert not (tmp_path / "run").exists()


@tables
@pytest.mark.parametrize("option", [(), ("--resume",), ("--reload-from-files",)], ids=str)
def test_training_on_a_bad_table_changes_no_folder(
    finished: Path, tmp_path: Path, bad: Bad, option: tuple[str, ...], capsys: Capture
) -> None:
    path = bad.put(tmp_path / "bad table.csv")
    before = tree(finished)
    check_refused(capsys, "train", train(path, finished, *option), path)
    assert tree(finished) == before


@tables
def test_evaluating_on_a_bad_table(
    finished: Path, tmp_path: Path, bad: Bad, capsys: Capture
) -> None:
    path = bad.put(tmp_path / "bad table.csv")
    before = tree(finished)
    status = run_main("evaluate", "--save-dir", finished, "--surname-csv", path, "--json")
    if bad in UNFIT_TABLES.values():  # what cannot be learned from can be measured on
        assert "Traceback" not in capsys.readouterr().err
    else:
        check_refused(capsys, "evaluate", status, path, *bad.words)
    assert tree(finished) == before


def test_evaluating_needs_no_split_and_no_train_rows(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("surname,nationality\nRossi,Italian\nBianchi,Italian\n", encoding="utf-8")
    options = ("--save-dir", finished, "--surname-csv", path)
    assert run_main("evaluate", *options, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"all"}
    status = run_main("evaluate", *options, "--class-weights", "inverse")
    check_refused(capsys, "evaluate", status, path, "no train rows")


@tables
def test_predicting_with_a_table_as_the_model(tmp_path: Path, bad: Bad, capsys: Capture) -> None:
    path = bad.put(tmp_path / "table.csv")
    before = tree(tmp_path)
    status = run_main("predict", "--save-dir", tmp_path, "--model-state-file", path.name, "Rossi")
    check_refused(capsys, "predict", status, path)
    assert tree(tmp_path) == before


def test_in_a_process_of_its_own_it_is_the_same(tmp_path: Path) -> None:
    done = npnlp("train", "--surname-csv", tmp_path / "none.csv", "--save-dir", tmp_path / "run")
    assert (done.returncode, done.stdout) == (2, b"")
    refusal(done.stderr.decode(), "npnlp train:", "none.csv", "no such file")
    assert not (tmp_path / "run").exists()


def test_a_nationality_unknown_to_the_model_is_named(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = write_table(tmp_path / "more.csv", [*small_rows(), ("Greek", "train", "Pappas")])
    status = run_main("evaluate", "--save-dir", finished, "--surname-csv", path)
    check_refused(capsys, "evaluate", status, path, "row 62", "column nationality", "'Greek'")


BAD_OPTIONS = [
    ("--num-epochs", "0"), ("--num-epochs", "-1"), ("--num-epochs", "1.5"), ("--num-epochs", "x"),
    ("--batch-size", "0"), ("--batch-size", "-16"), ("--early-stopping-criteria", "0"),
    ("--learning-rate", "0"), ("--learning-rate", "-0.1"), ("--learning-rate", "nan"),
    ("--learning-rate", "inf"), ("--learning-rate", "fast"), ("--clip-norm", "0"),
    ("--clip-norm", "-1"), ("--clip-norm", "nan"), ("--rnn-hidden-size", "0"),
    ("--char-embedding-size", "-3"), ("--dropout", "1"), ("--dropout", "-0.1"),
    ("--dropout", "nan"), ("--dropout", "1.5"), ("--seed", "x"), ("--seed", "1.5"),
    ("--cell", "nope"), ("--nonlinearity", "nope"), ("--optimizer", "nope"),
    ("--class-weights", "heavy"), ("--split-by", "magic"), ("--backend", "abacus"),
    ("--nope", "1"), ("--seed",), ("stray",), ("--rnn-hidden-size", "100000000000000"),
    ("--char-embedding-size", "100000000000000000000"),
]  # fmt: skip


@pytest.mark.parametrize("option", BAD_OPTIONS, ids=" ".join)
def test_a_bad_option_of_train_is_named(
    tmp_path: Path, option: tuple[str, ...], capsys: Capture
) -> None:
    table = write_table(tmp_path / "small.csv")
    status = train(table, tmp_path / "run", *option)
    # A setting is named by its option or by its field: --batch-size or batch_size.
    word = option[0].strip("-")
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    refusal(printed.err, "npnlp")
    named = (word, word.replace("-", "_"), word.removeprefix("char-").replace("-", "_"))
    assert any(name in printed.err.lower() for name in named)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("momentum", ["1", "-0.1", "nan"])
def test_a_bad_momentum_is_named(tmp_path: Path, momentum: str, capsys: Capture) -> None:
    table = write_table(tmp_path / "small.csv")
    status = train(table, tmp_path / "run", "--optimizer", "sgd", "--momentum", momentum)
    check_refused(capsys, "train", status, "momentum")


def test_a_momentum_that_the_optimizer_does_not_have_is_not_ignored(
    tmp_path: Path, capsys: Capture
) -> None:
    table = write_table(tmp_path / "small.csv")
    status = train(table, tmp_path / "run", "--optimizer", "adam", "--momentum", "0.9")
    check_refused(capsys, "train", status, "momentum")


@pytest.mark.parametrize("name", ["learning-rate", "clip-norm"])
def test_infinity_is_not_called_too_small(tmp_path: Path, name: str, capsys: Capture) -> None:
    table = write_table(tmp_path / "small.csv")
    train(table, tmp_path / "run", f"--{name}", "inf")
    assert "finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [(), ("nope",), ("--nope",), ("predict",), ("predict", "--nope", "Rossi"),
     ("predict", "--top-k", "x", "Rossi"), ("evaluate", "--nope"), ("evaluate", "stray"),
     ("backends", "--nope"), ("gradcheck", "--nope"), ("train", "--no\npe")],
    ids=" ".join,
)  # fmt: skip
def test_arguments_that_make_no_sense_are_one_line(
    arguments: tuple[str, ...], capsys: Capture
) -> None:
    assert run_main(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    refusal(printed.err, "npnlp", "--help")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "small.csv")
    for folder in (table, table / "run"):
        assert train(table, folder, "--quiet") == 2
        refusal(capsys.readouterr().err, "npnlp train:", table)
    assert list(tree(tmp_path)) == ["small.csv"]


@pytest.mark.parametrize("option", ["--model-state-file", "--vectorizer-file"])
@pytest.mark.parametrize(
    "name", ["last.safetensors", "metrics.json", "learning_curves.png", "", "no folder/file"]
)
def test_a_file_name_that_cannot_be_is_refused_before_training(
    tmp_path: Path, option: str, name: str, capsys: Capture
) -> None:
    table = write_table(tmp_path / "small.csv")
    assert train(table, tmp_path / "run", "--quiet", option, name) == 2
    refusal(capsys.readouterr().err, "npnlp train:", name)
    assert list(tree(tmp_path)) == ["small.csv"]


def test_two_files_of_one_name_are_refused(tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "small.csv")
    both = ("--model-state-file", "one", "--vectorizer-file", "one")
    assert train(table, tmp_path / "run", "--quiet", *both) == 2
    refusal(capsys.readouterr().err, "one")


def predict(folder: Path, *arguments: str) -> int:
    return run_main("predict", "--save-dir", folder, *arguments)


@pytest.mark.parametrize("top_k", ["0", "-1"])
def test_no_choice_at_all_is_refused(finished: Path, top_k: str, capsys: Capture) -> None:
    check_refused(capsys, "predict", predict(finished, "--top-k", top_k, "Ramini"), top_k)


@pytest.mark.parametrize("name", ["", " ", "\t", "\u00a0"])
def test_an_empty_name_is_refused_with_its_place(
    finished: Path, name: str, capsys: Capture
) -> None:
    check_refused(capsys, "predict", predict(finished, "Ramini", name), "name 2", "empty")


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_a_missing_model_is_named(tmp_path: Path, name: str, capsys: Capture) -> None:
    names = ["Ramini"] if name == "predict" else []
    status = run_main(name, "--save-dir", tmp_path / "none", *names)
    path = tmp_path / "none" / "model.safetensors"
    check_refused(capsys, name, status, path, "no such file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "word"),
    [("vectorizer.json", "safetensors"), ("metrics.json", "safetensors"),
     ("last.safetensors", "npnlp checkpoint"), ("confusion_matrix.png", "safetensors"),
     ("", "folder")],
)  # fmt: skip
def test_another_file_is_not_taken_for_the_model(
    finished: Path, name: str, word: str, capsys: Capture
) -> None:
    status = predict(finished, "--model-state-file", name, "Ramini")
    check_refused(capsys, "predict", status, finished / name, word)


@pytest.mark.parametrize("length", [0, 4, 8, 100, 1000, -1])
def test_a_model_cut_short_is_refused(
    finished: Path, tmp_path: Path, length: int, capsys: Capture
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((finished / path.name).read_bytes()[:length])
    check_refused(capsys, "predict", predict(tmp_path, "Ramini"), path)


def test_bits_flipped_in_a_models_header_are_no_traceback(finished: Path, tmp_path: Path) -> None:
    """Either the file still loads, or it is refused in one way."""
    path = tmp_path / "model.safetensors"
    whole = bytearray((finished / path.name).read_bytes())
    header = int.from_bytes(whole[:8], "little")
    generator, refused = np.random.default_rng(0), 0
    for place in generator.integers(0, 8 + header, size=400):
        damaged = whole.copy()
        damaged[place] ^= 1 << int(generator.integers(0, 7))
        path.write_bytes(damaged)
        try:
            Classifier.load(path)
        except InputError as error:
            refused += str(path) in str(error)
    assert refused > 200


def rewritten(finished: Path, folder: Path, **values: object) -> Path:
    """The model with other values in its metadata; None leaves a field out."""
    tensors, metadata = saved_tensors(finished)
    changed = json.loads(metadata["npnlp"]) | values
    kept = {name: value for name, value in changed.items() if value is not None}
    path = folder / "model.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, metadata={"npnlp": json.dumps(kept)}))
    return path


def config_of(finished: Path) -> dict[str, object]:
    model: dict[str, object] = read_json(finished / "metrics.json")["model"]
    return model


def test_a_rewritten_model_still_predicts(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    rewritten(finished, tmp_path, config=config_of(finished))
    assert predict(tmp_path, "Ramini") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [{"num_classes": 4}, {"num_embeddings": 3}, {"rnn_hidden_size": 9}, {"rnn_hidden_size": 0},
     {"rnn_hidden_size": "8"}, {"rnn_hidden_size": 8.0}, {"rnn_hidden_size": True},
     {"embedding_size": None}, {"cell": "nope"}, {"cell": ["elman"]}, {"nonlinearity": "sigmoid"},
     {"dropout": 2}, {"dropout": "half"}, {"dropout": None}, {"padding_idx": "zero"},
     {"padding_idx": 99}, {"padding_idx": -1}, {"colour": "red"}],
    ids=str,
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(
    finished: Path, tmp_path: Path, change: dict[str, object], capsys: Capture
) -> None:
    path = rewritten(finished, tmp_path, config=config_of(finished) | change)
    check_refused(capsys, "predict", predict(tmp_path, "Ramini"), path)


@pytest.mark.parametrize("value", [None, [], {}, 3, "text", [[]], ["a"], True], ids=repr)
@pytest.mark.parametrize("field", ["config", "vectorizer"])
def test_metadata_that_cannot_be_are_refused(
    finished: Path, tmp_path: Path, field: str, value: object, capsys: Capture
) -> None:
    path = rewritten(finished, tmp_path, **{field: value})
    check_refused(capsys, "predict", predict(tmp_path, "Ramini"), path)


def saved_tensors(finished: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    content = (finished / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return safetensors.numpy.load(content), header["__metadata__"]


@pytest.mark.parametrize(
    "change",
    [{"fc2.bias": None}, {"fc9.bias": np.zeros(3, np.float32)},
     {"fc2.bias": np.zeros(4, np.float32)}, {"fc2.weight": np.zeros((8, 3), np.float32)},
     {"fc2.bias": np.zeros((3, 1), np.float32)},
     {"fc2.bias": np.full(3, np.nan, dtype=np.float32)}],
    ids=["one missing", "one too many", "another length", "transposed", "another axis", "NaN"],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(
    finished: Path, tmp_path: Path, change: dict[str, NDArray[Any] | None], capsys: Capture
) -> None:
    tensors, metadata = saved_tensors(finished)
    changed = {k: v for k, v in {**tensors, **change}.items() if v is not None}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save(changed, metadata=metadata))
    check_refused(capsys, "predict", predict(tmp_path, "Ramini"), path, next(iter(change)))


def test_a_folder_in_the_place_of_a_file_is_refused(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Found at the end at the latest, and in one line."""
    table = write_table(tmp_path / "small.csv")
    (tmp_path / "run" / "history.csv").mkdir(parents=True)
    assert train(table, tmp_path / "run", "--quiet") == 2
    refusal(capsys.readouterr().err, "npnlp train:", "history.csv")
    shutil.rmtree(tmp_path / "run")
