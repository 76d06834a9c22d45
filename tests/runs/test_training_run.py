"""A whole run: the files it leaves, what they say, and what is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.classifier.metrics import scores
from npnlp.files.tensors import load_tensors
from npnlp.text import SPLITS
from npnlp.text.audit import audit
from npnlp.text.rows import Rows
from npnlp.training.schedule import EarlyStopping, ReduceLROnPlateau
from tests.support.tables import (
    CLASSES,
    FILES,
    ROOT,
    SMALL,
    Row,
    check_same_run,
    environment,
    finished_run,
    frame_of,
    is_one_line,
    make_run,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    train_small,
    tree,
    write_table,
)

SCORES = {"loss", "accuracy", "balanced_accuracy", "macro_f1"}
#: Beside them.
OF_PROBABILITIES = {"log_loss", "brier", "calibration_error", "calibration_error_by_chance"}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def history_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv")


def test_a_run_leaves_the_files_of_the_contract_and_no_others(finished: Path) -> None:
    assert set(tree(finished)) == FILES
    assert all(tree(finished).values())


def test_metrics_have_the_keys_of_the_contract(finished: Path) -> None:
    metrics = read_json(finished / "metrics.json")
    assert {"train", "val", "test", "timing", "data", "environment"} <= set(metrics)
    for split in SPLITS:
        assert set(metrics[split]) == SCORES | OF_PROBABILITIES
        assert metrics[split]["log_loss"] == pytest.approx(metrics[split]["loss"], rel=1e-5)
        assert metrics[split]["loss"] > 0
        assert all(0 <= metrics[split][name] <= 1 for name in SCORES - {"loss"})
    assert metrics["timing"]["train_names_per_second"] > 0
    assert metrics["environment"]["backend"] == "numpy"
    assert metrics["environment"]["numpy"] == np.__version__


def test_metrics_hold_the_audit_of_the_data(finished: Path) -> None:
    assert read_json(finished / "metrics.json")["data"] == audit(Rows.of(frame_of(small_rows())))


def test_metrics_name_no_path_and_no_machine(finished: Path) -> None:
    text = (finished / "metrics.json").read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert str(finished) not in text


def test_the_confusion_matrix_agrees_with_the_metrics(finished: Path) -> None:
    table = pd.read_csv(finished / "confusion_matrix.csv", index_col="true nationality")
    assert list(table.index) == list(table.columns) == list(CLASSES)
    assert list(table.sum(axis=1)) == [3, 3, 3]
    metrics = read_json(finished / "metrics.json")["test"]
    expected = scores(table.to_numpy())
    assert {name: metrics[name] for name in expected} == expected


def test_history_has_a_row_an_epoch(finished: Path) -> None:
    history = history_of(finished)
    assert list(history["epoch"]) == [0, 1, 2]
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(
        history
    )
    assert np.isfinite(history.to_numpy()).all()
    assert (history["grad_norm"] > 0).all()


def test_the_loss_falls(finished: Path) -> None:
    history = history_of(finished)
    assert history["train_loss"].is_monotonic_decreasing
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0] < 1.3


def test_the_vectorizer_is_that_of_train(finished: Path) -> None:
    contents = read_json(finished / "vectorizer.json")
    assert list(contents["nationality_vocab"]["token_to_idx"]) == list(CLASSES)
    saved = load_tensors(finished / "model.safetensors", "npnlp classifier")[1]
    assert saved["vectorizer"] == contents


def test_weights_have_pytorchs_names(finished: Path) -> None:
    tensors, _ = load_tensors(finished / "model.safetensors", "npnlp classifier")
    assert {name: value.shape for name, value in tensors.items()} == {
        "emb.weight": (
            len(read_json(finished / "vectorizer.json")["char_vocab"]["token_to_idx"]),
            6,
        ),
        "rnn.weight_ih_l0": (8, 6),
        "rnn.weight_hh_l0": (8, 8),
        "rnn.bias_ih_l0": (8,),
        "rnn.bias_hh_l0": (8,),
        "fc1.weight": (8, 8),
        "fc1.bias": (8,),
        "fc2.weight": (3, 8),
        "fc2.bias": (3,),
    }


def test_the_best_epoch_is_kept_and_not_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train_small(folder, "--learning-rate", "0.4", "--early-stopping-criteria", "9",
                       epochs=7) == 0  # fmt: skip
    history, metrics = history_of(folder), read_json(folder / "metrics.json")
    best = int(history["val_loss"].argmin())
    assert best < 6, "this case has to end worse than it was"
    assert metrics["timing"]["best_epoch"] == best
    assert metrics["val"]["loss"] == history["val_loss"][best]
    model, _ = load_tensors(folder / "model.safetensors", "npnlp classifier")
    last, _ = load_tensors(folder / "last.safetensors", "npnlp checkpoint")
    for name, value in model.items():
        assert np.array_equal(value, last[f"best.{name}"])
    assert not np.array_equal(model["fc2.weight"], last["model.fc2.weight"])


def test_training_stops_when_the_loss_no_longer_falls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "small.csv")
    assert run_main("train", "--surname-csv", table, "--save-dir", tmp_path / "run", *SMALL,
                    "--learning-rate", "0.4", "--early-stopping-criteria", "2",
                    "--num-epochs", "40") == 0  # fmt: skip
    history = history_of(tmp_path / "run")
    best = int(history["val_loss"].argmin())
    assert len(history) == best + 3 < 40
    assert f"Trained {len(history)} epochs (no better validation loss); best: epoch {best + 1}" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("all_pictures")
def test_the_same_command_gives_the_same_run(finished: Path, tmp_path: Path) -> None:
    assert train_small(tmp_path / "run") == 0
    check_same_run(finished, tmp_path / "run")
    for name in ("learning_curves.png", "gradient_norms.png", "confusion_matrix.png"):
        assert (finished / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_another_process_and_another_hash_seed_give_the_same_run(
    finished: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "small.csv")
    done = npnlp("train", "--surname-csv", table, "--save-dir", tmp_path / "run", "--num-epochs",
                 "3", *SMALL, PYTHONHASHSEED="77")  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_same_run(finished, tmp_path / "run")


def test_running_again_in_the_same_folder_starts_anew(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train_small(folder, "--seed", "6", epochs=2) == 0
    assert train_small(folder, "--overwrite") == 0
    check_same_run(finished, folder)
    assert set(tree(folder)) == FILES


def test_the_model_file_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """So that its checksum says whether a run was repeated."""
    contents = set()
    for count in range(4):
        make_run(tmp_path / str(count), num_epochs=1).train()
        contents.add((tmp_path / str(count) / "model.safetensors").read_bytes())
    assert len(contents) == 1


OTHER_SETTINGS: list[dict[str, Any]] = [
    {"seed": 6}, {"learning_rate": 0.01}, {"batch_size": 15}, {"optimizer": "sgd"},
    {"class_weights": "inverse"}, {"clip_norm": 0.1}, {"shape": {"dropout": 0.1}},
    {"shape": {"nonlinearity": "relu"}},
]  # fmt: skip


def losses_of(folder: Path, rows: list[Row], **config: Any) -> list[float]:
    run = make_run(folder, rows, **config)
    run.train()
    return [row["val_loss"] for row in run.trainer.progress.history]


@pytest.mark.parametrize("settings", OTHER_SETTINGS, ids=str)
def test_every_setting_counts(tmp_path: Path, settings: dict[str, Any]) -> None:
    rows = [row for row in small_rows() if row[2] != "Ramini"]  # so that class weights differ
    plain = losses_of(tmp_path / "plain", rows)
    assert losses_of(tmp_path / "same", rows) == plain
    assert losses_of(tmp_path / "other", rows, **settings) != plain


def test_every_option_arrives(tmp_path: Path) -> None:
    options = {
        "char-embedding-size": 5, "rnn-hidden-size": 7, "dropout": 0.25, "nonlinearity": "relu",
        "num-epochs": 1, "learning-rate": 0.004, "batch-size": 9, "seed": 11,
        "early-stopping-criteria": 3, "class-weights": "balanced", "optimizer": "sgd",
        "momentum": 0.5, "clip-norm": 2.5, "cell": "elman",
    }  # fmt: skip
    table = write_table(tmp_path / "small.csv")
    arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    run = ("train", "--surname-csv", table, "--save-dir", tmp_path / "run", "--quiet")
    assert run_main(*run, *arguments) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    arrived = {**metrics["training"], **metrics["model"]}
    for name, value in options.items():
        assert arrived[name.replace("-", "_").replace("char_", "")] == value


def test_inverse_and_balanced_weights_are_the_same_to_the_loss(tmp_path: Path) -> None:
    rows = [row for row in small_rows() if row[2] not in ("Ramini", "Rametti", "Vamov")]
    inverse, balanced, plain = (
        losses_of(tmp_path / kind, rows, class_weights=kind)
        for kind in ("inverse", "balanced", "none")
    )
    assert np.allclose(inverse, balanced, rtol=1e-4)
    assert not np.allclose(inverse, plain, rtol=1e-4)


def test_quick_is_two_epochs_or_as_many_as_are_asked_for(tmp_path: Path) -> None:
    table = write_table(tmp_path / "small.csv")
    for options, epochs in (((), 2), (("--num-epochs", "3"), 3)):
        assert run_main("train", "--surname-csv", table, "--save-dir", tmp_path / str(epochs),
                        "--quick", "--quiet", *SMALL, *options) == 0  # fmt: skip
        assert len(history_of(tmp_path / str(epochs))) == epochs


def test_out_is_another_name_of_save_dir(tmp_path: Path) -> None:
    table = write_table(tmp_path / "small.csv")
    assert run_main("train", "--surname-csv", table, "--out", tmp_path / "run", "--quick",
                    "--quiet", *SMALL) == 0  # fmt: skip
    assert set(tree(tmp_path / "run")) == FILES


def test_files_may_have_other_names(tmp_path: Path) -> None:
    options = ("--model-state-file", "best.safetensors", "--vectorizer-file", "vocab.json")
    assert train_small(tmp_path / "run", *options) == 0
    other = {"best.safetensors", "vocab.json"}
    assert set(tree(tmp_path / "run")) == FILES - {"model.safetensors", "vectorizer.json"} | other


def test_a_batch_larger_than_the_table_is_one_batch(tmp_path: Path) -> None:
    assert train_small(tmp_path / "run", "--batch-size", "1000") == 0
    assert np.isfinite(history_of(tmp_path / "run")["train_loss"]).all()


def test_quiet_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train_small(tmp_path / "run") == 0
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What a run prints into a pipe."""
    folder = tmp_path_factory.mktemp("printed")
    table = write_table(folder / "small.csv")
    done = npnlp("train", "--surname-csv", table, "--save-dir", folder / "run", "--num-epochs", "3",
                 *SMALL)  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == b""
    return folder / "run", done.stdout.decode()


