"""Which models a page can show."""

from __future__ import annotations

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.models import SurnameClassifier

#: The kinds of recurrent layers that ``source/cells.js`` has.
KINDS = ("elman_tanh", "elman_relu", "gru", "gru_reset_before", "lstm")
#: A page of more parameters would be slow to open and slow to play with.
LARGEST = 2**21


def require_offered(classifier: Classifier) -> None:
    """Raise :class:`InputError`, with the way out, where a page cannot show this model."""
    if reason := _why_not(classifier.model):
        raise InputError(f"there is no page for this model: {reason}")


def _why_not(model: SurnameClassifier) -> str:
    """Why not; empty where it can."""
    config, kinds = model.config, {cell.kind() for cell in model.encoder.cells}
    if not kinds:
        return (
            "a transformer has no state that goes from letter to letter; train one with "
            "--cell elman, gru or lstm"
        )
    if config.ngram_orders:
        return (
            "it reads n-grams beside the letters, and a page shows letters alone; train one "
            "without --ngram-orders and without --recipe"
        )
    if kinds - {*KINDS}:
        return f"it has a cell of your own; a page has {', '.join(KINDS)}"
    if config.parameter_count > LARGEST:
        return (
            f"it has {config.parameter_count:,} parameters, and a page takes {LARGEST:,}; train "
            "one with a smaller --rnn-hidden-size"
        )
    return ""
