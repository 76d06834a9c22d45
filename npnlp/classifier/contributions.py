"""What each letter of one sequence adds to the answer, by the hand-written backward passes.

Of the logits z, with the answer a and the runner-up b, the difference that decides is

    g(e, n) = z_a - z_b        of the letters' embeddings e_t and the bag of n-grams n

Integrated gradients share it out along the straight way from a sequence without letters (their
embeddings and n-grams are zero; begin and end stay) to the sequence:

    (1)  e(s) = e_0 + s (e - e_0),  n(s) = n_0 + s (n - n_0)          s from 0 to 1
    (2)  c_t = (e_t - e_0t) . integral of dg/de_t ds    the letter's share
    (3)  c_r = (weight_r / sqrt(m)) . integral of dg/dn ds,  in equal parts to the letters of r
    (4)  g(1) - g(0) = sum of c_t + residue

The integral is a sum over intervals, each by Gauss and Legendre. Of every interval the sum of (2)
and (3) is known beforehand, ``g(s_2) - g(s_1)``: one where it is not met is halved. So a kink of
ReLU or of a maximum costs some halvings. Source: Sundararajan, Taly and Yan, "Axiomatic attribution
for deep networks", 2017.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.layers import Packing
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized

Floats = NDArray[np.float64]

#: Points of an interval, intervals at first, and halvings at most.
POINTS, INTERVALS, HALVINGS = 4, 16, 40
#: Rows of all sequences that are computed together.
ROWS = 2**14


@summarized
class Inputs(NamedTuple):
    """A sequence of T tokens as a model gets it: embeddings, and its n-grams.

    ``embeddings (T, D)``; ``letters (T,)`` is false at begin and end; ``bag (M, F)`` has a row for
    each known n-gram, which ends at ``ends (M,)`` and has ``orders (M,)`` tokens.
    """

    embeddings: Floats
    letters: NDArray[np.bool_]
    bag: Floats
    ends: NDArray[np.int64]
    orders: NDArray[np.int64]

    def members(self, ngram: int) -> NDArray[np.int64]:
        """The places of the letters of an n-gram; begin and end alone have none."""
        end = int(self.ends[ngram])
        places = np.arange(end - int(self.orders[ngram]) + 1, end + 1)
        return places[self.letters[places]]


@summarized
class Shared(NamedTuple):
    """(4): ``contributions (T,)``, what ``nothing`` gives, and the residue."""

    contributions: Floats
    nothing: float
    residue: float


def inputs_of(model: SurnameClassifier, tokens: NDArray[np.int64]) -> Inputs:
    """What ``model`` makes of ``tokens (T,)``, of which the first and the last are no letters."""
    letters = np.ones(len(tokens), dtype=bool)
    letters[[0, -1]] = False
    embeddings = model.parameters["emb.weight"].take(tokens, axis=0)
    bag = model.ngrams
    if bag is None:
        none = np.zeros(0, dtype=np.int64)
        return Inputs(embeddings, letters, np.zeros((0, 0), model.dtype), none, none)
    packing = Packing.of(np.array([len(tokens)]), model.backend)
    rows, known, _ = bag.find(tokens, packing)
    found = np.array(sorted({n for n in bag.orders if n <= len(tokens)}), dtype=np.int64)
    orders = found.repeat(len(tokens) - found + 1)  # as the bag finds them: n by n, by their ends
    ends = np.array([end for n in found for end in range(n - 1, len(tokens))], dtype=np.int64)
    rows, ends, orders = rows[known], ends[known], orders[known]
    each = bag.parameters["weight"].take(rows, axis=0) / np.sqrt(max(len(rows), 1))
    return Inputs(embeddings, letters, each, ends, orders)


def difference(
    model: SurnameClassifier, embeddings: Any, bag: Any, direction: Any
) -> tuple[Any, Any, Any]:
    """``g (B,)`` of B sequences of one length, and its gradients.

    ``embeddings (B, T, D)``, ``bag (B, F)``, and ``direction (C,)``, which is 1 at a and -1 at b.
    The gradients have the shapes of the first two. Gradients of parameters are added to the
    model's, as by any backward pass.
    """
    count, steps, size = embeddings.shape
    packing = Packing.of(np.full(count, steps), model.backend)
    x = np.ascontiguousarray(embeddings.transpose(1, 0, 2)).reshape(-1, size)
    z, encoder = model.encoder.run(x, packing=packing)
    if model.ngrams is not None:
        z = np.concatenate([z, bag], axis=1)
    fc1 = relu = None
    if model.config.hidden_layer:
        z, fc1 = model.fc1.run(z)  # (a)
        z, relu = model.relu.run(z)  # (b)
    logits, fc2 = model.fc2.run(z)  # (c)
    d = model.fc2.undo(np.tile(direction, (count, 1)), fc2)  # undoes (c)
    if model.config.hidden_layer:
        d = model.relu.undo(d, relu)  # undoes (b)
        d = model.fc1.undo(d, fc1)  # undoes (a)
    features = model.encoder.features
    d_x = model.encoder.undo(np.ascontiguousarray(d[:, :features]), encoder)
    return logits @ direction, d_x.reshape(steps, count, size).transpose(1, 0, 2), d[:, features:]


class _Way:
    """(1): the way from a sequence without letters to the sequence."""

    def __init__(self, model: SurnameClassifier, inputs: Inputs, direction: Floats) -> None:
        self.model, self.direction = model, direction
        self.moved = inputs.embeddings * inputs.letters[:, None]
        self.fixed = inputs.embeddings - self.moved
        self.members = [inputs.members(ngram) for ngram in range(len(inputs.bag))]
        has_letters = np.array([[bool(len(own))] for own in self.members]).reshape(-1, 1)
        self.ngrams = inputs.bag * has_letters
        self.bag_fixed = (inputs.bag - self.ngrams).sum(axis=0)

    def at(self, s: Floats) -> tuple[Floats, Floats, Floats]:
        """g and its gradients at the places ``s (B,)``."""
        embeddings = self.fixed + s[:, None, None] * self.moved
        bag = self.bag_fixed + s[:, None] * self.ngrams.sum(axis=0)
        return difference(self.model, embeddings, bag, self.direction)

    def along(self, starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
        """Of I intervals the share of each step and each n-gram ``(I, T + M)``, and their sum."""
        points, weights = np.polynomial.legendre.leggauss(POINTS)
        half = (ends - starts)[:, None] / 2
        s = np.hstack([starts[:, None] + half * (points + 1), starts[:, None], ends[:, None]])
        g, d_x, d_bag = self.at(s.reshape(-1))
        of_step = np.einsum("btd,td->bt", d_x, self.moved)
        of_ngram = d_bag @ self.ngrams.T if len(self.ngrams) else of_step[:, :0]
        parts = np.hstack([of_step, of_ngram]).reshape(*s.shape, -1)[:, :POINTS]
        g = g.reshape(s.shape)
        return half * np.einsum("p,ipk->ik", weights, parts), g[:, -1] - g[:, -2]

    def together(self, starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
        """:meth:`along` of any number of intervals."""
        size = max(1, ROWS // (len(self.fixed) * (POINTS + 2)))
        some = (slice(first, first + size) for first in range(0, len(starts), size))
        found = [self.along(starts[rows], ends[rows]) for rows in some]
        shares, known = (np.concatenate(each) for each in zip(*found, strict=True))
        return shares, known


def share_out(
    model: SurnameClassifier, inputs: Inputs, direction: Floats, tolerance: float
) -> Shared:
    """(2) to (4), to a residue of at most ``tolerance`` of ``g(1)``.

    Raises :class:`InputError` where the model's numbers are not finite.
    """
    way, count = _Way(model, inputs, direction), len(inputs.embeddings)
    nothing, whole = way.at(np.array([0.0, 1.0]))[0].tolist()
    if not math.isfinite(nothing) or not math.isfinite(whole):
        raise InputError("the model's numbers are not finite for this name; nothing is explained")
    left = tolerance * abs(whole)  # what all intervals together may still miss
    edges = np.linspace(0, 1, INTERVALS + 1)
    starts, ends = edges[:-1], edges[1:]
    total = np.zeros(count + len(inputs.bag))
    for halving in range(HALVINGS + 1):
        shares, known = way.together(starts, ends)
        missed = np.abs(shares.sum(axis=1) - known)
        done = missed <= left / (2 * len(missed))
        if missed.sum() <= left or halving == HALVINGS:
            done[:] = True
        total += shares[done].sum(axis=0)
        left -= missed[done].sum()
        if done.all():
            break
        starts, ends = starts[~done], ends[~done]
        middle = (starts + ends) / 2
        starts, ends = np.concatenate([starts, middle]), np.concatenate([middle, ends])
    contributions = total[:count]
    for share, own in zip(total[count:], way.members, strict=True):
        contributions[own] += share / max(len(own), 1)  # (3)
    return Shared(contributions, nothing, whole - nothing - float(contributions.sum()))
