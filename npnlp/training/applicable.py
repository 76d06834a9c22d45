"""Settings that can apply: one that is given and could change nothing is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from npnlp.errors import InputError, short

Settings = Mapping[str, Any]

#: For a setting, when it applies, and what to say where it does not.
RULES: dict[str, tuple[Callable[[Settings], bool], str]] = {
    "nonlinearity": (lambda of: of["cell"] == "elman", "only the cell elman has one"),
    "reset": (lambda of: of["cell"] == "gru", "only the cell gru has one"),
    "forget_bias": (lambda of: of["cell"] == "lstm", "only the cell lstm has one"),
    "num_heads": (lambda of: of["cell"] == "transformer", "only a transformer has them"),
    "rnn_dropout": (
        lambda of: of["num_layers"] > 1 or of["cell"] == "transformer",
        "it acts between layers, and num_layers is 1",
    ),
    "variational": (
        lambda of: of["rnn_dropout"] > 0 and of["cell"] != "transformer",
        "it is of the rnn_dropout between recurrent layers, and there is none",
    ),
    "ngram_size": (lambda of: bool(of["ngram_orders"]), "there are no ngram_orders"),
    "ngram_dropout": (lambda of: bool(of["ngram_orders"]), "there are no ngram_orders"),
    "ngram_min_count": (lambda of: bool(of["ngram_orders"]), "there are no ngram_orders"),
    "momentum": (lambda of: of["optimizer"] == "sgd", "adam has none; use optimizer sgd"),
    "beta2": (lambda of: of["optimizer"] == "adam", "only adam has it"),
    "weight_decay": (lambda of: of["optimizer"] == "adam", "only adam has it"),
    "warm_up": (lambda of: of["schedule"] != "plateau", "the schedule plateau has none"),
    "early_stopping_criteria": (
        lambda of: of["schedule"] == "plateau",
        "with another schedule than plateau all epochs are trained",
    ),
}


def require_applicable(given: Settings, settings: Settings) -> None:
    """Raise :class:`InputError` for a setting in ``given`` that cannot change anything.

    ``settings`` are all of them, with the values of a recipe and defaults for those that are not
    given. A value that switches something off (0, False, None) always applies.
    """
    for name, (applies, why) in RULES.items():
        if given.get(name) and not applies(settings):
            raise InputError(f"{name} is {short(given[name])}, but {why}; leave it out")
