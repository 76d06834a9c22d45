"""The smallest model of a sequence: an encoder and a linear readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, Unpack

from npnlp.backend import Array
from npnlp.checks import require_whole
from npnlp.errors import require_known
from npnlp.layers import Cache, FlatParameters, Layer, LayerOptions, Linear, Packing
from npnlp.layers.arguments import require_cache
from npnlp.models.encoder import Encoder, EncoderConfig
from npnlp.summary import summarized

READS = ("last", "each")


@summarized
@dataclass(frozen=True)
class SequenceConfig(EncoderConfig):
    """The configuration of a :class:`SequenceModel`.

    ``input_size`` is D, ``hidden_size`` is H, ``output_size`` is C. The readout gets one pooled
    vector per sequence (``read="last"``) or the states of all steps (``"each"``).
    """

    input_size: int
    output_size: int
    hidden_size: int = 64
    read: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("read", self.read, READS)
        for name in ("input_size", "output_size", "hidden_size"):
            require_whole(name, getattr(self, name))


class SequenceCache(Cache):
    """The caches of the two layers."""

    encoder: Any
    out: Any


class SequenceModel(Layer):
    """Packed sequences to C outputs per sequence, or per step.

        (1) z = encoder(x)      (2) y = z W_out^T + b_out

    Parameters are ``rnn.weight_ih_l0``, ..., ``out.weight``, ``out.bias``, views into ``flat``.
    """

    def __init__(self, config: SequenceConfig, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.config = config
        self.encoder = Encoder(
            config, config.input_size, config.hidden_size,
            backend=self.backend, dtype=self.dtype, random=self.random,
        )  # fmt: skip
        self.out = Linear(
            self.encoder.features, config.output_size,
            backend=self.backend, dtype=self.dtype, random=self.random.child("out"),
        )  # fmt: skip
        self.flat = FlatParameters([("", self.encoder), ("out", self.out)], self.backend)
        self.parameters = self.flat.parameters
        self.grads = self.flat.views_of_grads

    def forward(self, x: Array, *, packing: Packing) -> tuple[Array, SequenceCache]:
        """``(B, C)``, in the caller's order, or packed ``(N, C)``, of packed ``x (N, D)``."""
        z, encoder = self._encode(x, packing)  # (1)
        y, out = self.out.run(z)  # (2)
        return y, SequenceCache(encoder, out)

    def backward(self, dy: Array, cache: SequenceCache, probe: Any = None) -> Array:
        """Add the gradients of all parameters; return ``dL/dx (N, D)``.

        ``probe`` is called with the gradients of every recurrent or attention layer.
        """
        d = self.out.undo(dy, cache.out)  # undoes (2)
        if self.config.read == "last":
            d_x: Array = self.encoder.undo(d, cache.encoder, probe)  # undoes (1)
            return d_x
        return self.encoder.states_backward(d, None, cache.encoder, probe)  # undoes (1)

    def check_forward(self, x: Array, *, packing: Packing) -> None:
        """See :class:`Layer`."""
        self.encoder.check_forward(x, packing=packing)

    def check_backward(self, dy: Array, cache: SequenceCache, probe: Any = None) -> None:
        """See :class:`Layer`."""
        require_cache(cache, SequenceCache)
        self.out.check_backward(dy, cache.out)

    def _encode(self, x: Array, packing: Packing) -> tuple[Array, Any]:
        if self.config.read == "last":
            z, cache = self.encoder.run(x, packing=packing)
            return z, cache
        (hidden, _), cache = self.encoder.states(x, packing=packing)
        return hidden, cache

    def zero_grads(self) -> None:
        """Set all gradients to zero, in one write."""
        self.flat.grads[...] = 0

    def astype(self, dtype: Any) -> Self:
        """A copy with parameters of another dtype; it shares no array with this model."""
        twin = type(self)(self.config, backend=self.backend, dtype=dtype, random=self.random)
        twin.flat.values[...] = self.flat.values.astype(dtype)
        return twin
