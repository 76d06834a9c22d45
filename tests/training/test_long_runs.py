"""Long runs: memory, handles and files stay small, counters are exact, odd tables end well."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.diagnosis.replay import read_replay
from npnlp.files.tensors import load_tensors
from npnlp.layers import FlatParameters, Linear
from npnlp.runs.checkpoint import save_checkpoint, settings_of
from npnlp.training.history import CLOCK, History
from npnlp.training.optimizers import make_optimizer
from npnlp.training.recorder import KEPT_EPOCHS, thinned
from npnlp.training.schedule import ReduceLROnPlateau, cosine, one_cycle
from tests.support.tables import (
    SMALL,
    check_same_weights,
    environment,
    make_run,
    refusal,
    run_main,
    small_rows,
    write_table,
)

ROOT = Path(__file__).resolve().parents[2]
LARGE = (10**7, 2**31 - 1, 2**31, 2**32, 2**53)
linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")

# --- memory, handles, files


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def long_run(folder: Path, epochs: int, look: Callable[[int], None]) -> Any:
    """Train for so many epochs, and look after each of them."""
    run = make_run(
        folder / "run", num_epochs=epochs, learning_rate=1e-4, early_stopping_criteria=10**9
    )
    trainer: Any = run.trainer
    run_epoch = trainer.run_epoch

    def looking(on_batch: Any) -> Any:
        row = run_epoch(on_batch)
        look(len(trainer.progress.history))
        return row

    trainer.run_epoch = looking
    run.train()
    assert len(trainer.progress.history) == epochs
    return run


def watch(folder: Path, epochs: int, warm_up: int) -> dict[str, Any]:
    """What a run keeps, after the epochs of warm-up and at its end."""
    marks: dict[int, dict[str, Any]] = {}

    def look(done: int) -> None:
        if done in (warm_up, epochs):
            gc.collect()
            marks[done] = {
                "resident": resident(),
                "traced": tracemalloc.get_traced_memory()[0],
                "handles": handles(),
            }

    run = long_run(folder, epochs, look)
    files = {path.name: path.stat().st_size for path in run.save_dir.iterdir()}
    return {"before": marks[warm_up], "after": marks[epochs], "files": files}


def handles() -> list[str]:
    """What this process holds open."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sorted(str(link.readlink()) for link in links)


def kept_per_epoch(epochs: int, warm_up: int, folder: Path) -> float:
    """Bytes that Python holds more after each epoch, from the warm-up on."""
    tracemalloc.start()
    try:
        seen = watch(folder, epochs, warm_up)
    finally:
        tracemalloc.stop()
    assert seen["before"]["handles"] == seen["after"]["handles"]
    more = int(seen["after"]["traced"]) - int(seen["before"]["traced"])
    return more / (epochs - warm_up)


@linux
def test_an_epoch_keeps_little_and_no_handle(tmp_path: Path) -> None:
    """A row of 30 numbers in 8 bytes each, and a dozen rows of gradient flow."""
    assert kept_per_epoch(60, 20, tmp_path) < 3000


WATCHED = """
import json, sys
from pathlib import Path
from tests.training.test_long_runs import watch

print(json.dumps(watch(Path(sys.argv[1]), 1000, 300)))
"""


