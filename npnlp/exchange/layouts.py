"""Names of tensors: this project's own, which are PyTorch's, and the notebook's.

    pytorch   emb.weight  rnn.weight_ih_l0          ...  fc1.weight ... fc2.bias
    notebook  emb.weight  rnn.rnn_cell.weight_ih    ...  fc1.weight ... fc2.bias

In the layout ``pytorch`` the tensors of the encoder have the names of ``nn.RNN``, ``nn.GRU``,
``nn.LSTM`` or ``nn.TransformerEncoder`` with the prefix ``rnn.``; when read, another prefix will
do, as in ``lstm.weight_ih_l0``. The layout ``notebook`` is that of the class of Rao and McMahan,
chapter 6, which wraps an ``nn.RNNCell``: one Elman layer with tanh, in one direction, of which the
last state is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.models import ClassifierConfig

State = dict[str, NDArray[Any]]

LAYOUTS = ("pytorch", "notebook")
CELL = "rnn.rnn_cell."
#: The only configuration of the notebook's class.
NOTEBOOK = {"cell": "elman", "nonlinearity": "tanh", "num_layers": 1, "bidirectional": False,
        "pooling": "last", "hidden_layer": True, "num_ngrams": 0}  # fmt: skip

_OF_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_PREFIXED = re.compile(r"([^.]+)\.((?:weight|bias)_(?:ih|hh)_l\d+(?:_reverse)?|layers\.0\..+)")


def to_layout(state: Mapping[str, NDArray[Any]], config: ClassifierConfig, layout: str) -> State:
    """``state``, with this project's names, renamed for ``layout``.

    Raises :class:`InputError` for a model that the layout has no names for.
    """
    if layout == "pytorch":
        return dict(state)
    require_notebook(config.to_dict())
    theirs = {f"rnn.{name}_l0": CELL + name for name in _OF_CELL}
    return {theirs.get(name, name): tensor for name, tensor in state.items()}


def require_notebook(fields: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` where ``fields`` are not those of the notebook's class."""
    for name, value in NOTEBOOK.items():
        if fields.get(name, value) != value:
            raise InputError(
                f"the layout notebook has no place for {name} {fields[name]!r}: it is one elman "
                "layer with tanh, one direction, pooling last, fc1 and fc2; the layout pytorch has"
            )


def from_layout(state: Mapping[str, NDArray[Any]]) -> tuple[State, str]:
    """``state`` renamed to this project's names, and the layout that it had.

    Raises :class:`InputError` where two prefixes could both be the encoder's.
    """
    if any(name.startswith(CELL) for name in state):
        ours = {CELL + name: f"rnn.{name}_l0" for name in _OF_CELL}
        twice = next((name for name in ours.values() if name in state), None)
        if twice is not None:
            raise InputError(f"tensor {twice!r} is there twice, the second time below {CELL!r}")
        return {ours.get(name, name): tensor for name, tensor in state.items()}, "notebook"
    found = {match[1] for name in state if (match := _PREFIXED.fullmatch(name))}
    if len(found) > 1:
        one, two = sorted(found)[:2]
        raise InputError(f"tensors of two encoders, {one!r} and {two!r}; a model has one")
    prefix = f"{found.pop()}." if found else "rnn."
    if prefix == "rnn.":
        return dict(state), "pytorch"
    clash = next((name for name in state if name.startswith("rnn.")), None)
    if clash is not None:
        raise InputError(f"tensor {clash!r} does not belong to the encoder {prefix[:-1]!r}")
    named = {(f"rnn.{name[len(prefix) :]}" if name.startswith(prefix) else name): tensor
             for name, tensor in state.items()}  # fmt: skip
    return named, "pytorch"
