"""The recurrent layers, by name."""

from __future__ import annotations

from collections.abc import Callable

from npnlp.layers.elman import Elman
from npnlp.layers.recurrent import Recurrent

#: What ``cell`` may name. Each takes ``(input_size, hidden_size)``, options of its own such as
#: ``nonlinearity``, and those of every layer.
CELLS: dict[str, Callable[..., Recurrent]] = {"elman": Elman}
