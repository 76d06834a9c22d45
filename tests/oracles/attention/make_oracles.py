"""Write what PyTorch computes in float64: layer norm, attention, poolings and the transformer.

    python tests/oracles/attention/make_oracles.py [FOLDER]

Sequences are padded, ``(T, B, .)``, with lengths in no order; gradients have ``d_`` before the
name. The same functions, with other sizes, are what the live comparisons call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Arrays = dict[str, NDArray[Any]]
LENGTHS = [3, 6, 1, 4]

torch.set_num_threads(1)  # these are small: threads would only wait for one another


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def drawn(module: nn.Module, seed: int) -> nn.Module:
    """The module in float64 with drawn parameters, so that no bias is zero and no gain one."""
    module = module.to(torch.float64)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(0.4 * draw(seed + index, *parameter.shape))
    return module


def results(module: nn.Module, **tensors: torch.Tensor) -> Arrays:
    """The tensors, the gradients of those that have one, and the same of all parameters."""
    found: Arrays = {}
    for name, value in (tensors | dict(module.named_parameters())).items():
        found[name] = value.detach().numpy().copy()
        if value.requires_grad and value.is_leaf:
            assert value.grad is not None, name
            found[f"d_{name}"] = value.grad.numpy().copy()
    return found


def padding(lengths: Sequence[int]) -> torch.Tensor:
    """``(B, T)``: True where a sequence has ended."""
    return torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]


def layer_norm(seed: int = 0, rows: int = 7, size: int = 5) -> Arrays:
    module = drawn(nn.LayerNorm(size), seed)
    x, dy = draw(seed + 50, rows, size).requires_grad_(), draw(seed + 51, rows, size)
    y = module(x)
    (y * dy).sum().backward()
    return results(module, x=x, y=y, dy=dy)


def attention(
    seed: int = 0, lengths: Sequence[int] = LENGTHS, heads: int = 2, size: int = 3
) -> Arrays:
    embed = heads * size
    module = drawn(nn.MultiheadAttention(embed, heads), seed)
    shape = (max(lengths), len(lengths), embed)
    x, dy = draw(seed + 50, *shape).requires_grad_(), draw(seed + 51, *shape)
    ended = padding(lengths)
    y, weights = module(x, x, x, key_padding_mask=ended, average_attn_weights=False)
    (y * dy)[~ended.T].sum().backward()
    return results(module, x=x, y=y, dy=dy, weights=weights, lengths=torch.tensor(lengths))


def transformer(
    seed: int = 0,
    lengths: Sequence[int] = LENGTHS,
    heads: int = 2,
    size: int = 2,
    layers: int = 2,
    positions: int = 4,
    updates: int = 0,
) -> Arrays:
    """With ``updates``, the gradients are those after so many steps of plain descent."""
    inputs, hidden, inner = 3, heads * size, 5
    layer = nn.TransformerEncoderLayer(hidden, heads, inner, dropout=0.0, norm_first=True)
    module = nn.TransformerEncoder(layer, layers, nn.LayerNorm(hidden), enable_nested_tensor=False)
    module.add_module("input", nn.Linear(inputs, hidden))
    module.add_module("position", nn.Embedding(positions, hidden))
    drawn(module, seed)
    steps, batch = max(lengths), len(lengths)
    x = draw(seed + 50, steps, batch, inputs).requires_grad_()
    d_hidden, d_last = draw(seed + 51, steps, batch, hidden), draw(seed + 52, batch, hidden)
    ended = padding(lengths)
    first = results_of_parameters(module)
    for update in range(updates + 1):
        if update:
            with torch.no_grad():
                for parameter in module.parameters():
                    assert parameter.grad is not None
                    parameter -= 0.1 * parameter.grad
        module.zero_grad()
        x.grad = None
        index = torch.arange(steps).clamp(max=positions - 1)
        u = module.input(x) + module.position(index)[:, None]
        y = module(u, src_key_padding_mask=ended)
        last = y[torch.tensor(lengths) - 1, torch.arange(batch)]
        ((y * d_hidden)[~ended.T].sum() + (last * d_last).sum()).backward()
    return results(
        module, x=x, y=y, last=last, dy=d_hidden, d_last=d_last, lengths=torch.tensor(lengths)
    ) | {f"first_{name}": value for name, value in first.items() if updates}


def results_of_parameters(module: nn.Module) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in module.named_parameters()}


def pooling(name: str, seed: int = 0, lengths: Sequence[int] = LENGTHS, size: int = 3) -> Arrays:
    module = nn.Module()
    if name == "attention":
        for key, shape in (("weight", (size, size)), ("bias", (size,)), ("context", (size,))):
            module.register_parameter(key, nn.Parameter(torch.zeros(shape)))
    drawn(module, seed)
    x = draw(seed + 50, max(lengths), len(lengths), size).requires_grad_()
    dy = draw(seed + 51, len(lengths), size)
    pooled = []
    for b, length in enumerate(lengths):
        h = x[:length, b]
        if name == "mean":
            pooled.append(h.mean(dim=0))
        elif name == "max":
            pooled.append(h.max(dim=0).values)
        else:
            u = torch.tanh(nn.functional.linear(h, module.weight, module.bias))
            pooled.append(torch.softmax(u @ module.context, dim=0) @ h)
    y = torch.stack(pooled)
    (y * dy).sum().backward()
    return results(module, x=x, y=y, dy=dy, lengths=torch.tensor(lengths))


def all_oracles() -> dict[str, Arrays]:
    return {
        "layer_norm": layer_norm(),
        "attention": attention(),
        "transformer": transformer(),
        **{f"pooling_{name}": pooling(name) for name in ("mean", "max", "attention")},
    }


def main(folder: Path) -> None:
    for name, found in all_oracles().items():
        np.savez(folder / f"{name}.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
