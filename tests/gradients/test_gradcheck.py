"""The checker itself: it has to pass what is right and to catch every planted mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.cli import main
from npnlp.errors import InputError
from npnlp.gradients import GradientReport, GradientRow, cases, check_adjoint, check_gradients
from npnlp.gradients.cases import layer_reports
from npnlp.layers import Dropout, Elman, Embedding, Layer, Linear, Packing
from npnlp.models import ClassifierConfig, SurnameClassifier
from tests.support.reference import draw, host
from tests.support.strict import StrictBackend

T, B, D, H = 5, 3, 2, 4
LENGTHS = np.array([3, 5, 1])
X, H0 = draw(0, T, B, D), draw(1, B, H)


class PaddedElman(Layer):
    """A user's own layer: an Elman network on a padded batch, each mistake a subclass of it."""

    def __init__(self) -> None:
        super().__init__(dtype=np.float64, random=Random(2, "padded"))
        self.add_parameter("w_ih", lambda random: random.uniform((H, D), -1, 1))
        self.add_parameter("w_hh", lambda random: random.uniform((H, H), -0.5, 0.5))
        self.add_parameter("bias", lambda random: random.uniform((H,), -1, 1))

    def forward(self, x: Array, h0: Array) -> tuple[tuple[Array, Array], Any]:
        w = self.parameters
        hidden = [h0]
        for t in range(T):
            h = np.tanh(x[t] @ w["w_ih"].T + hidden[-1] @ w["w_hh"].T + w["bias"])
            running = (t < LENGTHS)[:, None]
            hidden.append(np.where(running, h, hidden[-1]))
        return (np.stack(hidden[1:]), hidden[-1]), (x, hidden)

    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        (x, hidden), w, grads = cache, self.parameters, self.grads
        d_x, d = np.zeros(x.shape), dy[1].copy()
        for t in reversed(range(T)):
            d += dy[0][t]
            delta = self.running(t) * self.slope(hidden[t + 1]) * d
            grads["w_ih"] += self.of_inputs(delta, x, t)
            grads["w_hh"] += self.of_hidden(delta, hidden, t)
            grads["bias"] += delta.sum(axis=0)
            d_x[t] = delta @ w["w_ih"]
            d = self.step_back(delta, d, t)
        return d_x, d

    def running(self, t: int) -> Any:
        return (t < LENGTHS)[:, None]

    def slope(self, h: Array) -> Any:
        return 1 - h * h

    def of_inputs(self, delta: Array, x: Array, t: int) -> Any:
        return delta.T @ x[t]

    def of_hidden(self, delta: Array, hidden: list[Array], t: int) -> Any:
        return delta.T @ hidden[t]

    def step_back(self, delta: Array, d: Array, t: int) -> Any:
        return np.where(self.running(t), delta @ self.parameters["w_hh"], d)


class DroppedTerm(PaddedElman):
    def step_back(self, delta: Array, d: Array, t: int) -> Any:
        return np.where(self.running(t), 0.0, d)


