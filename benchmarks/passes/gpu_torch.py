"""The passes of PyTorch: its modules (cuDNN on a device), eager and captured, and the seed's loop.

The model of the step is the classifier's: embedding, recurrent layer, last state, dropout, linear,
ReLU, dropout, linear, cross-entropy, Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from npnlp.backend import get_backend
from passes.gpu_case import CLASSES, EMBEDDING, VOCABULARY, Case, Way, packed_tokens
from passes.gpu_ours import our_layer, table_of

MODULES = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
CELLS = {"elman": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Products and cuDNN with TF32, or in float32 alone."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = on
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Parts:
    """The weights, the batch, and the three passes; ``loop`` calls the cell step by step."""

    def __init__(self, case: Case, seed: int, device: str, loop: bool) -> None:
        split = case.split(seed)
        self.loop, self.device, self.hidden = loop, device, case.hidden
        self.layer = (CELLS if loop else MODULES)[case.cell](EMBEDDING, case.hidden).to(device)
        ours = our_layer(case, seed, get_backend("numpy"))
        with torch.no_grad():
            for name, value in ours.parameters.items():
                target = getattr(self.layer, name.removesuffix("_l0") if loop else name)
                target.copy_(torch.from_numpy(value))
        tokens, sizes = packed_tokens(split)
        self.sizes = torch.from_numpy(sizes)  # cuDNN reads them on the host
        self.tokens = torch.from_numpy(tokens).to(device)
        self.targets = torch.from_numpy(split.targets).to(device)
        self.variable = case.variable
        self.padded = torch.zeros((case.steps, case.batch), dtype=torch.long)
        inside = torch.arange(case.steps)[:, None] < torch.from_numpy(split.lengths)[None, :]
        self.padded[inside] = torch.from_numpy(tokens)
        self.padded = self.padded.to(device)
        self.last = (torch.from_numpy(split.lengths) - 1).to(device)
        self.rows = torch.arange(case.batch, device=device)
        table = torch.from_numpy(table_of(seed)).to(device)
        self.table = torch.nn.Parameter(table)
        self.head = torch.nn.ModuleList(
            [torch.nn.Linear(case.hidden, case.hidden), torch.nn.Linear(case.hidden, CLASSES)]
        ).to(device)
        self.weights = [self.table, *self.layer.parameters(), *self.head.parameters()]
        on_device = device != "cpu"
        self.adam = torch.optim.Adam(self.weights, lr=1e-3, capturable=on_device, fused=on_device)
        assert len(self.table) == VOCABULARY

    def forward(self) -> Any:
        """Each sequence's last state ``(B, H)``."""
        if self.loop:
            return self.by_steps()
        if self.variable:
            x = PackedSequence(functional.embedding(self.tokens, self.table), self.sizes)
            last = self.layer(x)[1]
        else:
            last = self.layer(functional.embedding(self.padded, self.table))[1]
        return (last[0] if isinstance(last, tuple) else last)[0]

    def by_steps(self) -> Any:
        """As the book's notebook: every padded step, then the state at the last character."""
        state: Any = None
        states = []
        for x in functional.embedding(self.padded, self.table):
            state = self.layer(x, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(states)[self.last, self.rows]

    def both(self) -> None:
        """Forward and backward of the layer."""
        for weight in self.weights:
            weight.grad = None
        self.forward().sum().backward()

    def step(self) -> None:
        """The whole step of training."""
        self.adam.zero_grad(set_to_none=True)
        h = functional.relu(self.head[0](functional.dropout(self.forward(), 0.5)))
        logits = self.head[1](functional.dropout(h, 0.5))
        functional.cross_entropy(logits, self.targets).backward()
        self.adam.step()


def torch_way(case: Case, seed: int, device: str, *, loop: bool = False, with_tf32: bool) -> Way:
    """The passes, launched one operation after another."""
    parts = Parts(case, seed, device, loop)

    def under(call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            with tf32(with_tf32):
                call()

        return run

    return {name: under(getattr(parts, name)) for name in ("forward", "both", "step")}


def captured_way(case: Case, seed: int, device: str, *, with_tf32: bool) -> Way:
    """The passes, each captured as one CUDA graph and replayed."""
    way = torch_way(case, seed, device, with_tf32=with_tf32)
    return {name: _captured(call) for name, call in way.items()}


def _captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """As PyTorch's documentation has it: some calls on a side stream, then the capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    replay: Callable[[], Any] = graph.replay
    return replay


def torch_ways(case: Case, seed: int) -> Iterator[tuple[str, Callable[[], Way]]]:
    """What PyTorch is measured as, on the first CUDA device."""
    for on in (False, True):
        mode = "TF32" if on else "float32"
        yield (
            f"torch, eager, {mode}",
            lambda on=on: torch_way(case, seed, "cuda", with_tf32=on),  # type: ignore[misc]
        )
        yield (
            f"torch, graph, {mode}",
            lambda on=on: captured_way(case, seed, "cuda", with_tf32=on),  # type: ignore[misc]
        )
    yield (
        "torch, step by step, float32",
        lambda: torch_way(case, seed, "cuda", loop=True, with_tf32=False),
    )
