"""benchmarks/roofline.py: what it counts, what it records, and that its parts add up."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.classifier.batches import Batch, batches
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays

pytestmark = pytest.mark.usefixtures("passes")

D, H, C = 5, 4, 3
GATES = {"elman": 1, "gru": 3, "lstm": 4}
each_cell = pytest.mark.parametrize("cell", GATES)


def two_names() -> SplitArrays:
    """``abc`` and ``ab``: 5 packed rows, 3 different characters, 2 sequences, 3 steps."""
    tokens, lengths = np.array([4, 5, 6, 4, 5]), np.array([3, 2])
    return SplitArrays(tokens, np.array([0, 3]), lengths, np.array([0, 2]))


def made(cell: str, backend: Backend) -> tuple[SurnameClassifier, Batch]:
    config = ClassifierConfig(7, C, D, H, cell=cell)
    (batch,) = batches(two_names(), np.arange(2), 2, backend)
    return SurnameClassifier(config, backend=backend, random=Random(0, "model")), batch


def many_names() -> SplitArrays:
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 9, 24)
    tokens, targets = draw.integers(4, 30, lengths.sum()), draw.integers(0, C, 24)
    return SplitArrays(tokens, np.cumsum(lengths) - lengths, lengths, targets)


def steps_on(backend: Backend, cell: str) -> Any:
    from passes.roofline_case import Steps

    sizes = {"characters": 30, "classes": C}
    return Steps(many_names(), sizes, cell, H, 8, 3, 0, backend)


@each_cell
def test_a_tiny_step_is_counted_as_by_hand(cell: str) -> None:
    from passes.step_work import Product, Sweep, Tanh, work_of

    model, batch = made(cell, get_backend("numpy"))
    work, wide = list(work_of(model, batch)), GATES[cell] * H
    products = sorted((o.m, o.k, o.n) for o in work if isinstance(o, Product))
    assert products == sorted([
        (3, D, wide), (wide, 3, D), (3, wide, D),  # 3 characters: projected, and both gradients
        (2, H, wide), (1, H, wide),  # steps 2 and 3 forward,
        (2, wide, H), (1, wide, H),  # and coming back
        (wide, 3, H),  # the gradient of W_hh, over the rows of steps 2 and 3
        (2, H, H), (H, 2, H), (2, H, H),  # the first linear layer
        (2, H, C), (C, 2, H), (2, C, H),  # the second
    ])  # fmt: skip
    tanhs = {"elman": 1, "gru": 3, "lstm": 5}[cell]
    assert sum(o.evaluations for o in work if isinstance(o, Tanh)) == 5 * H * tanhs
    learned = 7 * D + wide * (D + H + 2) + H * (H + 1) + C * (H + 1)
    moved = {o.part: 0 for o in work if isinstance(o, Sweep)}
    for operation in work:
        if isinstance(operation, Sweep):
            moved[operation.part] += operation.moved
    assert moved["optimizer"] == 4 * 10 * learned
    table, look_up = 4 * 5 * 3 * D, 4 * 2 * 5 * wide + 8 * 5
    back = 4 * (5 + 3) * wide + 8 * 5
    assert moved["gather"] == table + look_up + back + 4 * 2 * 3 * H + 4 * 2 * 2 * H
    chain = {"elman": 3 + 3, "gru": 12 + 12, "lstm": 16 + 13}[cell]
    head = 4 * 2 * (20 * H + 6 * C)
    assert moved["elementwise"] == 4 * 5 * H * chain + 4 * 3 * wide + head


@each_cell
def test_a_real_step_computes_the_products_that_are_counted(cell: str) -> None:
    from passes.recorder import RecordingBackend, recording
    from passes.step_work import Product, work_of

    steps = steps_on(RecordingBackend(), cell)
    for batch in steps.batches:
        counted = [o for o in work_of(steps.trainer.model, batch) if isinstance(o, Product)]
        with recording() as book:
            steps.trainer.step(batch)
        assert sum(2 * m * k * n for m, k, n in book.products) == sum(
            product.operations for product in counted
        )


@each_cell
def test_recording_changes_no_bit_and_sees_every_part(cell: str) -> None:
    from passes.recorder import RecordingBackend
    from passes.roofline_case import FLOOR

    plain, recorded = steps_on(get_backend("numpy"), cell), steps_on(RecordingBackend(), cell)
    before = plain.trainer.model.flat.values.copy()
    plain.seconds()
    seconds, calls = recorded.recorded(0.0)
    values = plain.trainer.model.flat.values
    assert not np.array_equal(values, before)
    np.testing.assert_array_equal(np.asarray(recorded.trainer.model.flat.values), values)
    assert set(seconds) == set(calls) == set(FLOOR)
    assert min(seconds.values()) > 0


def test_operations_are_noted_by_kind() -> None:
    from passes.recorder import Recorded, RecordingBackend, recording

    xp = RecordingBackend().xp
    a, b, room = xp.ones((3, 4)), xp.ones((4, 5)), xp.empty((3, 5))
    with recording() as book:
        assert xp.dot(a, b, room) is not None
        xp.matmul(xp.ones((2, 3, 4)), b)
        xp.dot(xp.ones(3), a)
        xp.dot(xp.ones(4), xp.ones(4))
        a += xp.tanh(a)
        picked = a.take(np.array([0, 2]), axis=0)
        with book.inside("optimizer"):
            picked *= 2
    assert (room == 4).all()
    assert isinstance(picked, Recorded)
    assert book.products == [(3, 4, 5)] * 3
    assert book.calls == {
        "products": 2, "elementwise": 2, "optimizer": 2, "tanh": 1, "gather": 1,
    }  # fmt: skip


def test_the_floor_is_the_sum_of_its_operations_at_the_rates() -> None:
    from passes.machine_rates import COPIES, Rates
    from passes.step_work import Product, Sweep, Tanh

    small, large = Product(4, 8, 64), Product(64, 32, 64)
    rates = Rates([small, large], seed=0)
    assert math.isinf(rates.seconds(small))
    rates.measure()
    first = rates.seconds(small), rates.seconds(large), rates.tanh, rates.copy[COPIES[0]]
    assert all(0 < seconds < math.inf for seconds in first)
    rates.measure()
    second = rates.seconds(small), rates.seconds(large), rates.tanh, rates.copy[COPIES[0]]
    assert all(b <= a for a, b in zip(first, second, strict=True))
    moved = Sweep("gather", 3 * COPIES[0])
    floor = rates.floor([small, large, large, Tanh(1000), moved, Sweep("optimizer", 8)])
    assert floor["products"] == pytest.approx(second[0] + 2 * second[1])
    assert floor["tanh"] == pytest.approx(1000 * rates.tanh)
    assert floor["gather"] == pytest.approx(rates.seconds(moved))
    assert floor["elementwise"] == 0 < floor["optimizer"]
    assert rates.seconds(Sweep("gather", COPIES[0])) == rates.copy[COPIES[0]]
    again = Sweep("gather", 2 * COPIES[3], held=COPIES[3])  # the same bytes twice
    assert rates.seconds(again) == pytest.approx(2 * rates.copy[COPIES[3]])


def test_what_is_beyond_the_floor_adds_up_to_the_step() -> None:
    from passes.roofline_case import FLOOR, beyond

    floor = dict(zip(FLOOR, [5e-4, 1e-4, 2e-4, 1e-4, 1e-4], strict=True))
    spent = dict(zip(FLOOR, [6e-4, 2e-4, 5e-4, 3e-4, 1e-4], strict=True))
    rest = beyond(3e-3, floor, spent, {"elementwise": 100, "tanh": 20, "products": 40}, 1e-6)
    assert sum(rest.values()) == pytest.approx(3e-3 - sum(floor.values()))
    assert rest["small_products"] == pytest.approx(1e-4)
    assert rest["elementwise"] == pytest.approx(7e-4 - 1.2e-4 - 3e-4)
    assert rest["interpreter"] == pytest.approx(3e-3 - (6 + 1.8 + 4 + 3 + 1) * 1e-4)


def test_sequences_of_one_length_and_a_profile(passes: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(passes / "roofline.py"), "--quick", "--steps", "6", "--profile",
               "--cells", "gru", "--out", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    begin = next(n for n, line in enumerate(lines) if "function, of a step" in line)
    listed = [line.split() for line in lines[begin + 1 : begin + 21]]
    assert all(row[3].startswith("npnlp/") and row[3].endswith(".py:") for row in listed)
    assert "step_backward" in {row[4] for row in listed}
    own = [float(row[0]) for row in listed]
    assert own == sorted(own, reverse=True)
    (row,) = pd.read_csv(tmp_path / "roofline.csv").to_dict("records")
    assert (row["T"], row["B"], row["N"]) == (6, 16, 96)
    assert row["step_us"] == pytest.approx(row["ratio"] * row["floor_us"])
    assert 0 < row["cpu_share"] < math.inf
    parts = [row[name] for name in row if str(name).startswith(("floor_", "beyond_"))]
    assert sum(parts) - row["floor_us"] == pytest.approx(row["step_us"])
