"""Gates near 0 and near 1 keep their digits: errors are at most ten times PyTorch's own.

The exact numbers are those of the reference in longer numbers, and PyTorch's errors are stored; the
last test computes them anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.cuda import recurrence
from npnlp.gradients.steps import steps_of
from npnlp.inference.compiled import make_predictor
from npnlp.layers import Packing
from npnlp.models import ClassifierConfig, SurnameClassifier
from tests.support.cupy_on_shim import CupyOnShim
from tests.support.reference import Floats, draw
from tests.support.saturation import (
    BIASES,
    CELLS,
    HAS_MORE_DIGITS,
    STORED,
    cases,
    errors,
    exact,
    gates,
    numbers,
    saturated,
    torch_errors,
)
from tests.support.shim import compiler

#: As exact as the format is, PyTorch is now and then by chance.
FACTOR, REFERENCE = 10, get_backend("reference")
each_case = pytest.mark.parametrize(("cell", "dtype"), list(cases()))
each_cell = pytest.mark.parametrize("cell", CELLS)


def bounds(cell: str, dtype: str) -> Floats:
    if dtype == "float64" and not HAS_MORE_DIGITS:
        pytest.skip("no numbers with more digits than float64 on this platform")
    with np.load(STORED, allow_pickle=False) as file:
        stored: Floats = file[f"{cell} {dtype}"]
    return FACTOR * np.maximum(stored, np.finfo(dtype).eps)


def hold(backend: Backend, cell: str, dtype: str) -> None:
    bound = bounds(cell, dtype)
    for gate, of_gate in zip(gates(cell), bound, strict=True):
        for bias, of_bias in zip(BIASES, of_gate, strict=True):
            layer = saturated(cell, gate, bias, np.dtype(dtype), backend)
            true = exact(layer)
            for name, off, most in zip(true, errors(numbers(layer), true), of_bias, strict=True):
                assert off <= most, f"{name}, with {bias} on the {gate} gate: {off:.1e}"


@each_case
def test_numbers_are_as_exact_as_pytorchs(cell: str, dtype: str, backend: Backend) -> None:
    hold(backend, cell, dtype)


@each_case
def test_those_of_kernels_on_the_shim_too(
    cell: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.backend.cuda.test_kernels_recurrence import ShimDevice

    if compiler() is None:
        pytest.skip("no C++ compiler to run kernels on the CPU with")
    monkeypatch.setattr(recurrence, "device_of", lambda xp: ShimDevice())
    shim: Any = CupyOnShim()
    hold(shim, cell, dtype)


@each_cell
def test_slopes_of_the_gradient_flow_keep_their_digits(cell: str) -> None:
    for gate in gates(cell):
        for bias in (-20, -10):
            layer = saturated(cell, gate, bias, np.float32, REFERENCE)
            found, true = (slopes(one) for one in (layer, layer.astype(np.float64)))
            for ours, theirs in zip(found, true, strict=True):
                assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def slopes(layer: Any) -> Any:
    x, packing = draw(0, 8, layer.input_size), Packing.of(np.array([3, 5]), layer.backend)
    initial = [draw(1, 2, layer.hidden_size).astype(layer.dtype)] * len(layer.states)
    _, cache = layer.forward(x.astype(layer.dtype), *initial, packing=packing)
    return steps_of(layer, cache).slopes


@each_cell
@pytest.mark.parametrize("bias", [-1000, 1000])
def test_a_gate_out_of_range_is_0_or_1(
    cell: str, bias: int, dtype: np.dtype[Any], backend: Backend
) -> None:
    """Warnings are errors here, and overflow is one."""
    for gate in gates(cell):
        layer = saturated(cell, gate, bias, dtype, backend)
        true = exact(layer)
        for name, found in numbers(layer).items():
            assert np.isfinite(found).all()
            np.testing.assert_allclose(
                found, true[name], rtol=0, atol=1e-4 * max(1, np.abs(true[name]).max())
            )


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=pytest.mark.peers)])
@pytest.mark.parametrize("bias", [-10, -20, -1000])
def test_prediction_keeps_the_digits_of_a_closed_gate(name: str, bias: int) -> None:
    """What is pooled is the last hidden state, and as small as the output gate."""
    if name == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    config = ClassifierConfig(7, 3, 5, 6, cell="lstm")
    model = SurnameClassifier(config, backend=get_backend(name), random=Random(0))
    layer: Any = model.encoder.cells[0]
    layer.weight("bias_ih")[layer.rows_of("output")] += bias
    tokens, lengths = np.array([1, 2, 3, 4]), np.array([4])
    _, features = make_predictor(model)._features(tokens, lengths, 0)
    ((_, pooled, _),) = features
    x = model.parameters["emb.weight"][tokens].astype(np.float64)
    outputs, _ = layer.astype(np.float64).forward(x, packing=Packing.of(lengths, model.backend))
    tiny = 2 * np.finfo(np.float32).tiny
    assert np.abs(pooled - outputs[1]).max() <= 5e-6 * np.abs(outputs[1]).max() + tiny


@pytest.mark.peers
@each_case
def test_the_stored_errors_are_pytorchs(cell: str, dtype: str) -> None:
    """Within a factor: its rounding is not the same on every processor."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    live = FACTOR * np.maximum(torch_errors(cell, np.dtype(dtype)), np.finfo(dtype).eps)
    ratios = live / bounds(cell, dtype)
    assert ratios.max() < FACTOR
    assert ratios.min() > 1 / FACTOR
