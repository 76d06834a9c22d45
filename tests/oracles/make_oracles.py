"""Write what PyTorch computes, in float64, for tests that run without PyTorch.

    python tests/oracles/make_oracles.py [FOLDER]

Arrays are named by what they are; gradients have ``d_`` before the name. Sequences are padded,
``(T, B, .)``, with lengths in no order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Arrays = dict[str, NDArray[Any]]
LENGTHS = [3, 6, 1, 4]
T, B, D, H = 6, 4, 3, 5


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def arrays(**tensors: torch.Tensor) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def parameters_and_gradients(module: nn.Module) -> Arrays:
    found: Arrays = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        found |= arrays(**{name: parameter, f"d_{name}": parameter.grad})
    return found


def rnn(nonlinearity: str) -> Arrays:
    torch.manual_seed(0)
    module = nn.RNN(D, H, nonlinearity=nonlinearity, dtype=torch.float64)
    x, h0 = draw(1, T, B, D).requires_grad_(), draw(2, B, H).requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    output, last = module(packed, h0[None])
    hidden, _ = pad_packed_sequence(output)
    d_hidden, d_last = draw(3, T, B, H), draw(4, B, H)
    ((hidden * d_hidden).sum() + (last[0] * d_last).sum()).backward()
    assert x.grad is not None
    assert h0.grad is not None
    found = arrays(x=x, h0=h0, hidden=hidden, last=last[0], d_hidden=d_hidden, d_last=d_last,
                   d_x=x.grad, d_h0=h0.grad)  # fmt: skip
    return found | parameters_and_gradients(module) | {"lengths": np.array(LENGTHS)}


def stack(kind: str, num_layers: int, bidirectional: bool) -> Arrays:
    """Layers on top of each other, in one or both directions; states are ``(K, B, H)``."""
    torch.manual_seed(3)
    make = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
    units, directions = 2, 1 + bidirectional
    module = make(D, units, num_layers=num_layers, bidirectional=bidirectional, dtype=torch.float64)
    x, names = draw(13, T, B, D).requires_grad_(), ["h", "c"] if kind == "lstm" else ["h"]
    shape = (num_layers * directions, B, units)
    first = {f"{name}0": draw(14 + k, *shape).requires_grad_() for k, name in enumerate(names)}
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    given = tuple(first.values())
    output, last = module(packed, given if kind == "lstm" else given[0])
    lasts = dict(zip(names, last if kind == "lstm" else (last,), strict=True))
    hidden, _ = pad_packed_sequence(output)
    d_hidden = draw(16, T, B, directions * units)
    d_lasts = {f"d_{name}_last": draw(17 + k, *shape) for k, name in enumerate(names)}
    loss = (hidden * d_hidden).sum()
    for name in names:
        loss = loss + (lasts[name] * d_lasts[f"d_{name}_last"]).sum()
    loss.backward()
    found = arrays(x=x, hidden=hidden, d_hidden=d_hidden, **first, **d_lasts,
                   **{f"{name}_last": last for name, last in lasts.items()})  # fmt: skip
    for name, tensor in {"x": x, **first}.items():
        assert tensor.grad is not None
        found |= arrays(**{f"d_{name}": tensor.grad})
    return found | parameters_and_gradients(module) | {"lengths": np.array(LENGTHS)}


def linear() -> Arrays:
    torch.manual_seed(1)
    module = nn.Linear(D, H, dtype=torch.float64)
    x, dy = draw(5, 7, D).requires_grad_(), draw(6, 7, H)
    y = module(x)
    (y * dy).sum().backward()
    assert x.grad is not None
    return arrays(x=x, y=y, dy=dy, d_x=x.grad) | parameters_and_gradients(module)


def embedding() -> Arrays:
    torch.manual_seed(2)
    module = nn.Embedding(6, D, padding_idx=0, dtype=torch.float64)
    tokens, dy = torch.tensor([1, 0, 5, 1, 2, 1, 0]), draw(7, 7, D)
    y = module(tokens)
    (y * dy).sum().backward()
    return arrays(tokens=tokens, y=y, dy=dy) | parameters_and_gradients(module)


def cross_entropy() -> Arrays:
    logits, targets = 3 * draw(8, 8, H), torch.tensor([4, 0, 1, 1, 2, 4, 4, 3])
    weights = draw(9, H).abs()
    found = arrays(logits=logits, targets=targets, class_weights=weights)
    cases = ("plain", None, 0.0), ("weighted", weights, 0.0), ("smoothed", weights, 0.1)
    for name, used, smoothing in cases:
        z = logits.clone().requires_grad_()
        loss = nn.functional.cross_entropy(z, targets, weight=used, label_smoothing=smoothing)
        loss.backward()
        assert z.grad is not None
        found |= arrays(**{f"loss_{name}": loss, f"d_logits_{name}": z.grad})
    return found


def optimizer(make: Any, moments: dict[str, str]) -> Arrays:
    """Three updates; weights, and the optimizer's state, after each."""
    weight = nn.Parameter(draw(10, 6))
    grads = draw(11, 3, 6) * torch.tensor([1.0, 1e-3, 1e-6, 10.0, 1.0, 0.0])
    updates = make([weight])
    found = arrays(weight=weight, grads=grads)
    after: dict[str, list[NDArray[Any]]] = {name: [] for name in ("weights", *moments)}
    for grad in grads:
        weight.grad = grad.clone()
        updates.step()
        state = {"weights": weight, **{n: updates.state[weight][k] for n, k in moments.items()}}
        for name, value in arrays(**state).items():
            after[name].append(value)
    return found | {name: np.array(values) for name, values in after.items()}


