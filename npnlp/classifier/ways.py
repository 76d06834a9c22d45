"""From tokens to probabilities, by the way that suits their number and their lengths.

Of many sequences and many classes the probabilities do not fit into memory. Whoever wants the best
``top_k`` classes is given those alone, and the rest is let go of block by block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import EVALUATION_BATCH, by_length
from npnlp.inference import can_predict, make_predictor, most_probable, predict_one
from npnlp.layers import softmax
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays

#: From this many names on it pays to prepare the model for many.
MANY = 256
#: Sequences longer than this have few prefixes in common with others: they go in packed batches.
LONGEST = 64
#: What is made of n sequences: the probabilities ``(n, C)``; or classes and theirs, ``(n, k)``.
Made = tuple[NDArray[Any], ...]


def probabilities_of(
    model: SurnameClassifier, tokens: NDArray[Any], lengths: NDArray[Any], top_k: int = 0,
    *, exact: bool = False,
) -> Made:  # fmt: skip
    """Of sequences of ``tokens (N,)``, one after another, of these ``lengths (n,)``.

    The probabilities ``(n, C)``, in a tuple; with ``top_k`` the most probable classes ``(n, k)``,
    best first, of equals the first, and their probabilities. With ``exact`` each sequence by
    itself, and one that occurs again once.
    """
    if exact:
        return _alone(model, tokens, lengths, top_k)
    shorter = can_predict(model)
    if len(lengths) == 1 and shorter and len(tokens) <= LONGEST:
        return _kept(predict_one(model, tokens)[None], top_k)
    if len(lengths) < MANY or not shorter:
        return packed(model, tokens, lengths, top_k)
    short = lengths <= LONGEST
    if short.all():
        return _as_trees(model, tokens, lengths, top_k)
    out = _room(model, len(lengths), top_k)
    for rows, way in ((short, _as_trees), (~short, packed)):
        if rows.any():
            _put(out, rows, way(model, tokens[np.repeat(rows, lengths)], lengths[rows], top_k))
    return out


@in_one_blas_thread
def packed(
    model: SurnameClassifier, tokens: NDArray[Any], lengths: NDArray[Any], top_k: int = 0
) -> Made:
    """The same by packed batches."""
    starts = np.cumsum(lengths) - lengths
    targets = np.zeros(len(lengths), dtype=np.int64)
    arrays = SplitArrays(tokens, starts, lengths, targets)
    out = _room(model, len(lengths), top_k)
    for batch in by_length(arrays, model.backend, EVALUATION_BATCH):
        logits = model.forward(**batch.inputs)[0]  # the caches go at once
        found = model.backend.to_numpy(softmax(logits, model.backend.xp))
        _put(out, batch.rows, _kept(found, top_k))
    return out


def _as_trees(
    model: SurnameClassifier, tokens: NDArray[Any], lengths: NDArray[Any], top_k: int
) -> Made:
    predictor = make_predictor(model)
    if not top_k:
        return (predictor.probabilities(tokens, lengths),)
    if top_k == 1:
        classes, best = predictor.best(tokens, lengths)
        return classes[:, None], best[:, None]
    return predictor.top(tokens, lengths, top_k)


def _alone(
    model: SurnameClassifier, tokens: NDArray[Any], lengths: NDArray[Any], top_k: int
) -> Made:
    out, seen = _room(model, len(lengths), top_k), dict[bytes, int]()
    for row, own in enumerate(np.split(tokens, np.cumsum(lengths)[:-1]) if len(lengths) else ()):
        first = seen.setdefault(own.tobytes(), row)
        if first == row:
            alone = probabilities_of(model, own, np.array([len(own)]), top_k)
        else:
            alone = tuple(array[first : first + 1] for array in out)
        _put(out, slice(row, row + 1), alone)
    return out


def _kept(probabilities: NDArray[Any], top_k: int) -> Made:
    return most_probable(probabilities, top_k) if top_k else (probabilities,)


def _room(model: SurnameClassifier, rows: int, top_k: int) -> Made:
    classes, dtype = model.config.num_classes, model.dtype
    if not top_k:
        return (np.empty((rows, classes), dtype),)
    shape = rows, min(top_k, classes)
    return np.empty(shape, np.int64), np.empty(shape, dtype)


def _put(out: Made, rows: Any, made: Made) -> None:
    for array, part in zip(out, made, strict=True):
        array[rows] = part
