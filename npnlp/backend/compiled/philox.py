"""Dropout in one pass: the compiled generator of :mod:`npnlp.backend.random`, and the mask.

Philox4x64-10 makes four words of 64 bits from a counter and a key, in ten rounds:

    (c0, c1, c2, c3) <- (high(B c2) ^ c1 ^ k0, low(B c2), high(A c0) ^ c3 ^ k1, low(A c0))
    (k0, k1) <- (k0 + C, k1 + D)

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. The words are those of
``Random.raw``, to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner, kernel

A, B = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
C, D = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
ROUNDS = 10


@intrinsic  # type: ignore[untyped-decorator]
def product(typing: Any, x: Any, y: Any) -> Any:
    """The 128 bits of ``x y`` as two words, ``(high, low)``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        whole = builder.mul(*(builder.zext(word, wide) for word in arguments))
        high = builder.trunc(builder.lshr(whole, ir.Constant(wide, 64)), word)
        return context.make_tuple(
            builder, signature.return_type, (high, builder.trunc(whole, word))
        )

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), generate


@inner
def fill(words: Array, k0: Any, k1: Any, step: Any) -> None:
    """``Random.raw`` of the key ``(k0, k1)``: block i has the counter ``(i + 1, 0, step, 0)``."""
    for i in range(len(words) // 4):
        c0, c1, c2, c3 = np.uint64(i + 1), np.uint64(0), step, np.uint64(0)
        x, y = k0, k1
        for _ in range(ROUNDS):
            (high_a, low_a), (high_b, low_b) = product(A, c0), product(B, c2)
            c0, c1, c2, c3 = high_b ^ c1 ^ x, low_b, high_a ^ c3 ^ y, low_a
            x, y = x + C, y + D
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = c0, c1, c2, c3


@kernel
def dropout(
    x: Array, key: Array, step: Any, threshold: int, kept: float, y: Array, scale: Array
) -> None:
    """``y = x scale``; ``scale`` is ``kept`` where 16 random bits reach ``threshold``, else 0."""
    words = np.empty((x.size + 15) // 16 * 4, dtype=np.uint64)
    fill(words, key[0], key[1], step)
    bits, values = words.view(np.uint16), x.reshape(-1)
    dropped, scales, one = y.reshape(-1), scale.reshape(-1), x.dtype.type(kept)
    for i in range(len(values)):
        scales[i] = one if bits[i] >= threshold else 0
        dropped[i] = values[i] * scales[i]
