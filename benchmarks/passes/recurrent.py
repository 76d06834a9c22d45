"""A forward and a backward pass of a recurrent layer on a batch of tokens, ours and PyTorch's.

The weights, the table and the tokens are drawn from the seed alone, so that all ways do the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.layers import CELLS, Packing
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.layers.recurrent.segments import Segmented
from npnlp.optional import needs

WITHOUT_TORCH = ""
try:
    with needs("PyTorch", "torch"):
        import torch
except InputError as error:
    WITHOUT_TORCH = str(error)


def torch_on_one_thread() -> str:
    """Let PyTorch keep to one thread; why it cannot be had, or nothing."""
    if not WITHOUT_TORCH:
        torch.set_num_threads(1)
    return WITHOUT_TORCH


@dataclass(frozen=True)
class Work:
    """One way at one length.

    ``forward()`` gives what ``backward`` takes, ``backward`` dL/dh0 ``(B, H)`` on the host;
    ``held`` counts the bytes of what ``forward`` gave; ``wait`` returns when the device is done.
    """

    forward: Callable[[], Any]
    backward: Callable[[Any], Any]
    held: Callable[[], int]
    wait: Callable[[], None]


def our_work(
    options: argparse.Namespace, backend: Backend, cell: str, way: str, steps: int, dtype: str
) -> Work:
    """``way`` of this project."""
    batch, random = options.batch_size, Random(options.seed, "sequence_lengths")
    layer = CELLS[cell](
        options.embedding_size, options.hidden_size, backend=backend, dtype=dtype, random=random
    )
    table, host_tokens = drawn(options, steps)
    x = LookedUp(backend.asarray(table.astype(dtype)), backend.asarray(host_tokens))
    packing = Packing.of(np.full(batch, steps), backend)
    h0 = backend.zeros((batch, options.hidden_size), dtype)
    ones = h0 + 1
    runner: Any = layer
    if way != "plain":
        size = options.truncate if way == "truncate" else math.isqrt(steps)
        runner = Segmented(layer, size, truncate=way == "truncate")

    def forward() -> Any:
        return runner.forward(x, h0, packing=packing)[1]

    def backward(cache: Any) -> Array:
        d_last = (None, ones) if way == "plain" else ones
        return backend.to_numpy(runner.backward(d_last, cache)[1])

    return Work(forward, backward, lambda: int(forward().nbytes), backend.synchronize)


def drawn(options: argparse.Namespace, steps: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A table ``(V, D)`` and packed tokens ``(T * B,)``."""
    random = Random(options.seed, "sequence_lengths")
    table = random.child("table").normal((options.vocabulary, options.embedding_size))
    places = random.child("tokens").uniform((steps * options.batch_size,), 0, options.vocabulary)
    return table, places.astype(np.int64)


def torch_twin(module: Any, ours: Recurrent) -> Any:
    """PyTorch's ``module`` (``torch.nn.RNN``, ...) with the weights of ``ours``."""
    layer = module(ours.input_size, ours.hidden_size)
    with torch.no_grad():
        for name, value in ours.parameters.items():
            getattr(layer, name).copy_(torch.from_numpy(value))
    return layer


def torch_work(options: argparse.Namespace, steps: int, dtype: str) -> Work:
    """PyTorch's layer on the CPU, with the weights of ours."""
    numbers, batch = getattr(torch, dtype), options.batch_size
    sizes = (options.embedding_size, options.hidden_size)
    ours = CELLS["elman"](*sizes, random=Random(options.seed, "sequence_lengths"))
    layer = torch_twin(torch.nn.RNN, ours).to(numbers)
    host_table, host_tokens = drawn(options, steps)
    table = torch.from_numpy(host_table).to(numbers).requires_grad_()
    tokens = torch.from_numpy(host_tokens).reshape(steps, batch)
    h0 = torch.zeros((1, batch, options.hidden_size), dtype=numbers, requires_grad=True)
    given = {t.untyped_storage().data_ptr() for t in (table, tokens, h0, *layer.parameters())}

    def forward() -> Any:
        return layer(torch.nn.functional.embedding(tokens, table), h0)[1].sum()

    def backward(loss: Any) -> Any:
        h0.grad = None
        loss.backward()
        return h0.grad[0].numpy()

    def held() -> int:
        saved: dict[int, Any] = {}  # holds them, so that no address is used twice

        def keep(tensor: Any) -> Any:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = forward()
        del loss
        return sum(storage.nbytes() for place, storage in saved.items() if place not in given)

    return Work(forward, backward, held, lambda: None)
