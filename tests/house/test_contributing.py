"""The cell that CONTRIBUTING.md shows, run as it stands there, on every backend."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.backend.operations import States
from npnlp.errors import DeviceError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Packing
from npnlp.layers.recurrent.gru import GRU
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.reference import assert_close, draw
from tests.support.strict import StrictBackend

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CELL, PROOF = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
D, H, LENGTHS = 4, 3, np.array([3, 5, 1, 5])
BACKENDS = [
    "numpy", "reference", "strict", pytest.param("numba", marks=pytest.mark.peers),
    pytest.param("cupy", marks=pytest.mark.gpu),
]  # fmt: skip
with_initial = pytest.mark.parametrize("given", [True, False], ids=["initial", "no initial"])


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "strict":
        return StrictBackend()
    try:
        return get_backend(request.param)
    except DeviceError as error:
        pytest.skip(str(error))


def cell_of(source: str) -> type[Recurrent]:
    names: dict[str, Any] = {"__name__": "contributing"}
    exec(compile(source, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    cell: type[Recurrent] = names["MinimalGatedUnit"]
    assert issubclass(cell, Recurrent)
    return cell


def report(cell: type[Recurrent], backend: Backend, given: bool) -> Any:
    layer = cell(D, H, backend=backend, random=Random(3))
    packing = Packing.of(LENGTHS, backend)
    arrays = [draw(0, packing.rows, D), *[draw(1, len(LENGTHS), H)] * given]
    return check_gradients(layer, *map(backend.asarray, arrays), packing=packing)


def test_a_cell_is_its_gates_and_two_methods_in_at_most_40_lines() -> None:
    own = {name for name in vars(cell_of(CELL)) if not name.startswith("_")}
    assert own == {"gates", "step", "step_backward"}
    assert len(CELL.splitlines()) <= 40


def test_each_line_of_the_undoing_that_computes_says_what_it_undoes() -> None:
    _, _, undoing = CELL.partition("def step_backward")
    computing = [line for line in undoing.splitlines() if re.search(r" [*@+-]=? ", line)]
    assert len(computing) > 7
    assert all("# undoes (" in line for line in computing), computing


@with_initial
def test_the_cell_passes_on_every_backend(backend: Backend, given: bool) -> None:
    found = report(cell_of(CELL), backend, given)
    assert found.passed, str(found)
    assert len(found.rows) == 6 + given


def test_the_cell_passes_over_1024_steps(backend: Backend) -> None:
    layer, packing = cell_of(CELL)(D, H, backend=backend), Packing.of(np.array([1024]), backend)
    found = check_adjoint(layer, backend.asarray(draw(0, 1024, D)), packing=packing)
    assert found.passed, str(found)


@with_initial
def test_the_cell_is_the_equations(backend: Backend, given: bool) -> None:
    layer = cell_of(CELL)(D, H, backend=backend, dtype=np.float64, random=Random(3))
    x, h = draw(0, 5, D), draw(1, 1, H) * given
    packing = Packing.of(np.array([len(x)]), backend)
    initial = [backend.asarray(h)] * given
    (hidden, _), _ = layer.forward(backend.asarray(x), *initial, packing=packing)
    w_ih, w_hh, b_ih, b_hh = map(backend.to_numpy, layer.weights)
    (w_f, w_n), (u_f, u_n), (b_f, b_n) = (np.split(w, 2) for w in (w_ih, w_hh, b_ih + b_hh))
    state, expected = h[0], []
    for x_t in x:
        f = 1 / (1 + np.exp(-(w_f @ x_t + b_f + u_f @ state)))
        n = np.tanh(w_n @ x_t + b_n + u_n @ (f * state))
        state = (1 - f) * state + f * n
        expected.append(state)
    assert_close(hidden, np.array(expected), backend=backend)


MISTAKES = {
    "one term of the gate forgotten": ("d_f + d_m * h_before", "d_f"),
    "one way to the state forgotten": ("d_h_before + d_m * f", "d_h_before"),
    "the state not carried": ("d_h * (1 - f)  #", "0 * d_h  #"),
    "f for 1 - f": ("d_h * (1 - f)  #", "d_h * f  #"),
    "a sign": ("n - h_before", "h_before - n"),
    "a slope of tanh": ("1 - n * n", "1 - n"),
    "a slope of sigma": ("d_f * f * (1 - f)", "d_f * f"),
    "a transposed U_n": ("d_u_n @ w[new]", "d_u_n @ w[new].T"),
    "a transposed U_f": ("d_u_f @ w[forget]", "d_u_f @ w[forget].T"),
    "the state for m": ("d_u_n.T @ m", "d_u_n.T @ h_before"),
    "gates in the wrong order": ("(d_u_f, d_u_n)", "(d_u_n, d_u_f)"),
    "b set and not added to": ("grads.b_hh[...] +=", "grads.b_hh[...] ="),
    "0.1 %": ("d_u_f.T @ h_before", "1.001 * d_u_f.T @ h_before"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_cell_would_be_found(backend: Backend, mistake: str) -> None:
    right, wrong = MISTAKES[mistake]
    assert CELL.count(right) == 1
    assert not report(cell_of(CELL.replace(right, wrong)), backend, given=True).passed


def test_the_proof_prints_that_every_row_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(CELL + PROOF, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.endswith(" ok") for line in lines)


class Leaky(GRU):
    """``h_t = (GRU's h_t + h_{t-1}) / 2``: the mathematics of a user who began at the GRU."""

    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        (h,), memory = super().step(u, before)
        return ((h + before[0]) / 2,), memory

    def step_backward(
        self, d: States, now: States, before: States, memory: tuple[Array, ...]
    ) -> tuple[Array, States]:
        half = d[0] / 2
        d_u, (d_h_before,) = super().step_backward((half,), now, before, memory)
        return d_u, (d_h_before + half,)


@with_initial
def test_a_subclass_of_a_cell_runs_its_own_mathematics(backend: Backend, given: bool) -> None:
    found = report(Leaky, backend, given)
    assert found.passed, str(found)
    options: Any = {"backend": backend, "dtype": np.float64, "random": Random(3)}
    own, parent = Leaky(D, H, **options), GRU(D, H, **options)
    packing = Packing.of(np.ones(len(LENGTHS), dtype=np.int64), backend)  # one step: no power of it
    x, h0 = backend.asarray(draw(0, len(LENGTHS), D)), backend.asarray(draw(1, len(LENGTHS), H))
    (of_own, _), _ = own.forward(x, h0, packing=packing)
    (of_parent, _), _ = parent.forward(x, h0, packing=packing)
    assert_close(of_own, backend.to_numpy(of_parent + h0) / 2, backend=backend)


class HalfOverridden(GRU):
    """Steps of its own, and the parent's undoing: wrong, whoever computes."""

    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        (h,), memory = super().step(u, before)
        return ((h + before[0]) / 2,), memory


def test_a_subclass_that_undoes_another_step_is_found(backend: Backend) -> None:
    assert not report(HalfOverridden, backend, given=True).passed
