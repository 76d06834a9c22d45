"""Randomness without a history: every number is a function of (seed, stream, step, position).

A stream is a name such as ``"rnn.weight_hh_l0"`` or ``"dropout1"``. The numbers come from the
counter-based generator Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
3", 2011), with the key (seed, hash of the name) and the counter (i, 0, step, 0) of block i = 1, 2
and so on. There is no generator state to save: a resumed run, a repeated run and a run on another
backend draw the same numbers by construction.

Numbers are computed from the raw 64-bit words, not by NumPy's distributions, whose streams may
change from one version to the next.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


def keep_threshold(p: float) -> int:
    """Elements whose 16 random bits are below this number are dropped."""
    return round(p * 65536)


@lru_cache(maxsize=1024)
def _key(seed: int, name: str) -> NDArray[np.uint64]:
    """Philox's key: the seed, and a hash of the stream's name."""
    import hashlib  # predicting draws nothing

    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    words = [seed & (2**64 - 1), int.from_bytes(digest, "little")]
    return np.array(words, dtype=np.uint64)


class Share(Protocol):
    """Which rows of a full batch belong to a part of it."""

    def place(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        """For a mask of ``shape`` for the part: the shape of the full batch's mask, and the index
        of the part in it.
        """

    def from_steps(self, steps: tuple[int, ...]) -> Share:
        """The same for the packed rows from each of ``steps`` on, one after another."""


_workers = threading.local()


def _set_up() -> tuple[np.random.Philox, dict[str, Any]]:
    """A generator and its state, for reuse: making one takes longer than a dropout mask."""
    state = {
        "bit_generator": "Philox",
        "state": {"counter": np.zeros(4, dtype=np.uint64), "key": np.zeros(2, dtype=np.uint64)},
        "buffer": np.zeros(4, dtype=np.uint64),
        "buffer_pos": 4,  # empty: the next number comes from the counter
        "has_uint32": 0,
        "uinteger": 0,
    }
    return np.random.Philox(0), state


class Random(NamedTuple):
    """A named stream of numbers at a step.

    ``Random(seed).child("dropout1").at(step).uniform((64, 64))``

    With a ``share``, :meth:`keep` takes the mask of a part of a batch from that of the full batch,
    so that several processes drop the same elements as one process would.
    For a backend's masks the step may also be an array of one uint64 on its device.
    """

    seed: int
    name: str = ""
    step: Any = 0
    share: Share | None = None

    def child(self, name: str) -> Random:
        """The stream called ``name`` below this one."""
        name = f"{self.name}.{name}" if self.name else name
        return Random(self.seed, name, self.step, self.share)

    def at(self, step: Any) -> Random:
        """The same stream at another step."""
        return Random(self.seed, self.name, step, self.share)

    def within(self, share: Share | None) -> Random:
        """The same stream for a part of a batch; None for the full batch."""
        return Random(self.seed, self.name, self.step, share)

    def from_steps(self, *steps: int) -> Random:
        """The same stream for a mask of the packed rows from each of ``steps`` on, in turn."""
        return self if self.share is None else self._replace(share=self.share.from_steps(steps))

    @property
    def key(self) -> NDArray[np.uint64]:
        """The two words of Philox's key."""
        return _key(self.seed, self.name)

    def raw(self, count: int) -> NDArray[np.uint64]:
        """``count`` random 64-bit words."""
        if not hasattr(_workers, "generator"):
            _workers.generator, _workers.state = _set_up()
        state = _workers.state
        state["state"]["counter"][2] = self.step
        state["state"]["key"] = self.key
        _workers.generator.state = state
        words: NDArray[np.uint64] = _workers.generator.random_raw(count)
        return words

    def uniform(
        self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0
    ) -> NDArray[np.float64]:
        """Numbers uniform in ``[low, high)``, float64 on the host."""
        words = self.raw(math.prod(shape)) >> np.uint64(11)
        unit = words.astype(np.float64) * 2.0**-53
        return (low + (high - low) * unit).reshape(shape)

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Standard normal numbers, float64 on the host (Box and Muller, 1958)."""
        count = math.prod(shape)
        pairs = self.uniform((2, (count + 1) // 2))
        radius = np.sqrt(-2.0 * np.log1p(-pairs[0]))
        angle = 2.0 * np.pi * pairs[1]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].reshape(
            shape
        )

    def keep(self, shape: tuple[int, ...], p: float) -> NDArray[Any]:
        """True with probability ``1 - p``, from 16 bits an element (``p`` to within 1/65536)."""
        if self.share is not None:
            whole, own = self.share.place(shape)
            mask: NDArray[Any] = self.within(None).keep(whole, p)[own]
            return mask
        count = math.prod(shape)
        bits = self.raw((count + 3) // 4).astype("<u8", copy=False).view("<u2")[:count]
        return (bits >= keep_threshold(p)).reshape(shape)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """The numbers 0 to ``count - 1`` in random order."""
        return np.argsort(self.raw(count), kind="stable").astype(np.int64, copy=False)


class Undrawn(Random):
    """All words are zero: for weights that are about to be replaced."""

    def child(self, name: str) -> Undrawn:
        """Itself."""
        return self

    def raw(self, count: int) -> NDArray[np.uint64]:
        """``count`` zeros."""
        return np.zeros(count, dtype=np.uint64)


#: The stream for a model whose weights are in a file: drawing them would take longer than reading.
UNDRAWN = Undrawn(0)
