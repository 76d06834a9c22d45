"""Rows of large tables that catch up when they are read, against Adam that moves all of them."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import AdamNumbers, Missed
from npnlp.classifier.building import make_classifier
from npnlp.diagnosis.finding import examine
from npnlp.errors import DivergenceError, InputError
from npnlp.layers import Embedding, FlatParameters, Linear
from npnlp.runs.checkpoint import save_checkpoint, settings_of
from npnlp.runs.checkpoint_state import plain_state, require_state, with_history
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.clipping import clip_grad_norm, clip_rows, squared_norms
from npnlp.training.config import TrainingConfig
from npnlp.training.interrupt import Interrupted
from npnlp.training.lazy import LEAST_SIZE, LazyAdam
from npnlp.training.optimizers import Adam, make_optimizer
from npnlp.training.trainer import Trainer
from tests.support.tables import check_same_weights, write_table

NUMPY = get_backend("numpy")
ROWS, SIZE, STEPS = 60, 3, 300
TABLE = "ngrams.weight"
SHAPE: dict[str, Any] = {
    "embedding_size": 4, "rnn_hidden_size": 4, "cell": "gru", "hidden_layer": False,
    "ngram_orders": (1, 2, 3, 4), "ngram_size": 64, "ngram_dropout": 0.3, "char_dropout": 0.1,
}  # fmt: skip
CONFIG = TrainingConfig(
    num_epochs=2, learning_rate=0.02, batch_size=32, beta2=0.99, weight_decay=0.1, clip_norm=0.5,
    consistency=1.0, schedule="cosine", calibrate=False,
)  # fmt: skip


def parts(dtype: Any) -> FlatParameters:
    """A linear layer on either side of a table."""
    before, after = (Linear(2, 3, dtype=dtype, random=Random(seed)) for seed in (1, 2))
    table = Embedding(ROWS, SIZE, dtype=dtype, random=Random(3))
    return FlatParameters({"before": before, "table": table, "after": after}, NUMPY)


def rate_of(step: int) -> float:
    return 0.01 * (1.2 + math.cos(step / 40))


def trained(
    adam: Adam, dtype: Any, scale: float, clip: float | None, first: int = 0, last: int = STEPS
) -> list[float]:
    """Steps on random rows, some often, some hardly ever; the norms of their gradients."""
    flat, norms = adam.flat, []
    for step in range(first, last):
        random = np.random.default_rng(step)
        rows = np.flatnonzero(random.random(ROWS) < np.arange(ROWS) ** 2 / ROWS**2)
        rows = rows[rows > 3]  # three rows no step reads
        with adam.reading({"table.weight": rows}):
            flat.zero_grads()
            for name, grad in flat.views_of_grads.items():
                found = (scale * random.standard_normal(grad.shape)).astype(dtype)
                grad[rows if name == "table.weight" else ...] = (
                    found[rows] if name == "table.weight" else found
                )
            if flat.rows:
                norms.append(float(clip_rows(flat, squared_norms(flat, NUMPY), clip)))
            else:
                norms.append(float(clip_grad_norm(flat.grads, clip, NUMPY)))
            adam.learning_rate = rate_of(step)
            adam.step()
    return norms


def both(dtype: Any, decay: float = 0.1, beta2: float = 0.99) -> tuple[Adam, LazyAdam]:
    options: dict[str, Any] = {"betas": (0.9, beta2), "weight_decay": decay}
    lazy = LazyAdam(parts(dtype), NUMPY, 0.01, ["table.weight"], **options)
    return Adam(parts(dtype), NUMPY, 0.01, **options), lazy


def check_equal(dense: Adam, lazy: LazyAdam, bound: float) -> None:
    lazy.flush()
    arrays = zip(
        (dense.flat.values, *dense.moments.values()),
        (lazy.flat.values, *lazy.moments.values()), strict=True,
    )  # fmt: skip
    for expected, found in arrays:
        np.testing.assert_allclose(found, expected, rtol=bound, atol=bound * abs(expected).max())


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_rows_catch_up_to_where_adam_would_have_moved_them(
    dtype: Any, bound: float, decay: float, clip: float | None
) -> None:
    dense, lazy = both(dtype, decay)
    norms = trained(dense, dtype, 0.01, clip)
    np.testing.assert_allclose(trained(lazy, dtype, 0.01, clip), norms, rtol=10 * bound)
    assert lazy.missed["table.weight"].max() == STEPS  # of a row that no step reads
    check_equal(dense, lazy, bound)
    assert not lazy.missed


@pytest.mark.parametrize(("size", "bound"), [(1e-4, 1e-7), (1e-5, 5e-6), (1e-6, 2e-4)])
def test_what_is_left_out_of_a_move_is_small(size: float, bound: float) -> None:
    """A row has one gradient, of 10^2 to 10^4 times eps, and moves on by itself."""
    dense, lazy = both(np.float64, 0.0)
    before = dense.flat.values.copy()
    for adam in (dense, lazy):
        for step in range(100):
            with adam.reading({"table.weight": np.array([7] if step == 0 else [], dtype=int)}):
                adam.flat.zero_grads()
                adam.flat.views_of_grads["table.weight"][7] = size if step == 0 else 0
                adam.step()
    lazy.flush()
    moved = abs(dense.flat.values - before).max()
    assert 0 < abs(lazy.flat.values - dense.flat.values).max() < bound * moved


def test_a_step_that_does_not_say_what_it_reads_moves_every_row() -> None:
    dense, lazy = both(np.float64)
    trained(dense, np.float64, 0.01, None, 0, 20)
    trained(lazy, np.float64, 0.01, None, 0, 20)
    for adam in (dense, lazy):
        adam.flat.grads[...] = np.random.default_rng(0).standard_normal(adam.flat.grads.shape)
        adam.step()
    assert not lazy.missed
    check_equal(dense, lazy, 1e-9)


def test_what_was_missed_can_be_saved() -> None:
    """Steps after loading it have the bits of steps without a stop."""
    _, whole = both(np.float32)
    trained(whole, np.float32, 0.01, 0.05)
    _, first = both(np.float32)
    trained(first, np.float32, 0.01, 0.05, 0, 100)
    _, second = both(np.float32)
    second.flat.values[...] = first.flat.values
    second.load_state_dict(first.state_dict(), first.steps)
    second.load_missed(first.missed, rate_of)
    trained(second, np.float32, 0.01, 0.05, 100)
    whole.flush()
    second.flush()
    np.testing.assert_array_equal(second.flat.values, whole.flat.values)


def test_only_the_rows_that_are_read_are_set_to_zero() -> None:
    flat = parts(np.float64)
    flat.grads[...] = 1
    with flat.read({"table.weight": np.array([0, 5])}):
        flat.zero_grads()
    assert flat.views_of_grads["table.weight"].sum(axis=1).tolist() == [0, *[3] * 4, 0, *[3] * 54]
    assert not flat.views_of_grads["before.weight"].any()
    flat.zero_grads()
    assert not flat.grads.any()


@pytest.mark.parametrize("size", [5, 1000])
def test_rows_that_occur_again_are_added_again(
    size: int, backend: Backend, dtype: np.dtype[Any]
) -> None:
    random = np.random.default_rng(size)
    rows, values = random.integers(0, size, 70), random.standard_normal((70, 3)).astype(dtype)
    expected = np.ones((size, 3), dtype)
    table = backend.asarray(expected.copy())
    np.add.at(expected, rows, values)
    backend.scatter_add(table, backend.asarray(rows), backend.asarray(values))
    backend.scatter_add(table, backend.asarray(rows[:0]), backend.asarray(values[:0]))
    np.testing.assert_allclose(backend.to_numpy(table), expected, rtol=1e-5)


@pytest.fixture
def dataset(tmp_path: Path) -> SurnameDataset:
    """Three hundred names of random letters, which have many n-grams."""
    random = np.random.default_rng(1)
    rows = [
        ("ABC"[n % 3], ("train", "train", "val", "test")[n % 4],
         "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 14)))
        for n in range(600)
    ]  # fmt: skip
    return SurnameDataset.load_dataset_and_make_vectorizer(write_table(tmp_path / "t.csv", rows))


def trainer_of(dataset: SurnameDataset, dense: bool = False, backend: Backend = NUMPY) -> Trainer:
    model = make_classifier(dataset, SHAPE, backend, 5)
    splits = dataset.arrays("train"), dataset.arrays("val")
    trainer = Trainer(model, *splits, CONFIG, examine=examine)
    assert trainer.optimizer.tables == [TABLE]
    assert model.parameters[TABLE].size >= LEAST_SIZE
    if dense:
        options = CONFIG.optimizer_options
        trainer.optimizer = make_optimizer("adam", model.flat, backend, 0.02, **options)
    return trainer


def test_training_is_that_of_all_rows_at_every_step(
    dataset: SurnameDataset, backend: Backend
) -> None:
    if backend.xp is not np:
        pytest.skip("on a device all rows move at every step")
    lazy, dense = trainer_of(dataset, backend=backend), trainer_of(dataset, True, backend)
    for trainer in (lazy, dense):
        while not trainer.finished:
            trainer.run_epoch()
    for found, expected in zip(lazy.progress.history, dense.progress.history, strict=True):
        for name in expected.keys() - {"seconds", "names_per_second"}:
            assert found[name] == pytest.approx(expected[name], rel=2e-4), name
    gap = lazy.model.flat.values - dense.model.flat.values
    assert abs(gap).max() < 2e-4
    gap = lazy.model.flat.grads - dense.model.flat.grads  # those of the last step, and no others
    assert abs(gap).max() < 2e-4
    assert not lazy.model.flat.rows


@pytest.mark.parametrize(("batches", "schedule"), [(1, "cosine"), (7, "plateau"), (13, "onecycle")])
def test_a_stop_in_the_middle_of_an_epoch_leaves_no_trace(
    dataset: SurnameDataset, tmp_path: Path, batches: int, schedule: str
) -> None:
    config = dataclasses.replace(CONFIG, schedule=schedule)

    def run(folder: str) -> Run:
        return Run.make(dataset, config, SHAPE, NUMPY, tmp_path / folder)

    run("whole").train()
    stopped = run("parts")
    stop_after(stopped.trainer, batches)
    assert stopped.trainer.optimizer.missed
    (tmp_path / "parts").mkdir()
    settings = settings_of(stopped.trainer, dataset)
    save_checkpoint(stopped.checkpoint_file, stopped.trainer, settings)
    again = run("parts")
    assert again.resume()
    again.train()
    check_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_copy_made_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(
    dataset: SurnameDataset,
) -> None:
    trainer = trainer_of(dataset)
    stop_after(trainer, 5)
    twins = [trainer, copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))]
    values = []
    for twin in twins:
        twin.run_epoch()
        values.append(twin.model.flat.values)
    for found in values[1:]:
        np.testing.assert_array_equal(found, values[0])


def stop_after(trainer: Trainer, batches: int) -> None:
    def on_batch() -> None:
        if trainer.optimizer.steps == batches:
            raise Interrupted

    def train() -> None:
        while True:
            trainer.run_epoch(on_batch)

    with pytest.raises(Interrupted):
        train()


@pytest.mark.parametrize("steps", [-1, 99])
def test_a_checkpoint_with_other_missed_steps_is_damaged(
    dataset: SurnameDataset, steps: int
) -> None:
    trainer = trainer_of(dataset)
    stop_after(trainer, 4)
    tensors, state = with_history(*plain_state(trainer))
    require_state(trainer, tensors, state)
    tensors[f"missed.{TABLE}"][3] = steps
    with pytest.raises(InputError, match="missed"):
        require_state(trainer, tensors, state)


def test_a_nan_in_a_row_that_nobody_reads_is_found_at_the_end_of_the_epoch(
    dataset: SurnameDataset,
) -> None:
    trainer = trainer_of(dataset)
    planted = trainer.model.parameters[TABLE]
    trainer.model.ngrams.keys[-1] += 1  # type: ignore[union-attr]
    planted[-1, 1] = np.nan  # its n-gram occurs no more
    with pytest.raises(DivergenceError) as caught:
        trainer.run_epoch()
    finding = caught.value.finding
    assert (finding.where, finding.parameter) == ("weight", TABLE)
    assert trainer.progress.batch == trainer.batches_per_epoch - 1


def test_a_nan_in_a_row_that_is_read_is_found_at_once(dataset: SurnameDataset) -> None:
    trainer = trainer_of(dataset)
    stop_after(trainer, 3)
    trainer.model.parameters[TABLE][:] = np.nan
    with pytest.raises(DivergenceError) as caught:
        trainer.run_epoch()
    assert trainer.progress.batch == caught.value.replay.steps == 3
    assert caught.value.finding.parameter == TABLE


def test_the_defaults_have_no_table_that_is_large(dataset: SurnameDataset) -> None:
    model = make_classifier(dataset, {}, NUMPY, 5)
    plain = dataclasses.replace(CONFIG, beta2=0.9)
    splits = dataset.arrays("train"), dataset.arrays("val")
    assert not Trainer(model, *splits, CONFIG).optimizer.tables
    wide = make_classifier(dataset, SHAPE, NUMPY, 5)
    assert not Trainer(wide, *splits, plain).optimizer.tables  # beta2 is too small for it


def test_rows_move_as_their_formulas_say(backend: Backend, dtype: np.dtype[Any]) -> None:
    passes = backend.row_adam(dtype)
    if passes is None:
        pytest.skip("on a device all rows move at every step")
    random, rows = np.random.default_rng(2), np.array([7, 0, 3])
    w, m, v, g = (random.random((9, 5)).astype(dtype) for _ in range(4))
    kept, shift, eps, first, second = missed = Missed(*random.random((5, 3)))
    expected = [each.astype(np.float64) for each in (w, m, v)]
    for n, r in enumerate(rows):
        move = shift[n] * expected[1][r] / (np.sqrt(expected[2][r]) + eps[n])
        expected[0][r] = kept[n] * expected[0][r] - move
        expected[1][r] *= first[n]
        expected[2][r] *= second[n]
    passes.catch_up((w, m, v), rows, missed)
    for found, wanted in zip((w, m, v), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for r in rows:
        expected[1][r] = 0.9 * expected[1][r] + g[r]
        expected[2][r] = 0.99 * expected[2][r] + g[r].astype(float) ** 2
        move = 0.1 * expected[1][r] / (np.sqrt(expected[2][r]) + 1e-3)
        expected[0][r] = 0.8 * expected[0][r] - move
    passes.step((w, m, v), g, rows, 0.8, AdamNumbers(0.9, 0.99, 0.1, 1e-3))
    for found, wanted in zip((w, m, v), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_no_row_beyond_the_table_is_moved(backend: Backend) -> None:
    passes = backend.row_adam(np.dtype(np.float32))
    if passes is None:
        pytest.skip("on a device all rows move at every step")
    w, m, v = np.ones((3, 4, 2), dtype=np.float32)
    missed = Missed(*np.ones((5, 1)))
    with pytest.raises(IndexError):
        passes.catch_up((w, m, v), np.array([4]), missed)
    with pytest.raises(IndexError):
        passes.step((w, m, v), w, np.array([4]), 1.0, AdamNumbers(0.9, 0.99, 0.1, 1e-3))
