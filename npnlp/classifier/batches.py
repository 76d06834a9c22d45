"""Rows of a split become packed batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.layers import Packing
from npnlp.layers.arguments import require_indices
from npnlp.layers.ngrams import FoundNgrams, known_ngrams
from npnlp.layers.packing import pack_many
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SplitArrays

#: Batches are packed together, up to this many steps, and as many for the longest name in each of
#: them, which take some megabytes: that spreads the overhead, and the memory is still in the cache.
TOGETHER = 2**17
#: Rows in a batch where nothing is trained.
EVALUATION_BATCH = 512

#: The most padded steps of such a batch, so that memory does not grow with the longest name.
MOST_STEPS = 2**17


@summarized
class Batch(NamedTuple):
    """Rows of a split: ``tokens (N,)`` packed by ``packing``, ``targets (B,)``, ``rows (B,)``.

    ``vocabulary (R,)`` are the tokens that occur, in order, and ``tokens`` number those. The rows
    are sorted, the longest name first, so that packing does not have to move them. ``shares`` and
    ``weights`` are those of the split's rows, in float32, if it has any. ``ngrams`` are those of
    the batch, where they have been found.
    """

    tokens: Array
    vocabulary: Array
    packing: Packing
    targets: Array
    rows: NDArray[np.int64]
    shares: Array | None = None
    weights: Array | None = None
    ngrams: FoundNgrams | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model's forward pass takes."""
        names = "tokens", "vocabulary", "packing", "ngrams"
        return {name: getattr(self, name) for name in names}


def require_split(split: SplitArrays, model: SurnameClassifier) -> None:
    """Raise :class:`InputError` unless its tokens and targets are rows and classes of ``model``.

    And unless its names lie in ``tokens``. For what then goes on without checking each batch.
    """
    config, host, rows = model.config, get_backend("numpy"), len(split)
    require_indices("tokens of the split", split.tokens, None, config.num_embeddings, host)
    require_indices("targets of the split", split.targets, rows, config.num_classes, host)
    count = len(split.tokens)
    require_indices("starts of the split", split.starts, rows, count, host)
    require_indices("lengths of the split", split.lengths, rows, count + 1, host)
    require_indices("ends of the split", split.starts + split.lengths, rows, count + 1, host)


def batches(
    split: SplitArrays,
    order: NDArray[np.int64],
    batch_size: int,
    backend: Backend,
    start: int = 0,
) -> Iterator[Batch]:
    """The rows in ``order``, ``batch_size`` at a time, from batch ``start`` on.

    The last batch may be smaller. Many are packed at once, fewer where names are long.
    """
    full, first = len(order) - len(order) % batch_size, start
    of_batches = order[:full].reshape(-1, batch_size)
    lengths = split.lengths[of_batches]
    ends, most = lengths.sum(axis=1).cumsum(), TOGETHER // int(lengths.max(initial=1))
    while first < len(of_batches):
        before = ends[first - 1] if first else 0
        last = min(int(np.searchsorted(ends, before + TOGETHER, side="right")), first + most)
        last = max(last, first + 1)
        yield from _pack(split, of_batches[first:last], backend)
        first = last
    if start * batch_size < len(order) and full < len(order):
        yield from _pack(split, order[full:][None], backend)


def by_length(
    split: SplitArrays, backend: Backend, batch_size: int | None = None
) -> Iterator[Batch]:
    """All rows once, the shortest names first, so that a batch has little packing to do.

    ``batch_size`` at a time, by default :data:`EVALUATION_BATCH`; half as many, and so on, where
    names are so long that a padded batch would have over :data:`MOST_STEPS` steps.
    """
    order, size = np.argsort(split.lengths, kind="stable"), batch_size or EVALUATION_BATCH
    while len(order):
        last = np.minimum(np.arange(size, len(order) + size, size), len(order)) - 1
        short = np.count_nonzero(split.lengths[order[last]] * size <= MOST_STEPS) * size
        fit = short if size > 1 else len(order)
        yield from batches(split, order[:fit], size, backend)
        order, size = order[fit:], max(1, size // 2)


def ngrams_of(
    split: SplitArrays, orders: Sequence[int], num_tokens: int, min_count: int = 1
) -> NDArray[np.int64]:
    """The keys of the n-grams of these orders in ``min_count`` rows or more, for a bag of them."""
    if not orders:
        return np.empty(0, dtype=np.int64)
    backend = get_backend("numpy")
    (every,) = batches(split, np.arange(len(split)), len(split), backend)
    tokens = every.vocabulary.take(every.tokens)
    return known_ngrams(tokens, every.packing, orders, num_tokens, min_count)


def _pack(split: SplitArrays, rows: NDArray[np.int64], backend: Backend) -> Iterator[Batch]:
    """A batch for each line of ``rows (K, B)``."""
    longest_first = np.argsort(-split.lengths[rows], axis=1, kind="stable")
    rows = np.take_along_axis(rows, longest_first, axis=1)
    packings, layout = pack_many(split.lengths[rows], backend)
    found = backend.number(split.tokens, split.starts[rows], layout)
    tokens, vocabulary = map(backend.asarray, (found.numbers, found.vocabulary))
    targets = backend.asarray(split.targets[rows])
    start = first = 0
    for k, (end, last) in enumerate(zip(layout.ends.tolist(), found.ends.tolist(), strict=True)):
        yield Batch(
            tokens=tokens[start:end],
            vocabulary=vocabulary[first:last],
            packing=packings[k],
            targets=targets[k],
            rows=rows[k],
            shares=_rows(split.shares, rows[k], backend),
            weights=_rows(split.weights, rows[k], backend),
        )
        start, first = end, last


def _rows(
    values: NDArray[np.float64] | None, rows: NDArray[np.int64], backend: Backend
) -> Array | None:
    return None if values is None else backend.asarray(values[rows].astype(np.float32))


def bucketed(
    order: NDArray[np.int64],
    lengths: NDArray[np.int64],
    batch_size: int,
    together: int,
    random: Random,
) -> NDArray[np.int64]:
    """``order`` rearranged so that batches hold names of like length.

    Of ``together`` batches at a time the rows are sorted by length; then the batches are shuffled.
    A last batch that is not full stays last, and holds the shortest names of its ``together``.
    """
    chunk = batch_size * together
    rows = np.concatenate(
        [
            part[np.argsort(-lengths[part], kind="stable")]
            for part in (order[first : first + chunk] for first in range(0, len(order), chunk))
        ]
    )
    full = len(order) - len(order) % batch_size
    batches_of = rows[:full].reshape(-1, batch_size)
    shuffled = batches_of[random.permutation(len(batches_of))]
    return np.concatenate([shuffled.ravel(), rows[full:]])