def clipping() -> Arrays:
    grads = draw(12, 3, 20) * torch.tensor([[1.0], [1e-3], [0.0]])
    norms, clipped = [], []
    for grad in grads:
        weight = nn.Parameter(torch.zeros(20, dtype=torch.float64))
        weight.grad = grad.clone()
        norms.append(clip_grad_norm_([weight], 1.5))
        clipped.append(weight.grad)
    return arrays(grads=grads, norms=torch.stack(norms), clipped=torch.stack(clipped))


def plateau() -> Arrays:
    losses = [3.0, 2.5, 2.6, 2.55, 2.4999, 2.49, 2.48991, 2.49, 2.0, 2.1, 2.1, 2.1, 2.1, 1.9, 5.0]
    updates = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(updates, factor=0.5, patience=1)
    rates = []
    for loss in losses:
        updates.step()
        schedule.step(loss)
        rates.append(updates.param_groups[0]["lr"])
    return {"losses": np.array(losses), "rates": np.array(rates)}


def one_cycle() -> Arrays:
    found: Arrays = {}
    for steps in (7, 40):
        for warm_up in (0.0, 0.3, 0.9):
            updates = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                updates, 1.0, total_steps=steps, pct_start=warm_up, cycle_momentum=False
            )
            rates = []
            for step in range(steps):
                rates.append(updates.param_groups[0]["lr"])
                updates.step()
                if step < steps - 1:
                    schedule.step()
            found[f"rates_{steps}_{warm_up}"] = np.array(rates)
    return found


def all_oracles() -> dict[str, Arrays]:
    return {
        "rnn_tanh": rnn("tanh"),
        "rnn_relu": rnn("relu"),
        "stack_rnn": stack("rnn", 3, bidirectional=False),
        "stack_lstm": stack("lstm", 2, bidirectional=True),
        "stack_gru": stack("gru", 2, bidirectional=True),
        "linear": linear(),
        "embedding": embedding(),
        "cross_entropy": cross_entropy(),
        "adam": optimizer(
            lambda p: torch.optim.Adam(p, lr=0.01), {"m": "exp_avg", "v": "exp_avg_sq"}
        ),
        "sgd": optimizer(lambda p: torch.optim.SGD(p, lr=0.1), {}),
        "sgd_momentum": optimizer(
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), {"velocity": "momentum_buffer"}
        ),
        "clipping": clipping(),
        "plateau": plateau(),
        "one_cycle": one_cycle(),
    }


def main(folder: Path) -> None:
    for name, found in all_oracles().items():
        np.savez(folder / f"{name}.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
