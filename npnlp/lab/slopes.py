"""Factors by which a gradient shrinks a step: measured, predicted, and at most.

For sequences that are long enough, between a sequence's last step and the step k before it,

    factor = (sum of |d_{T-k}|^2 / sum of |d_T|^2)^(1 / 2k)

of the gradient itself, of what mean-field theory says of it, and of what stands in its place where
it had the best direction (the norm of the product of Jacobians) or met the chain rule's bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.backend.operations import LookedUp
from npnlp.classifier.batches import by_length
from npnlp.gradients.flow import gradient_flow
from npnlp.gradients.mean_field import mean_field, variances_of
from npnlp.gradients.shared_weights import predicted
from npnlp.gradients.steps import elman, steps_of
from npnlp.lab.starts import Start, trace_on_random
from npnlp.layers import CELLS, SoftmaxCrossEntropy
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays

Floats = NDArray[np.float64]

#: Cells by the name that they have in tables.
SHOWN = {
    "Elman, tanh": Start("tanh", "default"),
    "Elman, ReLU": Start("relu", "default"),
    "GRU": Start("tanh", "default", cell="gru"),
    "LSTM": Start("tanh", "default", cell="lstm"),
}
#: First weights: what PyTorch draws, times a scale; rotations; and the identity.
SCALES = (0.5, 1.0, 1.5, 2.0, 3.0)
STARTS = ("default", "orthogonal", "identity")
#: Steps back, and as many before them, in which the states come to rest.
BACK = 20
#: Sequences, and of how many of them the product of Jacobians is made.
BATCH, PRODUCTS, NAMES = 32, 2, 20
#: Columns of a row after what it is of.
FACTORS = ("measured", "from_inputs", "from_activations", "shared_weights", "product_norm", "bound")
#: And the share of the last step's gradient in the directions that survive so far back.
SHARE = "surviving_share"


def factors(trace: RecurrentTrace, back: int, products: int) -> dict[str, float]:
    """The factors of a layer over ``back`` steps by :data:`FACTORS`, and the :data:`SHARE`.

    ``products``, of how many sequences the product of Jacobians and the theory of shared weights.
    """
    packing, flow = trace.cache.packing, gradient_flow(trace, products)
    places = np.flatnonzero(packing.longest_first > back)
    last = packing.longest_first[places] - 1
    ends, rows = (packing.runs[0][last - lag] + places for lag in (0, back))

    def factor(values: Floats, known: Any = slice(None)) -> float:
        at_end = (flow.hidden_grad[ends][known] ** 2).sum()
        return float(((values[rows][known] ** 2).sum() / at_end) ** (0.5 / back))

    x = trace.cache.x
    inputs = x.table[x.tokens] if isinstance(x, LookedUp) else x
    made, measured = ~np.isnan(flow.product_norm[rows]), factor(flow.hidden_grad)
    better = factor(flow.product_norm, made) / factor(flow.hidden_grad, made)
    return {
        "measured": measured,
        "from_inputs": mean_field(trace.layer, inputs).factor,
        "from_activations": factor(flow.mean_field_grad),
        "shared_weights": shared_factor(trace, places[:: -(-len(places) // products)], back),
        # As many times what was measured as it is of the sequences whose products were made.
        "product_norm": min(measured * better, factor(flow.bound)),
        "bound": factor(flow.bound),
        "surviving_share": float(flow.surviving_share[rows][made].mean()),
    }


def met_by_the_gradient(trace: RecurrentTrace, back: int) -> dict[str, float]:
    """Both parts of chi of an Elman layer, as a mean and as the gradient meets them; else NaN.

    ``variance``, v, is what ``|W^T x|^2 / |x|^2`` is on average over directions, ``gain`` what it
    is for ``x = phi'(a) d`` on the way back over ``back`` steps; ``slope`` is the mean of
    ``phi'^2`` over the units, ``slope_met`` the mean by the squares of d.
    """
    steps, lags = steps_of(trace.layer, trace.cache), trace.cache.packing.lags
    names = ("variance", "gain", "slope", "slope_met")
    if steps.formula is not elman:
        return dict.fromkeys(names, np.nan)
    on_the_way = (lags < back) & (trace.cache.packing.steps > 0)
    d, squares = trace.d_hidden[on_the_way] ** 2, steps.slopes[0][on_the_way] ** 2
    (weight,), (variance,) = steps.weights, variances_of(steps.weights)
    x = steps.slopes[0][on_the_way] * trace.d_hidden[on_the_way]
    gain = ((x @ weight) ** 2).sum() / (x**2).sum()
    of_d = (squares * d).sum() / d.sum()
    found = (variance, float(gain), float(squares.mean()), float(of_d))
    return dict(zip(names, found, strict=True))


def shared_factor(trace: RecurrentTrace, places: NDArray[np.int64], back: int) -> float:
    """That of the theory of shared weights, over the last steps of sequences in sorted places."""
    steps, packing, found = steps_of(trace.layer, trace.cache), trace.cache.packing, []
    for place in places:
        last = packing.longest_first[place] - 1
        rows = packing.runs[0][last - back + 1 : last + 1] + place
        of_place = replace(
            steps,
            slopes=tuple(factor[rows] for factor in steps.slopes),
            carried=tuple(factor[rows] for factor in steps.carried),
        )
        found.append(predicted(of_place)[back])
    return float(np.mean(np.square(found)) ** (0.5 / back))


def layer_of(start: Start, hidden: int, random: Random) -> Recurrent:
    """An untrained layer in float64, with as many inputs as units, as the book's classifier has."""
    make, options = CELLS[start.cell], start.cell_options
    layer = make(hidden, hidden, dtype=np.float64, random=random, **options)
    start.set(layer, random.child("start"))
    return layer


def on_random(start: Start, hidden: int, seeds: int, first: int = 0) -> dict[str, float]:
    """The factors of ``seeds`` layers on normal inputs: their geometric means.

    And ``measured_low`` and ``measured_high``, the extremes of what was measured.
    """
    found: list[dict[str, float]] = []
    for seed in range(first, first + seeds):
        layer = layer_of(start, hidden, Random(seed, "layer"))
        trace = trace_on_random(layer, 2 * BACK + 1, BATCH, Random(seed, "sequences"))
        with np.errstate(over="ignore"):
            found.append(factors(trace, BACK, PRODUCTS))
    measured = [row["measured"] for row in found]
    means = {name: float(np.exp(np.mean(np.log([row[name] for row in found])))) for name in FACTORS}
    means[SHARE] = float(np.mean([row[SHARE] for row in found]))
    return means | {"measured_low": min(measured), "measured_high": max(measured)}


def starts_of(cell: str) -> Iterator[tuple[str, float, Start]]:
    """The name, the scale and the start of each row of a table."""
    for name in STARTS:
        for scale in SCALES if name == "default" else (1.0,):
            start = replace(SHOWN[cell], initialization=name, scale=scale)
            yield name, scale, start


def on_names(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy, back: int
) -> dict[str, float]:
    """The factors of a classifier's layer over the last letters of the longest names of a split.

    And what :func:`met_by_the_gradient` says.
    Leaves ``model.grads`` at zero.
    """
    traces: list[RecurrentTrace] = []
    *_, batch = by_length(split, model.backend)
    logits, cache = model.forward(**batch.inputs)
    _, loss = criterion.forward(logits, batch.targets)
    model.backward(criterion.backward(1.0, loss), cache, traces.append)
    model.zero_grads()
    return factors(traces[0], back, NAMES) | met_by_the_gradient(traces[0], back)
