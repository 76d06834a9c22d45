"""The compiled backend against the one in NumPy, which is what it has to equal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npnlp
from npnlp.backend import Backend, get_backend
from npnlp.backend.operations import AdamNumbers, LookedUp
from npnlp.layers import GRU, LSTM, Elman, GRUResetBefore, Packing, SoftmaxCrossEntropy
from npnlp.layers.recurrent.memory import RecurrentTrace
from tests.support.door import adam_step, cross_entropy, is_compiled
from tests.support.reference import draw
from tests.support.tables import environment, read_json, train_small

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers

ROOT = Path(npnlp.__file__).parent
NUMPY, NUMBA = get_backend("numpy"), get_backend("numba")
BOUND = {"float32": 1e-5, "float64": 1e-12}
CELLS: dict[str, Any] = {
    "elman_tanh": Elman, "elman_relu": partial(Elman, nonlinearity="relu"), "gru": GRU,
    "lstm": LSTM, "gru reset before": GRUResetBefore,
}  # fmt: skip
each_cell = pytest.mark.parametrize("cell", list(CELLS))
Arrays = dict[str, Any]


def passes(
    backend: Backend, cell: str, lengths: Sequence[int], size: int, dtype: Any, *,
    seed: int = 0, initial: bool = True, above: bool = True, probed: bool = True,
    given: Any = None,
) -> Arrays:  # fmt: skip
    """All numbers of both passes in ``dtype``, of inputs that were ``given`` in another."""

    def drawn(index: int, *shape: int) -> Any:
        return draw(seed + index, *shape).astype(given or dtype).astype(dtype)

    layer = CELLS[cell](3, size, backend=backend, dtype=np.dtype(dtype))
    for index, parameter in enumerate(layer.parameters.values()):
        parameter[...] = (drawn(index, *parameter.shape) / np.sqrt(size)).astype(given or dtype)
    packing, states = Packing.of(np.array(lengths), backend), range(len(layer.states))
    first = [drawn(10 + s, len(lengths), size) for s in states] if initial else []
    last = [drawn(20 + s, len(lengths), size) for s in states]
    y, cache = layer.forward(drawn(30, packing.rows, 3), *first, packing=packing)
    d_hidden = drawn(40, packing.rows, size) if above else None
    traces: list[RecurrentTrace] = []
    d = layer.backward((d_hidden, *last), cache, traces.append if probed else None)
    found = {"y": y, "d": [part for part in d if part is not None]}
    found["memory"] = [*cache.memory, *cache.states]
    found["grads"] = list(layer.grads.values())
    found["probed"] = [array for trace in traces for array in (trace.delta, *trace.d_states)]
    return {f"{name} {i}": array for name, part in found.items() for i, array in enumerate(part)}


def check(found: Arrays, expected: Arrays, bound: float, exact: Arrays | None = None) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        # A gradient that has all but vanished is held to a tenth of where it started: at h near 1
        # a last place of h is many of 1 - h^2. Twice what NumPy itself is off is allowed.
        own = 0.0 if exact is None else np.abs(array - exact[name]).max()
        scale = max(0.1, np.abs(array).max())
        assert np.abs(found[name] - array).max() <= bound * scale + 2 * own, name


LENGTHS = st.lists(st.integers(1, 17), min_size=1, max_size=9)
FLAGS = {name: st.booleans() for name in ("initial", "above", "probed")}


@each_cell
@pytest.mark.parametrize("size", [1, 13, 64])
@settings(max_examples=12)
@given(lengths=LENGTHS, dtype=st.sampled_from(list(BOUND)), seed=st.integers(0, 99), **FLAGS)
def test_a_layer_equals_numpys(
    cell: str, size: int, lengths: list[int], dtype: str, seed: int, **flags: bool
) -> None:
    found, expected = (
        passes(backend, cell, lengths, size, dtype, seed=seed, **flags)
        for backend in (NUMBA, NUMPY)
    )
    exact = passes(NUMPY, cell, lengths, size, "float64", seed=seed, given=dtype, **flags)
    check(found, expected, BOUND[dtype], exact)


@each_cell
@pytest.mark.parametrize(("lengths", "size"), [([1000], 64), ([300, 2, 7] * 30, 200)])
def test_long_sequences_and_large_layers_equal_numpys(
    cell: str, lengths: list[int], size: int
) -> None:
    found, expected = (passes(b, cell, lengths, size, "float64") for b in (NUMBA, NUMPY))
    check(found, expected, 1e-10)


@each_cell
def test_a_pass_has_the_same_bits_again(cell: str) -> None:
    first, again = (passes(NUMBA, cell, [5, 9, 1, 5], 20, "float32") for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


@each_cell
def test_what_is_not_a_number_stays_in_its_sequence_and_is_not_hidden(cell: str) -> None:
    layer = CELLS[cell](3, 20, backend=NUMBA)
    packing = Packing.of(np.array([4, 4, 4]), NUMBA)
    x = draw(0, 12, 3).astype(np.float32)
    x[4] = np.nan  # the second sequence at its second step
    (hidden, *_), _ = layer.forward(x, packing=packing)
    bad = np.isnan(hidden.reshape(4, 3, 20))
    assert bad[1:, 1].all()
    assert bad.sum() == 3 * 20


def test_what_has_no_compiled_loop_goes_by_numpy() -> None:
    for name, kind in (("elman_tanh", "complex128"), ("lstm", "float16"), ("gru", "int64")):
        assert not is_compiled(CELLS[name](3, 4, backend=NUMBA), kind)
    assert is_compiled(CELLS["gru"](3, 4, backend=NUMBA), "float64")
    assert NUMBA.recurrent_passes("", 4, np.dtype("float32")) is None
    found, expected = (passes(b, "lstm", [3, 5], 8, "complex128") for b in (NUMBA, NUMPY))
    check(found, expected, 1e-14)
    values, segments = draw(0, 9, 4) + 1j, np.arange(9) % 3
    one, other = (backend.segment_sum(values, segments, 3) for backend in (NUMBA, NUMPY))
    np.testing.assert_array_equal(one, other)


@each_cell
def test_a_gradient_never_goes_to_a_copy(cell: str) -> None:
    layer, packing = CELLS[cell](3, 20, backend=NUMBA), Packing.of(np.array([2, 1]), NUMBA)
    (hidden, *last), cache = layer.forward(draw(0, 3, 3).astype(np.float32), packing=packing)
    layer.grads["weight_hh_l0"] = grad = np.asfortranarray(layer.grads["weight_hh_l0"])
    if not is_compiled(layer):
        layer.backward((hidden, *last), cache)
        assert np.abs(grad).sum() > 0
        return
    with pytest.raises(ValueError, match="not contiguous"):
        layer.backward((hidden, *last), cache)


@each_cell
@pytest.mark.parametrize("token", [4, -1])
def test_a_token_that_is_not_in_the_table_is_refused(cell: str, token: int) -> None:
    layer, packing = CELLS[cell](3, 20, backend=NUMBA), Packing.of(np.array([2, 1]), NUMBA)
    table, tokens = draw(0, 4, 3).astype(np.float32), np.array([0, token, 1])
    if not is_compiled(layer):
        pytest.skip(f"{cell} has no compiled loop: NumPy looks its tokens up")
    with pytest.raises(IndexError, match="token is out of range"):
        layer.run(LookedUp(table, tokens), packing=packing)  # without checks


def tanh_of(x: Any) -> Any:
    """A cell of one unit that adds nothing: no more than its tanh."""
    layer = Elman(1, 1, backend=NUMBA, dtype=x.dtype)
    for name, value in layer.parameters.items():
        value.fill(1 if name == "weight_ih_l0" else 0)
    packing = Packing.of(np.ones(len(x), dtype=np.int64), NUMBA)
    (hidden, _), _ = layer.forward(x[:, None], packing=packing)
    return hidden.ravel()


def test_tanh_is_within_three_units_in_the_last_place(dtype: np.dtype[Any]) -> None:
    small = np.finfo(dtype).tiny
    x = np.concatenate([np.linspace(-25, 25, 200_001), np.geomspace(small, 30, 200_000)])
    x = x.astype(dtype)
    exact = np.tanh(x.astype(np.longdouble))
    off = np.abs(tanh_of(x) - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert off.max() < 3
    assert np.abs(tanh_of(x)).max() == 1


def test_tanh_at_the_ends_of_the_numbers(dtype: np.dtype[Any]) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, 1e30, -1e30], dtype=dtype)
    np.testing.assert_array_equal(tanh_of(x), [np.nan, 1, -1, 0, 1, -1])


def sums_and_bounds(values: Any, segments: Any, size: int) -> tuple[Any, Any]:
    """The sums in the longest numbers, and how far a sum in any order may be from each.

    N additions of rounded numbers are off by at most N u / (1 - N u) times the sum of the absolute
    values, with u half a last place (Higham 2002, section 4.2). One row is not added at all.
    """
    sums, absolute = (np.zeros((size, values.shape[1]), dtype=np.longdouble) for _ in range(2))
    np.add.at(sums, segments, values)
    np.add.at(absolute, segments, np.abs(values))
    additions = np.maximum(np.bincount(segments, minlength=size) - 1, 0)[:, None]
    rounding = additions * np.finfo(values.dtype).eps / 2
    return sums, rounding / (1 - rounding) * absolute


@pytest.mark.parametrize(("rows", "size"), [(0, 4), (1, 1), (40, 300), (500, 20)])
def test_segment_sum_is_within_rounding_of_the_sum(
    rows: int, size: int, dtype: np.dtype[Any]
) -> None:
    values = draw(rows, rows, 5).astype(dtype)
    segments = np.random.default_rng(rows).integers(0, size, rows)
    exact, bound = sums_and_bounds(values, segments, size)
    for backend in (NUMBA, NUMPY):  # whatever the order in which NumPy's products add up
        found = backend.segment_sum(values, segments, size)
        assert found.dtype == dtype
        assert (np.abs(found - exact) <= bound).all()


@pytest.mark.parametrize("place", [3, -1])
def test_a_place_that_is_not_there_is_refused(place: int) -> None:
    values, places = np.ones((2, 3), dtype=np.float32), np.array([0, place])
    with pytest.raises(IndexError, match="segment"):
        NUMBA.segment_sum(values, places, 3)
    with pytest.raises(IndexError, match="target"):
        cross_entropy(NUMBA, values).forward(values, places)


@pytest.mark.parametrize("classes", [1, 2, 18, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_equals_numpys(classes: int, weighted: bool, dtype: np.dtype[Any]) -> None:
    logits = 20 * draw(classes, 7, classes).astype(dtype)
    targets = np.random.default_rng(classes).integers(0, classes, 7)
    weights = np.abs(draw(1, classes)).astype(dtype) if weighted else None
    results = []
    for backend in (NUMBA, NUMPY):
        criterion = SoftmaxCrossEntropy(weights, backend=backend, dtype=dtype)
        loss, cache = criterion.forward(logits, targets)
        results.append((np.asarray(loss), cache.probabilities, criterion.backward(1.0, cache)))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == dtype
        assert np.abs(found - expected).max() <= BOUND[dtype.name] / 10 * np.abs(expected).max()


@pytest.mark.parametrize("size", [1, 255, 1000])
def test_adam_equals_numpys_over_many_steps(size: int, dtype: np.dtype[Any]) -> None:
    states = []
    for backend in (NUMBA, NUMPY):
        values, first, second = (draw(k, size).astype(dtype) ** 2 for k in range(3))
        for step in range(8):
            grads = (10.0 ** draw(9, size) * draw(10 + step, size)).astype(dtype)
            numbers = AdamNumbers(0.9, 0.999, rate=1e-2, eps=1e-8)
            adam_step(backend, values, grads, (first, second), numbers)
        states.append((values, first, second))
    for found, expected in zip(*states, strict=True):
        assert np.abs(found - expected).max() <= BOUND[dtype.name] / 10 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(3,), (5, 7), (0, 4), (24001,)])
def test_zeros_begin_where_a_line_of_the_cache_does(shape: Any, dtype: np.dtype[Any]) -> None:
    for array in (NUMBA.zeros(shape, dtype) for _ in range(5)):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert not array.any()
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.size == 0 or array.ctypes.data % 64 == 0


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_a_run_has_numpys_losses_and_its_model_is_read_by_both(cell: str, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("numpy", "numba")}
    for name, folder in folders.items():
        assert train_small(folder, "--cell", cell, "--backend", name) == 0
    ours, theirs = (pd.read_csv(folders[n] / "history.csv") for n in ("numba", "numpy"))
    for column in ("train_loss", "val_loss"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-4)
    assert "numba" in read_json(folders["numba"] / "metrics.json")["environment"]
    # Begun by one and gone on with by the other.
    for name, other in (("numpy", "numba"), ("numba", "numpy")):
        folder = folders[name]
        assert train_small(folder, "--cell", cell, "--backend", other, "--resume", epochs=5) == 0
    ours, theirs = (pd.read_csv(folders[n] / "history.csv") for n in ("numba", "numpy"))
    assert len(ours) == 5
    np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=1e-4)


SUM = (
    "import numpy as np; from npnlp.backend import get_backend; backend = get_backend('numba');"
    "sums = backend.segment_sum(np.ones((4, 3)), np.zeros(4, dtype=int), 2);"
    "assert sums.tolist() == [[4] * 3, [0] * 3]"
)


def run_sum(root: Path, stderr: Any = subprocess.PIPE, **variables: str) -> bytes:
    """A compiled sum in another process, with npnlp as it is in ``root``; what it says."""
    variables = {**environment(), "PYTHONPATH": str(root), **variables}
    command = [sys.executable, "-c", SUM]
    done = subprocess.run(command, env=variables, stderr=stderr, timeout=900, check=True, cwd=root)
    return done.stderr or b""


def blocked_copy(folder: Path) -> Path:
    """npnlp in a folder where nothing can be stored beside the files."""
    root = folder / "installed"
    copytree(ROOT, root / "npnlp", ignore=ignore_patterns("__pycache__", "*.csv"))
    (root / "npnlp" / "backend" / "compiled" / "__pycache__").write_text("not a folder")
    return root


def test_compiled_code_goes_to_the_users_cache_where_the_folder_is_read_only(
    tmp_path: Path,
) -> None:
    root, home = blocked_copy(tmp_path), tmp_path / "home"
    for _ in range(2):
        said = run_sum(root, HOME=str(home), XDG_CACHE_HOME=str(home), NUMBA_CACHE_DIR="")
        assert said == b""
        (index,) = home.rglob("sums.segment_sum-*.nbi")
        (code,) = home.rglob("sums.segment_sum-*.nbc")
    assert index.stat().st_size > 0
    assert code.stat().st_size > 0


def test_a_change_in_any_file_compiles_again(tmp_path: Path) -> None:
    root = tmp_path / "installed"
    copytree(ROOT, root / "npnlp", ignore=ignore_patterns("__pycache__", "*.csv"))
    stored = str(tmp_path / "stored")

    def compiled_at() -> float:
        run_sum(root, NUMBA_CACHE_DIR=stored)
        (code,) = Path(stored).rglob("sums.segment_sum-*.nbc")
        return code.stat().st_mtime

    first = compiled_at()
    assert compiled_at() == first
    (root / "npnlp" / "backend" / "compiled" / "elementwise.py").touch()
    assert compiled_at() > first


def test_it_works_where_nothing_can_be_stored(tmp_path: Path) -> None:
    root, home = blocked_copy(tmp_path), tmp_path / "home"
    home.write_text("not a folder either")
    run_sum(root, HOME=str(home), XDG_CACHE_HOME=str(home), NUMBA_CACHE_DIR="")
    assert not list(tmp_path.rglob("*.nbi"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_somebody_who_looks_on_is_told_once_that_it_compiles(tmp_path: Path) -> None:
    said = []
    for _ in range(2):  # compiled, then read from the cache
        ours, theirs = os.openpty()
        run_sum(ROOT.parent, theirs, NUMBA_CACHE_DIR=str(tmp_path))
        os.write(theirs, b"end\n")
        text = b""
        while b"end" not in text:
            text += os.read(ours, 1000)
        said.append(text.decode())
        os.close(ours)
        os.close(theirs)
    told = "npnlp: Numba compiles for this machine, once; it takes some ten seconds"
    assert said[0].splitlines() == [told, "end"]
    assert said[1].splitlines() == ["end"]
