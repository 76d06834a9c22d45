"""An epoch of the surname classifier in JAX: a compiled call a batch, or one for the whole epoch.

As a JAX user would write it for speed: the vocabulary is projected once and gathered, ``lax.scan``
goes over the steps and, with ``whole``, another one over the batches; Adam is optax's, parameters
and its state are donated. A state after a name's end reaches nothing, since the last state of each
name is gathered, so no step needs a mask. A batch is padded to the next of four lengths, for each
of which a branch is compiled.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from npnlp.text import SplitArrays
from passes.epochs import Pair, timed
from passes.jax_layers import Tree, jax, jnp, lax, optax, projected, states_of, stored

#: Batches of short names are padded to one of these lengths instead of the longest.
LENGTHS = (12, 14, 16)
#: Steps of a scan that stand one after another; the second is all of them.
UNROLLED = (1, 64)
TRIALS = 3


def parameters_of(state: Mapping[str, Any]) -> Tree:
    """Those of a classifier of this project, by the names of its ``state_dict``."""
    rnn = {name.removeprefix("rnn."): value for name, value in state.items()}
    head = {name: jnp.asarray(state[f"{name}.weight"].T) for name in ("fc1", "fc2")}
    biases = {f"{name}.bias": jnp.asarray(state[f"{name}.bias"]) for name in ("fc1", "fc2")}
    return {"emb": jnp.asarray(state["emb.weight"]), "rnn": stored(rnn), **head, **biases}


def loss_of(
    params: Tree, tokens: Any, lengths: Any, targets: Any, real: Any, keys: Any,
    cell: str, unroll: int,
) -> tuple[Any, Any]:  # fmt: skip
    """Mean loss and share of hits of tokens ``(T, B)``; without ``keys`` there is no dropout.

    ``real`` is 1 for a row and 0 for one that fills the last batch.
    """
    embedding = params["emb"].at[0].set(0)  # of padding; its gradient is then zero
    table, inner = projected(params["rnn"], embedding, cell)
    states = states_of(params["rnn"], table[tokens], inner, cell, unroll)
    h = states[lengths - 1, jnp.arange(tokens.shape[1])]

    def dropout(x: Any, number: int) -> Any:
        if keys is None:
            return x
        return jnp.where(jax.random.bernoulli(keys[number], 0.5, x.shape), 2 * x, 0)

    h = jax.nn.relu(dropout(h, 0) @ params["fc1"] + params["fc1.bias"])
    logits = dropout(h, 1) @ params["fc2"] + params["fc2.bias"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    hits = logits.argmax(axis=-1) == targets
    return (losses * real).sum() / real.sum(), (hits * real).sum() / real.sum()


class JaxEpochs:
    """Each call is an epoch: its mean loss and accuracy."""

    def __init__(
        self, split: SplitArrays, params: Tree, cell: str, batch: int, whole: bool, unroll: int
    ) -> None:
        self.rows, self.batch, self.whole = len(split), batch, whole
        longest = int(split.lengths.max())
        tokens = np.zeros((self.rows + 1, longest), np.int32)  # a row more fills the last batch
        tokens[:-1][np.arange(longest) < split.lengths[:, None]] = split.tokens
        self.lengths = np.append(split.lengths, 1).astype(np.int32)
        targets = np.append(split.targets, 0).astype(np.int32)
        self.data = tuple(jnp.asarray(each) for each in (tokens, self.lengths, targets))
        self.sizes = sorted({min(size, longest) for size in (*LENGTHS, longest)})
        self.shuffles, self.key = np.random.default_rng(0), jax.random.key(0)
        self.adam = optax.adam(1e-3)
        self.unroll, self.cell = min(unroll, longest), cell
        copied = jax.tree.map(jnp.array, params)  # a donated array is gone
        self.carry = copied, self.adam.init(copied)
        #: What the first call took.
        self.compiled_in: Pair = (0.0, 0.0)
        self.call = jax.jit(self.epoch if whole else self.update, donate_argnums=0)

    def update(self, carry: Tree, now: Tree, data: Tree) -> tuple[Tree, Tree]:
        """One step of Adam on the rows, the place of their length in ``sizes``, and a key."""
        (params, state), (rows, place, key) = carry, now
        tokens, lengths, targets = (each[rows] for each in data)
        keys = jax.random.split(key)
        rest = lengths, targets, (rows < self.rows).astype(jnp.float32), keys

        def of_length(steps: int) -> Any:
            def gradients(x: Any) -> Any:
                padded = x[:, :steps].T
                call = jax.value_and_grad(loss_of, has_aux=True)
                return call(params, padded, *rest, self.cell, self.unroll)

            return gradients

        means, grads = lax.switch(place, [of_length(steps) for steps in self.sizes], tokens)
        changes, state = self.adam.update(grads, state, params)
        return (optax.apply_updates(params, changes), state), means

    def epoch(self, carry: Tree, now: Tree, data: Tree) -> tuple[Tree, Tree]:
        """All batches, in one call."""
        carry, means = lax.scan(lambda carry, now: self.update(carry, now, data), carry, now)
        return carry, tuple(each.mean() for each in means)

    def __call__(self) -> tuple[float, float]:
        """Train on every row once, in a new order."""
        order = np.full(-(-self.rows // self.batch) * self.batch, self.rows, np.int32)
        order[: self.rows] = self.shuffles.permutation(self.rows)
        batches = order.reshape(-1, self.batch)
        places = np.searchsorted(self.sizes, self.lengths[batches].max(axis=1)).astype(np.int32)
        self.key, key = jax.random.split(self.key)
        steps = batches, places, jax.random.split(key, len(batches))
        if self.whole:
            self.carry, means = self.call(self.carry, steps, self.data)
            return float(means[0]), float(means[1])
        found = []
        for now in zip(*steps, strict=True):
            self.carry, means = self.call(self.carry, now, self.data)
            found.append(means)
        loss, accuracy = np.mean(jax.device_get(found), axis=0).tolist()
        return loss, accuracy


def fastest(
    split: SplitArrays, state: Mapping[str, Any], cell: str, batch: int, whole: bool
) -> JaxEpochs:
    """The scan with one step at a time or with all unrolled, whichever takes less."""
    params, found = parameters_of(state), []
    for unroll in UNROLLED:
        epochs = JaxEpochs(split, params, cell, batch, whole, unroll)
        epochs.compiled_in = timed(epochs)
        times = []
        for _ in range(TRIALS):
            times.append(timed(epochs)[0])
        found.append((statistics.median(times), epochs))
    return min(found, key=lambda each: each[0])[1]
