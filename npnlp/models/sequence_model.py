"""A recurrent layer and a linear readout: the smallest model of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, Unpack

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.layers import CELLS, FlatParameters, Layer, LayerOptions, Linear, Packing

READS = ("last", "each")


@dataclass(frozen=True)
class SequenceConfig:
    """Everything that decides the shapes and the function.

    ``input_size`` is D, ``hidden_size`` is H, ``output_size`` is C; ``read`` says whether the
    readout sees the "last" state of a sequence or "each"; ``cell_options`` are the cell's own, such
    as ``nonlinearity``.
    """

    input_size: int
    output_size: int
    hidden_size: int = 64
    read: str = "last"
    cell: str = "elman"
    cell_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise InputError(f"cell {self.cell!r} is not known; choose one of {', '.join(CELLS)}")
        if self.read not in READS:
            raise InputError(f"read {self.read!r} is not known; choose one of {', '.join(READS)}")
        for name in ("input_size", "output_size", "hidden_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {value!r}; it has to be a whole number above 0")


@dataclass(frozen=True)
class SequenceCache:
    """The caches of the layers in the order of the forward pass."""

    rnn: Any
    out: Any


class SequenceModel(Layer):
    """Packed sequences to numbers: one row of C a sequence, or one a step.

        (1) h = rnn(x)      (2) z = h_last, or all h      (3) y = z W_out^T + b_out

    Parameters are ``rnn.weight_ih_l0``, ..., ``out.weight``, ``out.bias``, views into ``flat``.
    """

    def __init__(self, config: SequenceConfig, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.config = config

        def of(name: str) -> LayerOptions:
            return {
                "backend": self.backend, "dtype": self.dtype, "random": self.random.child(name),
            }  # fmt: skip

        size = config.hidden_size
        self.rnn = CELLS[config.cell](config.input_size, size, **config.cell_options, **of("rnn"))
        self.out = Linear(size, config.output_size, **of("out"))
        self.flat = FlatParameters({"rnn": self.rnn, "out": self.out}, self.backend)
        self.parameters = self.flat.parameters
        self.grads = self.flat.views_of_grads

    def forward(self, x: Array, *, packing: Packing) -> tuple[Array, SequenceCache]:
        """``(B, C)``, in the caller's order, or packed ``(N, C)``, of packed ``x (N, D)``."""
        (hidden, h_last), rnn = self.rnn.forward(x, packing=packing)  # (1)
        z = h_last if self.config.read == "last" else hidden  # (2)
        y, out = self.out.forward(z)  # (3)
        return y, SequenceCache(rnn, out)

    def backward(self, dy: Array, cache: SequenceCache) -> Array:
        """Add the gradients of all parameters; return ``dL/dx (N, D)``."""
        d = self.out.backward(dy, cache.out)  # undoes (3)
        d_states = (None, d) if self.config.read == "last" else (d, None)  # undoes (2)
        d_x, _ = self.rnn.backward(d_states, cache.rnn)  # undoes (1)
        return d_x

    def zero_grads(self) -> None:
        """Set all gradients to zero, in one write."""
        self.flat.grads[...] = 0

    def astype(self, dtype: Any) -> Self:
        """A copy with parameters of another dtype; nothing is shared with this model."""
        twin = type(self)(self.config, backend=self.backend, dtype=dtype, random=self.random)
        twin.flat.values[...] = self.flat.values.astype(dtype)
        return twin