@linux
@pytest.mark.slow
def test_memory_hardly_grows_over_1000_epochs(tmp_path: Path) -> None:
    """In a process of its own, whose memory nothing else has stretched before."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env=environment(PYTHONPATH=str(ROOT)), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    before, after = seen["before"], seen["after"]
    assert after["handles"] == before["handles"]
    # What Python holds grows by 0.4 % of this; what it writes anew each epoch leaves the rest.
    assert after["resident"] < 1.01 * before["resident"], (before, after)
    assert seen["files"]["history.csv"] < 500 * 1000
    assert seen["files"]["last.safetensors"] < 600_000


@pytest.mark.parametrize("epochs", [1, 2, KEPT_EPOCHS, KEPT_EPOCHS + 1, 3 * KEPT_EPOCHS, 5000])
def test_gradient_flow_of_few_epochs_is_kept(epochs: int) -> None:
    rows = np.empty((0, 2))
    for epoch in range(epochs):
        rows = thinned(np.concatenate([rows, [[epoch, 0], [epoch, 1]]]), epoch)
        assert len(rows) <= 2 * (KEPT_EPOCHS + 1)
        assert rows[-1, 0] == epoch
    kept = np.unique(rows[:, 0])
    assert kept[0] == 0
    assert len(kept) == epochs if epochs <= KEPT_EPOCHS else len(kept) >= KEPT_EPOCHS // 2
    assert (np.bincount(rows[:, 0].astype(int))[kept.astype(int)] == 2).all()
    assert len(set(np.diff(kept[:-1]))) <= 1


# --- the history


def rows_of(count: int) -> list[dict[str, float]]:
    return [{"epoch": n, "loss": 0.1 * n, "seconds": 1 / (n + 1)} for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_history_comes_back_from_its_tensor(count: int) -> None:
    history = History(rows_of(count))
    tensor, values = history.to_tensor()
    assert tensor.shape == (count, 2 if count else 0)
    back = History.from_tensor(tensor, values)
    assert back == history == rows_of(count)
    assert [type(row["epoch"]) for row in back] == [int] * count
    assert list(back.csv_parts()) == list(history.csv_parts())


def test_the_tensor_of_a_history_has_no_times() -> None:
    slow = [{**row, "seconds": 9.0} for row in rows_of(4)]
    first, second = (History(rows).to_tensor() for rows in (rows_of(4), slow))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1]["seconds"] != second[1]["seconds"]
    assert "seconds" in CLOCK


@pytest.mark.parametrize(
    "change",
    [
        {"columns": ["epoch", "seconds"]},
        {"columns": 3},
        {"columns": ["epoch", "seconds", "seconds"]},
        {"columns": ["epoch", "loss", "more", "seconds"]},
        {"columns": ["epoch", 3, "seconds"]},
        {"seconds": [1.0]},
        {"seconds": ["a", "b", "c"]},
    ],
    ids=str,
)
def test_a_history_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    tensor, values = History(rows_of(3)).to_tensor()
    with pytest.raises((ValueError, KeyError)):
        History.from_tensor(tensor, values | change)


def test_a_row_with_other_columns_is_refused() -> None:
    history = History(rows_of(2))
    with pytest.raises(ValueError, match="more"):
        history.append({"epoch": 2, "more": 1.0})
    with pytest.raises(IndexError):
        history[2]
    assert history[-1] == rows_of(2)[-1]


# --- counters


@pytest.mark.parametrize("step", [*LARGE, 2**63, 2**64 - 1])
def test_the_stream_of_a_late_step_is_philox_at_that_step(step: int) -> None:
    random = Random(7, "late").at(step)
    counter = np.array([0, 0, step, 0], dtype=np.uint64)
    expected = np.random.Philox(key=random.key, counter=counter).random_raw(50)
    np.testing.assert_array_equal(random.raw(50), expected)
    assert not np.array_equal(random.raw(50), random.at(step - 1).raw(50))


@pytest.mark.parametrize("beta2", [0.999, 0.99])
@pytest.mark.parametrize("steps", [0, 1, 1000, *LARGE])
def test_adam_is_exact_at_any_step(steps: int, beta2: float) -> None:
    """With a constant gradient the corrected moments are g and g^2 at every step."""
    layer = Linear(1, 1, dtype=np.float64)
    flat = FlatParameters({"linear": layer}, get_backend("numpy"))
    flat.values[...] = 0.5
    optimizer = make_optimizer("adam", flat, get_backend("numpy"), 1e-3, beta2=beta2)
    sums = {"first_sum": 0.25 * (1 - 0.9**steps) / (1 - 0.9),
            "second_sum": 0.0625 * (1 - beta2**steps) / (1 - beta2)}  # fmt: skip
    moments = {name: np.full(2, value) for name, value in sums.items()}
    optimizer.load_state_dict(moments, steps)
    flat.grads[...] = 0.25
    optimizer.step()
    assert optimizer.steps == steps + 1
    assert flat.values == pytest.approx(0.5 - 1e-3 * 0.25 / (0.25 + 1e-8), rel=1e-12)


@pytest.mark.parametrize("schedule", ["plateau", "onecycle", "cosine"])
@pytest.mark.parametrize("steps", LARGE)
def test_a_run_goes_on_from_a_late_step_and_a_stop_leaves_no_trace(
    tmp_path: Path, steps: int, schedule: str
) -> None:
    batches = 3
    epoch = steps // batches
    config: dict[str, Any] = {
        "num_epochs": epoch + 3,
        "early_stopping_criteria": 10**9,
        "schedule": schedule,
    }

    def late(folder: Path) -> Any:
        run = make_run(folder, **config)
        run.trainer.optimizer.steps = epoch * batches
        run.trainer.progress.epoch = epoch
        return run

    whole = late(tmp_path / "whole")
    whole.train()
    assert whole.trainer.optimizer.steps == epoch * batches + 3 * batches
    rows = list(whole.trainer.progress.history)
    assert [row["epoch"] for row in rows] == [epoch, epoch + 1, epoch + 2]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert len({row["train_loss"] for row in rows}) == 3
    parts = late(tmp_path / "parts")
    parts.trainer.run_epoch()
    parts.save_dir.mkdir()
    settings = settings_of(parts.trainer, parts.dataset)
    save_checkpoint(parts.checkpoint_file, parts.trainer, settings)
    resumed = make_run(tmp_path / "parts", **config)
    assert resumed.resume()
    resumed.train()
    check_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_cycle_of_many_steps_rises_falls_and_ends() -> None:
    total = 10**7 * 3
    steps = range(0, total, total // 1000)
    for factors in (
        [cosine(step / total, 0.15) for step in steps],
        [one_cycle(step, total, 0.3) for step in steps],
    ):
        top = factors.index(max(factors))
        assert factors[: top + 1] == sorted(factors[: top + 1])
        assert factors[top:] == sorted(factors[top:], reverse=True)
    assert 0 <= cosine((total - 1) / total, 0.15) < 1e-12
    assert one_cycle(total - 1, total, 0.3) == pytest.approx(1e-4 / 25)


def test_the_rate_of_a_long_plateau_never_gets_to_zero() -> None:
    schedule = ReduceLROnPlateau(1e-3)
    rates = [schedule.step(1.0) for _ in range(10_000)]
    assert rates == sorted(rates, reverse=True)
    assert 1e-8 < rates[-1] <= 2e-8


# --- tables that teach nothing


def train(folder: Path, rows: Any, *options: str) -> int:
    table = write_table(folder / "small.csv", rows)
    return run_main("train", "--surname-csv", table, "--save-dir", folder / "run", "--num-epochs",
                    "3", "--quiet", *SMALL, *options)  # fmt: skip


ONE_NAME = [
    (label, split, "Rossi")
    for split, count in (("train", 20), ("val", 4), ("test", 4))
    for label in ("Italian", "Greek")
    for _ in range(count)
]
TAUGHT = {
    "one name for all": ONE_NAME,
    "a row a class": [
        ("Italian", "train", "Rossi"), ("Greek", "train", "Pappas"),
        ("Italian", "val", "Verdi"), ("Greek", "test", "Dukas"),
    ],
    "names of one letter": [(label, split, "X") for label, split, _ in small_rows()],
}  # fmt: skip
REFUSED = {
    "one row": ([("Italian", "train", "Rossi")], "split"),
    "one row in each split": (
        [("Italian", split, "Rossi") for split in ("train", "val", "test")], "only one",
    ),
    "one class": ([row for row in small_rows() if row[0] == "Italian"], "only one"),
}  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--recipe", "wide")], ids=["plain", "wide"])
@pytest.mark.parametrize("kind", TAUGHT)
def test_a_constant_table_trains_and_says_what_is_in_it(
    tmp_path: Path, kind: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, TAUGHT[kind], *options) == 0
    assert capsys.readouterr().err == ""
    tensors, _ = load_tensors(tmp_path / "run" / "model.safetensors", "npnlp classifier")
    assert all(np.isfinite(value).all() for value in tensors.values())
    assert run_main("predict", "--save-dir", tmp_path / "run", "Rossi") == 0
    if kind == "one name for all":
        probability = float(capsys.readouterr().out.split()[-1])
        assert probability == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_no_classifier_can_learn_is_refused(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, word = REFUSED[kind]
    assert train(tmp_path, rows) == 2
    refusal(capsys.readouterr().err, "npnlp train:", tmp_path / "small.csv", word)
    assert not (tmp_path / "run").exists()


# --- settings that blow up

EXPLODING = {
    "adam": ("--learning-rate", "1e30"),
    "sgd": ("--learning-rate", "1e30", "--optimizer", "sgd"),
    "relu": ("--learning-rate", "1e3", "--optimizer", "sgd", "--nonlinearity", "relu"),
    "gru": ("--learning-rate", "1e38", "--cell", "gru"),
    "lstm": ("--learning-rate", "1e38", "--cell", "lstm", "--bidirectional"),
    "gru of a recipe": ("--learning-rate", "1e38", "--recipe", "wide"),
}


CELLS = {"gru": "gru", "lstm": "lstm", "gru of a recipe": "gru"}


@pytest.mark.parametrize("kind", EXPLODING)
def test_exploding_settings_end_with_the_line_of_the_black_box(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, small_rows(), *EXPLODING[kind]) == 1
    said = refusal(
        capsys.readouterr().err, "npnlp train: epoch ", "--learning-rate", "npnlp replay"
    )
    replay = tmp_path / "run" / "replay.safetensors"
    assert str(replay) in said
    assert read_replay(replay).config.cell == CELLS.get(kind, "elman")
    assert run_main("replay", replay) == 1