class DroppedOutput(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        return super().backward((dy[0], np.zeros_like(dy[1])), cache)


class ShiftedHidden(PaddedElman):
    def of_hidden(self, delta: Array, hidden: list[Array], t: int) -> Any:
        return delta.T @ hidden[t + 1]


class ShiftedInput(PaddedElman):
    def of_inputs(self, delta: Array, x: Array, t: int) -> Any:
        return delta.T @ x[max(t - 1, 0)]


class TransposedWeight(PaddedElman):
    def step_back(self, delta: Array, d: Array, t: int) -> Any:
        return np.where(self.running(t), delta @ self.parameters["w_hh"].T, d)


class WrongSlope(PaddedElman):
    def slope(self, h: Array) -> Any:
        return 1 - h


class LeakingPadding(PaddedElman):
    def running(self, t: int) -> Any:
        return np.ones((B, 1), dtype=bool)


class LeakingPaddingForward(PaddedElman):
    def forward(self, x: Array, h0: Array) -> tuple[tuple[Array, Array], Any]:
        (hidden, _), cache = super().forward(x, h0)
        return (hidden, np.tanh(hidden[-1] + x[-1, :, :1])), cache


class Scaled(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        d_x, d_h0 = super().backward(dy, cache)
        return d_x, d_h0 * 1.001


class ScaledParameter(PaddedElman):
    def of_inputs(self, delta: Array, x: Array, t: int) -> Any:
        return 0.999 * super().of_inputs(delta, x, t)


class WrongSign(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        d_x, d_h0 = super().backward(dy, cache)
        return -d_x, d_h0


class NotReversed(PaddedElman):
    """Reads the sequence from its end, and gives the gradient back unturned."""

    def forward(self, x: Array, h0: Array) -> tuple[tuple[Array, Array], Any]:
        return super().forward(x[::-1], h0)

    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        d_x, d_h0 = super().backward(dy, cache)
        return d_x[::1], d_h0


class MissingBias(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        kept = self.grads["bias"].copy()
        gradients = super().backward(dy, cache)
        self.grads["bias"][...] = kept
        return gradients


class MissingInput(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        return super().backward(dy, cache)[0], None


class MissingLastInput(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> Any:
        return super().backward(dy, cache)[0]


class SwappedInputs(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        return super().backward(dy, cache)[::-1]


class WrongShape(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        d_x, d_h0 = super().backward(dy, cache)
        return d_x.swapaxes(0, 1), d_h0


class ExtraAxis(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        d_x, d_h0 = super().backward(dy, cache)
        return d_x, d_h0[None]


class NotANumber(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        d_x, d_h0 = super().backward(dy, cache)
        d_x[0, 0, 0] = np.nan
        return d_x, d_h0


WRONG_GRADIENTS: list[type[PaddedElman]] = [
    DroppedTerm, DroppedOutput, ShiftedHidden, ShiftedInput, TransposedWeight, WrongSlope,
    LeakingPadding, LeakingPaddingForward, Scaled, ScaledParameter, WrongSign, NotReversed,
    MissingBias, MissingInput, MissingLastInput, SwappedInputs, WrongShape, ExtraAxis, NotANumber,
]  # fmt: skip


class Overwrites(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        self.grads["w_ih"][...] = 0
        return super().backward(dy, cache)


class Replaces(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        self.grads["bias"] = np.zeros(H)
        return super().backward(dy, cache)


class ChangesItsInput(PaddedElman):
    def forward(self, x: Array, h0: Array) -> tuple[tuple[Array, Array], Any]:
        outputs, (_, hidden) = super().forward(x, h0)
        cache = x.copy(), hidden
        x *= 2
        return outputs, cache


class ChangesItsInputBackward(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        gradients = super().backward(dy, (cache[0].copy(), cache[1]))
        cache[0][0] = 0
        return gradients


class WearsItsCacheOut(PaddedElman):
    def backward(self, dy: tuple[Array, Array], cache: Any) -> tuple[Any, Any]:
        gradients = super().backward(dy, cache)
        cache[1][1][...] *= 0.5
        return gradients


WRONG_BEHAVIOUR: list[type[PaddedElman]] = [
    Overwrites, Replaces, ChangesItsInput, ChangesItsInputBackward, WearsItsCacheOut,
]  # fmt: skip


@pytest.mark.parametrize("method", ["complex", "central"])
def test_a_users_own_layer_passes(method: str) -> None:
    report = check_gradients(PaddedElman(), X, H0, method=method)
    assert report.passed, str(report)
    assert [row.quantity for row in report.rows] == [
        "repeatable", "w_ih", "w_hh", "bias", "input 0", "input 1",
    ]  # fmt: skip
    assert check_adjoint(PaddedElman(), X, H0).passed


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS)
@pytest.mark.parametrize("method", ["complex", "central"])
def test_a_wrong_gradient_is_caught(wrong: type[PaddedElman], method: str) -> None:
    assert not check_gradients(wrong(), X, H0, method=method).passed


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS)
def test_a_wrong_gradient_is_caught_by_the_adjoint(wrong: type[PaddedElman]) -> None:
    assert not check_adjoint(wrong(), X, H0).passed


@pytest.mark.parametrize("wrong", WRONG_BEHAVIOUR)
def test_wrong_behaviour_is_caught(wrong: type[PaddedElman]) -> None:
    report = check_gradients(wrong(), X, H0)
    failed = [row.quantity for row in report.rows if not row.passed]
    assert "repeatable" in failed


class Reversal(Layer):
    def forward(self, x: Array) -> tuple[Array, None]:
        return x[::-1].copy(), None

    def backward(self, dy: Array, cache: None) -> Array:
        return dy[::-1]


class ReversalThatDoesNotReverse(Reversal):
    def backward(self, dy: Array, cache: None) -> Array:
        return dy[::1]


class Permutes(Reversal):
    """Every column's sum is right, and every entry wrong."""

    def backward(self, dy: Array, cache: None) -> Array:
        return np.roll(dy[::-1], 1, axis=0)


@pytest.mark.parametrize("wrong", [ReversalThatDoesNotReverse, Permutes])
def test_gradients_in_the_wrong_place_are_caught(wrong: type[Reversal]) -> None:
    x = draw(0, 4, 2)
    for check in (check_gradients, check_adjoint):
        assert check(Reversal(dtype=np.float64), x).passed
        assert not check(wrong(dtype=np.float64), x).passed


class Ignores(Layer):
    """Its second input changes nothing; the gradient is zero, or None."""

    def __init__(self, given: bool) -> None:
        super().__init__(dtype=np.float64)
        self.given = given

    def forward(self, x: Array, unused: Array) -> tuple[Array, Array]:
        return 2 * x, unused

    def backward(self, dy: Array, cache: Array) -> tuple[Array, Array | None]:
        return 2 * dy, np.zeros_like(cache) if self.given else None


def test_none_stands_for_zero() -> None:
    for check in (check_gradients, check_adjoint):
        assert check(Ignores(given=True), X, H0).passed
        assert check(Ignores(given=False), X, H0).passed


class ChangesItsTokens(Embedding):
    def forward(self, tokens: Array) -> Any:
        found = super().forward(tokens.copy())
        tokens[...] = (tokens + 1) % 9
        return found


def test_a_changed_integer_input_is_caught() -> None:
    tokens = np.array([0, 1, 1])
    report = check_gradients(ChangesItsTokens(9, 2, dtype=np.float64), tokens)
    assert "repeatable" in [row.quantity for row in report.rows if not row.passed]
    assert tokens.tolist() == [0, 1, 1]


class ScaledElman(Elman):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        d_x, d_h0 = super().backward(dy, cache, probe)
        return 1.001 * d_x, d_h0


class RolledElman(Elman):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        d_x, d_h0 = super().backward(dy, cache, probe)
        return np.roll(d_x, 1, axis=0), d_h0


class UnsortedElman(Elman):
    """Gives ``dL/dh0`` in the order of lengths, not in the caller's."""

    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        d_x, d_h0 = super().backward(dy, cache, probe)
        return d_x, None if d_h0 is None else cache.packing.sort(d_h0)


class NoRecurrentGradient(Elman):
    def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
        kept = self.grads["weight_hh_l0"].copy()
        found = super().backward(dy, cache, probe)
        self.grads["weight_hh_l0"][...] = kept
        return found


class LastOfTheBatch(Elman):
    """Takes for every sequence the state after the longest one's last step."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        (hidden, last), cache = super().forward(*inputs, **keywords)
        return (hidden, 0 * last + hidden[-1]), cache


@pytest.mark.parametrize(
    "wrong", [ScaledElman, RolledElman, UnsortedElman, NoRecurrentGradient, LastOfTheBatch]
)
def test_a_mistake_planted_in_the_elman_layer_is_caught(wrong: type[Elman]) -> None:
    packing = Packing.of(LENGTHS, get_backend("numpy"))
    x = draw(0, packing.rows, D)
    right = Elman(D, H, dtype=np.float64)
    layer = wrong(D, H, dtype=np.float64)
    for check in (check_gradients, check_adjoint):
        assert check(right, x, H0, packing=packing).passed
        assert not check(layer, x, H0, packing=packing).passed


ENTRIES = [("weight", (2, 1)), ("bias", (3,)), ("input 0", (4, 0))]


@pytest.mark.parametrize(("quantity", "index"), ENTRIES)
@pytest.mark.parametrize("error", [1e-9, 1e-2])
def test_one_wrong_entry_is_named(
    quantity: str, index: tuple[int, ...], error: float, backend: Backend
) -> None:
    class OneEntry(Linear):
        def backward(self, dy: Array, cache: Any) -> Array:
            d_x = super().backward(dy, cache)
            grads = {"input 0": d_x, **self.grads}
            grads[quantity][index] += error
            return d_x

    layer = OneEntry(2, 4, dtype=np.float64, backend=backend)
    report = check_gradients(layer, backend.asarray(draw(0, 6, 2)))
    (row,) = [row for row in report.rows if not row.passed]
    assert (row.quantity, row.index) == (quantity, index)
    assert f"{quantity:<20}" in str(report)
    assert str(report).count("FAILED") == 1


def test_the_error_is_relative_to_the_largest_gradient_of_the_column() -> None:
    class Off(Linear):
        def backward(self, dy: Array, cache: Any) -> Array:
            d_x = super().backward(dy, cache)
            off: Array = d_x + 0.25 * np.abs(d_x).max(axis=0)
            return off

    report = check_gradients(Off(2, 4, dtype=np.float64), draw(0, 6, 2))
    assert report.rows[-1].error == pytest.approx(0.25, rel=1e-9)


def test_the_bound_decides() -> None:
    layer = ScaledParameter()
    errors = {row.quantity: row.error for row in check_gradients(layer, X, H0).rows}
    assert errors["w_ih"] == pytest.approx(1e-3, rel=1e-6)
    assert check_gradients(layer, X, H0, bound=1.1e-3).passed
    assert not check_gradients(layer, X, H0, bound=0.9e-3).passed


def test_a_layer_that_returns_its_input_passes(backend: Backend) -> None:
    layer = Dropout(0.5, backend=backend, dtype=np.float64)
    report = check_gradients(layer, backend.asarray(draw(0, 3, 2)))
    assert report.passed, str(report)


@pytest.mark.parametrize("check", [check_gradients, check_adjoint])
def test_checking_changes_nothing(check: Callable[..., GradientReport], backend: Backend) -> None:
    layer = Elman(D, H, backend=backend)
    packing = Packing.of(LENGTHS, backend)
    x, h0 = (backend.asarray(draw(i, n, size).astype(np.float32))
             for i, (n, size) in enumerate([(packing.rows, D), (3, H)]))  # fmt: skip
    layer.grads["bias_hh_l0"] += 3
    kept = host(backend, {**layer.parameters, **layer.grads, "x": x, "h0": h0})
    grads = host(backend, layer.grads)
    identities = [id(value) for value in (*layer.parameters.values(), *layer.grads.values())]
    assert check(layer, x, h0, packing=packing).passed
    assert layer.dtype == np.float32
    found = host(backend, {**layer.parameters, **layer.grads, "x": x, "h0": h0})
    for name, value in found.items():
        np.testing.assert_array_equal(value, kept[name])
    for name, value in host(backend, layer.grads).items():
        np.testing.assert_array_equal(value, grads[name])
    assert identities == [
        id(value) for value in (*layer.parameters.values(), *layer.grads.values())
    ]


def test_checking_a_whole_model_changes_nothing() -> None:
    config = ClassifierConfig(num_embeddings=5, num_classes=3, embedding_size=2, rnn_hidden_size=3)
    model = SurnameClassifier(config)
    model.flat.grads += 2
    before = model.flat.values.copy()
    tokens, packing = np.array([1, 2, 3]), Packing.of(np.array([2, 1]), model.backend)
    assert check_gradients(model, tokens, packing=packing, random=Random(1)).passed
    np.testing.assert_array_equal(model.flat.values, before)
    assert (model.flat.grads == 2).all()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="'forward' is not known; choose complex or central"):
        check_gradients(PaddedElman(), X, H0, method="forward")


def test_an_empty_report_has_not_passed() -> None:
    assert not GradientReport("nothing").passed
    assert not GradientRow("w", "complex", float("nan"), (), 1e-12).passed


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_gradcheck_ends_with_0_when_all_is_right(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gradcheck", "--seed", str(seed)]) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert out.rstrip().endswith("all passed")
    for name in ("Elman tanh", "Elman relu", "Linear", "ReLU", "Dropout", "Embedding", "T = 1024"):
        assert name in out


@pytest.mark.slow
def test_every_layer_of_the_command_passes_on_the_strict_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cases, "LONG", np.array([16, 1, 9, 5]))  # NumPy's turn was 1024 steps
    reports = list(layer_reports(StrictBackend()))
    assert [str(report) for report in reports if not report.passed] == []


def test_gradcheck_ends_with_1_and_names_the_layers_that_are_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken: list[Any] = [Linear, Elman, Embedding]

    def wrong(right: Any) -> Any:
        def backward(self: Layer, dy: Any, cache: Any, *probe: Any) -> Any:
            gradients = right(self, dy, cache, *probe)
            for grad in self.grads.values():
                grad *= 1.001
            return gradients

        return backward

    for layer in broken:
        monkeypatch.setattr(layer, "backward", wrong(layer.backward))
    assert main(["gradcheck"]) == 1
    *rows, summary = capsys.readouterr().out.splitlines()
    failed = {row.split()[0].rstrip(",") for row in rows if "FAILED" in row}
    assert {layer.__name__ for layer in broken} <= failed
    assert failed.isdisjoint({"ReLU", "LSTM", "GRU", "LayerNorm", "SoftmaxCrossEntropy"})
    assert "FAILED:" in summary
    for layer in broken:
        assert layer.__name__ in summary
