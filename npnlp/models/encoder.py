"""The encoder: recurrent layers or a transformer, pooled to one vector per sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

from npnlp.backend import Array, Random
from npnlp.backend.operations import Rows
from npnlp.checks import require_flag, require_fraction, require_whole
from npnlp.errors import InputError, require_known, short
from npnlp.layers import CELLS, LayerOptions, Packing
from npnlp.layers.arguments import require_cache
from npnlp.layers.attention.transformer import MAX_POSITIONS, TransformerEncoder
from npnlp.layers.composite import Composite
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.recurrent.cells import RESETS
from npnlp.layers.recurrent.elman import NONLINEARITIES
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.summary import summarized

#: The values of ``cell`` in a configuration.
MODEL_CELLS = (*CELLS, "transformer")
#: An encoder has at most this many layers.
MOST_LAYERS = 256


@summarized
@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The configuration of an :class:`Encoder`, except for its sizes.

    ``nonlinearity`` is that of the Elman cell, ``reset`` of the GRU, ``forget_bias`` of the LSTM
    (None: as drawn), ``num_heads`` of the transformer. ``rnn_dropout`` acts between the layers (of
    a transformer, in every block); with ``variational`` its mask is the same at all steps of a
    sequence. ``pooling`` may be several names joined by "+": their results are concatenated.
    """

    cell: str = "elman"
    nonlinearity: str = "tanh"
    reset: str = "after"
    forget_bias: float | None = None
    num_heads: int = 4
    num_layers: int = 1
    bidirectional: bool = False
    rnn_dropout: float = 0.0
    variational: bool = False
    pooling: str = "last"

    def __post_init__(self) -> None:
        require_known("cell", self.cell, MODEL_CELLS)
        require_known("nonlinearity", self.nonlinearity, NONLINEARITIES)
        require_known("reset", self.reset, RESETS)
        for pooling in str(self.pooling).split("+"):
            require_known("pooling", pooling, POOLINGS)
        if len(set(self.poolings)) < len(self.poolings):
            raise InputError(f"pooling {short(self.pooling)} names one twice; name each once")
        require_whole("num_layers", self.num_layers)
        require_whole("num_heads", self.num_heads)
        if self.num_layers > MOST_LAYERS:
            raise InputError(
                f"num_layers is {self.num_layers}, too large; the limit is {MOST_LAYERS}"
            )
        require_flag("bidirectional", self.bidirectional)
        require_flag("variational", self.variational)
        require_fraction("rnn_dropout", self.rnn_dropout)
        bias = self.forget_bias
        if bias is not None and (type(bias) not in (int, float) or not math.isfinite(bias)):
            raise InputError(f"forget_bias is {short(bias)}; it has to be a finite number or none")
        if self.cell == "transformer" and self.bidirectional:
            raise InputError("a transformer sees both directions at once; leave out bidirectional")

    @property
    def directions(self) -> int:
        """2 where it is bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def poolings(self) -> list[str]:
        """The names of the poolings."""
        return self.pooling.split("+")

    @property
    def cell_options(self) -> dict[str, Any]:
        """The options that only this cell has."""
        own: dict[str, dict[str, Any]] = {
            "elman": {"nonlinearity": self.nonlinearity},
            "gru": {"reset": self.reset},
            "lstm": {"forget_bias": self.forget_bias},
        }
        return own.get(self.cell, {})

    def encoder_parameters(self, input_size: int, hidden_size: int) -> int:
        """The number of the encoder's parameters."""
        features = self.directions * hidden_size
        pool = features * (features + 2) if "attention" in self.poolings else 0
        if self.cell == "transformer":
            block = 12 * hidden_size * hidden_size + 13 * hidden_size
            positions = MAX_POSITIONS * hidden_size
            ends = hidden_size * (input_size + 1) + 2 * hidden_size
            return self.num_layers * block + positions + ends + pool
        rows = {"elman": 1, "gru": 3, "lstm": 4}[self.cell] * hidden_size * self.directions
        first = rows * (input_size + hidden_size + 2)
        return first + (self.num_layers - 1) * rows * (features + hidden_size + 2) + pool


@summarized
class EncoderCache(NamedTuple):
    """The caches of the sub-layers."""

    rnn: Any
    pools: list[Any]


