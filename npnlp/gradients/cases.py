"""Every layer in small, for ``npnlp gradcheck``: inputs that reach each branch of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npnlp.backend import Array, Backend, Random
from npnlp.gradients.check import GradientReport, check_adjoint, check_gradients
from npnlp.layers import (
    Dropout,
    Elman,
    Embedding,
    LayerOptions,
    Linear,
    MeanSquaredError,
    Packing,
    ReLU,
    SoftmaxCrossEntropy,
)

LENGTHS = np.array([3, 1, 5, 5, 2])
LONG = np.array([1024, 1, 1000, 513])
V, D, H, C = 7, 4, 6, 5


def layer_reports(backend: Backend, seed: int = 0) -> Iterator[GradientReport]:
    """Check every layer; a report each."""
    random = Random(seed, "gradcheck")
    packing = Packing.of(LENGTHS, backend)
    options: LayerOptions = {"backend": backend, "dtype": np.float64, "random": random}

    def normal(name: str, *shape: int) -> Array:
        return backend.asarray(random.child(name).normal(shape))

    x, h0 = normal("x", packing.rows, D), normal("h0", len(LENGTHS), H)
    # Padding (token 0) is left out: its row has no gradient by definition.
    tokens = backend.asarray(1 + random.child("tokens").permutation(packing.rows) % (V - 1))
    targets = backend.asarray(np.arange(len(LENGTHS)) % C)

    yield check_gradients(Embedding(V, D, padding_idx=0, **options), tokens)
    yield check_gradients(Linear(D, H, **options), x)
    yield check_gradients(ReLU(**options), x)
    yield check_gradients(ReLU(**options), x, method="central")
    yield check_gradients(Dropout(0.3, **options), x, random)
    logits = normal("logits", len(LENGTHS), C)
    weights = backend.asarray(random.child("weights").uniform((C,), 0.1, 2.0))
    yield check_gradients(SoftmaxCrossEntropy(**options), logits, targets)
    weighted = SoftmaxCrossEntropy(weights, **options)
    yield check_gradients(weighted, logits, targets, name="SoftmaxCrossEntropy, weighted")
    values = normal("values", len(LENGTHS), C)
    yield check_gradients(MeanSquaredError(**options), logits, targets=values)
    for nonlinearity in ("tanh", "relu"):
        elman = Elman(D, H, nonlinearity=nonlinearity, **options)
        name = f"Elman {nonlinearity}"
        yield check_gradients(elman, x, h0, packing=packing, name=name)
        if nonlinearity == "relu":
            yield check_gradients(elman, x, h0, packing=packing, name=name, method="central")
    elman = Elman(D, H, **options)
    table = normal("table", V, D)
    yield check_gradients(
        elman, table, h0, packing=packing, tokens=tokens, name="Elman tanh, look-up"
    )
    long = Packing.of(LONG, backend)
    yield check_adjoint(
        Elman(16, 32, **options),
        normal("long", long.rows, 16),
        normal("h0 long", len(LONG), 32),
        packing=long,
        name=f"Elman tanh, T = {LONG.max()}",
    )
