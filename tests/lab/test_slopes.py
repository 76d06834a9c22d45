"""Factors per step where they are known, in order, and on names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random
from npnlp.classifier.building import make_criterion
from npnlp.lab.slopes import FACTORS, SCALES, SHARE, SHOWN, factors, on_names, on_random, starts_of
from npnlp.lab.starts import Start, trace_on_random
from npnlp.layers import Elman
from npnlp.layers.recurrent.initialization import initialize
from tests.support import tables


def test_a_rotation_at_rest_shrinks_all_by_its_scale() -> None:
    """Without inputs tanh has slope 1: all that there is to say of half a rotation is 1/2."""
    layer = Elman(3, 6, dtype=np.float64, random=Random(0))
    initialize(layer, "orthogonal", Random(0))
    layer.weight("weight_hh")[...] *= 0.5
    for name in ("weight_ih", "bias_ih", "bias_hh"):
        layer.weight(name)[...] = 0
    found = factors(trace_on_random(layer, 9, 4, Random(1)), 6, 2)
    assert list(found) == [*FACTORS, SHARE]
    assert found[SHARE] == pytest.approx(1)
    for name in FACTORS:
        assert found[name] == pytest.approx(0.5, rel=1e-9), name


def test_every_cell_has_every_start() -> None:
    for cell in SHOWN:
        rows = list(starts_of(cell))
        assert [scale for name, scale, _ in rows if name == "default"] == list(SCALES)
        assert {name for name, _, _ in rows} == {"default", "orthogonal", "identity"}
        for name, scale, start in rows:
            assert (start.initialization, start.scale) == (name, scale)
            assert start.cell == SHOWN[cell].cell


@pytest.mark.parametrize("cell", SHOWN)
def test_factors_are_in_order_and_seeds_are_averaged(cell: str) -> None:
    found = on_random(SHOWN[cell], 12, 2)
    assert 0 < found["measured"] <= found["product_norm"] <= found["bound"]
    assert 0 < found[SHARE] <= 1
    assert found["measured_low"] < found["measured"] < found["measured_high"]
    alone = [on_random(SHOWN[cell], 12, 1, seed) for seed in (0, 1)]
    means = [np.sqrt(alone[0][name] * alone[1][name]) for name in FACTORS]
    np.testing.assert_allclose([found[name] for name in FACTORS], means, rtol=1e-12)


def test_the_identity_is_where_the_theory_fails() -> None:
    """ReLU with the identity keeps what it has; weights of that size at random would not."""
    found = on_random(Start("relu", "identity"), 32, 1)
    assert found["measured"] > 0.9
    assert found["from_inputs"] < 0.75


@pytest.mark.parametrize("shape", [{}, {"cell": "lstm"}], ids=str)
def test_factors_of_names_leave_the_model_as_it_was(tmp_path: Path, shape: dict[str, Any]) -> None:
    run = tables.make_run(tmp_path / "run", shape=shape)
    model, split = run.trainer.model, run.dataset.arrays("train")
    before = model.flat.values.copy()
    found = on_names(model, split, make_criterion(model), 4)
    assert 0 < found["measured"] <= found["product_norm"] <= found["bound"]
    if shape:
        assert np.isnan(found["gain"])
    else:  # chi, each time as it is met, is the factor of one step
        assert found["slope_met"] * found["gain"] == pytest.approx(found["measured"] ** 2, rel=0.3)
        weight = np.asarray(model.encoder.cells[0].weight("weight_hh"), dtype=np.float64)
        assert found["variance"] == pytest.approx((weight**2).sum() / len(weight))
        assert 0 < found["slope"] <= 1
    np.testing.assert_array_equal(model.flat.values, before)
    assert not model.flat.grads.any()
