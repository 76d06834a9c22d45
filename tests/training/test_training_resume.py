"""Stopping and going on: to the same bits as without a stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.files.tensors import load_tensors
from npnlp.runs.run import Run
from npnlp.training.interrupt import Interrupted, interruptible
from tests.support.tables import (
    FILES,
    SMALL,
    check_same_run,
    check_same_weights,
    command,
    environment,
    finished_run,
    make_run,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    stop_after,
    train_small,
    tree,
    write_table,
)

BATCHES = 3  # of 16 names in an epoch of 42


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change, beside its table."""
    shutil.copytree(finished, tmp_path / "run")
    write_table(tmp_path / "small.csv")
    return tmp_path / "run"


def resumed(folder: Path, **config: Any) -> Run:
    run = make_run(folder, **config)
    assert run.resume()
    return run


def check_stop_and_go(tmp_path: Path, batches: int, **config: Any) -> None:
    whole = make_run(tmp_path / "whole", **config)
    whole.train()
    stop_after(make_run(tmp_path / "parts", **config), batches)
    parts = resumed(tmp_path / "parts", **config)
    progress = parts.trainer.progress
    assert progress.epoch * BATCHES + progress.batch == batches
    parts.train()
    check_same_weights(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("batches", range(1, 3 * BATCHES + 1))
def test_a_stop_after_any_batch_leaves_no_trace(tmp_path: Path, batches: int) -> None:
    check_stop_and_go(tmp_path, batches)


@pytest.mark.parametrize(
    "config",
    [
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "sgd"},
        {"class_weights": "inverse", "clip_norm": 0.05},
        {"learning_rate": 0.4, "num_epochs": 6},
        {"shape": {"dropout": 0.0, "nonlinearity": "relu"}},
    ],
    ids=str,
)
def test_a_stop_leaves_no_trace_whatever_the_settings(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    check_stop_and_go(tmp_path, 5, **config)


def test_many_stops_leave_no_trace(tmp_path: Path) -> None:
    make_run(tmp_path / "whole").train()
    stop_after(make_run(tmp_path / "parts"), 1)
    for _ in range(3 * BATCHES - 1):
        run = resumed(tmp_path / "parts")
        shutil.rmtree(tmp_path / "parts")
        stop_after(run, 1)
    resumed(tmp_path / "parts").train()
    check_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_checkpoint_that_lost_its_moments_would_be_seen(tmp_path: Path) -> None:
    """The checks above can fail: without Adam's moments the bits differ."""
    make_run(tmp_path / "whole").train()
    stop_after(make_run(tmp_path / "parts"), 4)
    parts = resumed(tmp_path / "parts")
    for moment in parts.trainer.optimizer.moments.values():
        moment[...] = 0
    parts.train()
    with pytest.raises(AssertionError):
        check_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_the_command_goes_on_where_a_run_stopped(finished: Path, tmp_path: Path) -> None:
    stop_after(make_run(tmp_path / "run"), 4)
    assert train_small(tmp_path / "run", "--resume") == 0
    check_same_run(finished, tmp_path / "run")
    assert set(tree(tmp_path / "run")) == FILES


def test_it_says_that_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop_after(make_run(tmp_path / "run"), 4)
    assert run_main("train", "--surname-csv", tmp_path / "small.csv", "--save-dir",
                    tmp_path / "run", "--resume", "--num-epochs", "3", *SMALL) == 0  # fmt: skip
    assert "Resuming: 1 epochs done" in capsys.readouterr().out


def test_resuming_where_nothing_is_starts(finished: Path, tmp_path: Path) -> None:
    assert train_small(tmp_path / "run", "--resume") == 0
    check_same_run(finished, tmp_path / "run")


def test_resuming_in_an_empty_folder_starts(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert train_small(tmp_path / "run", "--resume") == 0
    check_same_run(finished, tmp_path / "run")


def test_resuming_a_finished_run_changes_nothing(finished: Path, copied: Path) -> None:
    assert train_small(copied, "--resume") == 0
    check_same_run(finished, copied)
    assert (copied / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    assert read_json(copied / "metrics.json") == read_json(finished / "metrics.json")


def test_resuming_a_finished_run_restores_its_files(finished: Path, copied: Path) -> None:
    for name in FILES - {"last.safetensors"}:
        (copied / name).unlink()
    assert train_small(copied, "--resume") == 0
    check_same_run(finished, copied)
    assert set(tree(copied)) == FILES


def test_more_epochs_go_on(copied: Path, tmp_path: Path) -> None:
    assert train_small(copied, "--resume", epochs=5) == 0
    assert train_small(tmp_path / "whole", epochs=5) == 0
    check_same_run(tmp_path / "whole", copied)
    assert list(pd.read_csv(copied / "history.csv")["epoch"]) == [0, 1, 2, 3, 4]


def test_more_epochs_do_not_revive_a_run_that_stopped_early(tmp_path: Path) -> None:
    options = ("--learning-rate", "0.4", "--early-stopping-criteria", "1")
    assert train_small(tmp_path / "run", *options, epochs=30) == 0
    epochs = len(pd.read_csv(tmp_path / "run" / "history.csv"))
    assert epochs < 30
    assert train_small(tmp_path / "run", *options, "--resume", epochs=60) == 0
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == epochs


def test_more_patience_lets_a_run_that_stopped_early_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit as if it had been that patient from the beginning."""
    rate, patience = ("--learning-rate", "0.4"), "--early-stopping-criteria"
    assert train_small(tmp_path / "run", *rate, patience, "1", epochs=30) == 0
    epochs = len(pd.read_csv(tmp_path / "run" / "history.csv"))
    assert train_small(tmp_path / "run", *rate, patience, "4", "--resume", epochs=30) == 0
    assert train_small(tmp_path / "whole", *rate, patience, "4", epochs=30) == 0
    assert epochs < len(pd.read_csv(tmp_path / "run" / "history.csv")) < 30
    check_same_run(tmp_path / "whole", tmp_path / "run")


OTHERS = {
    "learning_rate": ("--learning-rate", "0.01"),
    "seed": ("--seed", "6"),
    "batch_size": ("--batch-size", "15"),
    "class_weights": ("--class-weights", "inverse"),
    "optimizer": ("--optimizer", "sgd"),
    "clip_norm": ("--clip-norm", "1"),
    "rnn_hidden_size": ("--rnn-hidden-size", "9"),
    "embedding_size": ("--char-embedding-size", "7"),
    "dropout": ("--dropout", "0.1"),
    "nonlinearity": ("--nonlinearity", "relu"),
}


@pytest.mark.parametrize(("setting", "option"), OTHERS.items(), ids=list(OTHERS))
def test_another_setting_is_named_and_nothing_is_touched(
    copied: Path, setting: str, option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(copied)
    assert train_small(copied, "--resume", *option, epochs=9) == 2
    printed = capsys.readouterr()
    refusal(printed.err, copied / "last.safetensors", setting, option[1])
    assert printed.out == ""
    assert tree(copied) == before


@pytest.mark.parametrize(
    "rows",
    [
        small_rows()[:-1],
        [*small_rows(), ("Italian", "train", "Ramini")],
        [("Italian", "train", "Rimini"), *small_rows()[1:]],
        [("Italian", "val", "Ramini"), *small_rows()[1:]],
        small_rows()[::-1],
    ],
    ids=["a row less", "a row more", "another name", "another split", "another order"],
)
def test_other_data_are_named_and_nothing_is_touched(
    copied: Path, rows: list[tuple[str, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(copied)
    write_table(copied.parent / "small.csv", rows)
    assert train_small(copied, "--resume", epochs=9) == 2
    refusal(capsys.readouterr().err, copied / "last.safetensors", "other data", "--surname-csv")
    assert tree(copied) == before


def test_the_same_data_in_another_file_are_the_same(finished: Path, copied: Path) -> None:
    (copied.parent / "small.csv").rename(copied.parent / "moved.csv")
    assert run_main("train", "--surname-csv", copied.parent / "moved.csv", "--save-dir", copied,
                    "--resume", "--num-epochs", "3", "--quiet", *SMALL) == 0  # fmt: skip
    check_same_run(finished, copied)


@pytest.mark.parametrize("length", [0, 5, 100, 2000, -1])
def test_a_damaged_checkpoint_is_named_and_nothing_is_touched(
    copied: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "last.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    before = tree(copied)
    assert train_small(copied, "--resume", epochs=9) == 2
    refusal(capsys.readouterr().err, path)
    assert tree(copied) == before


def test_a_model_is_no_checkpoint(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(copied / "model.safetensors", copied / "last.safetensors")
    assert train_small(copied, "--resume", epochs=9) == 2
    refusal(capsys.readouterr().err, "last.safetensors", "npnlp classifier", "npnlp checkpoint")


def test_bits_flipped_in_a_checkpoints_header_are_no_traceback(copied: Path) -> None:
    """Either the file still loads, or it is refused in one way."""
    path = copied / "last.safetensors"
    whole = bytearray(path.read_bytes())
    header = int.from_bytes(whole[:8], "little")
    generator, refused = np.random.default_rng(1), 0
    for place in generator.integers(0, 8 + header, size=150):
        damaged = whole.copy()
        damaged[place] ^= 1 << int(generator.integers(0, 7))
        path.write_bytes(damaged)
        refused += train_to_see(copied) == 2
    assert refused > 75


def train_to_see(folder: Path) -> int:
    """The status of a resume that has nothing left to do, without its pictures."""
    from npnlp.errors import InputError

    try:
        make_run(folder).resume()
    except InputError:
        return 2
    return 0


def reload(folder: Path, *options: str) -> int:
    return train_small(folder, "--reload-from-files", *options, epochs=1)


def first_loss(folder: Path) -> float:
    return float(pd.read_csv(folder / "history.csv")["train_loss"][0])


def test_reloading_starts_from_the_saved_weights(copied: Path) -> None:
    scratch = first_loss(copied)
    assert reload(copied) == 0
    assert first_loss(copied) < 0.9 * scratch
    assert len(pd.read_csv(copied / "history.csv")) == 1


def test_reloading_twice_is_the_same(copied: Path) -> None:
    shutil.copytree(copied, copied.parent / "twin")
    assert reload(copied) == reload(copied.parent / "twin") == 0
    check_same_run(copied, copied.parent / "twin")


def test_reloading_keeps_the_saved_vocabularies(copied: Path) -> None:
    before = (copied / "vectorizer.json").read_bytes()
    write_table(copied.parent / "small.csv", small_rows()[::-1])
    assert reload(copied) == 0
    assert (copied / "vectorizer.json").read_bytes() == before


@pytest.mark.parametrize(
    "option",
    [("--rnn-hidden-size", "9"), ("--char-embedding-size", "7"), ("--nonlinearity", "relu")],
)
def test_reloading_another_shape_is_refused(
    copied: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(copied)
    assert reload(copied, *option) == 2
    refusal(capsys.readouterr().err, "model.safetensors", option[1])
    assert tree(copied) == before


@pytest.mark.parametrize("name", ["model.safetensors", "vectorizer.json"])
def test_reloading_what_is_not_there_names_it(
    copied: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / name).unlink()
    before = tree(copied)
    assert reload(copied) == 2
    refusal(capsys.readouterr().err, copied / name)
    assert tree(copied) == before


def test_reloading_with_vocabularies_that_the_model_does_not_have_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two characters swap their numbers: sizes agree, and every weight means another one."""
    contents = read_json(copied / "vectorizer.json")
    tokens = contents["char_vocab"]["token_to_idx"]
    tokens["a"], tokens["e"] = tokens["e"], tokens["a"]
    (copied / "vectorizer.json").write_text(json.dumps(contents), encoding="utf-8")
    before = tree(copied)
    assert reload(copied) == 2
    refusal(capsys.readouterr().err, "vectorizer.json")
    assert tree(copied) == before


def test_reloading_a_nationality_that_the_model_does_not_have_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(copied.parent / "small.csv", [*small_rows(), ("Greek", "train", "Pappas")])
    before = tree(copied)
    assert reload(copied) == 2
    refusal(capsys.readouterr().err, "small.csv", "row 62", "'Greek'")
    assert tree(copied) == before


def test_resuming_and_reloading_exclude_each_other(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(copied)
    assert reload(copied, "--resume") == 2
    refusal(capsys.readouterr().err, "--resume", "--reload-from-files")
    assert tree(copied) == before


def wait_for_epochs(history: Path, epochs: int) -> None:
    limit = time.monotonic() + 900
    while time.monotonic() < limit:
        if history.exists() and history.read_text().count("\n") > epochs:
            return
        time.sleep(0.01)
    raise AssertionError("training did not get on")


posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def long_run(folder: Path) -> list[str | Path]:
    table = write_table(folder.parent / "small.csv")
    return ["train", "--surname-csv", table, "--save-dir", folder, *SMALL,
            "--learning-rate", "0.001", "--early-stopping-criteria", "100000"]  # fmt: skip


@posix
@pytest.mark.parametrize("delay", [0.0, 0.005])
def test_an_interrupt_saves_and_a_resume_ends_in_the_same_bits(
    tmp_path: Path, delay: float
) -> None:
    run = long_run(tmp_path / "run")
    process = subprocess.Popen(
        command(*run, "--num-epochs", "100000"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_epochs(tmp_path / "run" / "history.csv", 3)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 130, err
    refusal(err, "npnlp train: interrupted", tmp_path / "run" / "last.safetensors", "--resume")
    assert "Traceback" not in out
    state = load_tensors(tmp_path / "run" / "last.safetensors", "npnlp checkpoint")[1]["state"]
    epochs = state["progress"]["epoch"] + 2
    assert run_main(*run, "--num-epochs", str(epochs), "--resume", "--quiet") == 0
    whole = long_run(tmp_path / "whole")
    assert run_main(*whole, "--num-epochs", str(epochs), "--quiet") == 0
    check_same_run(tmp_path / "whole", tmp_path / "run")
    assert set(tree(tmp_path / "run")) == FILES


@posix
def test_an_interrupt_leaves_a_model_that_predicts(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(*long_run(tmp_path / "run"), "--num-epochs", "100000", "--quiet"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_epochs(tmp_path / "run" / "history.csv", 1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 130
    assert out == b""
    assert set(tree(tmp_path / "run")) <= FILES
    done = npnlp("predict", "--save-dir", tmp_path / "run", "Ramini")
    assert (done.returncode, done.stderr) == (0, b"")


@posix
def test_a_kill_between_two_writes_leaves_a_checkpoint_that_resumes(tmp_path: Path) -> None:
    run = long_run(tmp_path / "run")
    process = subprocess.Popen(
        command(*run, "--num-epochs", "100000", "--quiet"), env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_epochs(tmp_path / "run" / "history.csv", 3)
    process.kill()
    process.wait(timeout=900)
    state = load_tensors(tmp_path / "run" / "last.safetensors", "npnlp checkpoint")[1]["state"]
    epochs = state["progress"]["epoch"] + 1
    assert run_main(*run, "--num-epochs", str(epochs), "--resume", "--quiet") == 0
    assert run_main(*long_run(tmp_path / "whole"), "--num-epochs", str(epochs), "--quiet") == 0
    check_same_run(tmp_path / "whole", tmp_path / "run")


@posix
def test_one_interrupt_asks_and_two_insist() -> None:
    with interruptible() as check:
        check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@posix
def test_interrupts_are_handled_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_a_thread_is_not_interrupted() -> None:
    """Signals arrive in the main thread alone; elsewhere the handler stays as it is."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with interruptible() as check:
            check()
            seen.append(signal.getsignal(signal.SIGINT))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen == [before]
