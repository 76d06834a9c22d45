"""What the tests of layers on packed sequences share: stored numbers, and batches cut and mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.backend import Backend, get_backend
from npnlp.layers import Packing
from npnlp.layers.base import Layer
from tests.support.reference import Floats, assert_close, draw, host, pack, pad

ORACLES = Path(__file__).parents[1] / "oracles" / "attention"
NUMPY = get_backend("numpy")

#: What a layer gives, sequence by sequence: its output ``(L, .)`` or ``(.)``, and ``dL/dx (L, .)``.
Outputs = list[Any]
#: ``run(layer, x, seeds)`` gives outputs and input gradients of some sequences in one batch.
Run = Callable[[Any, Sequence[Floats], Sequence[Floats]], tuple[Outputs, Outputs]]


def stored(name: str) -> dict[str, Any]:
    with np.load(ORACLES / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def set_parameters(layer: Layer, values: Mapping[str, Any]) -> None:
    for name, parameter in layer.parameters.items():
        parameter[...] = layer.backend.asarray(np.asarray(values[name]).astype(layer.dtype))


def assert_gradients(layer: Layer, expected: Mapping[str, Any], bound: float = 1e-12) -> None:
    for name, gradient in host(layer.backend, layer.grads).items():
        assert_close(gradient, expected[f"d_{name}"], bound, floor=1.0)


def scrambled(layer: Layer, seed: int = 0) -> Any:
    """``layer`` with drawn parameters, so that no bias is zero and no gain one."""
    for index, parameter in enumerate(layer.parameters.values()):
        values = 0.5 * draw(seed + index, *parameter.shape)
        parameter[...] = layer.backend.asarray(values.astype(layer.dtype))
    return layer


def batch(sequences: Sequence[Floats], backend: Backend) -> tuple[Any, Packing]:
    """Sequences ``(L, D)`` as packed rows on the backend."""
    lengths = [len(sequence) for sequence in sequences]
    padded = np.zeros((max(lengths), len(lengths), *sequences[0].shape[1:]))
    for b, sequence in enumerate(sequences):
        padded[: len(sequence), b] = sequence
    return backend.asarray(pack(padded, lengths)), Packing.of(np.array(lengths), backend)


def unbatch(data: Any, packing: Packing) -> Outputs:
    """Packed rows, cut into the sequences they belong to."""
    lengths = packing.lengths.tolist()
    padded = pad(packing.backend.to_numpy(data), lengths)
    return [padded[:length, b] for b, length in enumerate(lengths)]


def dependence(run: Run, layer: Layer, features: int, seed: int = 0) -> float:
    """How much the other sequences of a batch change one's numbers; it has to be nothing.

    The largest difference between outputs, input gradients or parameter gradients of a batch and
    those of (1) the batch in another order and (2) each sequence alone.
    """
    lengths = [3, 1, 6, 4, 6]
    x = [draw(seed + b, length, features) for b, length in enumerate(lengths)]
    seeds = [draw(seed + 9 + b, length, features) for b, length in enumerate(lengths)]
    order = [3, 0, 4, 2, 1]

    def measured(parts: Sequence[Sequence[int]]) -> tuple[dict[int, Any], dict[str, Floats]]:
        layer.zero_grads()
        found: dict[int, Any] = {}
        for part in parts:
            outputs = run(layer, [x[b] for b in part], [seeds[b] for b in part])
            found |= {b: [y[i] for y in outputs] for i, b in enumerate(part)}
        return found, host(layer.backend, layer.grads)

    whole, whole_grads = measured([range(5)])
    worst = 0.0
    for parts in ([order], [[b] for b in range(5)]):
        found, grads = measured(parts)
        for b, arrays in whole.items():
            for ours, theirs in zip(arrays, found[b], strict=True):
                worst = max(worst, float(np.abs(ours - theirs).max()))
        for name, grad in whole_grads.items():
            scale = max(1.0, float(np.abs(grad).max()))
            worst = max(worst, float(np.abs(grad - grads[name]).max()) / scale)
    return worst
