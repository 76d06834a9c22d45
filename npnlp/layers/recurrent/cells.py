"""The recurrent layers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npnlp.errors import require_known
from npnlp.layers.recurrent.elman import Elman
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent

RESETS: dict[str, Callable[..., Recurrent]] = {"after": GRU, "before": GRUResetBefore}


def gru(input_size: int, hidden_size: int, *, reset: str = "after", **options: Any) -> Recurrent:
    """A GRU whose reset gate acts "after" the product with ``W_hn`` (as PyTorch) or "before" it.

    Raises :class:`InputError` for another ``reset``.
    """
    require_known("reset", reset, RESETS)
    return RESETS[reset](input_size, hidden_size, **options)


#: The values of ``cell``. Each takes ``(input_size, hidden_size)``, its own options such as
#: ``nonlinearity``, and those of every layer.
CELLS: dict[str, Callable[..., Recurrent]] = {"elman": Elman, "gru": gru, "lstm": LSTM}
