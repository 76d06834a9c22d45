"""The table of conversions: what is transposed, reordered or split, a row for each kind of cell."""

from __future__ import annotations

from npnlp.exchange.frameworks.cells import GATES, CellRow, Row, fused, split
from npnlp.files import markdown_table

H, RZN, IFGO = GATES["elman"], GATES["gru"], GATES["lstm"]
KERAS = ("kernel", "recurrent_kernel", "bias")
NONE = (None, None, None, None)
NO_RESIDUAL = "`residual=True` is another model, which the file does not say"

KERAS_RNN = CellRow(
    "Keras", ("SimpleRNN",), "kernels transposed", "`bias` to `b_ih`; `b_hh` zero",
    "layers are named by class, not by name, in the file",
    "elman", None, fused(KERAS[0], "h", H), fused(KERAS[1], "h", H), fused(KERAS[2], "h", H),
    NONE[:1], without_biases=True,
)  # fmt: skip
KERAS_LSTM = CellRow(
    "Keras", ("LSTM",), "kernels transposed; i f c o is i f g o", "`bias` to `b_ih`; `b_hh` zero",
    "as SimpleRNN",
    "lstm", None, fused(KERAS[0], "ifgo", IFGO), fused(KERAS[1], "ifgo", IFGO),
    fused(KERAS[2], "ifgo", IFGO), NONE, without_biases=True,
)  # fmt: skip
KERAS_GRU_AFTER = CellRow(
    "Keras", ("GRU", "reset_after=True"), "kernels transposed; z r h to r z n",
    "`bias` row 0 to `b_ih`, row 1 to `b_hh`", "",
    "gru", "after", fused(KERAS[0], "zrn", RZN), fused(KERAS[1], "zrn", RZN),
    fused(KERAS[2], "zrn", RZN, 0), fused(KERAS[2], "zrn", RZN, 1), without_biases=True,
)  # fmt: skip
KERAS_GRU_BEFORE = CellRow(
    "Keras", ("GRU", "reset_after=False"), "kernels transposed; z r h to r z n",
    "`bias` to `b_ih`; `b_hh` zero",
    "another model: reset before; weights without biases do not say which: `--reset`",
    "gru", "before", fused(KERAS[0], "zrn", RZN), fused(KERAS[1], "zrn", RZN),
    fused(KERAS[2], "zrn", RZN), NONE[:3], without_biases=True,
)  # fmt: skip
KERAS_BOTH = Row(
    "Keras", ("Bidirectional",), "forward, backward", "as the cell",
    "it sets masked steps to zero, so the maximum over time of padded names differs",
)  # fmt: skip

LINEN_RNN = CellRow(
    "linen", ("SimpleCell",), "`i` and `h`, transposed", "that of `i` to `b_ih`; `b_hh` zero",
    NO_RESIDUAL,
    "elman", None, split("{}.kernel", "i"), split("{}.kernel", "h"), split("{}.bias", "i"),
    NONE[:1],
)  # fmt: skip
LINEN_GRU = CellRow(
    "linen", ("GRUCell",), "`ir iz in` and `hr hz hn`, transposed and stacked",
    "those of `ir iz in` to `b_ih`, of `hn` to `b_hh`", "",
    "gru", "after", split("{}.kernel", "ir", "iz", "in"), split("{}.kernel", "hr", "hz", "hn"),
    split("{}.bias", "ir", "iz", "in"), split("{}.bias", None, None, "hn"),
)  # fmt: skip
LINEN_LSTM = CellRow(
    "linen", ("LSTMCell", "OptimizedLSTMCell"),
    "`ii if ig io` and `hi hf hg ho`, transposed and stacked", "to `b_hh`; `b_ih` zero", "",
    "lstm", None, split("{}.kernel", "ii", "if", "ig", "io"),
    split("{}.kernel", "hi", "hf", "hg", "ho"), NONE,
    split("{}.bias", "hi", "hf", "hg", "ho"),
)  # fmt: skip

NNX = ("dense_i.kernel", "dense_h.kernel")
NNX_RNN = CellRow(
    "nnx", ("SimpleCell",), "`dense_i` and `dense_h`, transposed", "to `b_ih`; `b_hh` zero",
    NO_RESIDUAL,
    "elman", None, fused(NNX[0], "h", H), fused(NNX[1], "h", H), fused("dense_i.bias", "h", H),
    NONE[:1],
)  # fmt: skip
NNX_GRU = CellRow(
    "nnx", ("GRUCell",), "fused, r z n; transposed", "to `b_ih`; `b_hh` zero",
    "it has no `b_hn`: the way back is refused where that is not zero",
    "gru", "after", fused(NNX[0], "rzn", RZN), fused(NNX[1], "rzn", RZN),
    fused("dense_i.bias", "rzn", RZN), NONE[:3],
)  # fmt: skip
NNX_LSTM = CellRow(
    "nnx", ("LSTMCell",), "`ii if_ ig io` and `hi hf hg ho`, transposed and stacked",
    "to `b_hh`; `b_ih` zero", "`if_` is linen's `if`",
    "lstm", None, split("{}.kernel", "ii", "if_", "ig", "io"),
    split("{}.kernel", "hi", "hf", "hg", "ho"), NONE,
    split("{}.bias", "hi", "hf", "hg", "ho"),
)  # fmt: skip
NNX_FUSED_LSTM = CellRow(
    "nnx", ("OptimizedLSTMCell",), "fused, i f g o; transposed", "to `b_hh`; `b_ih` zero",
    "an export writes LSTMCell",
    "lstm", None, fused(NNX[0], "ifgo", IFGO), fused(NNX[1], "ifgo", IFGO), NONE,
    fused("dense_h.bias", "ifgo", IFGO),
)  # fmt: skip

LINEAR = Row(
    "Keras, linen, nnx", ("Embedding, Embed", "Dense, Linear"),
    "an embedding as it is; a kernel transposed", "as they are",
    "the last layer may be softmax: its logits are taken",
)  # fmt: skip

#: The table.
ROWS: tuple[Row, ...] = (
    KERAS_RNN, KERAS_LSTM, KERAS_GRU_AFTER, KERAS_GRU_BEFORE, KERAS_BOTH,
    LINEN_RNN, LINEN_GRU, LINEN_LSTM, NNX_RNN, NNX_GRU, NNX_LSTM, NNX_FUSED_LSTM, LINEAR,
)  # fmt: skip
#: Those of cells.
CELLS = tuple(row for row in ROWS if isinstance(row, CellRow))


def row_for(framework: str, cell: str, reset: str) -> CellRow | None:
    """The row that a model is written by; None where the framework has no such cell."""
    return next(
        (row for row in CELLS
         if row.framework == framework and row.cell == cell and row.reset in (None, reset)),
        None,
    )  # fmt: skip


def conversions() -> str:
    """The table for people, in Markdown."""
    return markdown_table(
        ("from", "gates to PyTorch's", "biases", "traps"),
        ((f"{row.framework} {', '.join(row.classes)}", row.gates, row.biases, row.traps)
         for row in ROWS),
    )  # fmt: skip
