"""Layers with one gate far from 0, their numbers, and how far PyTorch's are from the exact ones.

    python -m tests.support.saturation      writes PyTorch's errors to tests/oracles/saturation/

Exact is the reference in ``np.longdouble``, where that has more digits than float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.backend import Backend, Random, get_backend
from npnlp.layers import GRU, LSTM, Packing
from npnlp.layers.recurrent.gru import GRUResetBefore
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.reference import Floats, draw

STORED = Path(__file__).parents[1] / "oracles" / "saturation" / "errors.npz"
CELLS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU, "before": GRUResetBefore}
BIASES = (-20, -15, -10, -5, 0, 5, 10, 15, 20)
T, B, D, H = 6, 16, 24, 32
HAS_MORE_DIGITS = np.finfo(np.longdouble).eps < 1e-18


def saturated(cell: str, gate: str, bias: float, dtype: Any, backend: Backend) -> Recurrent:
    """A layer with ``bias`` added to one gate."""
    layer = CELLS[cell](D, H, dtype=dtype, backend=backend, random=Random(4))
    layer.weight("bias_ih")[layer.rows_of(gate)] += bias
    return layer


def gates(cell: str) -> list[str]:
    """The gates of sigma."""
    return [name for name in CELLS[cell].gates if name not in ("candidate", "new")]


def given(layer: Recurrent) -> tuple[Floats, list[Floats], Floats, list[Floats]]:
    """Input, initial states, and the gradients of the hidden and the last states; float32 holds
    them exactly.
    """
    count = len(layer.states)
    drawn = [draw(0, T * B, D), *(draw(1 + s, B, H) for s in range(count)), draw(5, T * B, H),
             *(draw(6 + s, B, H) for s in range(count))]  # fmt: skip
    x, *others = (array.astype(np.float32).astype(np.float64) for array in drawn)
    return x, others[:count], others[count], others[count + 1 :]


def numbers(layer: Recurrent) -> dict[str, Any]:
    """Outputs and gradients by name, on the host; those of parameters by gate."""
    send, host = layer.backend.asarray, layer.backend.to_numpy
    x, initial, d_hidden, d_last = given(layer)
    packing = Packing.of(np.full(B, T), layer.backend)

    def all_of(arrays: list[Floats]) -> list[Any]:
        return [send(array.astype(layer.dtype)) for array in arrays]

    layer.zero_grads()
    outputs, cache = layer.forward(*all_of([x, *initial]), packing=packing)
    d = layer.backward((*all_of([d_hidden, *d_last]),), cache)
    found = {f"output {k}": host(output) for k, output in enumerate(outputs)}
    found |= {f"d input {k}": host(part) for k, part in enumerate(d)}
    for name, grad in layer.grads.items():
        found |= {f"d {name} {gate}": host(grad)[layer.rows_of(gate)] for gate in layer.gates}
    return found


def exact(layer: Recurrent) -> dict[str, Any]:
    """The same in more digits, for the same parameters."""
    twin = type(layer)(D, H, dtype=layer.dtype, backend=get_backend("reference"))
    for name, parameter in layer.parameters.items():
        twin.parameters[name][...] = layer.backend.to_numpy(parameter)
    return numbers(twin.astype(np.longdouble if HAS_MORE_DIGITS else np.float64))


def errors(found: dict[str, Any], true: dict[str, Any]) -> Floats:
    """The largest error of each array, relative to its largest number."""
    off = [np.abs(found[name] - true[name]).max() / np.abs(true[name]).max() for name in true]
    return np.array(off, dtype=np.float64)


def torch_numbers(layer: Recurrent) -> dict[str, Any]:
    """What PyTorch's module says with the parameters of ``layer``."""
    import torch

    dtype = torch.float32 if layer.dtype == np.float32 else torch.float64
    module = (torch.nn.LSTM if isinstance(layer, LSTM) else torch.nn.GRU)(D, H, dtype=dtype)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(layer.parameters[name]))
    x, initial, d_hidden, d_last = given(layer)
    leaves = [torch.from_numpy(a).to(dtype).requires_grad_() for a in (x, *initial)]
    rows, states = leaves[0].reshape(T, B, D), [state[None] for state in leaves[1:]]
    if isinstance(layer, GRUResetBefore):
        hidden, last = _reset_before(torch, module, rows, states[0])
    else:
        hidden, last = module(rows, tuple(states) if isinstance(layer, LSTM) else states[0])
    lasts = last if isinstance(last, tuple) else (last,)
    outputs = [hidden.reshape(T * B, H), *(state[0] for state in lasts)]
    torch.autograd.backward(outputs, [torch.from_numpy(a).to(dtype) for a in (d_hidden, *d_last)])
    found = {f"output {k}": output.detach().numpy() for k, output in enumerate(outputs)}
    found |= {f"d input {k}": leaf.grad.numpy() for k, leaf in enumerate(leaves)}
    for name, parameter in module.named_parameters():
        grad = parameter.grad.numpy()
        found |= {f"d {name} {gate}": grad[layer.rows_of(gate)] for gate in layer.gates}
    return found


def _reset_before(torch: Any, module: Any, rows: Any, initial: Any) -> tuple[Any, Any]:
    """In PyTorch's functions, since it has no such module."""
    w_ih, w_hh, b_ih, b_hh = module.parameters()
    h, hidden = initial[0], []
    for x in rows:
        u = x @ w_ih.T + b_ih
        r, z = torch.sigmoid(u[:, : 2 * H] + h @ w_hh[: 2 * H].T + b_hh[: 2 * H]).chunk(2, dim=1)
        n = torch.tanh(u[:, 2 * H :] + (r * h) @ w_hh[2 * H :].T + b_hh[2 * H :])
        h = n + z * (h - n)
        hidden.append(h)
    return torch.stack(hidden), h[None]


def torch_errors(cell: str, dtype: Any) -> Floats:
    """Of each gate, bias and array."""
    reference = get_backend("reference")
    layers = [
        [saturated(cell, gate, bias, dtype, reference) for bias in BIASES] for gate in gates(cell)
    ]
    return np.array(
        [[errors(torch_numbers(layer), exact(layer)) for layer in row] for row in layers]
    )


def cases() -> Iterator[tuple[str, str]]:
    for cell in CELLS:
        for dtype in ("float32", "float64"):
            yield cell, dtype


if __name__ == "__main__":
    np.savez(
        STORED, allow_pickle=False,
        **{f"{cell} {dtype}": torch_errors(cell, np.dtype(dtype)) for cell, dtype in cases()},
    )  # fmt: skip
