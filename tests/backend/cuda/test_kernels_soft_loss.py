"""The kernels of the objective with distributions as targets: run on the CPU, against NumPy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.training.objective import SoftObjective
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
BOUND = {"float32": 1e-5, "float64": 1e-13}
#: The terms of the objective, whether there are class weights, shares and weights of rows.
CASES: dict[str, tuple[dict[str, float], set[str]]] = {
    "plain": ({}, set()),
    "smoothed": ({"smoothing": 0.1}, set()),
    "weighted classes": ({"smoothing": 0.2}, {"classes"}),
    "merged": ({}, {"shares", "weights"}),
    "all": ({"smoothing": 0.1, "adjustment": 0.7, "consistency": 1.3}, {"shares", "weights"}),
    "two passes": ({"consistency": 0.5}, set()),
    "all of one class": ({"adjustment": 0.3, "consistency": 0.5}, {"classes", "weights"}),
}
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def shim() -> CupyOnShim:
    return CupyOnShim()


def learned(
    backend: Any, case: str, dtype: Any, classes: int = 18, rows: int = 7, top: float = 3.0
) -> list[Any]:
    """Loss and weights, the number that are right, and the gradient of each pass."""
    settings, parts = CASES[case]
    passes = 2 if "consistency" in settings else 1
    logits = [(top * draw(k, rows, classes)).astype(dtype) for k in range(passes)]
    targets = np.random.default_rng(classes).integers(0, classes, rows)
    targets[: rows // 2] = logits[0].argmax(axis=1)[: rows // 2]
    shares = np.abs(draw(7, rows, classes)) + 1e-3
    shares = (shares / shares.sum(axis=1)[:, None]).astype(np.float32)
    weights = (0.5 + np.abs(draw(8, rows))).astype(np.float32)
    of_classes = (0.5 + np.abs(draw(9, classes))).astype(dtype) if "classes" in parts else None
    prior = np.log(np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    model: Any = SimpleNamespace(backend=backend, dtype=np.dtype(dtype))
    objective = SoftObjective(model, prior, class_weights=of_classes, **settings)
    learn = backend.soft_loss(np.dtype(dtype)) or objective.by_layers
    found = learn(
        objective.terms, logits, targets, shares if "shares" in parts else None,
        weights if "weights" in parts else None,
    )  # fmt: skip
    return [found.loss_sum, found.weight_sum, found.correct, *found.d_logits]


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("classes", "rows"), [(1, 3), (18, 7), (32, 40), (77, 5)])
def test_the_objective_and_its_gradients_are_numpys(
    shim: CupyOnShim, case: str, dtype: str, classes: int, rows: int
) -> None:
    found = learned(shim, case, dtype, classes, rows)
    expected = learned(NUMPY, case, dtype, classes, rows)
    assert set(shim.kernels.launched) == {"soft_rows", "soft_sums"}
    assert len(found) == len(expected)
    assert int(found[2]) == int(expected[2]) >= rows // 2
    for ours, theirs in zip(found, expected, strict=True):
        assert np.shape(ours) == np.shape(theirs)
        scale = np.abs(theirs).max()
        assert np.abs(ours - theirs).max() <= BOUND[dtype] * max(scale, 1e-3)
    if classes > 1:
        assert all(np.abs(gradient).max() > 1e-3 for gradient in expected[3:])


def test_large_logits_stay_in_range_and_infinite_ones_show(shim: CupyOnShim) -> None:
    found, expected = (learned(b, "all", "float64", top=300.0) for b in (shim, NUMPY))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.isfinite(theirs).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    assert not np.isfinite(learned(shim, "all", "float32", top=np.inf)[0])


@each_case
def test_no_order_of_the_threads_changes_a_bit(case: str) -> None:
    results = []
    for seed in range(3):
        shim = CupyOnShim()
        shim.kernels.seed = seed
        results.append(learned(shim, case, "float32", 70, 40))
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("smoothing / columns;", "smoothing;"),
        ("add ? z[c] + add[c] : z[c]", "z[c]"),
        ("scale *= rows / over_warp(all)", "scale *= 1 / over_warp(all)"),
        ("(exp(logs) * mass - target)", "(exp(logs) - target)"),
        ("loss -= target * logs / passes", "loss -= target * logs"),
        ("(r - of_p) + p - o", "(r + of_p) + p - o"),
        ("(of_o - r) + o - p", "(of_o - r) + p - o"),
        ("softmax_of(logits[0], 0, columns)", "softmax_of(logits[0], adjustment, columns)"),
        ("place == targets[row]", "place >= targets[row]"),
        ("sums[0] = loss * all", "sums[0] = loss"),
    ],
)
def test_a_planted_mistake_is_caught(
    right: str, wrong: str, shim: CupyOnShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, chosen: str, *options: str) -> Any:
        made = compiled(name, tuple(declared(name, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(chosen, grid, block, arguments)

    def all_of_it() -> list[Any]:
        return [array for case in CASES for array in learned(shim, case, "float32")]

    expected = all_of_it()
    monkeypatch.setattr(shim.kernels, "get", broken)
    found = all_of_it()
    assert not all(np.allclose(a, b, rtol=1e-4) for a, b in zip(found, expected, strict=True))
