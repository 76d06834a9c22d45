"""The course of a recipe's training: the rate up and down, the decay, and the order of the rows."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Backend, Random, get_backend
from npnlp.classifier.batches import bucketed
from npnlp.errors import InputError
from npnlp.layers import FlatParameters, LayerNorm, Linear
from npnlp.training.optimizers import Adam, make_optimizer
from npnlp.training.schedule import cosine, one_cycle
from tests.support.reference import BOUNDS, Floats, assert_close, draw, host
from tests.support.tables import make_run

NUMPY = get_backend("numpy")
ORACLES = Path(__file__).parents[1] / "oracles"
property_test = settings(max_examples=50)
SHARES = np.linspace(0, 1, 1001)


OTHER_STEPS = [2, 3, 4, 7, 40, 1001]


def one_cycle_of(steps: int, warm_up: float) -> Floats:
    return np.array([one_cycle(step, steps, warm_up) for step in range(steps)])


@pytest.mark.parametrize("steps", [7, 40])
@pytest.mark.parametrize("warm_up", [0.0, 0.3, 0.9])
def test_one_cycle_is_pytorchs_stored(steps: int, warm_up: float) -> None:
    with np.load(ORACLES / "one_cycle.npz", allow_pickle=False) as file:
        expected = file[f"rates_{steps}_{warm_up}"]
    np.testing.assert_allclose(one_cycle_of(steps, warm_up), expected, rtol=1e-14, atol=0)


def test_one_cycle_begins_at_a_25th_and_ends_at_a_ten_thousandth_of_that() -> None:
    rates = one_cycle_of(100, 0.3)
    assert rates[[0, -1]] == pytest.approx([1 / 25, 1e-4 / 25])
    assert one_cycle(29, 100, 0.3) == 1  # the 30th of 100 steps
    assert rates.argmax() == 29
    assert (np.diff(rates[:30]) > 0).all()
    assert (np.diff(rates[30:]) < 0).all()


@pytest.mark.parametrize("warm_up", [0.0, 0.15, 0.3, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_one_cycle_of_few_steps_is_a_rate(steps: int, warm_up: float) -> None:
    rates = one_cycle_of(steps, warm_up)
    assert ((rates > 0) & (rates <= 1)).all()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Detected call of")  # no step of the optimizer is taken
@pytest.mark.parametrize("steps", OTHER_STEPS)
@pytest.mark.parametrize("warm_up", [0.0, 0.15, 0.3, 0.5, 0.77])
def test_one_cycle_equals_pytorch(steps: int, warm_up: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        peer = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.7, total_steps=steps, pct_start=warm_up, cycle_momentum=False
        )
    except ZeroDivisionError:  # the first step is the top
        assert one_cycle(0, steps, warm_up) == 1
        return
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        if step < steps - 1:
            peer.step()
    np.testing.assert_allclose(0.7 * one_cycle_of(steps, warm_up), rates, rtol=1e-14, atol=0)


def test_training_takes_the_rates_of_its_schedule(tmp_path: Path) -> None:
    for schedule, factors in (
        ("onecycle", one_cycle_of(9, 0.3)),
        ("cosine", [cosine(step / 9, 0.15) for step in range(9)]),
    ):
        trainer = make_run(tmp_path / schedule, schedule=schedule, num_epochs=3).trainer
        assert trainer.batches_per_epoch == 3
        for step in range(9):
            expected = trainer.config.learning_rate * factors[step]
            assert trainer.rate_of(step) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("warm_up", [0.05, 0.15, 0.5, 0.99])
@pytest.mark.parametrize("start", [0.04, 0.0, 0.5])
def test_cosine_rises_to_one_and_falls_to_zero(warm_up: float, start: float) -> None:
    factors = [cosine(share, warm_up, start) for share in SHARES]
    assert factors[0] == pytest.approx(start)
    assert cosine(warm_up, warm_up, start) == 1
    assert cosine(warm_up - 1e-9, warm_up, start) == pytest.approx(1)  # no jump at the peak
    assert factors[-1] == pytest.approx(0, abs=1e-15)
    for (a, one), (b, other) in pairwise(zip(SHARES, factors, strict=True)):
        if b <= warm_up:
            assert other > one
        elif a >= warm_up:
            assert other < one
    assert 0 <= min(factors) <= max(factors) <= 1


@pytest.mark.parametrize("warm_up", [0.15, 0.4])
def test_it_is_half_a_cosine_each(warm_up: float) -> None:
    middle = cosine(warm_up / 2, warm_up)
    assert middle == pytest.approx((0.04 + 1) / 2)
    assert cosine((1 + warm_up) / 2, warm_up) == pytest.approx(0.5)
    third = cosine(warm_up + (1 - warm_up) / 3, warm_up)
    assert third == pytest.approx((1 + math.cos(math.pi / 3)) / 2)


def test_cosine_without_a_warm_up_begins_at_the_top() -> None:
    assert cosine(0.0, 0.0) == 1
    assert cosine(1.0, 0.0) == pytest.approx(0, abs=1e-15)


def parameters(backend: Backend = NUMPY, dtype: Any = np.float64) -> FlatParameters:
    layers = {
        "one": Linear(3, 4, backend=backend, dtype=dtype, random=Random(1)),
        "norm": LayerNorm(4, backend=backend, dtype=dtype),
        "two": Linear(4, 2, backend=backend, dtype=dtype, random=Random(2)),
    }
    return FlatParameters(layers, backend)


def gradient(step: int, flat: FlatParameters) -> Floats:
    return draw(step, flat.values.size)


def decayed_by_hand(
    flat: FlatParameters, rate: float, decay: float, betas: tuple[float, float], steps: int
) -> Floats:
    """Loops over single numbers; what has one axis does not decay."""
    weights = flat.values.tolist()
    shrinks = [value.ndim > 1 for value in flat.parameters.values() for _ in range(value.size)]
    m, v = [0.0] * len(weights), [0.0] * len(weights)
    for step in range(1, steps + 1):
        for i, g in enumerate(gradient(step, flat).tolist()):
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
            m_hat, v_hat = m[i] / (1 - betas[0] ** step), v[i] / (1 - betas[1] ** step)
            if shrinks[i]:
                weights[i] *= 1 - rate * decay
            weights[i] -= rate * m_hat / (math.sqrt(v_hat) + 1e-8)
    return np.array(weights)


def stepped(optimizer: Adam, steps: int) -> Floats:
    flat = optimizer.flat
    for step in range(1, steps + 1):
        flat.grads[...] = optimizer.backend.asarray(gradient(step, flat), dtype=flat.values.dtype)
        optimizer.step()
    return optimizer.backend.to_numpy(flat.values).copy()


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("decay", [0.1, 3.0])
def test_adam_with_decay_equals_the_loops(
    steps: int, decay: float, backend: Backend, dtype: np.dtype[Any]
) -> None:
    expected = decayed_by_hand(parameters(), 0.05, decay, (0.9, 0.99), steps)
    flat = parameters(backend, dtype)
    optimizer = make_optimizer("adam", flat, backend, 0.05, beta2=0.99, weight_decay=decay)
    assert isinstance(optimizer, Adam)
    assert_close(stepped(optimizer, steps), expected, BOUNDS[dtype.name])


def test_biases_and_gains_do_not_decay(backend: Backend) -> None:
    flat = parameters(backend)
    flat.values += 1.0  # so that none is zero
    before = {name: value.copy() for name, value in host(backend, flat.parameters).items()}
    optimizer = Adam(flat, backend, 0.5, weight_decay=0.4)
    flat.grads[...] = 0
    optimizer.step()
    for name, value in host(backend, flat.parameters).items():
        factor = 0.8 if value.ndim > 1 else 1.0
        assert_close(value, factor * before[name])
    assert [n for n, value in before.items() if value.ndim > 1] == ["one.weight", "two.weight"]


def test_no_decay_is_plain_adam(backend: Backend) -> None:
    one = stepped(Adam(parameters(backend), backend, 0.05), 5)
    other = stepped(Adam(parameters(backend), backend, 0.05, weight_decay=0.0), 5)
    assert one.tobytes() == other.tobytes()


def test_decay_follows_the_rate_of_the_moment() -> None:
    flat = parameters()
    optimizer = Adam(flat, NUMPY, 0.5, weight_decay=0.4)
    before = flat.parameters["one.weight"].copy()
    for rate in (0.5, 0.25, 0.0):
        optimizer.learning_rate = rate
        optimizer.step()
    assert_close(flat.parameters["one.weight"], 0.8 * 0.9 * before)


@pytest.mark.parametrize("decay", [-0.1, float("nan")])
def test_a_decay_below_zero_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="weight_decay is"):
        Adam(parameters(), NUMPY, 0.1, weight_decay=decay)


@pytest.mark.peers
@pytest.mark.parametrize("decay", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.99)], ids=str)
def test_adam_with_decay_equals_pytorch(decay: float, betas: tuple[float, float]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    flat = parameters()
    theirs = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in flat.parameters.items()}
    groups = [
        {"params": [p for p in theirs.values() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in theirs.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    peer = torch.optim.AdamW(groups, lr=0.05, betas=betas)
    optimizer = Adam(flat, NUMPY, 0.05, betas, weight_decay=decay)
    for step in range(1, 9):
        flat.grads[...] = gradient(step, flat)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(flat.views_of_grads[name])
        optimizer.learning_rate = 0.05 / step
        for group in peer.param_groups:
            group["lr"] = 0.05 / step
        peer.step()
        optimizer.step()
        for name, parameter in theirs.items():
            assert_close(flat.parameters[name], parameter.detach().numpy())


LENGTHS = np.random.default_rng(0).integers(3, 15, size=333)


def in_buckets(
    rows: int, batch_size: int, together: int, seed: int = 0, epoch: int = 0
) -> tuple[Any, Any]:
    """The order before and after."""
    random = Random(seed, "shuffle").at(epoch)
    order = random.permutation(rows)
    return order, bucketed(order, LENGTHS[:rows], batch_size, together, random.child("buckets"))


@property_test
@given(rows=st.integers(1, 333), batch_size=st.integers(1, 40), together=st.integers(1, 20))
def test_buckets_only_rearrange(rows: int, batch_size: int, together: int) -> None:
    order, found = in_buckets(rows, batch_size, together)
    assert found.dtype == order.dtype
    assert sorted(found.tolist()) == list(range(rows))
    # What is left over of the last batches that were sorted together stays last.
    whole = rows - rows % batch_size
    chunk = batch_size * together
    left = rows % batch_size
    if left:
        tail = order[(rows - 1) // chunk * chunk :]
        assert set(found[whole:].tolist()) <= set(tail.tolist())
        assert sorted(LENGTHS[found[whole:]]) == sorted(LENGTHS[tail])[:left]
    # Every whole batch is cut from the sorted rows of one chunk.
    sorted_parts = [
        sorted(LENGTHS[order[first : first + chunk]].tolist(), reverse=True)
        for first in range(0, rows, chunk)
    ]
    wanted = sorted(
        part[first : first + batch_size]
        for part in sorted_parts
        for first in range(0, len(part) - len(part) % batch_size, batch_size)
    )
    batches = [LENGTHS[b].tolist() for b in found[:whole].reshape(-1, batch_size)]
    assert sorted(batches) == wanted


def spread(order: Any, batch_size: int) -> float:
    """How far lengths in a batch are apart, in the mean."""
    whole = len(order) - len(order) % batch_size
    return float(np.ptp(LENGTHS[order[:whole]].reshape(-1, batch_size), axis=1).mean())


def test_batches_hold_like_lengths() -> None:
    order, found = in_buckets(333, 16, 8)
    assert spread(order, 16) > 8
    assert spread(found, 16) < 2.5


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    orders = [
        in_buckets(333, 16, 8, seed, epoch)[1].tolist()
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert orders[0] == orders[1]
    assert all(a != b for i, a in enumerate(orders[1:]) for b in orders[1:][:i])


def test_long_and_short_batches_are_mixed() -> None:
    _, found = in_buckets(320, 16, 20)
    means = LENGTHS[found].reshape(-1, 16).mean(axis=1)
    assert not (np.diff(means) <= 0).all()
    assert means[: len(means) // 2].mean() == pytest.approx(means[len(means) // 2 :].mean(), abs=4)


def test_a_single_small_batch_is_only_sorted() -> None:
    order, found = in_buckets(5, 16, 8)
    assert found.tolist() == sorted(order.tolist(), key=lambda row: -LENGTHS[row])