class Encoder(Composite):
    """Packed inputs ``(N, D)``, or a table with tokens that index its rows, to ``(B, F)``.

        (1) h, h_last = rnn(x)      (2) y = [pool(h, h_last) for each pooling]

    h and h_last have H features (2 H where it is bidirectional), and F is that times the number of
    poolings. Parameters are ``rnn.weight_ih_l0``, ..., and those of the poolings, ``pool.weight``,
    ....
    """

    def __init__(
        self,
        config: EncoderConfig,
        input_size: int,
        hidden_size: int,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.config = config
        width = config.directions * hidden_size
        self.features = len(config.poolings) * width
        self.rnn: RecurrentStack | TransformerEncoder
        of_rnn = self.options_of("rnn")
        if config.cell == "transformer":
            self.rnn = TransformerEncoder(
                input_size, hidden_size, num_layers=config.num_layers, num_heads=config.num_heads,
                dropout=config.rnn_dropout, **of_rnn,
            )  # fmt: skip
        else:
            self.rnn = RecurrentStack(
                config.cell, input_size, hidden_size, num_layers=config.num_layers,
                bidirectional=config.bidirectional, dropout=config.rnn_dropout,
                variational=config.variational, cell_options=config.cell_options, **of_rnn,
            )  # fmt: skip
        self.add_layer("rnn", self.rnn)
        self.pools = [
            self.add_layer("pool", POOLINGS[name](width, **self.options_of("pool")))
            for name in config.poolings
        ]

    @property
    def cells(self) -> list[Recurrent]:
        """The recurrent layers; none in a transformer."""
        return self.rnn.all_cells if isinstance(self.rnn, RecurrentStack) else []

    def forward(
        self,
        x: Rows,
        *,
        packing: Packing,
        random: Random | None = None,
    ) -> tuple[Array, EncoderCache]:
        """``y (B, F)`` in the caller's order; ``random`` is the stream of the dropout masks."""
        every = self.config.poolings != ["last"]
        (hidden, last), rnn = self.states(x, packing=packing, random=random, every=every)  # (1)
        ys, pools = [], []
        for pool in self.pools:
            y, cache = pool.run(hidden, last, packing=packing)  # (2)
            ys.append(y)
            pools.append(cache)
        y = ys[0] if len(ys) == 1 else self.backend.xp.concatenate(ys, axis=1)
        return y, EncoderCache(rnn, pools)

    def backward(self, dy: Array, cache: EncoderCache, probe: Any = None) -> Array:
        """``dL/dx``; ``probe`` is called for every recurrent or attention layer."""
        width = self.features // len(self.pools)
        d_hidden, d_last = self.pools[0].undo(dy[:, :width], cache.pools[0])  # undoes (2)
        for place, pool in enumerate(self.pools[1:], start=1):
            columns = slice(place * width, (place + 1) * width)
            d = pool.undo(dy[:, columns], cache.pools[place])  # undoes (2)
            d_hidden, d_last = _sum(d_hidden, d[0]), _sum(d_last, d[1])
        return self.states_backward(d_hidden, d_last, cache.rnn, probe)  # undoes (1)

    def check_forward(
        self, x: Rows, *, packing: Packing, random: Random | None = None
    ) -> None:  # fmt: skip
        """See :class:`Layer`."""
        self.rnn.check_forward(x, packing=packing, random=random)

    def check_backward(self, dy: Array, cache: EncoderCache, probe: Any = None) -> None:
        """See :class:`Layer`."""
        require_cache(cache, EncoderCache)
        self.expect("dy", dy, len(cache.rnn.packing.lengths), self.features)
        self.rnn.check_backward((None, None), cache.rnn)

    def states(
        self,
        x: Rows,
        *,
        packing: Packing,
        random: Random | None = None,
        every: bool = True,
    ) -> tuple[tuple[Array, Array], Any]:
        """(1): all states of the last layer ``(N, F)``, and each sequence's last one ``(B, F)``.

        Without ``every`` there may be None in place of all states.
        """
        options = {} if every or isinstance(self.rnn, TransformerEncoder) else {"every": False}
        (hidden, last, *_), cache = self.rnn.run(x, packing=packing, random=random, **options)
        return (hidden, self.rnn.top(last)), cache

    def states_backward(
        self, d_hidden: Array | None, d_last: Array | None, cache: Any, probe: Any = None
    ) -> Array:
        """Undo :meth:`states`: ``dL/dx``; one of the two gradients may be None."""
        d_finals = None if d_last is None else self.rnn.top_backward(d_last)
        d_x: Any = self.rnn.undo((d_hidden, d_finals), cache, probe)
        of_x: Array = d_x[0] if isinstance(d_x, tuple) else d_x  # without those of initial states
        return of_x


def _sum(one: Array | None, other: Array | None) -> Array | None:
    """The sum of two gradients, either of which may be None, for zero."""
    if one is None or other is None:
        return one if other is None else other
    return one + other
