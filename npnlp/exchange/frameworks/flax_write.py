"""A model as parameters of Flax: modules ``emb``, ``rnn``, ``fc1`` and ``fc2``.

``rnn`` is a list of ``RNN`` or ``Bidirectional``; linen names its members ``rnn_0``, ``rnn_1``, and
nnx ``rnn``, ``0``. ``docs/frameworks.md`` shows the two modules that these parameters fit.
"""

from __future__ import annotations

from npnlp.exchange.frameworks.flax_msgpack import Tree
from npnlp.exchange.frameworks.flax_names import BACKWARD, FORWARD
from npnlp.exchange.frameworks.parts import LINEAR, State, parts_of
from npnlp.models import ClassifierConfig

#: The forms of the parameters.
FORMS = ("linen", "nnx")


def flax_tree(state: State, config: ClassifierConfig, form: str) -> Tree:
    """The parameters by path; raises :class:`InputError` for what ``form`` has no place for."""
    parts = parts_of(state, config, form)
    top = ("params",) if form == "linen" else ()
    tree: Tree = {(*top, "emb", "embedding"): parts.embedding}
    for number, layer in enumerate(parts.layers):
        at = (*top, f"rnn_{number}") if form == "linen" else ("rnn", str(number))
        ways = ((FORWARD,), (BACKWARD,)) if len(layer) == 2 else ((),)
        for way, arrays in zip(ways, layer, strict=True):
            for name, array in arrays.items():
                tree[(*at, *way, "cell", *name.split("."))] = array
    for name, (kernel, bias) in zip(LINEAR[len(parts.linear)], parts.linear, strict=True):
        tree[(*top, name, "kernel")], tree[(*top, name, "bias")] = kernel, bias
    return tree
