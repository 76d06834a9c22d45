"""Training by captured steps: on a device, and on the stand-in that captures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.backend.cuda.backend import CupyBackend
from npnlp.errors import DeviceError, DivergenceError
from npnlp.models import ClassifierConfig
from npnlp.text import SplitArrays
from npnlp.training.captured import CapturedSteps, captured_steps
from npnlp.training.device_batches import capacity_for
from npnlp.training.trainer import Trainer
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler
from tests.support.training import (
    BATCH,
    epoch_order,
    equal,
    everything,
    launched_one_by_one,
    make_trainer,
    some_names,
    stop_after,
)

NUMPY = get_backend("numpy")
#: Model and training: every part that a captured step has.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elman": ({}, {"clip_norm": 0.3, "weight_decay": 0.1}),
    "gru": ({"cell": "gru", "bidirectional": True, "embedding_dropout": 0.2, "char_dropout": 0.1},
            {"schedule": "onecycle", "gradient_flow": False}),
    "lstm": ({"cell": "lstm", "num_layers": 2, "pooling": "last+mean", "rnn_dropout": 0.3,
              "hidden_layer": False}, {"bucket": 2}),
}  # fmt: skip
each_variant = pytest.mark.parametrize("variant", VARIANTS)
Made = Callable[..., Trainer]


@pytest.fixture(scope="module")
def data() -> tuple[ClassifierConfig, SplitArrays]:
    return some_names()


@pytest.fixture
def make(data: tuple[ClassifierConfig, SplitArrays]) -> Made:
    def made(backend: Any, variant: str = "elman", weights: Any = None, dtype: Any = np.float32,
             **more: Any) -> Trainer:  # fmt: skip
        shape, training = VARIANTS[variant]
        return make_trainer(backend, shape, training | more, weights, dtype, data[1])

    return made


@each_variant
def test_replayed_steps_are_the_launched_ones_to_the_bit(
    device: Any, make: Made, variant: str
) -> None:
    """Several shapes, a smaller last batch, and a probed batch in between; three epochs."""
    captured, launched = make(device, variant), launched_one_by_one(make(device, variant))
    for _ in range(3):
        captured.run_epoch()
        launched.run_epoch()
    equal(everything(captured), everything(launched))
    assert captured.captured is not None
    assert len(captured.captured.graphs) >= 2


@each_variant
def test_the_loss_curve_is_numpys(device: Any, make: Made, variant: str) -> None:
    ours, theirs = make(device, variant), make(NUMPY, variant)
    for _ in range(2):
        row, expected = ours.run_epoch(), theirs.run_epoch()
        log, right = device.to_numpy(ours.log), theirs.log
        np.testing.assert_allclose(log[:, 0], right[:, 0], rtol=1e-4)  # losses
        np.testing.assert_array_equal(log[:, 1], right[:, 1])
        np.testing.assert_allclose(log[:, 3:], right[:, 3:], rtol=2e-3, atol=1e-9)  # norms
        assert row.keys() == expected.keys()
        assert row["learning_rate"] == expected["learning_rate"]
    np.testing.assert_allclose(ours.flow, theirs.flow, rtol=1e-2, atol=1e-6)


def test_class_weights_are_weighed(device: Any, make: Made) -> None:
    weights = np.linspace(0.5, 2, 18)
    ours, theirs = (make(backend, weights=weights) for backend in (device, NUMPY))
    for trainer in (ours, theirs):
        trainer.run_epoch()
    log = device.to_numpy(ours.log)
    np.testing.assert_allclose(log[:, :2], theirs.log[:, :2], rtol=1e-4)


@each_variant
def test_a_launch_for_each_step_of_time_is_captured_too(
    device: Any, make: Made, variant: str
) -> None:
    """In float64 no weights stay on chip; and with so many digits nothing is rounding."""
    ours, theirs = (make(b, variant, dtype=np.float64, bucket=0) for b in (device, NUMPY))
    for _ in range(2):
        ours.run_epoch()
        theirs.run_epoch()
    assert ours.captured is not None
    assert len(ours.captured.graphs) >= 2
    np.testing.assert_allclose(device.to_numpy(ours.log), theirs.log, rtol=1e-8, atol=1e-20)
    for name, value in ours.model.state_dict().items():
        np.testing.assert_allclose(value, theirs.model.state_dict()[name], rtol=1e-6, atol=1e-9)


def test_two_runs_have_the_same_bits(device: Any, make: Made) -> None:
    first, second = make(device), make(device)
    for _ in range(2):
        first.run_epoch()
    if isinstance(device, CapturingBackend):
        device.kernels.seed = device.recurrent.seed = 5  # another order of the threads
    for _ in range(2):
        second.run_epoch()
    equal(everything(first), everything(second))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_resumed_run_has_the_same_bits(device: Any, make: Made, batch: int) -> None:
    whole, begun, resumed = (make(device, "gru") for _ in range(3))
    for _ in range(2):
        whole.run_epoch()
    begun.run_epoch()
    stop_after(begun, batch)
    resumed.load_state(*begun.state())
    resumed.run_epoch()
    equal(everything(resumed), everything(whole))


def poisoned_weights(trainer: Trainer) -> tuple[Any, int]:
    """Class weights that make the loss infinite in one batch of epoch 0, and which batch it is."""
    targets = trainer.train.targets[epoch_order(trainer)]
    number = np.arange(len(targets)) // BATCH
    first = {int(kind): int(number[targets == kind].min()) for kind in np.unique(targets)}
    kind = max(first, key=lambda kind: (first[kind] < 3, first[kind]))
    weights = np.ones(18)
    weights[kind] = np.inf
    assert first[kind] > 0
    return weights, first[kind]


@pytest.mark.parametrize("probe", [False, True])
def test_a_number_that_is_not_finite_is_found_where_numpy_finds_it(
    device: Any, make: Made, probe: bool
) -> None:
    """Same step, same message, and the state before it; with the probe the host looks earlier."""
    weights, batch = poisoned_weights(make(NUMPY))
    found = {}
    for backend in (device, NUMPY):
        trainer = make(backend, weights=weights, gradient_flow=probe)
        with pytest.raises(DivergenceError) as raised:
            trainer.run_epoch()
        assert (trainer.progress.batch, trainer.optimizer.steps) == (batch, batch)
        error = raised.value
        found[backend.name] = str(error), error.replay.batch, error.replay.rows.tolist()
        state = everything(trainer)
    assert found["cupy"] == found["numpy"]
    stopped = make(device, gradient_flow=probe)
    stop_after(stopped, batch)
    again = make(device, weights=weights, gradient_flow=probe)
    with pytest.raises(DivergenceError):
        again.run_epoch()
    for name, tensor in everything(again).items():
        if isinstance(tensor, np.ndarray) and name != "log":  # weights and moments before it
            np.testing.assert_array_equal(tensor, everything(stopped)[name], err_msg=name)
            np.testing.assert_allclose(tensor, state[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_rate_before_that_step_is_in_its_replay(device: Any, make: Made) -> None:
    weights, _ = poisoned_weights(make(NUMPY))
    rates = []
    for backend in (device, NUMPY):
        trainer = make(backend, "elman", weights, schedule="onecycle", gradient_flow=False)
        with pytest.raises(DivergenceError) as raised:
            trainer.run_epoch()
        rates.append(raised.value.replay.learning_rate)
    assert rates[0] == rates[1]


def test_after_a_false_alarm_training_goes_on(device: Any, make: Made) -> None:
    """Squares may overflow where no number does: the step is repeated, and the epoch finished."""
    ours, theirs = (make(backend, gradient_flow=False) for backend in (device, NUMPY))
    alarms: list[int] = []

    def on_batch() -> None:
        if ours.progress.batch == 2 and not alarms:
            alarms.append(2)
            assert ours.captured is not None
            ours.captured.counters[2] = 3  # as if the third batch had overflown

    row, expected = ours.run_epoch(on_batch), theirs.run_epoch()
    assert alarms == [2]
    assert ours.optimizer.steps == theirs.optimizer.steps == 4
    np.testing.assert_allclose(device.to_numpy(ours.log)[:, 0], theirs.log[:, 0], rtol=1e-4)
    np.testing.assert_allclose(row["val_loss"], expected["val_loss"], rtol=1e-4)


def test_an_interrupt_behind_a_bad_step_keeps_the_state_before_it(device: Any, make: Made) -> None:
    weights, batch = poisoned_weights(make(NUMPY))
    trainer = make(device, weights=weights, gradient_flow=False)
    stop_after(trainer, 4)
    assert (trainer.progress.batch, trainer.optimizer.steps) == (batch, batch)
    assert np.isfinite(device.to_numpy(trainer.model.flat.values)).all()


def test_an_epoch_reads_nothing_on_the_host_but_one_flag_at_its_end(make: Made) -> None:
    require_compiler()
    with CapturingBackend().in_place() as backend:
        device, trainer = backend.device, make(backend, gradient_flow=False)
        assert trainer.captured is not None
        for _ in range(3):
            device.reads.clear()
            before, seen = (device.uploads, device.launches), []
            trainer.captured.run(
                epoch_order(trainer),
                lambda: seen.append((len(device.reads), device.uploads)),  # noqa: B023
            )
            assert device.reads == ["asnumpy"]
            # The order, the rates and the counters, before the first step.
            assert seen == [(0, before[0] + 3)] * 4
            trainer.progress.epoch += 1
            trainer.progress.batch = 0
        assert device.launches - before[1] == 4  # a launch a step


def test_rates_that_may_overflow_are_watched(device: Any, make: Made) -> None:
    """At the same number; whether it is nan or infinite is for the order of a sum to say."""
    found = []
    for backend in (device, NUMPY):
        trainer = make(backend, learning_rate=1e25, gradient_flow=False)
        with pytest.raises(DivergenceError) as raised:
            trainer.run_epoch()
        said = re.sub(r" is (nan|-?inf) at ", " is not finite at ", str(raised.value))
        found.append((said, trainer.progress.batch))
    assert found[0] == found[1]


def test_on_the_cpu_nothing_is_captured(make: Made) -> None:
    assert captured_steps(make(NUMPY)) is None
    assert CapturingBackend(captured=False).graphs() is None


def test_room_for_rows_is_never_too_small_and_rarely_much_too_large() -> None:
    for rows in range(1, 5000):
        room = capacity_for(rows)
        assert rows <= room <= max(rows + 63, rows * 9 / 8)
    assert len({capacity_for(rows) for rows in range(1025, 2049)}) == 8


def all_captured(trainer: Trainer) -> tuple[CapturedSteps, Any]:
    """Steps of which every shape of this order is captured: nothing is compiled any more."""
    steps, order = trainer.captured, epoch_order(trainer)
    assert isinstance(steps, CapturedSteps)
    for _ in range(2):
        steps.run(order, lambda: None)
        trainer.progress.batch = 0
    return steps, order


def test_an_order_that_ran_twice_is_all_captured(make: Made) -> None:
    require_compiler()
    with CapturingBackend().in_place() as backend:
        device, trainer = backend.device, make(backend, gradient_flow=False)
        steps, order = all_captured(trainer)
        graphs, launches, mallocs = device.graphs, device.launches, device.memory.mallocs
        steps.run(order, lambda: None)
        assert (device.graphs, device.launches) == (graphs, launches + 4)
        assert device.memory.mallocs == mallocs


@pytest.mark.gpu
def test_a_device_is_not_waited_for_inside_an_epoch(make: Made) -> None:
    """Every way to wait that CuPy has is counted, on the device itself."""
    try:
        backend: Any = CupyBackend()
    except DeviceError as error:
        pytest.skip(str(error))
    trainer = make(backend, gradient_flow=False)
    steps, order = all_captured(trainer)
    with steps.graphs.in_use():
        steps.begin(order)
        backend.synchronize()
        spin = backend.xp.RawKernel(
            'extern "C" __global__ void spin(long long n) {'
            " long long s = clock64(); while (clock64() - s < n) ; }", "spin",
        )  # fmt: skip
        spin((1,), (1,), (np.int64(2 * 10**9),))  # about a second
        for _ in range(4):
            steps.step()
            trainer.progress.batch += 1
        assert not steps.graphs.stream.done, "the host waited for the device"
        backend.synchronize()