def test_no_bar_goes_into_a_pipe(printed: tuple[Path, str]) -> None:
    _, text = printed
    assert "\r" not in text
    assert "\x1b" not in text
    assert "it/s" not in text
    assert re.search(r"\d%\|", text) is None


def test_names_of_test_are_predicted_with_their_top_three(printed: tuple[Path, str]) -> None:
    _, text = printed
    samples = re.findall(r"^(\w+) .*\(in the table: (\w+)\)$", text, re.MULTILINE)
    tests = {(name, label) for label, split, name in small_rows() if split == "test"}
    assert len(set(samples) & tests) == len(samples) == 3
    for name, _ in samples:
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert len(lines) == 1
        labels = re.findall(r"(\w+) (0\.\d\d|1\.00)", lines[0])
        assert {label for label, _ in labels} == set(CLASSES)
        shares = [float(share) for _, share in labels]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=0.02)


def test_the_printed_scores_are_those_of_the_file(printed: tuple[Path, str]) -> None:
    folder, text = printed
    metrics = read_json(folder / "metrics.json")
    for split, rows in (("train", 42), ("val", 9), ("test", 9)):
        cells = next(
            line.split() for line in text.splitlines() if re.match(rf"{split} +\d+ ", line)
        )
        assert int(cells[1]) == rows
        names = ("loss", "accuracy", "balanced_accuracy", "macro_f1")
        assert cells[2:] == [f"{metrics[split][name]:.4f}" for name in names]


