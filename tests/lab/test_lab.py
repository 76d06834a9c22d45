"""The sequence model's gradients, and training it until it remembers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.lab.tasks import TASKS
from npnlp.lab.trial import Lab, LabConfig, horizons, outcome, train_on, verdict
from npnlp.lab.variants import VARIANTS, Variant, chrono
from npnlp.layers import MeanSquaredError, Packing
from npnlp.models import SequenceConfig, SequenceModel
from tests.support.reference import draw

NUMPY = get_backend("numpy")
LENGTHS = np.array([3, 1, 5, 5, 2])
SMALL = LabConfig(budget=20, batch_size=8, hidden_size=8, check_every=10, check_size=16)
both_reads = pytest.mark.parametrize("read", ["last", "each"])


def model(backend: Backend, read: str, phi: str = "tanh") -> SequenceModel:
    config = SequenceConfig(4, 3, hidden_size=6, read=read, nonlinearity=phi)
    return SequenceModel(config, backend=backend, dtype=np.float64, random=Random(1))


@both_reads
@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_model_gradients_by_complex_step(read: str, phi: str, backend: Backend) -> None:
    packing = Packing.of(LENGTHS, backend)
    x = backend.asarray(draw(0, packing.rows, 4))
    report = check_gradients(model(backend, read, phi), x, packing=packing)
    assert report.passed, str(report)
    assert {row.quantity for row in report.rows} >= {"rnn.weight_hh_l0", "out.bias", "input 0"}


@both_reads
def test_model_adjoint_over_many_steps(read: str) -> None:
    packing = Packing.of(np.array([1024, 700]), NUMPY)
    report = check_adjoint(model(NUMPY, read), draw(0, packing.rows, 4), packing=packing)
    assert report.passed, str(report)


def test_last_is_a_row_of_each(backend: Backend) -> None:
    packing = Packing.of(LENGTHS, backend)
    x = backend.asarray(draw(0, packing.rows, 4))
    last, _ = model(backend, "last").forward(x, packing=packing)
    each, _ = model(backend, "each").forward(x, packing=packing)
    assert last.shape == (len(LENGTHS), 3)
    assert each.shape == (packing.rows, 3)
    found = backend.to_numpy(each.take(packing.last_rows, axis=0))
    np.testing.assert_allclose(found, backend.to_numpy(last), rtol=1e-14)


def test_parameters_are_views_of_one_buffer() -> None:
    small = model(NUMPY, "last")
    assert all(np.shares_memory(value, small.flat.values) for value in small.parameters.values())
    assert set(small.parameters) == {
        "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0",
        "out.weight", "out.bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "abacus"}, "cell 'abacus' is not known; choose one of elman"),
        ({"read": "first"}, "read 'first' is not known; choose one of last, each"),
        ({"hidden_size": 0}, "hidden_size is 0"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SequenceConfig(**{"input_size": 2, "output_size": 1, **change})


def test_squared_error_equals_the_definition(backend: Backend, dtype: np.dtype[Any]) -> None:
    y, targets = draw(0, 6, 2).astype(dtype), draw(1, 6, 2).astype(dtype)
    layer = MeanSquaredError(backend=backend, dtype=dtype)
    loss, cache = layer.forward(backend.asarray(y), backend.asarray(targets))
    pairs = list(zip(y.reshape(-1).tolist(), targets.reshape(-1).tolist(), strict=True))
    assert loss.shape == ()
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 12, rel=1e-5)
    expected = np.array([2 * (a - b) / 12 for a, b in pairs]).reshape(6, 2)
    d_y = backend.to_numpy(layer.backward(-2.5, cache))
    np.testing.assert_allclose(d_y, -2.5 * expected, rtol=1e-5)


def test_squared_error_gradient_by_complex_step(backend: Backend) -> None:
    y, targets = backend.asarray(draw(0, 6, 2)), backend.asarray(draw(1, 6, 2))
    layer = MeanSquaredError(backend=backend, dtype=np.float64)
    report = check_gradients(layer, y, targets=targets)
    assert report.passed, str(report)


class NotAMean(MeanSquaredError):
    def backward(self, d_loss: Any, cache: Any) -> Any:
        return 2 * d_loss * cache.errors


class HalfTheSlope(MeanSquaredError):
    def backward(self, d_loss: Any, cache: Any) -> Any:
        return super().backward(d_loss, cache) / 2


class NotScaled(MeanSquaredError):
    def backward(self, d_loss: Any, cache: Any) -> Any:
        return super().backward(1.0, cache)


@pytest.mark.parametrize("wrong", [NotAMean, HalfTheSlope, NotScaled])
def test_a_mistake_planted_in_the_squared_error_is_caught(wrong: type[MeanSquaredError]) -> None:
    for check in (check_gradients, check_adjoint):
        assert not check(wrong(dtype=np.float64), draw(0, 6, 2), targets=draw(1, 6, 2)).passed


class ForgetsTheReadout(SequenceModel):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        d_x = super().backward(dy, cache)
        self.out.grads["weight"][...] = 0
        return d_x


class TellsTheRowsInTurn(SequenceModel):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        return super().backward(dy[::-1].copy(), cache)


@both_reads
@pytest.mark.parametrize("wrong", [ForgetsTheReadout, TellsTheRowsInTurn])
def test_a_mistake_planted_in_the_model_is_caught(wrong: type[SequenceModel], read: str) -> None:
    packing = Packing.of(LENGTHS, NUMPY)
    layer = wrong(SequenceConfig(4, 3, hidden_size=6, read=read), dtype=np.float64)
    for check in (check_gradients, check_adjoint):
        assert not check(layer, draw(0, packing.rows, 4), packing=packing).passed


def test_squared_error_refuses_to_stretch_its_targets() -> None:
    with pytest.raises(InputError, match=r"targets is .* \(6,\); .* shape \(6, 1\)"):
        MeanSquaredError().forward(np.zeros((6, 1)), np.zeros(6))


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_runs_on_every_task_that_it_fits(task: str, variant: str) -> None:
    if VARIANTS[variant].mismatch(TASKS[task]) is not None:
        with pytest.raises(InputError, match=r"'attention' does not fit: copy .* one answer"):
            train_on(task, 12, 0, SMALL, NUMPY, variant)
        return
    row = train_on(task, 12, 0, SMALL, NUMPY, variant)
    assert row["steps"] == 20
    assert math.isfinite(row["loss"])
    assert (row["task"], row["recipe"], row["T"], row["seed"]) == (task, variant, 12, 0)
    assert row["baseline"] == TASKS[task].baseline(12)


def test_training_lowers_the_loss() -> None:
    config = LabConfig(budget=300, batch_size=16, hidden_size=24)
    lab = Lab(TASKS["first_token"], VARIANTS["orthogonal"], 10, 0, config, NUMPY)
    before = lab.check()
    seen: list[tuple[int, float]] = []
    after = lab.run(lambda steps, loss: seen.append((steps, loss)))
    assert before == pytest.approx(math.log(8), rel=0.2)
    assert lab.task.solved(10, after)
    assert seen[-1] == (lab.steps, after)
    assert all(not lab.task.solved(10, loss) for _, loss in seen[:-1])


@pytest.mark.parametrize(
    ("task", "length", "variant", "budget"),
    [
        ("adding", 20, "gru-chrono", 500),
        ("adding", 20, "attention", 600),
        ("first_token", 50, "bidirectional", 400),
        ("first_token", 30, "transformer", 200),
    ],
)
def test_each_cure_solves_what_tanh_does_not(
    task: str, length: int, variant: str, budget: int
) -> None:
    config = LabConfig(budget=budget, check_size=256)
    assert train_on(task, length, 5, config, NUMPY, variant)["solved"]
    assert not train_on(task, length, 5, config, NUMPY, "tanh")["solved"]


@pytest.mark.slow
def test_reading_backwards_too_brings_the_middle_no_nearer() -> None:
    config = LabConfig(budget=400, check_size=256)
    assert train_on("first_token", 80, 5, config, NUMPY, "bidirectional")["solved"]
    assert not train_on("middle_token", 80, 5, config, NUMPY, "bidirectional")["solved"]


@pytest.mark.slow
def test_it_is_the_biases_and_not_the_learning_rate() -> None:
    gru = {"cell": "gru"}
    fast, slow = Variant(gru, learning_rate=3e-3), Variant(gru, chrono=True)
    task, config = TASKS["first_token"], LabConfig()
    assert not task.solved(50, Lab(task, fast, 50, 0, config, NUMPY).run())
    assert task.solved(50, Lab(task, slow, 50, 0, config, NUMPY).run())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["adding", "first_token"])
def test_a_gated_cell_solves_length_500(task: str) -> None:
    row = train_on(task, 500, 0, LabConfig(), NUMPY, "gru-chrono")
    assert row["solved"]
    assert row["steps"] <= 2000


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_chrono_biases_are_logarithms_of_times_up_to_the_length(cell: str) -> None:
    config = SequenceConfig(2, 1, hidden_size=400, cell=cell)
    (layer,) = SequenceModel(config, random=Random(0)).encoder.cells
    before = {name: value.copy() for name, value in layer.parameters.items()}
    chrono(layer, 101, Random(3))
    keep, size = {"lstm": 1, "gru": 1}[cell], 400
    kept = slice(keep * size, (keep + 1) * size)
    biases = layer.weight("bias_ih") + layer.weight("bias_hh")
    times = np.exp(biases[kept])
    assert 1 <= times.min() < 3
    assert 97 < times.max() <= 100.01
    assert times.mean() == pytest.approx(50.5, rel=0.1)
    changed = {keep} if cell == "gru" else {0, keep}
    if cell == "lstm":
        np.testing.assert_array_equal(biases[:size], -biases[kept])
    for gate in set(range(len(layer.gates))) - changed:
        rows = slice(gate * size, (gate + 1) * size)
        for name in ("bias_ih_l0", "bias_hh_l0"):
            np.testing.assert_array_equal(layer.parameters[name][rows], before[name][rows])
    np.testing.assert_array_equal(layer.weight("weight_hh"), before["weight_hh_l0"])


def test_both_directions_get_first_values_of_their_own() -> None:
    variant = Variant({"bidirectional": True}, initialization="orthogonal")
    lab = Lab(TASKS["adding"], variant, 10, 0, SMALL, NUMPY)
    forward, reverse = (cell.weight("weight_hh") for cell in lab.model.encoder.cells)
    for weight in (forward, reverse):
        np.testing.assert_allclose(weight @ weight.T, np.eye(8), atol=1e-6)
    assert np.abs(forward - reverse).max() > 0.1


def test_a_variant_may_bring_its_learning_rate() -> None:
    plain, own = (
        Lab(TASKS["adding"], Variant(learning_rate=rate), 10, 0, SMALL, NUMPY)
        for rate in (None, 0.25)
    )
    assert plain.optimizer.learning_rate == SMALL.learning_rate
    assert own.optimizer.learning_rate == 0.25


@pytest.mark.parametrize(
    ("solved", "expected"),
    [
        ([], None), ([True], None), ([False], None), ([True, True], True),
        ([False, False], False), ([True, False], None), ([False, True, True], True),
    ],
)  # fmt: skip
def test_the_outcome_is_known_as_soon_as_it_is(solved: list[bool], expected: bool | None) -> None:
    assert outcome(solved, 3) is expected


def test_half_of_the_seeds_are_not_most() -> None:
    assert outcome([True, False], 2) is False
    assert outcome([False], 2) is False


@pytest.mark.peers
@pytest.mark.parametrize("task", ["adding", "copy", "temporal_order"])
def test_three_updates_equal_those_of_pytorch(task: str) -> None:
    """The whole of it: batch, layers, loss, clipping, Adam, from the same first weights."""
    torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
    lab = Lab(TASKS[task], VARIANTS["irnn"], 15, 0, SMALL, NUMPY)
    rnn = torch.nn.RNN(lab.task.input_size, SMALL.hidden_size, nonlinearity="relu")
    out = torch.nn.Linear(SMALL.hidden_size, lab.task.output_size)
    theirs = {f"rnn.{n}": p for n, p in rnn.named_parameters()}
    theirs |= {f"out.{n}": p for n, p in out.named_parameters()}
    for name, value in lab.model.parameters.items():
        theirs[name].data = torch.tensor(value.copy())
    optimizer = torch.optim.Adam(theirs.values(), lr=SMALL.learning_rate)
    for step in range(3):
        stream = lab.random.child("train").at(step)
        x, targets = (torch.tensor(a) for a in lab.task.batch(15, SMALL.batch_size, stream))
        hidden, _ = rnn(x.float())
        y = out(hidden[-1] if lab.task.read == "last" else hidden)
        if lab.task.loss == "mse":
            loss = torch.nn.functional.mse_loss(y, targets.float())
        else:
            loss = torch.nn.functional.cross_entropy(y.flatten(0, -2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.values(), SMALL.clip_norm)
        optimizer.step()
        assert float(lab.step()) == pytest.approx(loss.item(), rel=1e-5)
    for name, value in lab.model.parameters.items():
        np.testing.assert_allclose(value, theirs[name].detach().numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_variant_solves_adding_at_100(seed: int) -> None:
    config = LabConfig()
    lab = Lab(TASKS["adding"], VARIANTS["irnn"], 100, seed, config, NUMPY)
    assert lab.run() <= 0.05
    assert lab.steps < config.budget


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    first, again, other = (train_on("adding", 10, seed, SMALL, NUMPY)["loss"] for seed in (0, 0, 1))
    assert first == again != other


def test_a_run_that_diverges_ends_without_a_word() -> None:
    config = LabConfig(
        budget=50, batch_size=4, hidden_size=8, learning_rate=1e30, clip_norm=1e30,
        check_every=1, check_size=4,
    )  # fmt: skip
    row = train_on("adding", 20, 0, config, NUMPY)
    assert row["loss"] == math.inf
    assert not row["solved"]
    assert row["steps"] < 50


@pytest.mark.parametrize(
    ("task", "variant", "message"),
    [("juggling", "irnn", "task 'juggling' is not"), ("adding", "soup", "variant 'soup' is not")],
)
def test_unknown_names_are_refused(task: str, variant: str, message: str) -> None:
    with pytest.raises(InputError, match=f"{message} known; choose from"):
        train_on(task, 10, 0, SMALL, NUMPY, variant)


@pytest.mark.parametrize(
    "change", [{"budget": 0}, {"learning_rate": -1.0}, {"clip_norm": math.nan}]
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        LabConfig(**change)


def rows_of(variant: str, solved: dict[int, list[bool]]) -> list[dict[str, Any]]:
    return [
        {"task": "adding", "recipe": variant, "T": length, "solved": value}
        for length, values in solved.items()
        for value in values
    ]


def test_the_horizon_is_the_largest_length_that_most_seeds_solve() -> None:
    rows = rows_of("irnn", {10: [True] * 3, 50: [True, True, False], 100: [True, False, False]})
    rows += rows_of("tanh", {10: [True, False], 50: [False, False]})
    table = horizons(rows)
    assert table == [
        {"task": "adding", "recipe": "irnn", "horizon": 50, "largest": 100},
        {"task": "adding", "recipe": "tanh", "horizon": 0, "largest": 50},
    ]
    assert verdict(table) == "Solved furthest back: adding by irnn (T = 50)."
    assert verdict(table[1:]) == "Solved furthest back: adding was solved by none."
