"""Several seeds side by side: each is the run that it would be alone, and what fails is said."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import npnlp
from npnlp.errors import DivergenceError, InputError
from npnlp.runs.intervals import t_interval
from npnlp.runs.side_by_side import Place, calls_of, side_by_side
from npnlp.training.interrupt import Interrupted
from tests.support.tables import (
    SMALL,
    UNDRAWN_FILES,
    command,
    environment,
    refusal,
    train_small,
    write_table,
)
from tests.support.tables import npnlp as run_npnlp

SETTINGS: dict[str, Any] = {
    "embedding_size": 6, "rnn_hidden_size": 8, "batch_size": 16, "learning_rate": 0.02,
}  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_table(tmp_path / "small.csv")
    return tmp_path / "small.csv"


def arguments(table: Path, out: Path, *options: str) -> list[str]:
    return ["train", "--surname-csv", str(table), "--save-dir", str(out), *SMALL, "--no-pictures",
            "--num-epochs", "3", "--seeds", "2", *options]  # fmt: skip


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_seed_is_the_run_that_it_would_be_alone(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_npnlp(*arguments(table, out, "--jobs", "2"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert files_of(out) == {"seed-5", "seed-6", "seeds.json", "seeds.csv"}
    for seed in (5, 6):
        assert train_small(tmp_path / f"alone-{seed}", "--no-pictures", "--seed", str(seed)) == 0
        own, alone = out / f"seed-{seed}", tmp_path / f"alone-{seed}"
        assert files_of(own) == files_of(alone) >= UNDRAWN_FILES
        for name in ("model.safetensors", "vectorizer.json", "confusion_matrix.csv"):
            assert (own / name).read_bytes() == (alone / name).read_bytes()
    metrics = [json.loads((out / f"seed-{s}" / "metrics.json").read_text()) for s in (5, 6)]
    found = json.loads((out / "seeds.json").read_text())
    assert (found["seeds"], found["failed"], found["interrupted"]) == ([5, 6], {}, [])
    for name in ("train.loss", "test.macro_f1", "val.brier", "timing.epochs"):
        split, score = name.split(".")
        values = [each[split][score] for each in metrics]
        mean, low, high = t_interval(values)
        assert found["figures"][name] == {"mean": mean, "low": low, "high": high, "values": values}
    assert found["figures"]["temperature"]["values"] == [each["temperature"] for each in metrics]
    rows = pd.read_csv(out / "seeds.csv", index_col="figure")
    assert rows.loc["test.accuracy", "seed 6"] == metrics[1]["test"]["accuracy"]
    lines = done.stdout.decode().splitlines()
    assert "Seeds: 5 to 6, 2 at a time" in lines
    mean, _, high = t_interval([each["test"]["accuracy"] for each in metrics])
    (line,) = [line for line in lines if line.startswith("test ")]
    assert f"{mean:.4f} ± {high - mean:.4f}" in line


def test_a_seed_that_fails_is_named_and_the_others_are_done(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train_small(out / "seed-6", "--no-pictures", "--learning-rate", "0.5") == 0
    done = run_npnlp(*arguments(table, out), cwd=tmp_path)
    assert done.returncode == 1
    refusal(
        done.stderr.decode(),
        "npnlp train: seed 6: ",
        "a model is there, of a run that had",
        "--overw",
    )
    found = json.loads((out / "seeds.json").read_text())
    assert found["seeds"] == [5]
    assert list(found["failed"]) == ["6"]
    assert found["figures"]["test.loss"]["low"] is None  # of one seed there is no interval
    assert b"  seed 6: failed" in done.stdout
    done = run_npnlp(*arguments(table, out, "--overwrite", "--quiet"), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_seeds_that_diverge_leave_their_step_to_be_replayed(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--learning-rate", "1e30", "--optimizer", "sgd", "--quiet")
    done = run_npnlp(*arguments(table, out, *options), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    lines = done.stderr.decode().splitlines()
    assert [line.split(":")[1] for line in lines] == [" seed 5", " seed 6"]
    assert all(f"npnlp replay {out}" in line for line in lines)
    assert (out / "seed-5" / "replay.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("whom", ["the command", "all, as a terminal does"])
def test_after_ctrl_c_all_is_saved_and_resume_comes_to_the_same(
    table: Path, tmp_path: Path, whom: str
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    options = ["--num-epochs", "60", "--early-stopping-criteria", "1000"]
    process = subprocess.Popen(
        command(*arguments(table, out, *options, "--jobs", "2")), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    histories = [out / f"seed-{seed}" / "history.csv" for seed in (5, 6)]
    while not all(path.exists() for path in histories) and process.poll() is None:
        time.sleep(0.01)
    (os.killpg if whom.startswith("all") else os.kill)(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    refusal(stderr.decode(), "npnlp train: interrupted; 0 of 2 seeds are done", "--resume")
    assert json.loads((out / "seeds.json").read_text())["interrupted"] == [5, 6]
    assert not (out / "seed-5" / "metrics.json").exists()
    assert b"seed 5: interrupted" in stdout
    done = run_npnlp(*arguments(table, out, *options, "--resume", "--quiet"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert run_npnlp(*arguments(table, whole, *options), cwd=tmp_path).returncode == 0
    for seed in ("seed-5", "seed-6"):
        model = (whole / seed / "model.safetensors").read_bytes()
        assert (out / seed / "model.safetensors").read_bytes() == model


def test_resume_leaves_what_is_done_and_trains_what_is_new(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_npnlp(*arguments(table, out, "--quiet"), cwd=tmp_path).returncode == 0
    model, report = out / "seed-5" / "model.safetensors", out / "seed-5" / "metrics.json"
    before = [path.stat().st_ino for path in (model, report)]
    (out / "seed-6" / "metrics.json").unlink()
    more = ("--resume", "--seeds", "3")
    done = run_npnlp(*arguments(table, out, *more), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path.stat().st_ino for path in (model, report)] == before
    assert (out / "seed-6" / "metrics.json").exists()
    assert json.loads((out / "seeds.json").read_text())["seeds"] == [5, 6, 7]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds", "0"], "--seeds is 0; give at least 1"),
        (["--jobs", "0"], "--jobs is 0; give at least 1"),
        (["--threads", "2"], "--seeds and --threads exclude each other: each seed has one thread"),
        (["--reload-from-files"], "--seeds and --reload-from-files exclude each other"),
        (["--rnn-hidden-size", "0"], "rnn_hidden_size"),
    ],
)
def test_what_cannot_be_is_said_once(
    table: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = run_npnlp(*arguments(table, tmp_path / "out", *options), cwd=tmp_path)
    assert done.returncode == 2
    refusal(done.stderr.decode(), "npnlp train: ", said)
    assert not (tmp_path / "out").exists()


def test_jobs_without_seeds_are_refused(table: Path, tmp_path: Path) -> None:
    done = run_npnlp("train", "--surname-csv", table, "--jobs", "2", cwd=tmp_path)
    assert done.returncode == 2
    refusal(done.stderr.decode(), "--jobs is of several seeds; add --seeds N")


def test_the_library_trains_what_the_command_trains(table: Path, tmp_path: Path) -> None:
    assert train_small(tmp_path / "alone", "--no-pictures") == 0
    alone = (tmp_path / "alone" / "model.safetensors").read_bytes()
    frame = pd.read_csv(table, keep_default_na=False)
    renamed = frame.rename(columns={"surname": "who", "nationality": "whence"})
    kept = npnlp.train(table, seed=5, num_epochs=3, save_dir=tmp_path / "kept", **SETTINGS)
    assert (tmp_path / "kept" / "seed-5" / "model.safetensors").read_bytes() == alone
    found = npnlp.train(renamed, "who", "whence", seeds=2, seed=5, num_epochs=3, **SETTINGS)
    assert found.figures["test.loss"][0] == kept.figures["test.loss"][0]
    assert found.interval("test.loss") == t_interval(found.figures["test.loss"])
    assert list(found.classifiers) == [5, 6]
    assert repr(found).startswith("<Trained: 2 done, 0 failed, accuracy ")
    names = frame["surname"].tolist()
    saved = npnlp.Classifier.load(tmp_path / "kept" / "seed-5" / "model.safetensors")
    first, second = (found.classifiers[seed].probabilities(names) for seed in (5, 6))
    assert np.array_equal(saved.probabilities(names), first)
    assert not np.array_equal(first, second)


def test_the_library_says_what_is_wrong(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table, keep_default_na=False)
    for settings, said in (
        ({"seeds": 0}, "seeds"), ({"epochs": 3}, "setting 'epochs' is not known"),
        ({"name": "who"}, "the table: .*who"), ({"recipe": "no"}, "recipe 'no' is not known"),
        ({"cell": "gru", "forget_bias": 1.0}, "only the cell lstm"), ({"jobs": 0}, "jobs"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            npnlp.train(frame, **settings)
    with pytest.raises(InputError, match="table is a int; it has to be a frame, or the path"):
        npnlp.train(3)  # type: ignore[arg-type]
    with pytest.raises(DivergenceError, match="lower --learning-rate"):
        npnlp.train(frame, **{**SETTINGS, "learning_rate": 1e30}, optimizer="sgd")


def half(number: int, place: Place) -> float:
    """What a test has computed elsewhere."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4:
        raise InputError("four")
    if number == 5:
        raise OSError(28, "No space left on device", "here")
    if number == 6:
        os._exit(7)
    place.note(number)
    return number / 2


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_results_stand_in_order_and_an_error_in_its_place(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("npnlp.runs.side_by_side.FORKED", way)
    heard: list[tuple[int, str, Any]] = []
    numbers = [1, 3, 4, 5, 6, 8]
    found = side_by_side(half, [(n,) for n in numbers], 2, lambda *what: heard.append(what))
    assert (found[0], found[5]) == (0.5, 4.0)
    assert [str(error) for error in found[1:5]] == [
        "its process was killed by signal 9", "four", "[Errno 28] No space left on device: 'here'",
        "its process ended with status 7",
    ]  # fmt: skip
    assert [type(error) for error in found[1:4]] == [RuntimeError, InputError, OSError]
    assert (0, "note", 1) in heard
    assert sorted(n for n, kind, _ in heard if kind == "done") == list(range(6))
    with pytest.raises(RuntimeError, match="killed"):
        calls_of(half, [(1,), (3,), (4,)])
    assert calls_of(half, [(8,), (2,)]) == [4.0, 1.0]


def test_a_place_without_its_parent_goes_on_no_more() -> None:
    place = Place(None, type("Never", (), {"is_set": staticmethod(lambda: False)}), os.getppid())
    place.check()
    with pytest.raises(Interrupted):
        Place(None, place.stop, -1).check()


def test_the_interval_of_one_is_open() -> None:
    assert math.isnan(t_interval([1.0])[1])
