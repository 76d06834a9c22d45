"""LayerNorm and VariationalDropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Array, Backend, Random
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Packing
from npnlp.layers.dropout import VariationalDropout
from npnlp.layers.layer_norm import LayerNorm, LayerNormCache
from tests.support.packed import assert_gradients, batch, scrambled, set_parameters, stored, unbatch
from tests.support.reference import BOUNDS, assert_close, draw, packed_order

LENGTHS = np.array([2, 4, 1, 4])


@pytest.mark.parametrize("shape", [(1, 5), (7, 5), (6, 3), (2, 3, 4)])
def test_layer_norm_gradients(shape: tuple[int, ...], backend: Backend) -> None:
    layer = scrambled(LayerNorm(shape[-1], dtype=np.float64, backend=backend))
    x = backend.asarray(3 + draw(0, *shape))
    for method in ("complex", "central"):
        report = check_gradients(layer, x, method=method)
        assert report.passed, str(report)


def test_layer_norm_at_full_size(backend: Backend) -> None:
    layer = scrambled(LayerNorm(64, dtype=np.float64, backend=backend))
    report = check_adjoint(layer, backend.asarray(draw(0, 1024, 64)))
    assert report.passed, str(report)


def test_layer_norm_gives_mean_0_and_variance_1(backend: Backend, dtype: np.dtype[Any]) -> None:
    layer = LayerNorm(50, eps=0.0, dtype=dtype, backend=backend)
    x = (100 + 7 * draw(0, 9, 50)).astype(dtype)
    y, cache = layer.forward(backend.asarray(x))
    d_x = layer.backward(y, cache)
    assert y.dtype == d_x.dtype == layer.grads["weight"].dtype == dtype
    z = backend.to_numpy(y)
    assert np.abs(z.mean(axis=1)).max() < 20 * BOUNDS[dtype.name]
    assert np.abs((z**2).mean(axis=1) - 1).max() < 20 * BOUNDS[dtype.name]


def test_layer_norm_of_a_constant_row_is_its_bias() -> None:
    layer = scrambled(LayerNorm(3, dtype=np.float64))
    y, cache = layer.forward(np.full((2, 3), 7.0))
    np.testing.assert_array_equal(y, [layer.parameters["bias"]] * 2)
    assert np.isfinite(layer.backward(y, cache)).all()


def test_layer_norm_names_the_size_that_is_wrong() -> None:
    with pytest.raises(InputError, match=r"x is float32 .* \(2, 3\); .* shape \(..., 4\)"):
        LayerNorm(4).forward(np.zeros((2, 3), np.float32))


def assert_layer_norm(o: dict[str, Any], backend: Backend, kind: str = "float64") -> None:
    layer, bound = LayerNorm(o["x"].shape[1], backend=backend, dtype=kind), BOUNDS[kind]
    set_parameters(layer, o)
    y, cache = layer.forward(backend.asarray(o["x"].astype(kind)))
    assert_close(y, o["y"], bound, backend, floor=1.0)
    d_x = layer.backward(backend.asarray(o["dy"].astype(kind)), cache)
    assert_close(d_x, o["d_x"], bound, backend, floor=1.0)
    assert_gradients(layer, o, bound)


def test_stored_layer_norm(backend: Backend, dtype: np.dtype[Any]) -> None:
    assert_layer_norm(stored("layer_norm"), backend, dtype.name)


@pytest.mark.peers
@settings(max_examples=20)
@given(rows=st.integers(1, 9), size=st.integers(2, 9), seed=st.integers(0, 2**30))
def test_live_layer_norm(backend: Backend, rows: int, size: int, seed: int) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles.attention import make_oracles

    assert_layer_norm(make_oracles.layer_norm(seed, rows, size), backend)


class WithoutMeanTerm(LayerNorm):
    def backward(self, dy: Array, cache: LayerNormCache) -> Array:
        d_z = dy * self.parameters["weight"]
        right = super().backward(dy, cache)
        wrong: Array = right + cache.r * d_z.mean(axis=-1, keepdims=True)
        return wrong


class WithoutVarianceTerm(LayerNorm):
    def backward(self, dy: Array, cache: LayerNormCache) -> Array:
        d_z = dy * self.parameters["weight"]
        right = super().backward(dy, cache)
        along = (d_z * cache.z).mean(axis=-1, keepdims=True)
        wrong: Array = right + cache.r * cache.z * along
        return wrong


class WithoutBias(LayerNorm):
    def backward(self, dy: Array, cache: LayerNormCache) -> Array:
        before = self.grads["bias"].copy()
        d_x = super().backward(dy, cache)
        self.grads["bias"][...] = before
        return d_x


@pytest.mark.parametrize("mistake", [WithoutMeanTerm, WithoutVarianceTerm, WithoutBias])
def test_planted_mistakes_are_caught(mistake: type[LayerNorm]) -> None:
    layer = scrambled(mistake(5, dtype=np.float64))
    x = draw(0, 7, 5)
    assert not check_gradients(layer, x).passed
    assert not check_gradients(layer, x, method="central").passed
    assert not check_adjoint(layer, x).passed


@pytest.mark.parametrize("random", [None, Random(3, "mask")])
def test_variational_dropout_gradients(random: Random | None, backend: Backend) -> None:
    layer = VariationalDropout(0.4, dtype=np.float64, backend=backend)
    packing = Packing.of(LENGTHS, backend)
    report = check_gradients(layer, backend.asarray(draw(0, 11, 3)), random, packing=packing)
    assert report.passed, str(report)


def test_one_mask_a_sequence_in_the_callers_order(backend: Backend, dtype: np.dtype[Any]) -> None:
    layer, random = VariationalDropout(0.3, dtype=dtype, backend=backend), Random(8, "mask")
    packing = Packing.of(LENGTHS, backend)
    x = draw(0, packing.rows, 20).astype(dtype)
    y, cache = layer.forward(backend.asarray(x), random, packing=packing)
    d_x = layer.backward(backend.asarray(x), cache)
    scale = random.keep((len(LENGTHS), 20), 0.3) / 0.7
    expected = [
        row * scale[b] for row, (_, b) in zip(x, packed_order(LENGTHS.tolist()), strict=True)
    ]
    assert y.dtype == d_x.dtype == dtype
    assert_close(y, expected, BOUNDS[dtype.name], backend)
    assert_close(d_x, expected, BOUNDS[dtype.name], backend)


def test_more_steps_do_not_change_a_sequences_mask() -> None:
    """A mask drawn a step would; so the mask of a sequence is known before its length is."""
    layer, random = VariationalDropout(0.5, dtype=np.float64), Random(8, "mask")
    found = []
    for lengths in ([1, 2, 3], [5, 4, 1]):
        x, packing = batch([np.ones((length, 6)) for length in lengths], layer.backend)
        y, _ = layer.forward(x, random, packing=packing)
        found.append([sequence[0] for sequence in unbatch(y, packing)])
    np.testing.assert_array_equal(found[0], found[1])


def test_variational_dropout_does_nothing_in_evaluation() -> None:
    layer, x = VariationalDropout(0.5), draw(0, 11, 3)
    y, cache = layer.forward(x, packing=Packing.of(LENGTHS, layer.backend))
    assert y is x is layer.backward(x, cache)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_variational_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(InputError, match="p of VariationalDropout is"):
        VariationalDropout(p)


def test_variational_dropout_refuses_rows_of_another_packing() -> None:
    layer = VariationalDropout(0.5)
    with pytest.raises(InputError, match="x has 4 rows for a packing of 11 rows"):
        layer.forward(draw(0, 4, 3), Random(0), packing=Packing.of(LENGTHS, layer.backend))