def test_every_file_is_named_once_written(printed: tuple[Path, str]) -> None:
    folder, text = printed
    named = re.findall(r"^wrote (.+)$", text, flags=re.MULTILINE)
    assert sorted(named) == sorted(str(folder / name) for name in FILES)


def test_the_audit_is_printed(printed: tuple[Path, str]) -> None:
    assert "60 (42 train, 9 val, 9 test)" in printed[1]


def test_the_script_is_the_command(tmp_path: Path) -> None:
    table = write_table(tmp_path / "small.csv")
    script = [sys.executable, str(ROOT / "experiments" / "surnames.py"), "--quick", "--quiet"]
    done = subprocess.run(
        [*script, "--surname-csv", str(table), "--out", str(tmp_path / "run"), *SMALL],
        capture_output=True, check=False, env=environment(), timeout=900,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert set(tree(tmp_path / "run")) == FILES


def test_a_loss_that_explodes_is_one_line_and_status_1(tmp_path: Path) -> None:
    table = write_table(tmp_path / "small.csv")
    done = npnlp("train", "--surname-csv", table, "--save-dir", tmp_path / "run", *SMALL,
                 "--optimizer", "sgd", "--learning-rate", "1e30", "--nonlinearity", "relu",
                 "--quiet")  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == b""
    refusal(done.stderr.decode(), "npnlp train: epoch 1, batch 2: activation of rnn is inf at step "
            "t = 0 of row ", "--learning-rate", "--clip-norm", "npnlp replay")  # fmt: skip


@pytest.mark.parametrize(
    "labels",
    [("Korea, South", 'the "North"', "Cote d'Ivoire"), ("1", "2", "3"), ("True", "False", "None"),
     ("$a_b_c$", "$", "a_b^{c"), ("true", "epoch", "_x"),
     ("NaN", "NA", "null"), ("1.0", "1.5", "-2"),
     ("\u00e9tranger", "\u00df", "\u00d8")],
    ids=" | ".join,
)  # fmt: skip
def test_nationalities_may_be_any_text(tmp_path: Path, labels: tuple[str, str, str]) -> None:
    def quoted(label: str) -> str:
        return '"' + label.replace('"', '""') + '"'

    rows = [(quoted(label), split, name) for label, split, name in small_rows(labels)]
    write_table(tmp_path / "small.csv", rows)
    assert train_small(tmp_path / "run") == 0
    assert set(tree(tmp_path / "run")) == FILES
    table = pd.read_csv(tmp_path / "run" / "confusion_matrix.csv", dtype=str, keep_default_na=False)
    assert set(table.iloc[:, 0]) == set(labels)
    assert set(table.columns[1:]) == set(labels)


@pytest.mark.usefixtures("all_pictures")
def test_nationalities_in_another_script_are_at_most_one_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ("\u4e2d\u56fd", "\u65e5\u672c", "\ud55c\uad6d")
    write_table(tmp_path / "small.csv", small_rows(labels))
    assert train_small(tmp_path / "run") == 0
    if note := capsys.readouterr().err:  # no font here has all of the letters
        refusal(note, "note: no font here has ", " of the characters in ")


def test_a_class_without_test_rows_counts_nowhere(tmp_path: Path) -> None:
    rows = [row for row in small_rows() if row[:2] != ("Russian", "test")]
    write_table(tmp_path / "small.csv", rows)
    assert train_small(tmp_path / "run") == 0
    table = pd.read_csv(tmp_path / "run" / "confusion_matrix.csv", index_col="true nationality")
    assert table.loc["Russian"].sum() == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert 0 <= metrics["test"]["balanced_accuracy"] <= 1


@pytest.mark.peers
def test_the_learning_rate_falls_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    schedule = ReduceLROnPlateau(0.1)
    generator = np.random.default_rng(0)
    losses = [3.0, 2.0, 2.0, 2.0, 1.99999, 1.9, 1.9, float("nan"), 1.8, *generator.random(40)]
    for loss in losses:
        oracle.step(loss)
        assert schedule.step(float(loss)) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert schedule.learning_rate < 0.01


def test_stopping_compares_with_the_best_and_not_with_the_last() -> None:
    stopper = EarlyStopping(patience=2)
    assert [stopper.step(loss) for loss in (2.0, 1.0, 1.5, 1.2)] == [True, True, False, False]
    assert stopper.stop


def test_an_equal_or_missing_loss_is_no_better_one() -> None:
    stopper = EarlyStopping(patience=2)
    assert [stopper.step(loss) for loss in (1.0, 1.0)] == [True, False]
    assert not stopper.stop
    stopper.step(float("nan"))
    assert stopper.stop


def test_the_first_finite_loss_is_the_best() -> None:
    stopper = EarlyStopping(patience=1)
    assert stopper.step(1e300)


def test_json_of_the_metrics_is_strict(finished: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((finished / "metrics.json").read_text(), parse_constant=refuse)


def test_one_line_means_one_line() -> None:
    """The check of messages can fail."""
    checks: list[Callable[[], str]] = [lambda: refusal("a\nb\n"), lambda: refusal("")]
    for check in checks:
        with pytest.raises(AssertionError):
            check()
    assert is_one_line("a\n")
