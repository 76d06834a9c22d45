"""A model's configuration from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.layers.attention.transformer import MAX_POSITIONS
from npnlp.models.surname_classifier import KEYS

#: The cell whose weights have this many blocks of H rows.
GATES = {1: "elman", 3: "gru", 4: "lstm"}


def config_from_shapes(state: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The fields of :class:`ClassifierConfig` that follow from tensors with this project's names.

    Sizes are those of ``emb.weight (V, D)``, ``fc2.weight (C, H)`` and ``rnn.weight_hh_l0
    (G H, H)`` (of a transformer ``rnn.input.weight (H, D)``); the cell follows from G, the numbers
    of layers and directions from the names. ``nonlinearity``, ``reset``, ``num_heads`` and poolings
    without weights do not show. Raises :class:`InputError` naming one of these tensors that is
    missing or has an impossible shape; :meth:`SurnameClassifier.load_state_dict` checks the others.
    """
    tokens, size = _shape(state, "emb.weight")
    fields: dict[str, Any] = {
        "num_embeddings": tokens,
        "embedding_size": size,
        "num_classes": _shape(state, "fc2.weight")[0],
        "hidden_layer": any(name.startswith("fc1.") for name in state),
    }
    transformer = any(name.startswith("rnn.layers.") for name in state)
    fields |= _transformer(state) if transformer else _recurrent(state)
    if any(name.startswith("pool.") for name in state):
        fields["pooling"] = "attention"
    if any(name.startswith("ngrams.") for name in state):
        fields |= _ngrams(state, tokens)
    return fields


def _recurrent(state: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    if "rnn.weight_hr_l0" in state:
        raise InputError("tensor 'rnn.weight_hr_l0' is of an LSTM with proj_size, whose state has "
                         "another size than its cell; a model here has none")  # fmt: skip
    rows, hidden = _shape(state, "rnn.weight_hh_l0")
    gates, rest = divmod(rows, hidden)
    if rest or gates not in GATES:
        raise InputError(
            f"tensor 'rnn.weight_hh_l0' has shape ({rows}, {hidden}); its rows have to be 1 (RNN), "
            "3 (GRU) or 4 (LSTM) times its columns"
        )
    return {
        "cell": GATES[gates],
        "rnn_hidden_size": hidden,
        "num_layers": _count(
            state, r"rnn\.weight_hh_l([0-9]{1,9})(?:_reverse)?", "rnn.weight_hh_l{}"
        ),
        "bidirectional": any(name.endswith("_reverse") for name in state),
    }


def _transformer(state: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    hidden = _shape(state, "rnn.input.weight")[0]
    positions = _shape(state, "rnn.position.weight")[0]
    if positions != MAX_POSITIONS:
        raise InputError(
            f"tensor 'rnn.position.weight' has {positions} positions; a model here has "
            f"{MAX_POSITIONS}"
        )
    layers = _count(
        state, r"rnn\.layers\.([0-9]{1,9})\..+", "rnn.layers.{}.self_attn.in_proj_weight"
    )
    return {"cell": "transformer", "rnn_hidden_size": hidden, "num_layers": layers}


def _ngrams(state: Mapping[str, NDArray[Any]], tokens: int) -> dict[str, Any]:
    """The key of an n-gram has n digits in base V + 1; see :mod:`npnlp.layers.ngrams`."""
    known, size = _shape(state, "ngrams.weight")
    keys = state.get(KEYS)
    if keys is None or keys.dtype != np.int64 or keys.ndim != 1:
        raise InputError(f"tensor {KEYS!r} has to be there and to hold whole numbers (int64)")
    orders = [n for n in range(1, 9) if ((keys >= (tokens + 1) ** (n - 1)) &
                                         (keys < (tokens + 1) ** n)).any()]  # fmt: skip
    return {"ngram_orders": tuple(orders), "num_ngrams": known, "ngram_size": size}


def _shape(state: Mapping[str, NDArray[Any]], name: str) -> tuple[int, int]:
    if name not in state:
        raise InputError(
            f"tensor {name!r} is missing; names have to be emb.weight, those of the encoder below "
            "one name (rnn.weight_ih_l0, ...), fc1.weight, fc1.bias, fc2.weight and fc2.bias"
        )
    shape = state[name].shape
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"tensor {name!r} has shape {shape}; it has to have two axes, none empty")
    return shape[0], shape[1]


def _count(state: Mapping[str, NDArray[Any]], pattern: str, name: str) -> int:
    """The number of layers in the names; ``name`` is that of a tensor that each layer has."""
    matches = (re.fullmatch(pattern, each) for each in state)
    numbers = {int(match[1]) for match in matches if match}
    gaps = set(range(len(numbers))) - numbers
    if gaps:
        raise InputError(f"tensor {name.format(min(gaps))!r} is missing")
    return len(numbers)
