"""The n-grams of some groups of names as a tree: the keys of n-grams, and the tree as tensors.

Level n holds the n-grams of n tokens, below each of n - 1 tokens those that begin with it, and
below each group those of one token. Each has a number q in [0, 1), what it adds to the probability
of its last token; see :mod:`npnlp.text.ngram_counts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.summary import summarized

Integers = NDArray[np.int64]
AnyIntegers = NDArray[np.integer]

#: The tokens of the longest n-grams.
ORDER = 3
#: The groups with most names have models of their own, the others one together.
MOST_GROUPS = 64
#: The keys of n-grams, with the group, fit into 63 bits below this. Unicode has fewer characters.
MOST_TOKENS = 2**19
#: A number q is kept as ``ceil(-16 log2 q)`` in a byte, which makes it smaller by 4.3 % at most.
STEPS = 16
#: The code of q = 0.
ZERO = 255
#: The q of each code.
Q = np.exp2(-np.arange(ZERO + 1) / STEPS)
Q[ZERO] = 0.0


@summarized
class Level(NamedTuple):
    """The n-grams of one order: ``children``, their number below each n-gram of the order before;
    ``tokens``, the last of each, which rise below each of the order before; ``codes`` of their q.
    """

    children: Integers
    tokens: Integers
    codes: NDArray[np.uint8]

    def parents(self) -> Integers:
        """The row, in the order before, of what each n-gram begins with."""
        return np.repeat(np.arange(len(self.children)), self.children)

    def left(self) -> NDArray[np.float64]:
        """Of each n-gram of the order before, the probability that its q do not take."""
        q = Q.take(self.codes)
        taken = np.bincount(self.parents(), q, len(self.children))
        return 1 - taken.astype(np.float64)


def codes_of(q: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The codes of numbers above 0, rounded down so that a sum below 1 stays there."""
    codes: NDArray[np.uint8] = np.minimum(np.ceil(-STEPS * np.log2(q)), ZERO).astype(np.uint8)
    return codes


def ngram_keys(tokens: AnyIntegers, lengths: AnyIntegers, num_tokens: int) -> Integers:
    """The key ``(u V + v) V + w`` of each trigram uvw that ends in a name, but not at its begin.

    ``tokens`` are those of all names, one name after another, from ``<BEGIN>``, which stands before
    the first character twice, to ``<END>``. Raises :class:`InputError` for others.
    """
    ends = np.cumsum(lengths)
    if len(lengths) and (
        lengths.min() < 2 or ends[-1] != len(tokens) or not 0 <= tokens.min() <= tokens.max()
        or tokens.max() >= num_tokens
    ):  # fmt: skip
        raise InputError(
            f"tokens have to be names of at least 2, as many as lengths say, below {num_tokens}"
        )
    starts = np.repeat(ends - lengths, lengths)
    w = np.flatnonzero(np.arange(len(tokens)) > starts)
    u = np.maximum(w - 2, starts[w])
    own = tokens.astype(np.int64)
    keys: Integers = (own[u] * num_tokens + own[w - 1]) * num_tokens + own[w]
    return keys


def tensors_of(levels: list[Level]) -> dict[str, NDArray[Any]]:
    """A tree in the smallest dtypes."""
    return {
        f"{name}.{n}": values.astype(np.min_scalar_type(int(values.max(initial=0))))
        for n, level in enumerate(levels, 1)
        for name, values in level._asdict().items()
    }


def levels_of(tensors: Mapping[str, NDArray[Any]], num_tokens: int) -> list[Level]:
    """Undo :func:`tensors_of`; raises :class:`InputError`, naming the tensor, where it cannot be.

    Nothing is allocated that is larger than the tensors.
    """
    levels: list[Level] = []
    parents = None
    for n in range(1, ORDER + 1):
        children, tokens, codes = (_row(tensors, f"{name}.{n}") for name in Level._fields)
        if not 1 <= len(children) <= MOST_GROUPS if parents is None else len(children) != parents:
            most = f"1 to {MOST_GROUPS}" if parents is None else f"the {parents} of tokens.{n - 1}"
            raise InputError(f"children.{n} has {len(children)} numbers; it has to have {most}")
        parents = len(tokens)
        if not children.sum() == len(codes) == parents:
            raise InputError(f"children.{n}, tokens.{n} and codes.{n} differ in their sizes")
        places = np.repeat(np.arange(len(children)), children) * num_tokens + tokens
        if (tokens >= num_tokens).any() or (np.diff(places) <= 0).any():
            raise InputError(f"tokens.{n} are not below {num_tokens} and rising below each n-gram")
        if (codes > ZERO).any():
            raise InputError(f"codes.{n} are not at most {ZERO}")
        levels.append(Level(children, tokens, codes.astype(np.uint8)))
    return levels


def _row(tensors: Mapping[str, NDArray[Any]], name: str) -> Integers:
    array = tensors.get(name)
    if array is None or array.ndim != 1 or array.dtype.kind != "u" or array.itemsize > 4:
        raise InputError(f"{name} is missing, or is no row of unsigned numbers of up to 32 bits")
    return array.astype(np.int64)
