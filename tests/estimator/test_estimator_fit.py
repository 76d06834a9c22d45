"""Which rows the estimator holds out, and what it takes for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from npnlp import InputError
from npnlp.backend import Random
from npnlp.estimator.fit import held_out
from npnlp.estimator.given import seed_of


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_the_rows_held_out_are_a_share_of_each_class(fraction: float) -> None:
    targets = np.repeat([0, 1, 2, 3], [1, 2, 40, 157])
    held = held_out(targets, fraction, Random(0, "x"))
    counts = np.bincount(targets[held], minlength=4)
    assert held.sum() == pytest.approx(fraction * 200, abs=2)
    assert (counts < [2, 2, 40, 157]).all()
    assert counts[0] == 0, "the only row of a class is trained on"
    assert counts[2] == pytest.approx(fraction * 40, abs=1)
    assert not np.array_equal(held, held_out(targets, fraction, Random(1, "x")))


def test_at_least_one_row_is_held_out() -> None:
    assert held_out(np.array([0, 0, 1]), 0.01, Random(0)).sum() == 1
    assert not held_out(np.array([0, 0, 1]), 0, Random(0)).any()
    with pytest.raises(InputError, match="validation_fraction=0"):
        held_out(np.array([0, 1, 2]), 0.1, Random(0))


def test_generators_give_seeds() -> None:
    for make in (np.random.default_rng, np.random.RandomState):
        generator = make(3)
        seeds = [seed_of(generator) for _ in range(2)]
        assert seeds[0] != seeds[1]
        assert seed_of(make(3)) == seeds[0]
