"""Each made-up task against its definition, and its baseline against many samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npnlp.backend import Random
from npnlp.errors import InputError
from npnlp.lab.tasks import TASKS, Adding, Copy, FirstToken, TemporalOrder
from npnlp.lab.tasks.base import Task

LENGTHS = [10, 11, 25, 100]
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
each_length = pytest.mark.parametrize("length", LENGTHS)


def symbols_of(x: np.ndarray) -> list[list[int]]:
    """Which symbol each row of one-hot ``x (steps, B, D)`` is, a list for each sequence."""
    assert set(np.unique(x)) <= {0.0, 1.0}
    assert (x.sum(axis=2) == 1).all()
    found: list[list[int]] = x.argmax(axis=2).T.tolist()
    return found


@each_task
@each_length
def test_shapes_are_what_the_task_says(task: Task, length: int) -> None:
    x, targets = task.batch(length, 7, Random(0))
    assert x.dtype == np.float64
    assert x.shape == (task.steps(length), 7, task.input_size)
    if task.loss == "mse":
        assert targets.shape == (7, task.output_size)
    else:
        assert targets.shape == ((7,) if task.read == "last" else (task.steps(length), 7))
        assert targets.dtype == np.int64
        assert 0 <= targets.min() <= targets.max() < task.output_size


@each_task
def test_a_batch_is_a_function_of_its_stream(task: Task) -> None:
    stream = Random(3, "train").at(5)
    x, targets = task.batch(20, 6, stream)
    task.batch(20, 6, stream.at(6))
    again, same = task.batch(20, 6, Random(3, "train").at(5))
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(targets, same)
    for other in (stream.at(6), Random(4, "train").at(5), Random(3, "check").at(5)):
        assert not np.array_equal(x, task.batch(20, 6, other)[0])


@each_task
def test_sizes_that_cannot_be_are_refused(task: Task) -> None:
    task.batch(task.shortest, 1, Random(0))
    with pytest.raises(InputError, match=f"length of task {task.name} .* at least {task.shortest}"):
        task.batch(task.shortest - 1, 4, Random(0))
    with pytest.raises(InputError, match="batch_size is 0"):
        task.batch(20, 0, Random(0))


@pytest.mark.parametrize("task", [Copy(), TemporalOrder(), FirstToken()], ids=type)
def test_every_class_occurs_about_as_often(task: Task) -> None:
    _, targets = task.batch(10, 8000, Random(1))
    targets = targets[-10:] if task.read == "each" else targets
    shares = np.bincount(targets.reshape(-1)) / targets.size
    np.testing.assert_allclose(shares, 1 / len(shares), atol=0.02)


@pytest.mark.parametrize("length", [2, 3, *LENGTHS])
def test_adding_sums_the_one_marked_value_of_each_half(length: int) -> None:
    x, targets = Adding().batch(length, 200, Random(0))
    seen = set()
    for b in range(200):
        marked = [t for t in range(length) if x[t, b, 1] == 1.0]
        assert sum(x[t, b, 1] != 0.0 for t in range(length)) == 2
        assert marked[0] < length // 2 <= marked[1]
        assert targets[b, 0] == sum(x[t, b, 0] for t in marked)
        seen.update(marked)
    assert length > 25 or seen == set(range(length))
    assert 0 <= x[:, :, 0].min() < 0.1 < 0.9 < x[:, :, 0].max() < 1


@pytest.mark.parametrize("length", [1, 2, *LENGTHS])
def test_copy_has_items_blanks_delimiter_and_items_again(length: int) -> None:
    x, targets = Copy().batch(length, 50, Random(0))
    blank, delimiter = 8, 9
    for symbols, answer in zip(symbols_of(x), targets.T.tolist(), strict=True):
        items = symbols[:10]
        assert max(items) < 8
        assert symbols[10:] == [blank] * (length - 1) + [delimiter] + [blank] * 10
        assert answer == [blank] * (length + 10) + items
        assert len(symbols) == len(answer) == length + 20


@each_length
def test_temporal_order_has_two_relevant_symbols_in_their_tenths(length: int) -> None:
    x, targets = TemporalOrder().batch(length, 300, Random(0))
    places: list[set[int]] = [set(), set()]
    for symbols, target in zip(symbols_of(x), targets.tolist(), strict=True):
        relevant = [t for t, symbol in enumerate(symbols) if symbol < 2]
        assert len(relevant) == 2
        first, second = (symbols[t] for t in relevant)
        assert target == {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}[first, second]
        for found, t in zip(places, relevant, strict=True):
            found.add(t)
    assert places[0] == set(range(length // 10, 2 * length // 10 + 1))
    assert places[1] == set(range(5 * length // 10, 6 * length // 10 + 1))


@pytest.mark.parametrize("length", [1, 2, *LENGTHS])
def test_first_token_is_said_again_after_distractors(length: int) -> None:
    x, targets = FirstToken().batch(length, 300, Random(0))
    for symbols, target in zip(symbols_of(x), targets.tolist(), strict=True):
        assert symbols[0] == target < 8
        assert all(8 <= symbol < 12 for symbol in symbols[1:])


def memoryless_loss(task: Task, length: int, targets: np.ndarray) -> float:
    """The loss of saying what is best without memory, by loops over the definition."""
    if task.loss == "mse":
        return sum((1.0 - float(t)) ** 2 for t in targets[:, 0]) / len(targets)
    if task.read == "last":
        chance = [1 / task.output_size] * task.output_size
        return sum(-math.log(chance[t]) for t in targets.tolist()) / len(targets)
    blanks = [0.0] * 8 + [1.0]
    items = [1 / 8] * 8 + [0.0]
    total = 0.0
    for step, row in enumerate(targets.tolist()):
        chance = blanks if step < length + 10 else items
        total += sum(-math.log(chance[t]) for t in row)
    return total / targets.size


@each_task
@pytest.mark.parametrize("length", [10, 50])
def test_the_baseline_is_the_loss_without_memory(task: Task, length: int) -> None:
    _, targets = task.batch(length, 20000, Random(2))
    found = memoryless_loss(task, length, targets)
    assert found == pytest.approx(task.baseline(length), rel=0.03 if task.loss == "mse" else 1e-9)


def test_the_baselines_of_the_literature() -> None:
    assert Adding().baseline(100) == pytest.approx(0.167, abs=5e-4)
    assert Copy().baseline(100) == pytest.approx(10 * math.log(8) / 120)
    assert TemporalOrder().baseline(100) == pytest.approx(math.log(4))
    assert FirstToken().baseline(100) == pytest.approx(math.log(8))


def test_solved_begins_where_the_docstring_says() -> None:
    assert Adding().solved(100, 0.05)
    assert not Adding().solved(100, 0.0501)
    for name in set(TASKS) - {"adding"}:
        limit = 0.1 * TASKS[name].baseline(50)
        assert TASKS[name].solved(50, 0.999 * limit)
        assert not TASKS[name].solved(50, 1.001 * limit)
        assert not TASKS[name].solved(50, math.inf)


def test_knowing_one_of_the_two_numbers_does_not_solve_adding() -> None:
    x, targets = Adding().batch(20, 20000, Random(0))
    first = (x[:10, :, 0] * x[:10, :, 1]).sum(axis=0)
    loss = float(((first + 0.5 - targets[:, 0]) ** 2).mean())
    assert loss == pytest.approx(1 / 12, rel=0.03)
    assert not Adding().solved(20, loss)
